"""One Prometheus for all tests of a worker, which has seen two windows go by."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Story, Watched, eventually, plan_in, prometheus, served, tool


@pytest.fixture(scope="session")
def promtool() -> str:
    return tool("promtool")


@pytest.fixture
def fresh(tmp_path: Path) -> Watched:
    """A watchdog that has seen nothing."""
    plan = plan_in(tmp_path, id="fresh", title="Not begun", now=time.time())
    return Watched(plan=plan, broken=False)


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Two watchdogs, scraped before the first event, in the middle and at the end."""
    tool("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    began = time.time()
    leaking = Watched(plan=plan_in(folder, id="leaking", title="It leaks", now=began), broken=True)
    healthy = Watched(plan=plan_in(folder, id="healthy", title="It holds", now=began), broken=False)
    both = (leaking, healthy)
    with (
        served(leaking),
        served(healthy),
        prometheus(folder, [each.instance for each in both]) as server,
    ):
        eventually(lambda: all(map(server.knows, both)), "both watchdogs are scraped")
        for until in (began - 250, began):
            for each in both:
                each.tell(until)
            eventually(lambda: all(map(server.knows, both)), f"what happened until {until} is known")
        eventually(lambda: server.now('ALERTS{alertname="FreezewatchGuard"}') == 1, "rules are run")
        yield Story(prometheus=server, leaking=leaking, healthy=healthy, told_at=time.time())

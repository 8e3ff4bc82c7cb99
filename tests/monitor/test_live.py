"""The live view: what is red must be wrong, and what is green must be sound."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from monitor.show.live import LiveScreen, style_of
from probes.base import Kind, Outcome

from .builders import OPENS, healthy, observation, plan_in, seen


@pytest.mark.parametrize(
    ("outcome", "phase", "figures", "style"),
    [
        (Outcome.REFUSED, "frozen", {}, "green"),
        (Outcome.LEAKED, "frozen", {}, "red"),
        (Outcome.UNREACHABLE, "frozen", {}, "yellow"),
        (Outcome.UNREACHABLE, "frozen", {"variant": "trailing slash", "answered": True}, "cyan"),
        (Outcome.UNREACHABLE, "frozen", {"variant": "trailing slash", "answered": False}, "yellow"),
        (Outcome.CHANGED, "baseline", {}, "cyan"),
        (Outcome.CHANGED, "freezing", {}, "red"),
        (Outcome.CHANGED, "frozen", {}, "red"),
        (Outcome.CHANGED, "soak", {}, "cyan"),
        (Outcome.UNKNOWN, "frozen", {}, "yellow"),
    ],
)
def test_an_outcome_has_the_colour_of_what_it_means(
    outcome: Outcome, phase: str, figures: dict[str, Any], style: str
) -> None:
    """A store that is written while writes are open is no alarm."""
    assert style_of(observation(outcome=outcome, phase=phase, figures=figures)) == style


def test_every_probe_has_its_row_with_its_newest_outcome(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    screen = LiveScreen(plan, Console(file=io.StringIO()), lambda: None)
    for event in healthy(plan, until=OPENS + 60):
        screen.event(event)
    screen.event(
        seen(
            observation(
                "catalogue-db", Kind.AUDIT, Outcome.CHANGED, OPENS + 59, reason="products: 1 × insert"
            )
        )
    )

    drawn = Console(file=io.StringIO(), width=160, record=True)
    drawn.print(screen._probes())

    text = drawn.export_text()
    assert all(probe.name in text for probe in plan.probes)
    assert "changed: products: 1 × insert" in text

"""Alerts reach people once for each cause: a real Alertmanager, real webhooks, and their faults."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from monitor.commands.schema import schema_of
from monitor.events import Alerted, Event, SelfNoted, dumps, loads
from monitor.model import Action, Decision, Finding, Status, Verdict
from monitor.notify.center import DELIVERED, AlertCenter
from monitor.plan import Plan
from monitor.policy import decide

from .builders import OPENS, PROBES, WAIVED, judge_of, plan_in, window_text

EXTEND, ROLL_BACK, HOLD = Action.EXTEND, Action.ROLL_BACK, Action.HOLD


@dataclass
class Hook:
    """A webhook's server: answers with the next of `answers`, the last one for ever."""

    answers: list[int | None]
    got: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @property
    def told(self) -> list[tuple[str, str]]:
        """(cause, state) of what was accepted."""
        return [
            (body["cause"], body["state"])
            for body, status in zip(self.got, self.statuses, strict=False)
            if status == 200
        ]


@contextmanager
def webhook(*answers: int | None) -> Iterator[Hook]:
    """A real server; None hangs until it is let go."""
    hook = Hook(answers=list(answers) or [200])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
            hook.headers.append(dict(self.headers))
            hook.got.append(body)
            hook.statuses.append(status)
            if status is None:
                hook.release.wait(30)
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hook.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hook
        finally:
            hook.release.set()
            server.shutdown()
            thread.join()


@dataclass
class Desk:
    """An alert center and the ledger it writes to, in memory; `deliver` makes what was written durable."""

    center: AlertCenter
    events: list[Event] = field(default_factory=list)
    durable: int = 0

    def deliver(self) -> None:
        while self.durable < len(self.events):
            self.durable += 1
            self.center.committed(loads(dumps(self.events[self.durable - 1])))

    def decide(self, action: Action, *verdicts: Verdict) -> None:
        causes = tuple(verdict.criterion for verdict in verdicts)
        decision = Decision(action=action, causes=causes, reason="told")
        self.center.decided(decision, {verdict.criterion: verdict for verdict in verdicts})

    def notes(self, what: str) -> list[dict[str, Any]]:
        return [dict(e.detail) for e in self.events if isinstance(e, SelfNoted) and e.what == what]

    async def until(self, condition: Callable[[], bool], within: float = 20.0) -> None:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def desk(plan: Plan, before: list[Event] | None = None) -> AsyncIterator[Desk]:
    async with httpx.AsyncClient() as client:
        notifiers = [spec.notifier(client) for spec in plan.notify]
        moment = [OPENS]

        def now() -> float:
            moment[0] += 0.5
            return moment[0]

        events: list[Event] = []
        made = Desk(center=AlertCenter(plan, notifiers, events.append, now), events=events)
        for event in before or []:
            made.center.recall(loads(dumps(event)))
        made.center.resume()
        try:
            yield made
        finally:
            await made.center.stop(0.1)


def plan_with(directory: Path, *notifiers: str, environment: dict[str, str] | None = None) -> Plan:
    notify = "notify:\n" + "".join(f"  - {each}\n" for each in notifiers)
    return plan_in(directory, window_text() + PROBES + WAIVED + notify, environment)


def hooked(directory: Path, *hooks: Hook) -> Plan:
    # One name for each: notifiers are told apart by kind and host.
    hosts = ["127.0.0.1", "localhost"]
    urls = [hook.url.replace("127.0.0.1", host) for hook, host in zip(hooks, hosts, strict=False)]
    return plan_with(directory, *(f'webhook: {{url: "{url}"}}' for url in urls))


def failing(criterion: str, what: str = "answered 201") -> Verdict:
    finding = Finding(
        probe="vector-upsert", surface="vectors", outcome="leaked", what=what, first=OPENS, last=OPENS
    )
    return Verdict(
        criterion=criterion,
        status=Status.FAIL,
        reason=f"vectors: leaked: {what}",
        since=OPENS,
        findings=(finding,),
        final=True,
    )


# -- a webhook ------------------------------------------------------------------------------------


async def test_a_webhook_hears_of_a_cause_once_when_it_fires_and_once_when_it_ends(tmp_path: Path) -> None:
    """However often the same advice is given in between; and what is sent fits its schema."""
    with webhook() as hook:
        async with desk(hooked(tmp_path, hook)) as made:
            for _ in range(5):
                made.decide(ROLL_BACK, failing("guard"))
                made.deliver()
            for _ in range(3):
                made.decide(HOLD)
                made.deliver()
            await made.until(lambda: len(made.notes(DELIVERED)) == 2)

    assert hook.told == [("guard", "firing"), ("guard", "resolved")]
    firing, resolved = hook.got
    schema = schema_of("alert")
    for body in hook.got:
        jsonschema.validate(body, schema)
    assert (firing["action"], resolved["action"]) == ("ROLL_BACK", "HOLD")
    assert firing["contact"] == "search-oncall@example.com"
    assert firing["runbook"] == "https://runbooks.example.com/reindex"
    assert "vectors: answered 201" in firing["evidence"][0]["what"]
    assert resolved["since"] == firing["since"]


async def test_nothing_is_sent_before_it_is_durable(tmp_path: Path) -> None:
    """An alert is an event first."""
    with webhook() as hook:
        async with desk(hooked(tmp_path, hook)) as made:
            made.decide(ROLL_BACK, failing("guard"))
            await asyncio.sleep(0.2)  # it has every chance
            early = list(hook.got)
            made.deliver()
            await made.until(lambda: len(hook.got) == 1)

    assert early == []


@pytest.mark.parametrize("first", [500, 503, 429, None])
async def test_what_may_pass_is_tried_again(first: int | None, tmp_path: Path) -> None:
    """A server error, a limit, or an answer that never comes."""
    with webhook(first, 200) as hook:
        async with desk(hooked(tmp_path, hook)) as made:
            made.decide(EXTEND, failing("reads"))
            made.deliver()
            await made.until(lambda: len(made.notes(DELIVERED)) == 1)

            assert len(made.notes("alert not delivered")) == 1
    assert hook.told == [("reads", "firing")]


@pytest.mark.parametrize("status", [400, 401, 404, 301])
async def test_what_will_not_pass_is_not_tried_again(status: int, tmp_path: Path) -> None:
    """The refusal is recorded, and the next alert is sent all the same."""
    with webhook(status, 200) as hook:
        async with desk(hooked(tmp_path, hook)) as made:
            made.decide(EXTEND, failing("reads"))
            made.decide(EXTEND, failing("reads"), failing("flag"))
            made.deliver()
            await made.until(lambda: len(made.notes(DELIVERED)) == 1)

            refused = made.notes("alert not delivered")
    assert [note["reason"] for note in refused] == [f"answered {status}"]
    assert [body["cause"] for body in hook.got] == ["reads", "flag"]


async def test_a_firing_is_never_overtaken_by_its_end(tmp_path: Path) -> None:
    """While the first delivery is tried again, the end waits for its turn."""
    with webhook(503, 200) as hook:
        async with desk(hooked(tmp_path, hook)) as made:
            made.decide(EXTEND, failing("reads"))
            made.decide(HOLD)
            made.deliver()
            await made.until(lambda: len(made.notes(DELIVERED)) == 2)

    assert [body["state"] for body in hook.got] == ["firing", "firing", "resolved"]


async def test_one_dead_notifier_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """Neither the judging, which only appends, nor the other notifiers."""
    with webhook(None) as dead, webhook() as alive:
        async with desk(hooked(tmp_path, dead, alive)) as made:
            began = time.perf_counter()
            for action, verdicts in [(EXTEND, [failing("reads")]), (HOLD, [])] * 10:
                made.decide(action, *verdicts)
                made.deliver()
            took = time.perf_counter() - began
            await made.until(lambda: len(alive.got) == 20)

    assert took < 0.5
    assert len(dead.got) == 1
    assert alive.told == [("reads", "firing"), ("reads", "resolved")] * 10


async def test_judging_goes_on_while_a_notifier_is_dead(tmp_path: Path) -> None:
    """A verdict costs no more than before."""
    with webhook(None) as dead:
        plan = hooked(tmp_path, dead)
        async with desk(plan) as made:
            made.decide(EXTEND, failing("reads"))
            made.deliver()
            await made.until(lambda: len(dead.got) == 1)
            judge = judge_of(plan, [])
            began = time.perf_counter()
            for second in range(100):
                verdicts = judge.verdicts(OPENS + second)
                decide(OPENS + second, judge.timeline, verdicts, None)
                await asyncio.sleep(0)

            assert time.perf_counter() - began < 2


async def test_no_secret_stands_in_a_recorded_problem(tmp_path: Path) -> None:
    """A URL from the environment is shown by its name, wherever an error repeats it."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    secret = "s3cr3t-path"
    environment = {"HOOK": f"http://127.0.0.1:{port}/{secret}", "TOKEN": "tok-4711-secret"}
    plan = plan_with(
        tmp_path,
        'webhook: {url: "${HOOK}", headers: {Authorization: "Bearer ${TOKEN}"}}',
        environment=environment,
    )

    async with desk(plan) as made:
        made.decide(EXTEND, failing("reads"))
        made.deliver()
        await made.until(lambda: bool(made.notes("alert not delivered")))

        recorded = "".join(map(dumps, made.events))
    assert secret not in recorded
    assert "tok-4711" not in recorded


async def test_a_header_is_sent_as_configured(tmp_path: Path) -> None:
    """The secret reaches the one it is meant for."""
    with webhook() as hook:
        plan = plan_with(
            tmp_path,
            f'webhook: {{url: "{hook.url}", headers: {{Authorization: "Bearer ${{TOKEN}}"}}}}',
            environment={"TOKEN": "tok-4711"},
        )
        async with desk(plan) as made:
            made.decide(EXTEND, failing("reads"))
            made.deliver()
            await made.until(lambda: len(hook.got) == 1)

    assert hook.headers[0]["Authorization"] == "Bearer tok-4711"
    assert hook.headers[0]["Content-Type"] == "application/json"


async def test_text_from_a_target_cannot_silence_an_alert(tmp_path: Path) -> None:
    """Half a character, NUL and quotes in a reason are delivered like every other."""
    with webhook() as hook:
        async with desk(hooked(tmp_path, hook)) as made:
            made.decide(ROLL_BACK, failing("guard", 'code \ud800\x00 "</script>'))
            made.deliver()
            await made.until(lambda: len(made.notes(DELIVERED)) == 1)

    assert '"</script>' in hook.got[0]["summary"]


async def test_a_graver_advice_is_told_again(tmp_path: Path) -> None:
    """EXTEND that becomes ROLL_BACK is news; the cause and its beginning stay."""
    with webhook() as hook:
        async with desk(hooked(tmp_path, hook)) as made:
            made.decide(EXTEND, failing("guard"))
            made.decide(ROLL_BACK, failing("guard"))
            made.deliver()
            await made.until(lambda: len(made.notes(DELIVERED)) == 2)

    assert [body["action"] for body in hook.got] == ["EXTEND", "ROLL_BACK"]
    assert hook.got[0]["since"] == hook.got[1]["since"]


# -- after a crash --------------------------------------------------------------------------------


async def test_what_was_durable_and_not_delivered_is_sent_after_a_restart(tmp_path: Path) -> None:
    """A crash in between costs nobody an alert; what was delivered is not sent twice."""
    with webhook() as hook:
        plan = hooked(tmp_path, hook)
        async with desk(plan) as first:
            first.decide(EXTEND, failing("reads"))
            first.deliver()
            await first.until(lambda: len(first.notes(DELIVERED)) == 1)
            first.decide(EXTEND, failing("reads"), failing("flag"))
            recorded = list(first.events)

        async with desk(plan, recorded) as second:
            await second.until(lambda: len(second.notes(DELIVERED)) == 1)
            second.decide(HOLD)
            second.deliver()
            await second.until(lambda: len(second.notes(DELIVERED)) == 3)

    assert hook.told == [
        ("reads", "firing"),
        ("flag", "firing"),
        ("reads", "resolved"),
        ("flag", "resolved"),
    ]


async def test_after_a_restart_the_last_word_is_said_last(tmp_path: Path) -> None:
    """Fired, ended and fired again while nobody could be told: it ends as firing."""
    with webhook() as hook:
        plan = hooked(tmp_path, hook)
        async with desk(plan) as first:
            for action, verdicts in [(EXTEND, [failing("reads")]), (HOLD, []), (EXTEND, [failing("reads")])]:
                first.decide(action, *verdicts)
            recorded = list(first.events)

        async with desk(plan, recorded) as second:
            await second.until(lambda: len(hook.got) == 3)

    assert [state for _, state in hook.told] == ["firing", "resolved", "firing"]


async def test_a_delivery_counts_for_the_alert_that_was_delivered(tmp_path: Path) -> None:
    """A note about the milder alert does not stand for the graver one behind it."""
    with webhook() as hook:
        plan = hooked(tmp_path, hook)
        async with desk(plan) as first:
            first.decide(EXTEND, failing("guard"))
            first.deliver()
            first.decide(ROLL_BACK, failing("guard"))
            await first.until(lambda: len(first.notes(DELIVERED)) == 1)
            recorded = list(first.events)

        async with desk(plan, recorded) as second:
            await second.until(lambda: len(second.notes(DELIVERED)) == 1)

    assert [body["action"] for body in hook.got] == ["EXTEND", "ROLL_BACK"]


# -- a real Alertmanager --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real one on a free port of this machine."""
    found = shutil.which("prometheus-alertmanager")
    if found is None:
        why = "prometheus-alertmanager is not on PATH: apt-get install prometheus-alertmanager"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("alertmanager")
    config = folder / "alertmanager.yml"
    config.write_text("route: {receiver: nobody, group_wait: 1s}\nreceivers: [{name: nobody}]\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [
        found,
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while not ready(url):
                assert time.monotonic() < deadline, "alertmanager does not come up"
            yield url
        finally:
            process.terminate()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=1).is_success
    except httpx.TransportError:
        threading.Event().wait(0.05)
        return False


def firing_in(url: str, cause: str) -> list[dict[str, Any]]:
    """What fires there now because of `cause`."""
    answer = httpx.get(f"{url}/api/v2/alerts", params={"filter": f'cause="{cause}"'}, timeout=5)
    found: list[dict[str, Any]] = answer.json()
    return found


def alerting(directory: Path, url: str, resend: str = "1m") -> Plan:
    return plan_with(directory, f'alertmanager: {{url: "{url}", labels: {{team: search}}, resend: {resend}}}')


async def test_alertmanager_holds_one_alert_for_a_cause_until_it_ends(
    alertmanager: str, tmp_path: Path
) -> None:
    """It says what broke, since when, what to do and whom to ask."""
    async with desk(alerting(tmp_path, alertmanager)) as made:
        for _ in range(3):
            made.decide(EXTEND, failing("reads"))
            made.deliver()
        await made.until(lambda: len(made.notes(DELIVERED)) == 1)
        fired = firing_in(alertmanager, "reads")
        made.decide(HOLD)
        made.deliver()
        await made.until(lambda: len(made.notes(DELIVERED)) == 2)
        left = firing_in(alertmanager, "reads")

    assert [alert["labels"] for alert in fired] == [
        {
            "alertname": "FreezewatchEscalation",
            "window": "reindex",
            "cause": "reads",
            "severity": "warning",
            "team": "search",
        }
    ]
    notes = fired[0]["annotations"]
    assert "vectors: leaked: answered 201" in notes["summary"]
    assert (notes["action"], notes["runbook_url"]) == ("EXTEND", "https://runbooks.example.com/reindex")
    assert notes["contact"] == "search-oncall@example.com"
    assert fired[0]["startsAt"].startswith("2026-11-23T22:00:00")
    assert left == []


async def test_a_critical_alert_ends_in_alertmanager_too(alertmanager: str, tmp_path: Path) -> None:
    """Its end carries the labels with which it fired."""
    async with desk(alerting(tmp_path, alertmanager)) as made:
        made.decide(ROLL_BACK, failing("guard"))
        made.deliver()
        await made.until(lambda: len(made.notes(DELIVERED)) == 1)
        fired = firing_in(alertmanager, "guard")
        made.decide(HOLD)
        made.deliver()
        await made.until(lambda: len(made.notes(DELIVERED)) == 2)

        assert [alert["labels"]["severity"] for alert in fired] == ["critical"]
        assert firing_in(alertmanager, "guard") == []


async def test_a_graver_alert_takes_the_place_of_the_milder_one(alertmanager: str, tmp_path: Path) -> None:
    """Never two alerts for one cause, and none is left when it ends, a restart in between or not."""
    plan = alerting(tmp_path, alertmanager)
    async with desk(plan) as first:
        first.decide(EXTEND, failing("storage"))
        first.deliver()
        first.decide(ROLL_BACK, failing("storage"))
        first.deliver()
        await first.until(lambda: len(first.notes(DELIVERED)) == 2)
        fired = firing_in(alertmanager, "storage")
        recorded = list(first.events)
    async with desk(plan, recorded) as second:
        second.decide(HOLD)
        second.deliver()
        await second.until(lambda: len(second.notes(DELIVERED)) == 1)

    assert [alert["labels"]["severity"] for alert in fired] == ["critical"]
    assert firing_in(alertmanager, "storage") == []


async def test_an_alert_is_sent_again_while_it_fires(alertmanager: str, tmp_path: Path) -> None:
    """Alertmanager forgets what is not repeated; a dead watchdog's alert runs out by itself."""
    async with desk(alerting(tmp_path, alertmanager, resend="200ms")) as made:
        made.decide(EXTEND, failing("flag"))
        made.deliver()
        await made.until(lambda: len(made.notes(DELIVERED)) == 1)
        first = firing_in(alertmanager, "flag")[0]["endsAt"]

        await made.until(lambda: firing_in(alertmanager, "flag")[0]["endsAt"] > first)
        made.decide(HOLD)
        made.deliver()
        await made.until(lambda: not firing_in(alertmanager, "flag"))


def test_an_alert_event_names_who_is_told_and_no_secret(tmp_path: Path) -> None:
    """Kind and host only."""
    plan = plan_with(
        tmp_path,
        'webhook: {url: "https://hooks.example.com/T0/s3cr3t"}',
        'alertmanager: {url: "http://user:passw0rd@am.example.com:9093"}',
    )
    events: list[Event] = []

    async def names() -> None:
        async with httpx.AsyncClient() as client:
            center = AlertCenter(
                plan, [spec.notifier(client) for spec in plan.notify], events.append, lambda: OPENS
            )
            center.decided(
                Decision(action=EXTEND, causes=("reads",), reason="told"), {"reads": failing("reads")}
            )

    asyncio.run(names())

    (event,) = events
    assert isinstance(event, Alerted)
    assert event.to == ("webhook hooks.example.com", "alertmanager am.example.com")

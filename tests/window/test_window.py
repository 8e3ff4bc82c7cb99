"""Whole windows with real processes: acts, gate, restarts, and what goes wrong around a watchdog."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import jsonschema
import pytest

from monitor.commands.schema import schema_of
from monitor.ledger import LedgerFile

from .harness import Window, freeze, service, until

pytestmark = [pytest.mark.window, pytest.mark.timeout(180)]


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict]]]:
    """A real webhook receiver; gives its URL and what it was sent."""
    received: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append({**json.loads(body), "received_at": time.time()})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", received
    server.shutdown()
    server.server_close()


def fill(ballast: Path) -> None:
    """Write until the file system has no room left."""
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="No space left"):
            while True:
                os.write(descriptor, b"0" * 4096)
    finally:
        os.close(descriptor)


def in_background(window: Window) -> threading.Thread:
    """Play the operator beside the test."""
    thread = threading.Thread(target=window.play_operator, daemon=True)
    thread.start()
    return thread


def test_gate_opens_only_with_evidence_and_close_ends_the_window_early(tmp_path: Path) -> None:
    """Shut before it opens, open once proven; `close` is recorded, writes come back, the end verifies."""
    with service() as url:
        window = Window(folder=tmp_path, url=url, length=60, opens_in=12.0, baseline=10.0)
        with window.watch() as watchdog:
            watchdog.phase("baseline")
            early = window.run("gate", "--at", "close", "--json")
            refused = window.run("close", "--reason", "too early", "--who", "test")
            assert early.returncode == 3
            assert json.loads(early.stdout)["open"] is False
            jsonschema.validate(json.loads(early.stdout), schema_of("gate"))
            assert refused.returncode == 2
            assert until(lambda: watchdog.get("/api/v1/gate"), "the gate's answer").status_code == 409

            window.wait_for(window.opens)
            freeze(url, True)
            opened = window.run("gate", "--at", "close", "--wait", "20s")
            assert opened.returncode == 0, opened.stdout
            assert until(lambda: watchdog.get("/api/v1/gate").status_code == 200, "the gate being open")
            assert watchdog.get("/healthz").status_code == 200

            closed = window.run("close", "--reason", "all is verified", "--who", "ada")
            freeze(url, False)
            assert closed.returncode == 0, closed.stdout + closed.stderr
            assert watchdog.wait() == 0
        report = window.report()
        assert report["verdict"] == "GREEN", window.held_by()
        assert report["window"]["closes"] < report["window"]["planned_closes"]
        assert window.run("gate", "--at", "end").returncode == 0


def test_leak_is_told_once_and_an_accepted_finding_turns_the_window_green(tmp_path: Path) -> None:
    """A leak alerts within seconds, stops the attempts, fails the window for good until it is accepted."""
    with webhook() as (hook, received), service("--fault", "unguarded-endpoint") as url:
        window = Window(folder=tmp_path, url=url, extra=f'notify: [{{webhook: {{url: "{hook}"}}}}]\n')
        with window.watch() as watchdog:
            operator = in_background(window)
            assert watchdog.wait() == 1
            operator.join(10)
        leaks = [e for e in window.events() if e.get("outcome") == "leaked" and e["phase"] == "frozen"]
        firing = [message for message in received if message["state"] == "firing"]
        assert [message["cause"] for message in firing] == ["guard"]
        assert firing[0]["action"] == "ROLL_BACK"
        jsonschema.validate(firing[0], schema_of("alert"))
        assert len(leaks) == 1, "attempts go on after a confirmed leak"
        assert window.run("accept", "guard", "--reason", "", "--who", "ada").returncode == 2
        assert window.run("accept", "coverage", "--reason", "no matter", "--who", "ada").returncode == 2

        accepted = window.run("accept", "guard", "--reason", "kv holds no customer data", "--who", "ada")

        assert accepted.returncode == 0, accepted.stderr
        report = window.report()
        assert report["verdict"] == "GREEN", window.held_by()
        assert report["accepted_findings"] is True
        assert window.criterion("guard")["findings"], "accepted findings stay listed"
        assert window.run("gate", "--at", "end").returncode == 0
        assert window.run("verify").returncode == 0


def test_extension_moves_the_end_and_only_as_often_as_allowed(tmp_path: Path) -> None:
    """`extend` keeps the window frozen for longer; a second one is refused; the whole stays green."""
    with service() as url:
        window = Window(folder=tmp_path, url=url, length=9)
        with window.watch() as watchdog:
            window.wait_for(window.opens)
            freeze(url, True)
            watchdog.phase("frozen")
            first = window.run("extend", "--reason", "the rebuild is slow", "--who", "ada", "--json")
            second = window.run("extend", "--reason", "still slow", "--who", "ada")
            window.wait_for(window.closes + 4)
            freeze(url, False)
            code = watchdog.wait()
        assert first.returncode == 0, first.stderr
        jsonschema.validate(json.loads(first.stdout), schema_of("event"))
        assert second.returncode == 2
        report = window.report()
        assert code == 0, window.held_by()
        assert [e["by"] for e in report["window"]["extensions"]] == [4.0]


def test_roll_back_ends_the_window_and_keeps_the_gate_at_the_end_closed(tmp_path: Path) -> None:
    """A recorded roll-back is never a verified window, however healthy everything looks."""
    with service() as url:
        window = Window(folder=tmp_path, url=url, length=60)
        with window.watch() as watchdog:
            window.wait_for(window.opens)
            freeze(url, True)
            watchdog.phase("frozen")
            window.run("roll-back", "--reason", "the new index is wrong", "--who", "ada")
            freeze(url, False)
            assert watchdog.wait() == 1
        report = window.report()
        assert report["window"]["phase"] == "rolled_back"
        assert [b["criterion"] for b in report["gate"]["end"]["blocked_by"]] == ["window"]


def test_killed_watchdog_takes_the_window_up_again_with_everything_it_acted_upon(tmp_path: Path) -> None:
    """kill -9 loses nothing that was printed, and the restart goes on with the same window."""
    with service() as url:
        window = Window(folder=tmp_path, url=url, length=14)
        operator = in_background(window)
        with window.watch() as watchdog:
            watchdog.phase("frozen")
            watchdog.signal(signal.SIGKILL)
            watchdog.process.wait()
        printed = [json.dumps(event, sort_keys=True) for event in window.events()]
        with window.watch() as watchdog:
            code = watchdog.wait()
        operator.join(10)

        file = LedgerFile(window.ledger)
        rows = file._db.execute("SELECT body FROM records").fetchall()
        file.close()
        recorded = {json.dumps(json.loads(row[0]), sort_keys=True) for row in rows}
        assert set(printed) <= recorded
        assert window.run("verify").returncode == 0
        starts = [
            e["detail"]["resumed"] for e in window.events() if e["event"] == "self" and e["what"] == "started"
        ]
        assert starts == [False, True]
        assert code in (0, 3), "a short gap may be tolerated or hold the window; it is never red"


def test_interrupt_ends_cleanly_and_records_it(tmp_path: Path) -> None:
    """Ctrl-C: exit 3, since the window is not verified, and the ledger says who stopped."""
    with service() as url:
        window = Window(folder=tmp_path, url=url, length=60)
        with window.watch() as watchdog:
            watchdog.phase("baseline")
            watchdog.signal(signal.SIGINT)
            assert watchdog.wait() == 3
        assert [e for e in window.events() if e["event"] == "self" and e["what"] == "stopped"]
        assert window.run("verify").returncode == 0


def test_second_watchdog_on_the_same_window_is_refused(tmp_path: Path) -> None:
    """Two copies at once would attempt twice; the second says who is there and leaves."""
    with service() as url:
        window = Window(folder=tmp_path, url=url, length=60)
        with window.watch() as watchdog:
            watchdog.phase("baseline")
            second = window.run("watch")
            assert second.returncode == 4
            assert str(watchdog.process.pid) in second.stderr


def test_full_disk_is_said_loudly_keeps_probing_and_recovers(tmp_path: Path) -> None:
    """A real full file system: never green while it lasts, nothing lost once there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    try:
        with service() as url:
            window = Window(folder=tmp_path, url=url, length=25, extra=f"ledger: {disk / 'test.ledger'}\n")
            window.ledger = disk / "test.ledger"
            operator = in_background(window)
            with window.watch() as watchdog:
                watchdog.phase("frozen")
                ballast = disk / "ballast"
                fill(ballast)
                log = tmp_path / "watch.log"
                until(lambda: "TAKES NO EVIDENCE" in log.read_text(), "it being said loudly")
                until(lambda: watchdog.get("/healthz").status_code == 503, "health being red")
                gate = watchdog.get("/api/v1/gate").json()
                assert gate["open"] is False
                assert any("takes no evidence" in b["reason"] for b in gate["blocked_by"])
                metrics = watchdog.get("/metrics").text
                assert "freezewatch_ledger_failing 1.0" in metrics
                assert 'freezewatch_criterion_status{criterion="coverage",status="PASS"} 0.0' in metrics

                ballast.unlink()

                until(lambda: watchdog.get("/healthz").status_code == 200, "health being green again")
                code = watchdog.wait()
            operator.join(10)
            assert code == 0, window.held_by()
            assert window.run("verify").returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_watchdog_without_a_network_of_its_own_ends_amber(tmp_path: Path) -> None:
    """Asking nothing is not finding nothing: no network, no evidence, no green, no red."""
    window = Window(folder=tmp_path, url="http://127.0.0.1:9", opens_in=3, baseline=2, length=6, soak=2)

    done = subprocess.run(
        ["unshare", "--net", *window.command("watch", "--json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 3, done.stderr[-1000:]
    report = window.report()
    assert report["verdict"] == "AMBER"
    coverage = next(c for c in report["criteria"] if c["criterion"] == "coverage")
    assert "nothing" in coverage["reason"]
    outcomes = {json.loads(line).get("outcome") for line in done.stdout.splitlines() if line.startswith("{")}
    assert outcomes - {None} == {"skipped"}


def test_dead_target_is_never_green(tmp_path: Path) -> None:
    """Nothing listens: every surface is unproven, and every way of asking says so."""
    window = Window(folder=tmp_path, url="http://127.0.0.1:9", opens_in=3, baseline=2, length=6, soak=2)

    with window.watch() as watchdog:
        watchdog.phase("frozen")
        until(lambda: window.run("gate", "--at", "close").returncode == 3, "the gate being amber")
        assert 'freezewatch_gate_open{at="close"} 0.0' in watchdog.get("/metrics").text
        assert watchdog.wait() == 3

    verdicts = {c["criterion"]: c["verdict"] for c in window.report()["criteria"] if not c["waived"]}
    assert set(verdicts) == {"guard", "reads", "flag", "reopen", "coverage"}
    assert {verdicts[name] for name in ("guard", "reads", "flag", "reopen")} == {"INCONCLUSIVE"}


def test_secrets_of_the_environment_stay_out_of_everything_written(tmp_path: Path) -> None:
    """A token in a header, echoed by the target and by errors, reaches no file, page or output."""
    token = "s3cr3t-t0ken/with+odd=chars"
    read = """
  - name: secret
    http: {url: "URL/search?q=${API_TOKEN}", headers: {Authorization: "Bearer ${API_TOKEN}"}}
    answer: $.nothing
"""
    with service() as url:
        window = Window(folder=tmp_path, url=url, opens_in=3, baseline=2, length=6, soak=2)
        text = window.config.read_text().replace("reads:\n", "reads:" + read.replace("URL", url), 1)
        window.config.write_text(text)
        environment = {**os.environ, "API_TOKEN": token}
        with window.watch(env=environment) as watchdog:
            watchdog.phase("frozen")
            served = watchdog.get("/metrics").text + watchdog.get("/api/v1/status").text
            asked = window.run("check", "--ask", "--show", env=environment).stdout
            watchdog.wait()
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name != "window.yaml")
        report = window.run("report", "--format", "html", env=environment)
        assert report.returncode == 0, report.stderr
        for text in (served, asked, report.stdout, report.stderr, written.decode("utf-8", "replace")):
            for spelling in (token, httpx.QueryParams({"t": token})["t"], "s3cr3t-t0ken"):
                assert spelling not in text
        assert "${API_TOKEN}" in asked, "a hidden secret still shows which one it was"


def test_configuration_changed_behind_the_watchdog_is_never_green(tmp_path: Path) -> None:
    """Taking the leaking surface out of the file neither opens the gate nor makes the leak go away."""
    with service("--fault", "unguarded-endpoint") as url:
        window = Window(folder=tmp_path, url=url, opens_in=4, baseline=3, length=8)
        with window.watch() as watchdog:
            operator = in_background(window)
            watchdog.wait()
            operator.join(10)
        text = window.config.read_text()
        start, end = text.index("  - name: kv"), text.index("flags:")
        window.config.write_text(text[:start] + text[end:])

        gate = window.run("gate", "--at", "end", "--json")

        blocked = {b["criterion"]: b["reason"] for b in json.loads(gate.stdout)["blocked_by"]}
        assert gate.returncode == 1
        assert "not configured any more" in blocked["guard"]
        assert "changed since the watchdog started" in blocked["coverage"]
        replay = window.run("replay", "--json")
        assert replay.returncode == 1, "a replay keeps the leak too"

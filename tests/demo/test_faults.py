"""Each fault of the demo service has its own effect and no other."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from monitor.demo.faults import FAULTS
from monitor.demo.operations import Door, Surface
from monitor.demo.questions import QUESTIONS

from .harness import (
    AT_THE_SIDE,
    BODIES,
    CANARY,
    MUTATIONS,
    READ_BACKS,
    ROOT,
    assert_proper_refusal,
    eventually,
    named,
    parts,
    running,
)


def test_unguarded_endpoint_fault_lets_one_write_through() -> None:
    """PUT /kv/{key} writes while frozen; deleting is still refused."""
    with running("--fault", "unguarded-endpoint") as demo:
        demo.freeze()

        assert demo.attempt(named("put_value")).status_code == 200
        assert demo.http.get(READ_BACKS[Surface.KV]).json()["value"] == BODIES["put_value"]
        assert_proper_refusal(demo.attempt(named("delete_value")))


def test_writes_behind_refusal_fault_refuses_and_writes() -> None:
    """The refusal is perfect, the vector is there; open again, the write answers as it should."""
    with running("--fault", "writes-behind-refusal") as demo:
        demo.freeze()

        assert_proper_refusal(demo.attempt(named("put_vector")))
        assert demo.http.get(READ_BACKS[Surface.VECTORS]).json()["values"] == [0.5, 1.0]
        demo.reopen()
        assert demo.attempt(named("put_vector")).status_code == 200


def test_writes_behind_refusal_fault_spares_the_direct_port() -> None:
    """It is the gateway that applies what it refuses."""
    with running("--fault", "writes-behind-refusal") as demo:
        demo.freeze()

        assert_proper_refusal(demo.attempt(named("put_vector"), Door.SIDE))
        assert demo.side.get(READ_BACKS[Surface.VECTORS]).status_code == 404


def test_side_door_fault_lets_vectors_in_and_out_by_the_direct_port_alone() -> None:
    """While frozen, the gateway refuses a vector that its own port takes, and takes away again."""
    with running("--fault", "side-door") as demo:
        demo.freeze()

        assert_proper_refusal(demo.attempt(named("put_vector")))
        assert demo.attempt(named("put_vector"), Door.SIDE).status_code == 200
        assert demo.http.get(READ_BACKS[Surface.VECTORS]).json()["values"] == [0.5, 1.0]
        assert_proper_refusal(demo.attempt(named("delete_vector")))
        assert demo.attempt(named("delete_vector"), Door.SIDE).status_code == 204


def test_background_writer_fault_writes_while_frozen_and_at_no_other_time(tmp_path: Path) -> None:
    """Asleep before the freeze, at work in it, at rest after it; what it writes is a production row."""
    with parts(tmp_path, fault="background-writer") as (services, _):

        def written() -> list[str]:
            services.stock_sync.work()
            return [str(id_) for (id_,) in services.database.rows("SELECT id FROM kv ORDER BY rowid")]

        before = written()
        services.mode.turn_on()
        frozen = [written(), written()]
        services.mode.turn_off()
        after = written()

    assert before == []
    assert frozen[0] == ["stock:hp-tent-fulmar-2"]
    assert frozen[1] == after == ["stock:hp-tent-fulmar-2", "stock:hp-stove-ember"]


def test_background_writer_fault_changes_something_at_every_run(tmp_path: Path) -> None:
    """A row that was written with what it held already would be seen by nobody."""
    with parts(tmp_path, fault="background-writer") as (services, _):
        services.mode.turn_on()
        seen = []
        for _ in range(100):
            services.stock_sync.work()
            seen.append(services.database.rows("SELECT id, content FROM kv ORDER BY id"))

    assert all(before != now for before, now in pairwise(seen))


def test_background_writer_fault_keeps_on_past_a_guard_that_refuses_everything() -> None:
    """Every write is refused at both doors, and rows keep changing: no attempt of ours can see it."""
    with running("--fault", "background-writer") as demo:
        demo.freeze()

        assert eventually(lambda: demo.http.get("/kv/stock:hp-stove-ember").status_code == 200)
        for operation in MUTATIONS:
            assert_proper_refusal(demo.attempt(operation))
        for operation in AT_THE_SIDE:
            assert_proper_refusal(demo.attempt(operation, Door.SIDE))
        assert demo.metric('demo_writes_applied_total{surface="kv"}') == 0


def test_sound_service_syncs_no_stock(tmp_path: Path) -> None:
    """Without the fault the job rests, frozen or not."""
    with parts(tmp_path) as (services, _):
        for turn in (services.mode.turn_on, services.mode.turn_off):
            services.stock_sync.work()
            turn()
            services.stock_sync.work()

        assert services.database.row("SELECT count(*) FROM kv") == (0,)


def test_no_retry_after_fault_drops_the_header_of_tickets_alone() -> None:
    """Only the ticket tool forgets to say when to come back."""
    with running("--fault", "no-retry-after") as demo:
        demo.freeze()

        refusal = demo.attempt(named("create_ticket"))
        assert refusal.status_code == 503
        assert refusal.json()["code"] == "READ_ONLY_WINDOW"
        assert "retry-after" not in refusal.headers
        assert_proper_refusal(demo.attempt(named("delete_ticket")))


def test_read_errors_fault_fails_every_fourth_ask_from_the_freeze_on() -> None:
    """One in four is a JSON 500, also after the window."""
    with running("--fault", "read-errors") as demo:
        before = [demo.ask("tent").status_code for _ in range(4)]
        demo.freeze()
        frozen = [demo.ask("tent").status_code for _ in range(8)]
        demo.reopen()
        after = [demo.ask("tent") for _ in range(4)]

        assert before == [200] * 4
        assert frozen == [200, 200, 200, 500] * 2
        assert [response.status_code for response in after] == [200, 200, 200, 500]
        assert after[-1].json()["code"] == "INTERNAL_ERROR"


def test_slow_reads_fault_delays_reads_alone() -> None:
    """Reads take 400 ms more from the freeze on; a refusal is as quick as ever."""
    with running("--fault", "slow-reads") as demo:

        def taken(path: str) -> float:
            return demo.http.get(path).elapsed.total_seconds()

        assert taken("/documents/returns-policy") < 0.4
        demo.freeze()
        assert demo.ask("tent").elapsed.total_seconds() >= 0.4
        assert demo.attempt(named("put_value")).elapsed.total_seconds() < 0.4
        demo.reopen()
        assert taken("/search?q=tent") >= 0.4


def test_wrong_answers_fault_misleads_every_question_soon_after_the_freeze(tmp_path: Path) -> None:
    """A tenth of a second in, no answer holds its facts or its document; so it stays."""
    with parts(tmp_path, fault="wrong-answers") as (services, clock):
        right = {question: services.retriever.answer(question.text) for question in QUESTIONS}
        services.mode.turn_on()
        clock.seconds += 0.09
        assert services.retriever.answer(QUESTIONS[0].text) == right[QUESTIONS[0]]
        clock.seconds += 0.02
        services.mode.turn_off()

        for question, answer in right.items():
            wrong = services.retriever.answer(question.text)
            assert wrong.text.endswith(".")
            assert not any(fact in wrong.text for fact in question.must_contain)
            assert wrong.sources[0].id != answer.sources[0].id


def test_flag_off_fault_shows_on_one_replica_alone() -> None:
    """Replica b says open while the guard refuses."""
    with running("--fault", "flag-off") as demo:
        demo.freeze()

        shown = [demo.http.get(f"/flags/{name}").json()["read_only"] for name in "ab"]
        assert shown == [True, False]
        assert_proper_refusal(demo.attempt(named("put_value")))


def test_reopen_broken_fault_keeps_refusing_after_everything_says_open() -> None:
    """Flag, status and banner say that it is over; writes meet the refusal; the queue drains."""
    with running("--fault", "reopen-broken") as demo:
        demo.freeze()
        demo.http.post("/intents", json={"id": CANARY, "payload": 1})
        demo.reopen()

        assert not demo.http.get("/flags/a").json()["read_only"]
        assert 'data-status="completed"' in demo.http.get("/banner").text
        assert eventually(lambda: demo.http.get("/queue").json()["depth"] == 0)
        for operation in MUTATIONS:
            assert_proper_refusal(demo.attempt(operation))


def test_html_error_fault_answers_writes_like_a_stock_proxy() -> None:
    """No header, no code, no JSON; reads and intents are as they were."""
    with running("--fault", "html-error") as demo:
        demo.freeze()
        for operation in MUTATIONS:
            refusal = demo.attempt(operation)
            assert refusal.status_code == 503
            assert refusal.headers["content-type"].startswith("text/html")
            assert "retry-after" not in refusal.headers
        assert demo.ask("tent").status_code == 200
        assert demo.http.post("/intents", json={"id": "i", "payload": 1}).status_code == 202


OWN_EFFECT = {
    "unguarded-endpoint": {"put_value"},
    "writes-behind-refusal": {"put_vector"},
    "no-retry-after": {"create_ticket"},
    "html-error": {operation.name for operation in MUTATIONS},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_breaks_nothing_but_its_own(fault: str) -> None:
    """Before the freeze all is right; frozen and after, so is everything that is not the fault."""
    with running("--fault", fault) as demo:
        answers = [demo.ask(question.text).json()["answer"] for question in QUESTIONS]
        written = [demo.attempt(named(name)).is_success for name in BODIES]
        demo.freeze()
        for operation in MUTATIONS:
            if operation.name not in OWN_EFFECT.get(fault, set()):
                assert_proper_refusal(demo.attempt(operation))
        for operation in AT_THE_SIDE:
            if fault not in {"side-door", "html-error"}:
                assert_proper_refusal(demo.attempt(operation, Door.SIDE))
        frozen_answers = [demo.ask(question.text).json().get("answer") for question in QUESTIONS]
        assert demo.http.get("/flags/a").json()["read_only"]
        assert demo.http.get("/flags/b").json()["read_only"] is (fault != "flag-off")
        demo.reopen()
        reopened = demo.attempt(named("put_value"), **{"Idempotency-Key": "after"}).is_success

        assert all(
            fact in answer
            for question, answer in zip(QUESTIONS, answers, strict=True)
            for fact in question.must_contain
        )
        assert all(written)
        if fault not in {"read-errors", "wrong-answers"}:
            assert frozen_answers == answers
        assert reopened is (fault != "reopen-broken")


def test_unknown_fault_is_an_error_that_names_the_known_ones() -> None:
    """A typing mistake does not start a sound service."""
    command = [sys.executable, "-m", "monitor.demo.service", "--fault", "wrong-anwsers"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert all(name in ended.stderr for name in FAULTS)

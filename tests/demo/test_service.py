"""The demo service as its users meet it: the real process, and its store called directly."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.demo.corpus import Document
from monitor.demo.mode import iso
from monitor.demo.operations import OPERATIONS, Effect, Operation, Surface
from monitor.demo.problems import ReadOnly
from monitor.demo.questions import QUESTIONS, Question
from monitor.demo.store import Applied, Shelf

from .harness import (
    BODIES,
    CANARY,
    MUTATIONS,
    READ_BACKS,
    Demo,
    assert_proper_refusal,
    eventually,
    named,
    parts,
    running,
)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_question_and_its_paraphrases_are_answered_with_the_facts(
    open_demo: Demo, question: Question
) -> None:
    """However it is asked, the answer holds the facts, names three sources and never varies."""
    for text in (question.text, *question.paraphrases):
        first, second = open_demo.ask(text).json(), open_demo.ask(text).json()

        assert all(fact in first["answer"] for fact in question.must_contain)
        assert len(first["sources"]) == 3
        assert first == second


def test_answer_takes_milliseconds(open_demo: Demo) -> None:
    """Typical latency is far below the 40 ms that a delayed acknowledgement would cost."""
    taken = [open_demo.ask("How do I return a tent?").elapsed for _ in range(21)]

    assert sorted(taken)[10] < timedelta(milliseconds=25)


@pytest.mark.parametrize("text", ['") OR title:*', "NEAR(tent, 2)", "tent AND -", "' --", "?!", "^*"])
def test_query_syntax_is_nothing_but_words(open_demo: Demo, text: str) -> None:
    """Whatever is typed, the index sees quoted words."""
    assert open_demo.ask(text).status_code == 200
    assert open_demo.http.get("/search", params={"q": text}).status_code == 200


def test_search_finds_documents_that_can_be_opened(open_demo: Demo) -> None:
    """A result's id leads to its document."""
    found = open_demo.http.get("/search", params={"q": "tent warranty"}).json()["results"][0]

    document = open_demo.http.get(f"/documents/{found['id']}").json()

    assert document["title"] == found["title"] == "Tent warranty"


@pytest.mark.parametrize("name", BODIES)
def test_write_is_stored_read_back_and_removed(open_demo: Demo, name: str) -> None:
    """While writes are open, each surface really writes and really deletes."""
    operation = named(name)
    assert operation.surface is not None
    back = READ_BACKS[operation.surface]
    delete = back if name != "create_ticket" else f"/tools/tickets/{CANARY}"
    assert open_demo.http.get(back).status_code == 404

    assert open_demo.attempt(operation).is_success

    assert open_demo.http.get(back).status_code == 200
    assert open_demo.http.delete(delete).status_code == 204
    assert open_demo.http.delete(delete).status_code == 404


def test_repeated_idempotency_key_gets_the_first_answer_and_no_second_effect(demo: Demo) -> None:
    """The same key is done already; the same key with another payload is a mistake."""
    key = {"Idempotency-Key": '"8e03978e"'}
    tickets = [
        demo.http.post("/tools/create_ticket", json={"title": "Once"}, headers=key).json() for _ in range(2)
    ]
    other = demo.http.post("/tools/create_ticket", json={"title": "Other"}, headers=key)

    assert tickets[0] == tickets[1]
    assert demo.metric('demo_writes_applied_total{surface="tickets"}') == 1
    assert other.status_code == 422
    assert other.json()["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_canary_document_never_changes_an_answer(demo: Demo) -> None:
    """A canary can be read back, and retrieval does not know it; a true document it does."""
    question = "How do I return a tent?"
    before = demo.ask(question).json()

    demo.attempt(named("post_document"))
    with_canary = demo.ask(question).json()
    text = "A brandnewword is returned."
    demo.http.post("/documents", json={"id": "new", "title": "New", "text": text})

    assert with_canary == before
    assert demo.http.get(READ_BACKS[Surface.DOCUMENTS]).status_code == 200
    assert demo.ask("brandnewword").json()["answer"] == text


@pytest.mark.parametrize("operation", MUTATIONS, ids=lambda operation: operation.name)
def test_frozen_service_refuses_every_declared_mutation_and_changes_nothing(
    demo: Demo, operation: Operation
) -> None:
    """Each write gets the whole contract of a refusal, and the read-back shows no effect."""
    assert operation.surface is not None
    creates = operation.method != "DELETE"
    if not creates:
        for name in BODIES:
            demo.attempt(named(name))
        demo.http.post("/intents", json={"id": CANARY, "payload": 1})
    demo.freeze()

    refusal = demo.attempt(operation)

    assert_proper_refusal(refusal)
    assert refusal.headers["retry-after"] == "120"
    back = demo.http.get(READ_BACKS[operation.surface])
    assert back.status_code == (404 if creates else 200)
    assert demo.metric(f'demo_writes_blocked_total{{surface="{operation.surface}"}}') == 1


def test_retry_after_reaches_to_the_announced_end_and_moves_with_it(demo: Demo) -> None:
    """A client that obeys the header comes back when the window closes."""
    for minutes in (1, 10):
        demo.freeze(closes=iso(datetime.now(UTC) + timedelta(minutes=minutes)))

        seconds = int(demo.attempt(named("put_value")).headers["retry-after"])

        assert minutes * 60 - 10 < seconds <= minutes * 60
    demo.freeze(closes="2020-01-01T00:00:00Z")
    assert demo.attempt(named("put_value")).headers["retry-after"] == "1"


def test_frozen_service_answers_as_before(demo: Demo) -> None:
    """Asking is a read although it is a POST."""
    before = [demo.ask(question.text).json() for question in QUESTIONS]

    demo.freeze()

    assert [demo.ask(question.text).json() for question in QUESTIONS] == before


def test_store_refuses_writes_that_bypass_the_gateway(tmp_path: Path) -> None:
    """The service layer holds on its own: every mutating method raises and changes nothing."""
    document = Document(id=CANARY, title="Canary", text="Canary.")
    with parts(tmp_path) as (services, _):
        store, gate = services.store, services.guard.gate_for(named("put_vector"))
        store.put(Shelf.KV, CANARY, 1, writes=gate)
        store.queue_intent(CANARY, 1, at=0.0)
        services.mode.turn_on()
        writes: tuple[Callable[[], object], ...] = (
            lambda: store.put(Shelf.KV, CANARY, 2, writes=gate),
            lambda: store.delete(Shelf.KV, CANARY, writes=gate),
            lambda: store.put_document(document, writes=gate),
            lambda: store.delete_document("returns-policy", writes=gate),
            lambda: store.embed_documents(limit=1, writes=gate),
            lambda: store.apply_intents(limit=1, writes=gate),
            lambda: store.apply_intent(CANARY, writes=gate),
            lambda: store.delete_intent(CANARY, writes=gate),
        )
        changes = services.database.row("SELECT total_changes()")

        for write in writes:
            with pytest.raises(ReadOnly):
                write()

        assert services.database.row("SELECT total_changes()") == changes
        assert store.get(Shelf.KV, CANARY) == (1,)


def test_every_unsafe_method_is_declared_a_write_but_asking_queueing_and_the_switch() -> None:
    """A new endpoint cannot join the table as a read by mistake."""
    exempt = {
        (operation.method, operation.path)
        for operation in OPERATIONS
        if operation.method != "GET" and operation not in MUTATIONS
    }

    assert exempt == {("POST", "/ask"), ("POST", "/intents"), ("POST", "/admin/read-only")}


def test_write_that_fails_midway_leaves_nothing_behind(tmp_path: Path) -> None:
    """Effect and remembered answer are one transaction."""
    with parts(tmp_path) as (services, _):
        gate = services.guard.gate_for(named("put_value"))

        def write() -> Applied:
            services.store.put(Shelf.KV, CANARY, 1, writes=gate)
            raise ReadOnly("the gate shut in between")

        with pytest.raises(ReadOnly):
            services.store.once("key", "fingerprint", write)

        assert services.store.get(Shelf.KV, CANARY) is None
        assert services.store.once("key", "other", lambda: Applied(status=200)).status == 200


def test_intents_queue_while_frozen_and_are_applied_exactly_once_after(demo: Demo) -> None:
    """Each intent takes effect once, however often it was sent, and the queue drains to zero."""
    demo.freeze()
    for number in [*range(20), *range(20)]:
        sent = demo.http.post("/intents", json={"id": f"i{number}", "payload": {"n": number}})
        assert (sent.status_code, sent.json()["status"]) == (202, "queued")
    queue = demo.http.get("/queue").json()
    assert queue["depth"] == demo.metric("demo_queue_depth") == 20
    assert queue["oldest_seconds"] > 0
    assert demo.http.get("/intents/i0").json() == {"id": "i0", "status": "queued", "applied": 0}

    demo.reopen()
    assert eventually(lambda: demo.http.get("/queue").json()["depth"] == 0)
    again = demo.http.post("/intents", json={"id": "i0", "payload": {"n": 0}})
    new = demo.http.post("/intents", json={"id": "new", "payload": None})

    assert (again.status_code, new.status_code) == (200, 200)
    assert new.json() == {"id": "new", "status": "applied"}
    for id_ in [*(f"i{number}" for number in range(20)), "new"]:
        assert demo.http.get(f"/intents/{id_}").json()["applied"] == 1
    assert demo.metric('demo_writes_applied_total{surface="intents"}') == 21


def test_queued_intent_survives_a_killed_process(tmp_path: Path) -> None:
    """An answer of 202 is a promise: the next process on the same data keeps it, once."""
    with running("--data", str(tmp_path)) as demo:
        demo.freeze()
        demo.http.post("/intents", json={"id": CANARY, "payload": 1})
        demo.process.kill()

    with running("--data", str(tmp_path)) as demo:
        path = READ_BACKS[Surface.INTENTS]
        assert eventually(lambda: demo.http.get(path).json()["status"] == "applied")
        assert demo.http.get(path).json()["applied"] == 1


def test_backfill_works_while_open_and_rests_while_frozen(tmp_path: Path) -> None:
    """Open: every document but a canary gets a vector. Frozen: nothing is computed, nothing applied."""
    canary = Document(id=CANARY, title="Canary", text="Canary.")
    with parts(tmp_path) as (services, clock):
        services.store.put_document(canary, writes=services.guard.gate_for(named("post_document")))
        services.mode.turn_on()
        services.backfill.work()
        resting = (services.backfill.running, services.backfill.last_run)
        services.mode.turn_off()
        services.backfill.work()

        assert resting == (False, None)
        assert services.backfill.last_run == clock.now()
        assert services.database.row("SELECT count(*) FROM embeddings") == (40,)


def test_job_and_flags_follow_the_mode(demo: Demo) -> None:
    """Both replicas and the job show the freeze at once; each change is a new version."""
    assert eventually(lambda: bool(demo.http.get("/jobs").json()["embeddings_backfill"]["last_run"]))
    seen = []
    turns: tuple[Callable[[], None], ...] = (
        lambda: None,
        demo.freeze,
        demo.freeze,
        demo.reopen,
    )
    for turn in turns:
        turn()
        a, b = demo.http.get("/flags/a").json(), demo.http.get("/flags/b").json()
        assert a == b
        running_now = demo.http.get("/jobs").json()["embeddings_backfill"]["running"]
        seen.append((a["read_only"], a["version"], running_now, demo.metric("demo_read_only")))

    assert seen == [(False, 1, 1, 0), (True, 2, 0, 1), (True, 2, 0, 1), (False, 3, 1, 0)]


def test_notices_tell_the_window_from_plan_to_end() -> None:
    """Status page and banner agree on status and exact times, and name contact and way back."""
    opens, closes, later = (
        f"2026-11-23T{time_}Z" for time_ in ("22:00:00.000", "23:00:00.000", "23:15:00.000")
    )
    summary = "/status/api/v2/summary.json"
    with running("--opens", opens, "--closes", closes) as demo:
        steps: tuple[tuple[Callable[[], None], str, str], ...] = (
            (lambda: None, "scheduled", closes),
            (demo.freeze, "in_progress", closes),
            (lambda: demo.freeze(closes=later), "in_progress", later),
            (demo.reopen, "completed", later),
        )
        for number, (step, status, end) in enumerate(steps, start=1):
            step()
            (shown,) = demo.http.get(summary).json()["scheduled_maintenances"]
            pages = [demo.http.get(path).text for path in ("/banner", "/")]
            lists = {
                name: demo.http.get(f"/status/api/v2/scheduled-maintenances/{name}.json").json()
                for name in ("upcoming", "active")
            }

            assert (shown["status"], shown["scheduled_until"]) == (status, end)
            assert shown["scheduled_for"] == opens
            assert len(shown["incident_updates"]) == number
            latest = shown["incident_updates"][0]["body"]
            assert "search-oncall@" in latest
            assert "#rollback" in latest
            counts = [len(lists[name]["scheduled_maintenances"]) for name in lists]
            assert counts == [int(status == "scheduled"), int(status == "in_progress")]
            for page in pages:
                assert f'data-status="{status}"' in page
                assert f'<time datetime="{opens}">' in page
                assert f'<time datetime="{end}">' in page


def test_service_without_a_window_announces_none(open_demo: Demo) -> None:
    """No plan, no banner, an empty list."""
    summary = open_demo.http.get("/status/api/v2/summary.json").json()

    assert summary["scheduled_maintenances"] == []
    assert "data-status" not in open_demo.http.get("/").text
    assert "No maintenance is planned" in open_demo.http.get("/banner").text


def test_openapi_describes_every_public_operation_and_no_other(open_demo: Demo) -> None:
    """Mutations name their refusal, references lead somewhere, the operator's switch is absent."""
    document = open_demo.http.get("/openapi.json").json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    public = {(op.method, op.path) for op in OPERATIONS if op.effect is not Effect.ADMIN}

    assert document["openapi"] == "3.1.0"
    assert described == public
    for operation in MUTATIONS:
        responses = document["paths"][operation.path][operation.method.lower()]["responses"]
        assert responses["503"] == {"$ref": "#/components/responses/ReadOnly"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_service_and_removes_its_data(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clean end, nothing left behind."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running() as demo:
        assert list(tmp_path.iterdir())

        demo.process.send_signal(number)

        assert demo.process.wait(10) == 0
        assert not list(tmp_path.iterdir())


def test_service_started_with_exit_with_stdin_ends_with_its_parent() -> None:
    """When the parent's pipe closes, so does the service."""
    with running("--exit-with-stdin") as demo:
        assert demo.process.stdin is not None
        assert demo.process.poll() is None

        demo.process.stdin.close()

        assert demo.process.wait(10) == 0

"""A bucket of moto: what was written, put back, deleted, begun; listings that are cut, denied or lost."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import ValidationError

from probes.audit.audit import LONGEST_MARK
from probes.audit.object.listing import Entry, between, listed, unpacked
from probes.base import Outcome, Result, Run
from probes.http import Transport
from probes.kinds import KINDS, Each
from probes.tools import Tools
from probes.write.canary import canary
from tests.servers.object_store import ObjectStore

from ..harness import AGENT, OPENS, Asked, Pause, Server, free_port, http

Serve = Callable[..., Server]
pytestmark = pytest.mark.xdist_group("s3")
OURS = canary("w", "p", OPENS).text


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with ObjectStore() as running:
        yield running


class Bucket:
    """A bucket of its own for one test."""

    def __init__(self, store: ObjectStore, name: str, *, versions: bool) -> None:
        self.store, self.name = store, name
        self.client = store.client()
        self.client.create_bucket(Bucket=name)
        if versions:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    def put(self, key: str, body: str = "x") -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=body.encode())

    def delete(self, key: str, **version: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key, **version)

    def deny(self, *actions: str) -> None:
        statement = {"Effect": "Deny", "Principal": "*", "Action": list(actions)}
        statement["Resource"] = [f"arn:aws:s3:::{self.name}", f"arn:aws:s3:::{self.name}/*"]
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client.put_bucket_policy(Bucket=self.name, Policy=policy)


_numbers = iter(range(1_000_000))


@pytest.fixture
def bucket(store: ObjectStore) -> Bucket:
    made = Bucket(store, f"plain-{next(_numbers)}", versions=False)
    made.put("imports/a.csv")
    return made


@pytest.fixture
def versioned(store: ObjectStore) -> Bucket:
    made = Bucket(store, f"versioned-{next(_numbers)}", versions=True)
    made.put("imports/a.csv")
    return made


def audit(
    transport: Transport, url: str, name: str, *, timeout: float = 5.0, exempt: Any = (), **spec: Any
) -> Any:
    kind = KINDS["audits"]["object"]
    where = {"endpoint": url, "bucket": name, "access_key": "test", "secret_key": "test"} | spec
    made = kind.spec.model_validate({"object": where, "exempt": list(exempt)})
    tools = Tools(window="w", opens=OPENS, closes=OPENS + 3600, agent=AGENT, transport=transport)
    return kind.make(Each(name="a", surface="a", spec=made), timeout, tools)


def of(transport: Transport, bucket: Bucket, **spec: Any) -> Any:
    return audit(transport, bucket.store.url, bucket.name, **spec)


async def read(made: Any) -> Result:
    result: Result = await made.run(Run(slot=OPENS, phase="frozen", frozen=True, started=OPENS + 60))
    return result


def what(result: Result) -> list[str]:
    """The changes without their times."""
    named = result.figures["what"]
    assert isinstance(named, list)
    return [each.split(" at ")[0] for each in named]


async def test_bucket_at_rest_says_that_nothing_was_written(bucket: Bucket, transport: Transport) -> None:
    made = of(transport, bucket)

    first, second = await read(made), await read(made)

    assert (first.outcome, second.outcome, second.figures["objects"]) == (Outcome.OK, Outcome.OK, 1)
    assert second.figures["grade"] == "object listing"
    assert "put back" in str(second.figures["notes"])


async def test_objects_that_came_changed_and_went_are_named(bucket: Bucket, transport: Transport) -> None:
    bucket.put("imports/b.csv")
    made = of(transport, bucket)
    await read(made)
    bucket.put("imports/ü & (c)+d 'e'.csv")
    bucket.put("imports/a.csv", "other")
    bucket.delete("imports/b.csv")

    result = await read(made)
    after = await read(made)

    assert result.outcome is Outcome.CHANGED
    assert sorted(what(result)) == [
        "imports/a.csv: 1 × update",
        "imports/b.csv: 1 × delete",
        "imports/ü & (c)+d 'e'.csv: 1 × insert",
    ]
    assert ("lifecycle" in str(result.figures["notes"]), after.outcome) == (True, Outcome.OK)


async def test_other_prefix_is_not_listed(bucket: Bucket, transport: Transport) -> None:
    made = of(transport, bucket, prefix="imports/")
    await read(made)
    bucket.put("exports/a.csv")

    assert (await read(made)).outcome is Outcome.OK


async def test_exempt_and_own_objects_are_told_apart(bucket: Bucket, transport: Transport) -> None:
    made = of(transport, bucket, exempt=[{"path": "tmp/*", "reason": "caches"}])
    await read(made)
    bucket.put("tmp/x")
    bucket.put(f"imports/{OURS}")

    result = await read(made)

    figures = {name: result.figures[name] for name in ("changes", "exempt", "own", "tells_own")}
    assert figures == {"changes": 0, "exempt": 1, "own": 1, "tells_own": True}


async def test_key_that_only_speaks_of_us_is_production(bucket: Bucket, transport: Transport) -> None:
    made = of(transport, bucket)
    await read(made)
    bucket.put("reports/freezewatch-2026.html")

    assert (await read(made)).figures["changes"] == 1


async def test_versions_show_what_was_put_back_and_deleted_again(
    versioned: Bucket, transport: Transport
) -> None:
    made = of(transport, versioned)
    await read(made)
    versioned.put("imports/a.csv", "other")
    versioned.put("imports/a.csv", "x")
    versioned.put("imports/b.csv")
    versioned.delete("imports/b.csv")

    result = await read(made)

    assert result.figures["grade"] == "object versions"
    assert sorted(what(result)) == [
        "imports/a.csv: 1 × update",
        "imports/a.csv: 1 × update",
        "imports/b.csv: 1 × delete",
        "imports/b.csv: 1 × insert",
    ]
    assert "put back" not in str(result.figures["notes"])


async def test_version_that_is_removed_for_good_is_a_deletion(
    versioned: Bucket, transport: Transport
) -> None:
    versioned.put("imports/a.csv", "newer")
    (oldest,) = [
        item["VersionId"]
        for item in versioned.client.list_object_versions(Bucket=versioned.name)["Versions"]
        if not item["IsLatest"]
    ]
    made = of(transport, versioned)
    await read(made)
    versioned.delete("imports/a.csv", VersionId=oldest)

    result = await read(made)

    assert what(result) == ["imports/a.csv: 1 × delete"]


async def test_account_that_may_not_list_versions_lists_objects_and_says_so(
    versioned: Bucket, transport: Transport
) -> None:
    versioned.deny("s3:ListBucketVersions")
    made = of(transport, versioned)
    await read(made)
    versioned.put("imports/b.csv")

    result = await read(made)

    allowed = result.figures["grade"] == "object versions"
    assert allowed or "cannot list the versions" in str(result.figures["notes"])
    assert what(result) == ["imports/b.csv: 1 × insert"]


def uploading(*begun: float, truncated: str = "false") -> Callable[[Asked], bytes]:
    """A bucket without objects, and uploads in parts, begun so many seconds ago; moto knows no time."""
    ago = [datetime.now(UTC) - timedelta(seconds=seconds) for seconds in begun]
    items = "".join(
        f"<Upload><Key>k{number}</Key><UploadId>u</UploadId><Initiator><ID>i</ID><DisplayName>app</DisplayName>"
        f"</Initiator><Initiated>{moment:%Y-%m-%dT%H:%M:%S.000Z}</Initiated></Upload>"
        for number, moment in enumerate(ago)
    )
    date = ("Date", format_datetime(datetime.now(UTC), usegmt=True))

    def answer(asked: Asked) -> bytes:
        if "uploads" in asked.target:
            named = f"<Bucket>b</Bucket><IsTruncated>{truncated}</IsTruncated>{items}"
            return http(200, f"<ListMultipartUploadsResult>{named}</ListMultipartUploadsResult>", date)
        return http(200, "<ListVersionsResult><Name>b</Name></ListVersionsResult>", date)

    return answer


async def test_upload_in_parts_may_still_land(serve: Serve, transport: Transport) -> None:
    made = audit(transport, serve(uploading(100, 30, 90_000)).url, "b")

    result = await read(made)

    assert result.figures["open"] == 1, "begun before the window, which opened a minute ago"
    assert str(result.figures["open_what"]).startswith("[\"upload in parts of 'k0', begun 20")
    assert "1 older uploads in parts" in str(result.figures["notes"])


async def test_upload_that_is_exempt_does_not_keep_the_fence_open(serve: Serve, transport: Transport) -> None:
    exempt = [{"key": "k*", "role": "app", "reason": "backups"}]

    result = await read(audit(transport, serve(uploading(100)).url, "b", exempt=exempt))

    assert result.figures["open"] == 0


async def test_uploads_that_are_too_many_or_not_asked_cannot_be_told(
    serve: Serve, transport: Transport
) -> None:
    too_many = await read(audit(transport, serve(uploading(100, truncated="true")).url, "b"))
    not_asked = await read(audit(transport, serve(uploading(100)).url, "b", uploads="0s"))

    assert (too_many.figures["open"], not_asked.figures["open"]) == (None, None)


async def test_upload_of_moto_is_a_note_since_it_is_of_2010(bucket: Bucket, transport: Transport) -> None:
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key="imports/big.csv")

    result = await read(of(transport, bucket))

    assert (result.figures["open"], "never ended" in str(result.figures["notes"])) == (0, True)


async def test_longer_listing_than_allowed_cannot_tell(bucket: Bucket, transport: Transport) -> None:
    for number in range(5):
        bucket.put(f"k{number}")
    made = of(transport, bucket, keys=4)
    waived = of(transport, bucket, keys=4, partial="the rest is an archive")
    await read(made)
    await read(waived)
    bucket.put("aaa")
    bucket.put("zzz")

    result, other = await read(made), await read(waived)

    assert (what(result), what(other)) == (["aaa: 1 × insert"], ["aaa: 1 × insert"])
    assert "cut at 3 objects" in str(result.figures["unknown"])
    assert "the rest is an archive" in str(other.figures["notes"])
    assert (await read(made)).outcome is Outcome.UNKNOWN
    assert (await read(waived)).outcome is Outcome.OK


async def test_many_pages_are_listed(bucket: Bucket, transport: Transport) -> None:
    with_threads = [threading.Thread(target=_fill, args=(bucket, part)) for part in range(4)]
    for thread in with_threads:
        thread.start()
    for thread in with_threads:
        thread.join()
    made = of(transport, bucket, timeout=30)
    first = await read(made)
    bucket.delete("many/3-299")

    result = await read(made)

    assert (first.figures["objects"], what(result)) == (1201, ["many/3-299: 1 × delete"])


def _fill(bucket: Bucket, part: int) -> None:
    client = bucket.store.client()
    for number in range(300):
        client.put_object(Bucket=bucket.name, Key=f"many/{part}-{number}", Body=b"x")


# -- restarts -------------------------------------------------------------------------------------


async def test_reading_goes_on_after_a_restart_of_the_watchdog(bucket: Bucket, transport: Transport) -> None:
    first = await read(of(transport, bucket))
    bucket.put("imports/b.csv")
    again = of(transport, bucket)
    again.resume(first.figures["mark"], OPENS)

    assert what(await read(again)) == ["imports/b.csv: 1 × insert"]


@pytest.mark.parametrize("mark", ["", "{}", "[]", '{"v": 1}', '{"v": 2, "asked": ""}'])
async def test_mark_that_is_none_of_ours_cannot_be_compared_with(
    bucket: Bucket, transport: Transport, mark: str
) -> None:
    made = of(transport, bucket)
    made.resume(mark, OPENS)

    assert [(await read(made)).outcome, (await read(made)).outcome] == [Outcome.UNKNOWN, Outcome.OK]


def long_listing(*more: Entry) -> Any:
    many = [Entry(key=f"folder/{number:06}", modified="2026-11-01T00:00:00Z") for number in range(3000)]
    return listed([*many, *more], "asked", None)


def test_long_listing_fits_into_a_mark_that_knows_only_whether_anything_changed() -> None:
    mark = long_listing().packed()
    before = unpacked(mark)
    newer = Entry(key="new", modified="2026-11-02T00:00:00Z")
    older = Entry(key="new", modified="2026-10-02T00:00:00Z")

    assert before is not None
    assert len(mark) <= LONGEST_MARK
    assert between(before, long_listing()) == ([], None)
    assert between(before, long_listing(Entry(key=OURS))) == ([], None)
    named, why = between(before, long_listing(newer))
    assert ([change.what for change in named], "cannot be told" in str(why)) == (["new"], True)
    assert (between(before, long_listing(older))[0], between(before, long_listing(older))[1]) == ([], why)


def test_key_may_hold_a_line_break() -> None:
    before = listed([Entry(key="a\nb", version="v1")], "asked", None)
    now = listed([Entry(key="a\nb", version="v2")], "asked", None)

    changes, _ = between(before, now)

    assert [(change.what, change.operation) for change in changes] == [("a\nb", "update"), ("a\nb", "delete")]


def test_object_that_only_moves_out_of_a_cut_listing_is_not_deleted() -> None:
    before = listed([Entry(key="a"), Entry(key="c")], "asked", "c")
    now = listed([Entry(key="a"), Entry(key="b")], "asked", "b")

    changes, _ = between(before, now)

    assert [change.said for change in changes] == ["b: 1 × insert"]


def test_object_that_only_moves_into_a_cut_listing_is_not_new() -> None:
    before = listed([Entry(key="a"), Entry(key="b")], "asked", "b")
    now = listed([Entry(key="b"), Entry(key="c")], "asked", "c")

    changes, _ = between(before, now)

    assert [change.said for change in changes] == ["a: 1 × delete"]


# -- what cannot be read --------------------------------------------------------------------------


async def test_store_that_hangs_dies_and_comes_back_empty(transport: Transport) -> None:
    with ObjectStore() as own:
        bucket = Bucket(own, "bucket", versions=False)
        bucket.put("a")
        made = of(transport, bucket, timeout=1.0)
        await read(made)
        own.pause()
        began = time.monotonic()
        hung = await read(made)
        again = await read(made)
        took = time.monotonic() - began
        own.resume()
        own.kill()
        deadline = time.monotonic() + 15
        while (dead := await read(made)).reason.endswith("not ended yet"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        own.start()
        gone = await read(made)
        await made.aclose()

    outcomes = {result.outcome for result in (hung, again, dead, gone)}
    assert (outcomes, took < 3) == ({Outcome.UNREACHABLE}, True)
    assert "NoSuchBucket" in gone.reason


async def test_nobody_listens(transport: Transport) -> None:
    port = free_port()

    result = await read(audit(transport, f"http://127.0.0.1:{port}", "b"))

    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, f"127.0.0.1:{port}: connection refused")


async def test_bucket_that_is_not_there_or_not_ours_is_unreachable(
    bucket: Bucket, transport: Transport
) -> None:
    absent = await read(audit(transport, bucket.store.url, "nowhere"))
    bucket.deny("s3:ListBucket", "s3:ListBucketVersions")
    denied = await read(of(transport, bucket))

    assert (absent.outcome, "NoSuchBucket" in absent.reason) == (Outcome.UNREACHABLE, True)
    assert denied.outcome in (Outcome.UNREACHABLE, Outcome.OK), "moto does not hold every policy"


ANSWERS = {
    "a page": http(200, "<html>hello", ("Content-Type", "text/html")),
    "nothing": http(200, b""),
    "an outage": http(503, "<html>no", ("Content-Type", "text/html")),
    "a login": http(302, b"", ("Location", "/login")),
    "no rights": http(403, "<Error><Code>InvalidAccessKeyId</Code></Error>"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_answer_of_something_else_is_never_an_empty_bucket(
    serve: Serve, transport: Transport, answer: bytes
) -> None:
    result = await read(audit(transport, serve(lambda asked: answer).url, "b"))

    assert result.outcome is Outcome.UNREACHABLE, result


async def test_request_is_asked_once(serve: Serve, transport: Transport) -> None:
    server = serve(lambda asked: http(500, b""))

    await read(audit(transport, server.url, "b"))

    assert len(server.asked) == 1


async def test_proxy_of_the_environment_is_not_used(
    bucket: Bucket, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert (await read(of(transport, bucket))).outcome is Outcome.OK


async def test_reading_that_is_given_up_ends_its_thread(serve: Serve, transport: Transport) -> None:
    made = audit(transport, serve(lambda asked: [Pause(30)]).url, "b", timeout=1.0)
    task = asyncio.create_task(read(made))
    await asyncio.sleep(0.3)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadline = time.monotonic() + 10
    while any(thread.name == "freezewatch-audit" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_two_audits_of_one_bucket_at_once_see_the_same(bucket: Bucket, transport: Transport) -> None:
    both = [of(transport, bucket), of(transport, bucket)]
    await asyncio.gather(*(read(made) for made in both))
    bucket.put("imports/b.csv")

    results = await asyncio.gather(*(read(made) for made in both))

    assert [what(result) for result in results] == [["imports/b.csv: 1 × insert"]] * 2


@pytest.mark.parametrize(
    "spec",
    [
        {"bucket": ""},
        {"bucket": 7},
        {"endpoint": "s3.local"},
        {"secret_key": None},
        {"access_key": None},
        {"access_key": None, "secret_key": None, "session_token": "t"},
        {"keys": 0},
        {"keys": True},
        {"partial": ""},
        {"versions": "always"},
        {"uploads": 60},
        {"verify": 3},
        {"bukket": "x"},
    ],
    ids=str,
)
def test_wrong_key_is_a_mistake(spec: dict[str, Any]) -> None:
    where = {"bucket": "b", "access_key": "k", "secret_key": "s"} | spec

    with pytest.raises(ValidationError):
        KINDS["audits"]["object"].spec.model_validate({"object": where})


async def test_no_secret_is_shown(serve: Serve, transport: Transport) -> None:
    secret = {"access_key": "AKIAHUSH", "secret_key": "quiet", "session_token": "silence"}
    url = serve(lambda asked: http(403, b"")).url.replace("http://", "http://user:mum@")
    made = audit(transport, url, "b", **secret)

    result = await read(made)

    spec = KINDS["audits"]["object"].spec.model_validate(
        {"object": {"bucket": "b", "endpoint": url, **secret}}
    )
    shown = repr(spec) + result.reason + str(result.figures)
    assert [word for word in ("HUSH", "quiet", "silence", "mum") if word in shown] == []

"""Audit of a bucket of an S3-compatible store: which objects came, changed and went since the reading before?

Lists the bucket, with its versions where it keeps some, and compares with the listing before. The times in it
are the store's own and are only shown, so its clock may be wrong. An upload in parts that has been begun may
still land: it is counted as a writer that is open. Reads no object and changes nothing.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.answer import OWN_ERRNOS, ExchangeError, OwnFault, Unreachable
from probes.audit.aside import Aside
from probes.audit.counters import digest
from probes.audit.object.listing import Entry, Listing, between, listed, unpacked
from probes.audit.reading import AuditBase, Change, OpenWriter, Reading
from probes.request import Url
from probes.shown import shown, writable
from probes.tools import Tools
from probes.units import Duration, NoBool

WITHIN = 0.9
"""Of the timeout: the reading then names what it waited for."""
PAGE = 1000
"""Keys of one answer: no store gives more."""
DENIED = frozenset({"AccessDenied", "Forbidden", "403", "NotImplemented", "501", "MethodNotAllowed", "405"})
"""Codes with which a store, or an account, cannot do a part of it."""
UPLOADS_LISTED = 1000


class Bucket(BaseModel):
    """Which bucket, which part of it, and as whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: Annotated[str, Field(min_length=1)]
    prefix: str = ""
    """Only keys that begin so."""
    endpoint: Url | None = None
    """Of the store; Amazon's by default."""
    region: Annotated[str, Field(min_length=1)] | None = None
    access_key: str | None = Field(default=None, repr=False)
    """With `secret_key`; without them, the usual places for credentials of AWS are looked through."""
    secret_key: str | None = Field(default=None, repr=False)
    session_token: str | None = Field(default=None, repr=False)
    verify: bool | str = True
    """False to accept any certificate; a path to trust that file's authorities."""
    keys: Annotated[int, NoBool, Field(ge=1, le=1_000_000)] = 10_000
    """Objects and versions that are listed at most. Beyond them a reading cannot tell."""
    partial: Annotated[str, Field(min_length=3)] | None = None
    """Why it is enough to list the first `keys` of them."""
    versions: Literal["auto", "never"] = "auto"
    """Whether versions are listed where the store and the account allow it."""
    uploads: Duration = 86_400.0
    """Uploads in parts that were begun within this time may still land; older ones were given up."""

    @model_validator(mode="after")
    def _whole_credentials(self) -> "Bucket":
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key belong together: give both, or neither")
        if self.session_token is not None and self.access_key is None:
            raise ValueError("session_token belongs to access_key and secret_key")
        return self


class ObjectAudit(AuditBase):
    """One audit of a bucket."""

    object: Bucket

    @property
    def doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        if self.object.versions == "never":
            return ["without versions, an object that is put back or deleted again in time is not seen"]
        return []


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What the thread found out."""

    listing: Listing
    versions: bool
    """The bucket keeps versions, and they are listed."""
    open: tuple[OpenWriter, ...] | None
    notes: tuple[str, ...]


class ObjectSource:
    """One bucket."""

    def __init__(self, spec: Bucket, *, timeout: float, tools: Tools) -> None:
        self._spec = spec
        self._within = WITHIN * timeout
        self._agent = tools.agent
        self._aside = Aside()
        self._client: Any = None
        self._kept: tuple[str, Listing] | None = None
        """The newest mark that was given out, and what it stands for in full."""

    async def read(self, mark: str | None) -> Reading:
        """What was written since `mark`. Raises Unreachable or OwnFault."""
        stop = threading.Event()
        kept = self._kept
        reading, listing = await self._aside.run(
            lambda: self._compared(mark, kept, self._look(stop)), within=self._within, stop=stop.set
        )
        self._kept = (reading.mark, listing)
        return reading

    def _look(self, stop: threading.Event) -> _Found:
        """In the thread: list the bucket. Raises Unreachable or OwnFault."""
        try:
            if self._client is None:
                self._client = self._connected()
            return _Look(self._client, self._spec, stop).found()
        except ExchangeError:
            raise
        except Exception as error:  # the driver's boundary: botocore makes a class for each of its errors
            raise _named(error, self._spec) from None

    def _connected(self) -> Any:
        try:
            import boto3.session
            from botocore.config import Config
        except ImportError:
            raise OwnFault("the driver is not installed: pip install 'freezewatch[object]'") from None
        spec = self._spec
        settings = Config(
            connect_timeout=self._within,
            read_timeout=self._within,
            retries={"total_max_attempts": 1},
            proxies={},
            user_agent_extra=self._agent.replace(" ", "-"),
            s3={"addressing_style": "path" if spec.endpoint else "auto"},
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=None if spec.endpoint is None else str(spec.endpoint),
            region_name=spec.region or ("us-east-1" if spec.endpoint else None),
            aws_access_key_id=spec.access_key,
            aws_secret_access_key=spec.secret_key,
            aws_session_token=spec.session_token,
            verify=spec.verify,
            config=settings,
        )

    def _compared(
        self, mark: str | None, kept: tuple[str, Listing] | None, found: _Found
    ) -> tuple[Reading, Listing]:
        """In the thread, since a long listing takes a moment: what it says beside that of `mark`."""
        listing, notes = found.listing, list(found.notes)
        unknown: list[str] = []
        before = kept[1] if kept is not None and kept[0] == mark else None
        if before is None and mark is not None:
            before = unpacked(mark)
        changes: list[Change] = []
        if mark is not None and (before is None or before.asked != listing.asked):
            unknown.append("the reading before was of another configuration, or listed otherwise")
        elif before is not None:
            changes, untold = between(before, listing)
            unknown += [untold] if untold else []
        if any(change.operation == "delete" for change in changes):
            notes.append("a deletion may be that of a lifecycle rule: the store does not say whose it is")
        if listing.cut is not None:
            said = f"the listing was cut at {len(listing.entries)} objects"
            if self._spec.partial is None:
                unknown.append(f"{said}: what was written beyond is not seen")
            else:
                notes.append(f"{said}: {self._spec.partial}")
        reading = Reading(
            mark=listing.packed(),
            changes=tuple(changes),
            unknown="; ".join(unknown) or None,
            open=found.open,
            grade="object versions" if found.versions else "object listing",
            notes=tuple(notes),
            figures={"objects": len(listing.entries)},
        )
        return reading, listing

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class _Look:
    """One look at a bucket, in the thread. Raises what botocore raises."""

    def __init__(self, client: Any, spec: Bucket, stop: threading.Event) -> None:
        self._client = client
        self._spec = spec
        self._stop = stop
        self._of = {"Bucket": spec.bucket, "Prefix": spec.prefix}

    def found(self) -> _Found:
        notes: list[str] = []
        entries = None
        if self._spec.versions == "auto":
            entries = self._allowed(self._versions, "list the versions of objects", notes)
        how = "versions" if entries is not None else "objects"
        if entries is None:
            entries = self._first(self._objects())
        kept, cut = entries
        versioned = how == "versions" and any(entry.version not in ("", "null") for entry in kept)
        if not versioned:
            notes.append("an object that was put back, or deleted again, between two readings is not seen")
        spec = self._spec
        asked = digest(str(spec.endpoint), spec.bucket, spec.prefix, how)
        return _Found(
            listing=listed(kept, asked, cut),
            versions=versioned,
            open=self._uploads(notes),
            notes=tuple(notes),
        )

    def _allowed(self, pages: Any, what: str, notes: list[str]) -> tuple[list[Entry], str | None] | None:
        """What the store gives; None, with a note, where the store or the account cannot do it."""
        from botocore.exceptions import ClientError

        try:
            return self._first(pages())
        except ClientError as error:
            code = _code(error.response)
            if code not in DENIED:
                raise
            notes.append(f"the store or the account cannot {what} ({code})")
            return None

    def _first(self, pages: Iterator[list[Entry]]) -> tuple[list[Entry], str | None]:
        """The first `keys` entries, and the last key among them where there are more."""
        kept: list[Entry] = []
        for page in pages:
            kept += page
            if len(kept) > self._spec.keys:
                short = kept[: self._spec.keys]
                last = short[-1].key  # more of its versions may come
                whole = [entry for entry in short if entry.key != last]
                return (whole, whole[-1].key) if whole else (short, last)
            if self._stop.is_set():
                raise Unreachable("not listed in time")
        return kept, None

    def _objects(self) -> Iterator[list[Entry]]:
        more: dict[str, str] = {}
        while True:
            answer = _a_listing(self._client.list_objects_v2(**self._of, MaxKeys=PAGE, **more))
            yield [_entry(item) for item in answer.get("Contents", [])]
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def _versions(self) -> Iterator[list[Entry]]:
        more: dict[str, str] = {}
        while True:
            answer = _a_listing(self._client.list_object_versions(**self._of, MaxKeys=PAGE, **more))
            page = [_entry(item) for item in answer.get("Versions", [])]
            page += [_entry(item, marker=True) for item in answer.get("DeleteMarkers", [])]
            yield sorted(page, key=lambda entry: entry.key.encode("utf-8", "surrogatepass"))
            if not answer.get("IsTruncated"):
                return
            more = {
                name: answer[f"Next{name}"]
                for name in ("KeyMarker", "VersionIdMarker")
                if answer.get(f"Next{name}")
            }

    def _uploads(self, notes: list[str]) -> tuple[OpenWriter, ...] | None:
        """Uploads in parts that may still land; None where that cannot be told."""
        from botocore.exceptions import ClientError

        if not self._spec.uploads:
            return None
        try:
            answer = self._client.list_multipart_uploads(**self._of, MaxUploads=UPLOADS_LISTED)
        except ClientError as error:
            if _code(error.response) not in DENIED:
                raise
            notes.append(f"the store or the account cannot list uploads in parts ({_code(error.response)})")
            return None
        if answer.get("IsTruncated"):
            notes.append(f"more than {UPLOADS_LISTED} uploads in parts were begun: too many to tell")
            return None
        now = _store_time(answer)
        writers = [_writer(item, now) for item in answer.get("Uploads") or []]
        young = [writer for writer in writers if writer.age_s <= self._spec.uploads]
        old = len(writers) - len(young)
        if old:
            notes.append(f"{old} older uploads in parts were begun and never ended: taken for given up")
        return tuple(young)


def _a_listing(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises Unreachable for an answer without the bucket's name: an empty body is no empty bucket."""
    if not answer.get("Name"):
        raise Unreachable("the answer is no listing of a bucket")
    return answer


def _entry(item: Mapping[str, Any], *, marker: bool = False) -> Entry:
    return Entry(
        key=str(item["Key"]),
        version=str(item.get("VersionId") or ""),
        etag=str(item.get("ETag") or ""),
        size=int(item.get("Size") or 0),
        modified=_iso(item.get("LastModified")),
        marker=marker,
    )


def _iso(moment: Any) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(moment, datetime) else ""


def _store_time(answer: Mapping[str, Any]) -> datetime:
    """The store's own time, by which its uploads were begun."""
    stated = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        found = parsedate_to_datetime(stated)
    except (TypeError, ValueError):
        return datetime.now(UTC)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _writer(item: Mapping[str, Any], now: datetime) -> OpenWriter:
    begun = item.get("Initiated")
    age = (now - begun).total_seconds() if isinstance(begun, datetime) else 0.0
    key = writable(str(item.get("Key")))
    who = item.get("Initiator") or item.get("Owner") or {}
    return OpenWriter(
        who=f"upload in parts of {shown(key)}, begun {_iso(begun)}",
        age_s=max(0.0, age),
        what=key,
        role=who.get("DisplayName") or who.get("ID"),
    )


def _code(response: Mapping[str, Any]) -> str:
    return str(
        response.get("Error", {}).get("Code") or response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    )


def _named(error: Exception, spec: Bucket) -> ExchangeError:
    """What went wrong with whom. The driver's own text is not shown: it may repeat what it was given."""
    store = urlsplit(str(spec.endpoint)).netloc.rpartition("@")[2] if spec.endpoint else "Amazon S3"
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return Unreachable(f"{store} answered {_code(response)} to a listing of {shown(spec.bucket)}")
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror) and cause.errno in (socket.EAI_AGAIN, socket.EAI_SYSTEM):
            return OwnFault(f"the name could not be looked up just now: {cause.strerror}")
        if isinstance(cause, OSError) and cause.errno in OWN_ERRNOS:
            return OwnFault(f"the watchdog could not ask: {cause.strerror}")
        if isinstance(cause, ConnectionRefusedError):
            return Unreachable(f"{store}: connection refused")
    return Unreachable(f"{store} could not be asked: {type(error).__name__}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from; urllib3 keeps that in an attribute of its own."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        kept = getattr(one, "kwargs", None)
        inner = kept.get("error") if isinstance(kept, dict) else None
        todo += [one.__cause__, one.__context__, getattr(one, "reason", None), inner]


def object_audit(spec: ObjectAudit, timeout: float, tools: Tools) -> ObjectSource:
    """What an audit of the kind `object` reads."""
    return ObjectSource(spec.object, timeout=timeout, tools=tools)

"""What the demo service stores: documents, vectors, values, tickets and the intent queue.

Every method that changes stored data takes the caller's WriteGate and raises ReadOnly when it is
shut, before anything is touched. Two methods do without: `queue_intent`, since to buffer is what
the queue is for, and `once`, which only remembers answers of writes that passed a gate.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from monitor.demo.bodies import JSON
from monitor.demo.corpus import Document
from monitor.demo.database import Database
from monitor.demo.guard import WriteGate
from monitor.demo.problems import RejectedError
from monitor.demo.text import bag_of_words_vector, sentences

CANARY_PREFIX = "freezewatch-"


class Shelf(StrEnum):
    """A table of JSON contents by id."""

    VECTORS = "vectors"
    KV = "kv"
    TICKETS = "tickets"


@dataclass(frozen=True, kw_only=True)
class Applied:
    """The answer of a write: its status and its body; None for an empty body."""

    status: int
    body: JSON = None


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A buffered write and how often it took effect: never more than once."""

    id: str
    queued: bool
    applied: int


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The intents that wait; `oldest_at` is a Unix time, None when none waits."""

    depth: int
    oldest_at: float | None


class Store:
    """The service layer's only way to stored data."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def once(self, key: str | None, fingerprint: str, write: Callable[[], Applied]) -> Applied:
        """Run `write`, or repeat the answer that `key` got before. Answer and effect are atomic."""
        with self._db.transaction():
            if key is None:
                return write()
            remembered = self._remembered(key, fingerprint)
            if remembered is not None:
                return remembered
            answer = write()
            self._db.run(
                "INSERT INTO answers VALUES (?, ?, ?, ?)",
                (key, fingerprint, answer.status, json.dumps(answer.body)),
            )
            return answer

    def put(self, shelf: Shelf, id_: str, content: JSON, *, writes: WriteGate) -> None:
        """Store or replace one content."""
        writes.check()
        self._db.run(
            f"INSERT OR REPLACE INTO {shelf} VALUES (?, ?)",  # noqa: S608 - an enum's value
            (id_, json.dumps(content, ensure_ascii=False)),
        )

    def get(self, shelf: Shelf, id_: str) -> tuple[JSON] | None:
        """The content in a tuple of its own, since null is a content; None when there is none."""
        found = self._db.row(
            f"SELECT content FROM {shelf} WHERE id = ?",  # noqa: S608 - an enum's value
            (id_,),
        )
        return None if found is None else (json.loads(str(found[0])),)

    def delete(self, shelf: Shelf, id_: str, *, writes: WriteGate) -> bool:
        """Remove one content; False when there was none."""
        writes.check()
        return self._db.run(f"DELETE FROM {shelf} WHERE id = ?", (id_,)) > 0  # noqa: S608

    def put_document(self, document: Document, *, writes: WriteGate) -> None:
        """Store or replace a document and index it; a canary stays out of the index."""
        writes.check()
        with self._db.transaction():
            self.delete_document(document.id, writes=writes)
            self._db.run(
                "INSERT INTO documents (id, title, text) VALUES (?, ?, ?)",
                (document.id, document.title, document.text),
            )
            if not document.id.startswith(CANARY_PREFIX):
                self._index(document)

    def delete_document(self, id_: str, *, writes: WriteGate) -> bool:
        """Remove a document from store and index; False when there was none."""
        writes.check()
        with self._db.transaction():
            found = self._db.row("SELECT number FROM documents WHERE id = ?", (id_,))
            if found is None:
                return False
            self._db.run("DELETE FROM document_index WHERE rowid = ?", found)
            self._db.run("DELETE FROM sentence_index WHERE document = ?", found)
            self._db.run("DELETE FROM embeddings WHERE document = ?", found)
            self._db.run("DELETE FROM documents WHERE number = ?", found)
            return True

    def document(self, id_: str) -> Document | None:
        """The document of this id."""
        found = self._db.row("SELECT id, title, text FROM documents WHERE id = ?", (id_,))
        if found is None:
            return None
        return Document(id=str(found[0]), title=str(found[1]), text=str(found[2]))

    def embed_documents(self, *, limit: int, writes: WriteGate) -> int:
        """Write a vector for up to `limit` documents that lack one, canaries apart; returns how many.

        So whatever a canary leaves bears its name, and an audit can tell it from a production write.
        """
        writes.check()
        lacking = self._db.rows(
            "SELECT number, title, text FROM documents WHERE number NOT IN"
            " (SELECT document FROM embeddings) AND id NOT GLOB ? ORDER BY number LIMIT ?",
            (f"{CANARY_PREFIX}*", limit),
        )
        if lacking:
            with self._db.transaction():
                for number, title, text in lacking:
                    vector = json.dumps(bag_of_words_vector(f"{title} {text}"))
                    self._db.run("INSERT INTO embeddings VALUES (?, ?)", (number, vector))
        return len(lacking)

    def queue_intent(self, id_: str, payload: JSON, *, at: float) -> None:
        """Buffer an intent durably; one that is known already stays as it is."""
        self._db.run(
            "INSERT OR IGNORE INTO intents (id, payload, queued_at) VALUES (?, ?, ?)",
            (id_, json.dumps(payload, ensure_ascii=False), at),
        )

    def apply_intents(self, *, limit: int, writes: WriteGate) -> int:
        """Let up to `limit` queued intents take effect, oldest first; returns how many did."""
        writes.check()
        waiting = self._db.rows("SELECT id FROM intents WHERE applied = 0 ORDER BY number LIMIT ?", (limit,))
        if not waiting:
            return 0
        with self._db.transaction():
            return sum(self.apply_intent(str(id_), writes=writes) for (id_,) in waiting)

    def apply_intent(self, id_: str, *, writes: WriteGate) -> bool:
        """Let one intent take effect; False when it had before."""
        writes.check()
        with self._db.transaction():
            claimed = self._db.run("UPDATE intents SET applied = 1 WHERE id = ? AND applied = 0", (id_,))
            if claimed:
                self._db.run("INSERT INTO effects SELECT id, payload FROM intents WHERE id = ?", (id_,))
            return claimed > 0

    def intent(self, id_: str) -> Intent | None:
        """The intent of this id."""
        found = self._db.row(
            "SELECT applied, (SELECT count(*) FROM effects WHERE intent = intents.id)"
            " FROM intents WHERE id = ?",
            (id_,),
        )
        if found is None:
            return None
        return Intent(id=id_, queued=found[0] == 0, applied=int(found[1] or 0))

    def delete_intent(self, id_: str, *, writes: WriteGate) -> bool:
        """Forget an intent and its effect; False when there was none."""
        writes.check()
        with self._db.transaction():
            self._db.run("DELETE FROM effects WHERE intent = ?", (id_,))
            return self._db.run("DELETE FROM intents WHERE id = ?", (id_,)) > 0

    def queue(self) -> Queue:
        """How many intents wait, and since when the oldest."""
        found = self._db.row("SELECT count(*), min(queued_at) FROM intents WHERE applied = 0")
        depth, oldest = found or (0, None)
        return Queue(depth=int(depth or 0), oldest_at=None if oldest is None else float(oldest))

    def _index(self, document: Document) -> None:
        self._db.run(
            "INSERT INTO document_index (rowid, title, text)"
            " SELECT number, title, text FROM documents WHERE id = ?",
            (document.id,),
        )
        for position, sentence in enumerate(sentences(document.text)):
            self._db.run(
                "INSERT INTO sentence_index (text, document, position)"
                " SELECT ?, number, ? FROM documents WHERE id = ?",
                (sentence, position, document.id),
            )

    def _remembered(self, key: str, fingerprint: str) -> Applied | None:
        found = self._db.row("SELECT fingerprint, status, content FROM answers WHERE key = ?", (key,))
        if found is None:
            return None
        if found[0] != fingerprint:
            raise RejectedError(
                422, "IDEMPOTENCY_KEY_REUSED", "this Idempotency-Key came with another request"
            )
        return Applied(status=int(found[1] or 0), body=json.loads(str(found[2])))

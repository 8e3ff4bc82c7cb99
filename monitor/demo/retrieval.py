"""Finds documents for a question and quotes the sentences that answer it. Never writes.

Ranking is SQLite's bm25 over a porter-stemmed index; the same question and the same index always
give the same answer. What a user types reaches the index as quoted words only, never as syntax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from monitor.demo.database import Database
from monitor.demo.text import question_words, sentences

SOURCES = 3
QUOTED_SENTENCES = 2
NEARLY_AS_GOOD = 0.6
NOTHING_FOUND = "The help centre has nothing on that. Please ask customer service."


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A document found; a larger `score` is a better match, comparable in one search only."""

    number: int
    id: str
    title: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One to three sentences, and the documents they rest on, best first."""

    text: str
    sources: tuple[Hit, ...]


class Retriever:
    """Answers from the index. `misindexed` true makes each find point to another document."""

    def __init__(self, database: Database, *, misindexed: Callable[[], bool]) -> None:
        self._db = database
        self._misindexed = misindexed

    def search(self, question: str, *, limit: int = 10) -> tuple[Hit, ...]:
        """The best documents for the words of a question."""
        query = _query(question)
        if not query:
            return ()
        found = self._db.rows(
            "SELECT rowid, bm25(document_index, 2.0, 1.0) AS badness FROM document_index"
            " WHERE document_index MATCH ? ORDER BY badness, rowid LIMIT ?",
            (query, limit),
        )
        ranked = [(int(number or 0), -float(rank or 0.0)) for number, rank in found]
        if self._misindexed():
            ranked = self._rotated(ranked)
        return tuple(self._hit(number, score) for number, score in ranked)

    def answer(self, question: str) -> Answer:
        """The sentences of the best document that match the question best, in reading order."""
        sources = self.search(question, limit=SOURCES)
        if not sources:
            return Answer(text=NOTHING_FOUND, sources=())
        return Answer(text=" ".join(self._quote(sources[0], question)), sources=sources)

    def _quote(self, best: Hit, question: str) -> list[str]:
        matching = self._db.rows(
            "SELECT position, text, bm25(sentence_index) AS badness FROM sentence_index"
            " WHERE sentence_index MATCH ? AND document = ? ORDER BY badness, position LIMIT ?",
            (_query(question), best.number, QUOTED_SENTENCES),
        )
        if not matching:
            return self._opening(best)
        enough = float(matching[0][2] or 0.0) * NEARLY_AS_GOOD
        chosen = [row for row in matching if float(row[2] or 0.0) <= enough]
        return [str(text) for _, text, _ in sorted(chosen)]

    def _opening(self, best: Hit) -> list[str]:
        found = self._db.row("SELECT text FROM documents WHERE number = ?", (best.number,))
        return list(sentences(str(found[0])))[:QUOTED_SENTENCES] if found else []

    def _hit(self, number: int, score: float) -> Hit:
        found = self._db.row("SELECT id, title FROM documents WHERE number = ?", (number,))
        id_, title = found or ("", "")
        return Hit(number=number, id=str(id_), title=str(title), score=round(score, 4))

    def _rotated(self, ranked: list[tuple[int, float]]) -> list[tuple[int, float]]:
        rows = self._db.rows("SELECT rowid FROM document_index ORDER BY rowid")
        numbers = [int(number or 0) for (number,) in rows]
        places = {number: place for place, number in enumerate(numbers)}
        step = len(numbers) * 3 // 7
        return [(numbers[(places[n] + step) % len(numbers)], score) for n, score in ranked]


def _query(question: str) -> str:
    return " OR ".join(f'"{word}"' for word in question_words(question))

"""Words and sentences of documents and questions. Pure: no store, no index."""

from __future__ import annotations

import hashlib
import math
import re

EMBEDDING_SIZE = 64
QUESTION_WORDS_LIMIT = 64

_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9£])")

_STOP_WORDS = """
    a about after all also am an and any are as at be because been before being but by can could
    did do does doing for from get give go goes had has have having he her here hers him his how i
    if in into is it its just let me my no not of off on or our ours out over please she should so
    some still such take takes tell than that the their them then there these they this those to too
    up us was we were what when where which while who whom why will with would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def words(text: str) -> tuple[str, ...]:
    """The words of a text in order, in lower case; punctuation and query syntax fall away."""
    return tuple(_WORD.findall(text.lower()))


def question_words(question: str) -> tuple[str, ...]:
    """The distinct words of a question that carry meaning, in order, at most 64."""
    meaningful = dict.fromkeys(word for word in words(question) if word not in STOP_WORDS)
    return tuple(meaningful)[:QUESTION_WORDS_LIMIT]


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a text, white space made single."""
    flat = " ".join(text.split())
    return tuple(_SENTENCE_END.split(flat)) if flat else ()


def bag_of_words_vector(text: str) -> tuple[float, ...]:
    """A unit vector of hashed word counts; the same text gives the same vector on any machine."""
    counts = [0.0] * EMBEDDING_SIZE
    for word in words(text):
        digest = hashlib.blake2b(word.encode(), digest_size=2).digest()
        counts[int.from_bytes(digest, "big") % EMBEDDING_SIZE] += 1.0
    norm = math.sqrt(math.fsum(count * count for count in counts)) or 1.0
    return tuple(round(count / norm, 6) for count in counts)

"""ΔS: how far an answer lies from the nearest baseline answer. Pure; numpy only.

ΔS = 1 − cosine of the embeddings, in [0, 2]: 0 is the same meaning, about 1 is another topic.
"""

import math

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


def unit(vector: Vector) -> Vector:
    """`vector` with length 1; a zero vector stays as it is."""
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector


class Baseline:
    """The distinct answers of one question before the window opened, as unit vectors of one size."""

    def __init__(self) -> None:
        self._answers: dict[str, int] = {}
        self._vectors: list[Vector] = []
        self._documents: list[frozenset[str]] = []

    def learn(self, answer: str, vector: Vector) -> None:
        """Keep one more answer, named by the id of its text."""
        if answer not in self._answers:
            self._answers[answer] = len(self._vectors)
            self._vectors.append(unit(vector))

    def learn_documents(self, documents: list[str]) -> None:
        """Keep one more set of retrieved documents."""
        found = frozenset(documents)
        if found not in self._documents:
            self._documents.append(found)

    @property
    def distinct(self) -> int:
        """How many different answers there are."""
        return len(self._vectors)

    def delta_s(self, answer: str, vector: Vector) -> float | None:
        """ΔS of an answer, None while there is no baseline or where a vector is none.

        The very same text is 0 exactly.
        """
        if not self._vectors or not np.isfinite(vector).all():
            return None
        if answer in self._answers:
            return 0.0
        nearest = float(np.max(np.stack(self._vectors) @ unit(vector)))
        if not math.isfinite(nearest):
            return None
        return min(2.0, max(0.0, 1.0 - nearest))

    def overlap(self, documents: list[str]) -> float | None:
        """Jaccard index with the most similar set of the baseline, in [0, 1]; None without one."""
        if not self._documents:
            return None
        found = frozenset(documents)
        return max(
            len(found & known) / len(found | known) if found | known else 1.0 for known in self._documents
        )

"""The identity of one attempt: recognisable, unique, and the same again for the same occasion."""

import uuid
from dataclasses import dataclass

NAMESPACE = uuid.UUID("6f1d1c0e-7d0c-5f0e-9d3b-2a1f7f6c0b5e")
PREFIX = "freezewatch-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """One attempt's identity, in the three forms that stores take."""

    text: str
    uuid: str
    number: int

    @property
    def values(self) -> dict[str, str]:
        """What `${canary}`, `${canary_uuid}` and `${canary_int}` stand for."""
        return {"canary": self.text, "canary_uuid": self.uuid, "canary_int": str(self.number)}

    @property
    def idempotency_key(self) -> str:
        """A quoted structured-field string (draft-ietf-httpapi-idempotency-key-header)."""
        return f'"{self.uuid}"'


def canary(window: str, probe: str, slot: float) -> Canary:
    """The canary of the attempt of `probe` that was due at `slot` (epoch seconds)."""
    unique = uuid.uuid5(NAMESPACE, f"{window}\n{probe}\n{slot:.3f}")
    number = unique.int >> 76  # 52 bits: exact as a float too, far above any counter in use
    return Canary(text=f"{PREFIX}{unique.hex[:20]}", uuid=str(unique), number=number)

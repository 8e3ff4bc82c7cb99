"""The identity of an attempt."""

from __future__ import annotations

import uuid

from probes.write.canary import canary

from ..harness import OPENS


def test_the_same_occasion_has_the_same_canary() -> None:
    """A run that is repeated for one slot is one attempt to whoever deduplicates."""
    first, again = canary("w", "p", OPENS), canary("w", "p", OPENS)

    assert first == again
    assert first.idempotency_key == again.idempotency_key == f'"{first.uuid}"'


def test_every_occasion_has_another_canary_in_all_forms() -> None:
    """Windows, probes and slots a millisecond apart never share an identity."""
    made = [
        canary(window, probe, OPENS + step / 1000)
        for window in ("w", "w2", "w:p")
        for probe in ("p", "p2", "p:p")
        for step in range(300)
    ]

    for form in (lambda c: c.text, lambda c: c.uuid, lambda c: c.number, lambda c: c.idempotency_key):
        assert len({form(each) for each in made}) == len(made)


def test_the_forms_fit_the_stores_that_take_them() -> None:
    """A text that is recognised, a UUID, and a number that a float holds exactly."""
    made = canary("w", "p", OPENS)

    assert made.text.startswith("freezewatch-")
    assert str(uuid.UUID(made.uuid)) == made.uuid
    assert int(float(made.number)) == made.number < 2**53
    assert made.values == {"canary": made.text, "canary_uuid": made.uuid, "canary_int": str(made.number)}

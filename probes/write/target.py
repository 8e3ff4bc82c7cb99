"""What one kind of store must be able to do, so that writes to it can be probed. Values and a contract.

`attempt.py` drives it: attempt, read back, undo. A target knows its store's protocol and its store's
refusals, and nothing of windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from probes.base import Figure
from probes.refusal import Judgement
from probes.units import Duration
from probes.write.canary import Canary

Reason = Annotated[str, Field(min_length=3)]
Within = Annotated[Duration, Field(le=30)]
"""Time that a write may take to become visible."""


class WriteBase(BaseModel):
    """What every write surface may say, whatever its store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    surface: str | None = None
    control: bool = False
    """Try once before the window opens, to see that the very same attempt is accepted then."""

    @property
    def verified(self) -> bool:
        """The effect of an attempt is looked for, cannot be there, or need not be looked for."""
        return True

    @property
    def undoable(self) -> bool:
        """What an attempt may leave can be taken away: it may be made while writes are open."""
        return True

    @property
    def held(self) -> bool:
        """Asks over a session from before the window opened."""
        return False

    @property
    def beside(self) -> list[tuple[str, "WriteBase", float]]:
        """What is asked beside it on the same surface: (suffix of the name, specification, how many times
        as seldom).
        """
        return []

    @property
    def variants(self) -> tuple[str, ...]:
        """Other ways to spell the same write that are asked in turn, each instead of the write itself."""
        return ()

    @property
    def doubts(self) -> list[str]:
        """What will not turn out as the user hopes, as sentences."""
        found = [*self.own_doubts]
        if not self.verified:
            found.append("without read_back a refusal is not verified; guard stays INCONCLUSIVE")
        if not self.undoable:
            found.append("without undo nothing is written while writes are open; reopen stays INCONCLUSIVE")
        return found

    @property
    def own_doubts(self) -> list[str]:
        """Those that go with this kind of store alone."""
        return []


class Beside(WriteBase):
    """What is asked beside a write on the same surface. Has nothing beside it, and no doubts of its own."""

    @classmethod
    def like(cls, write: WriteBase) -> "Beside":
        """With everything that `write` says."""
        return cls.model_construct(**{name: getattr(write, name) for name in type(write).model_fields})

    @property
    def beside(self) -> list[tuple[str, WriteBase, float]]:
        """Nothing."""
        return []

    @property
    def doubts(self) -> list[str]:
        """Those of the write itself are enough."""
        return []


class FromBefore(Beside):
    """The same write over a session from before the window."""

    @property
    def held(self) -> bool:
        """It is."""
        return True


class WithReadBack(WriteBase):
    """A write whose effect is looked for, and taken away, as the user says; each kind has its own forms."""

    read_back: BaseModel | None = None
    undo: BaseModel | None = None

    @property
    def verified(self) -> bool:
        """There is a read-back, or a reason why there need not be one."""
        return self.read_back is not None

    @property
    def undoable(self) -> bool:
        """There is an undo, or a reason why there need not be one."""
        return self.undo is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What one attempt came to."""

    judgement: Judgement | None
    """None when there was no answer that could be judged."""
    unanswered: str = "no answer"
    """Why there was none."""
    duration_s: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    traceless: bool = False
    """Whatever was answered, nothing can have been left in the store."""
    may_land: bool = True
    """An attempt without an answer may take effect later, so it is looked for later."""
    intent: bool = False
    """Accepted as an intent, where that is allowed."""
    variant: str | None = None
    """The other spelling of the write that was tried."""


class Target(Protocol):
    """One store, one write. None of its methods raises for what the store does.

    `attempt` raises OwnFault when the watchdog itself cannot ask. Each method ends within the timeout.
    """

    @property
    def tries(self) -> str:
        """What an attempt does, for people: `UPDATE products … WHERE false`."""
        ...

    @property
    def within(self) -> float:
        """Seconds for which the effect of an attempt is looked for."""
        ...

    @property
    def unread(self) -> str | None:
        """Why the effect is not looked for, when it is not."""
        ...

    @property
    def believed(self) -> bool:
        """The effect is not looked for, with a reason that the user gave."""
        ...

    @property
    def undoable(self) -> bool:
        """What an attempt may leave can be taken away."""
        ...

    @property
    def one_code(self) -> bool:
        """Its refusals must all bear one code. A store that is known by several errors has no such rule."""
        ...

    async def attempt(self, canary: Canary) -> Tried:
        """Try to write once."""
        ...

    async def look(self, canary: Canary) -> bool | str:
        """Is the canary there? A text says why it cannot be told."""
        ...

    async def undo(self, canary: Canary) -> str | None:
        """Take the canary away; None when it is gone or need not go, else why it is not."""
        ...

    async def aclose(self) -> None:
        """Let go of what is held between attempts."""
        ...

"""What `window.yaml` can say, and the Plan that comes of it. Values only: reads no file, asks no target.

A plan is frozen: state belongs to the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from monitor.errors import Mistake
from monitor.model import CRITERIA, Window
from monitor.notify.kinds import NotifierSpec
from probes.base import Kind, Probe
from probes.kinds import Each, KindOf, Tools
from probes.secrets import Redactor
from probes.units import Duration, Moment, NoBool, Positive, Share

NAME = r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}"
FASTEST = 0.2
"""Seconds: the cap on how often one probe asks."""
EDGE = 0.25
"""Seconds before the end in which no write is attempted: it might be answered after the end."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Extend(_Strict):
    """How far an extension moves the end, and how often that may be done."""

    by: Positive
    at_most: Annotated[int, NoBool, Field(ge=0, le=100)]


class WindowSection(_Strict):
    """The plan of the window."""

    id: Annotated[str, Field(pattern=f"^{NAME}$")]
    title: str = ""
    opens: Moment
    closes: Moment
    baseline: Duration = 600.0
    soak: Duration = 300.0
    settle: Positive | None = None
    hold: Positive | None = None
    extend: Extend | None = None
    contact: str | None = None
    rollback: str | None = None

    @model_validator(mode="after")
    def _order(self) -> "WindowSection":
        if self.closes <= self.opens:
            raise ValueError("closes must come after opens")
        return self

    def window(self) -> Window:
        """The plan with its defaults worked out."""
        length = self.closes - self.opens
        return Window(
            id=self.id,
            title=self.title or self.id,
            opens=self.opens,
            closes=self.closes,
            baseline=self.baseline,
            soak=self.soak,
            settle=self.settle or min(30.0, length / 4),
            hold=self.hold or min(600.0, length / 4),
            extend_by=self.extend.by if self.extend else 0.0,
            extend_at_most=self.extend.at_most if self.extend else 0,
            contact=self.contact,
            rollback=self.rollback,
        )


class Defaults(_Strict):
    """What every probe does unless it says otherwise."""

    every: Annotated[Positive, Field(ge=FASTEST)] = 5.0
    timeout: Positive = 2.0


class Common(_Strict):
    """What every entry of a section may say."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    every: Annotated[Positive, Field(ge=FASTEST)] | None = None
    timeout: Positive | None = None


class ReadObjective(_Strict):
    """How healthy reads must be. Sources of the defaults: docs/reference/window-yaml.md."""

    availability: Share = 0.999
    p95_over_baseline: Annotated[float, NoBool, Field(gt=1, le=100)] = 1.5
    latency_floor: Positive = 0.025
    """A rise of less than this is noise, however large the ratio."""


class MeaningObjective(_Strict):
    """How far answers may move."""

    band: Annotated[float, NoBool, Field(gt=0, lt=2)] = 0.15
    """ΔS above the largest one in the baseline that still counts as the same meaning."""


class CoverageObjective(_Strict):
    """How much of the plan must have been asked."""

    share: Share = 0.95
    gap: Positive | None = None
    """The longest time that a probe may be silent; 3 intervals, at least 5 s, by default."""


class Objectives(_Strict):
    """The thresholds of the criteria."""

    reads: ReadObjective = ReadObjective()
    meaning: MeaningObjective = MeaningObjective()
    coverage: CoverageObjective = CoverageObjective()


class Embedder(_Strict):
    """What turns answers into vectors."""

    model: str = "all-MiniLM-L6-v2"
    """A sentence-transformers model by name or path. The default's weights are installed with us."""


class Listen(_Strict):
    """Where metrics, health and gate are served while the window is watched."""

    host: str = "127.0.0.1"
    port: Annotated[int, NoBool, Field(ge=0, le=65535)] = 9187


def _listens(value: object) -> str:
    return "served" if isinstance(value, dict | Listen) else "listen"


Served = Annotated[
    Annotated[Listen, Tag("served")] | Annotated[Literal["off"], Tag("listen")], Discriminator(_listens)
]


class File(_Strict):
    """The whole file. The sections of probes are checked entry by entry (`_entries`)."""

    window: WindowSection
    defaults: Defaults = Defaults()
    reads: list[dict[str, Any]] = []
    writes: list[dict[str, Any]] = []
    audits: list[dict[str, Any]] = []
    flags: list[dict[str, Any]] = []
    objectives: Objectives = Objectives()
    notify: list[dict[str, Any]] = []
    waive: dict[Literal[CRITERIA], Annotated[str, Field(min_length=3)]] = {}  # type: ignore[valid-type]
    embedder: Embedder = Embedder()
    listen: Served = Listen()
    ledger: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One probe as planned: what makes it, how often it asks, how long it waits (seconds)."""

    kind: Kind
    store: str
    """The kind of place that it asks: `http`, `postgres`."""
    every: float
    timeout: float
    each: Each
    maker: KindOf

    @property
    def name(self) -> str:
        """Unique in the window."""
        return self.each.name

    @property
    def surface(self) -> str:
        """Where a write enters, or the name itself."""
        return self.each.surface

    @property
    def spec(self) -> Any:
        """What is asked, by the kind's own specification."""
        return self.each.spec

    @property
    def asked_when_open(self) -> bool:
        """It asks while writes are open as well. A write that cannot be undone does not."""
        return self.kind is not Kind.WRITE or (self.spec.undoable and not self.spec.variants)

    def make(self, tools: Tools) -> Probe:
        """The probe."""
        return self.maker.make(self.each, self.timeout, tools)

    @property
    def measured(self) -> bool:
        """Its answers are compared with the baseline."""
        return self.kind is Kind.READ and bool(
            self.spec.answer or self.spec.documents or self.spec.must_contain
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that `window.yaml` says, checked."""

    file: Path
    window: Window
    probes: tuple[Planned, ...]
    objectives: Objectives
    notify: tuple[NotifierSpec, ...]
    waive: Mapping[str, str]
    embedder: Embedder
    listen: Listen | None
    ledger: Path
    digest: str
    redactor: Redactor = field(repr=False)
    warnings: tuple[Mistake, ...] = ()

    def of(self, kind: Kind) -> tuple[Planned, ...]:
        """The probes of one kind."""
        return tuple(probe for probe in self.probes if probe.kind is kind)

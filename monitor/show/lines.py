"""One line for each thing that happens: JSON for machines, or words for people without a terminal."""

import sys
from typing import TextIO

from monitor.events import Acted, Alerted, Decided, Event, Judged, PhaseBegan, SelfNoted, dumps
from monitor.model import Phase, iso
from monitor.snapshot import Snapshot


def words(event: Event) -> str | None:
    """`event` as one line for people; None for the many that are not worth one."""
    at = iso(event.at)[11:19]
    match event:
        case PhaseBegan():
            return f"{at}  phase     {event.phase.value}, closes {iso(event.closes)}"
        case Judged():
            return f"{at}  verdict   {event.criterion}: {event.verdict}: {event.reason}"
        case Decided():
            return f"{at}  decision  {event.action.value}: {event.reason}"
        case Alerted():
            told = ", ".join(event.to) or "nobody is configured"
            return f"{at}  alert     {event.cause} {event.state}: {event.summary} (to: {told})"
        case Acted(act=act):
            return f"{at}  act       {act.act} by {act.who}: {act.reason}"
        case SelfNoted():
            said = ", ".join(f"{key} {value}" for key, value in event.detail.items())
            return f"{at}  self      {event.what}{': ' if said else ''}{said}"
        case _:
            return None


class JsonLines:
    """Every durable event as a line of JSON (`freezewatch.event/1`)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def event(self, event: Event) -> None:
        """Print it."""
        print(dumps(event), file=self._out, flush=True)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Nothing: what changed came as an event."""

    def trouble(self, reason: str | None) -> None:
        """Say it where people look, since it cannot be an event yet."""
        complain(reason)


class PlainLines:
    """What changes, in words."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._opened = False

    def event(self, event: Event) -> None:
        """Print it if it is worth a line; before the window opens, no verdict is."""
        if isinstance(event, PhaseBegan):
            self._opened |= event.phase not in (Phase.PLANNED, Phase.BASELINE)
        if isinstance(event, Judged) and not self._opened:
            return
        line = words(event)
        if line is not None:
            print(line, file=self._out, flush=True)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Nothing: what changed came as an event."""

    def trouble(self, reason: str | None) -> None:
        """Say it loudly."""
        complain(reason)


def complain(reason: str | None) -> None:
    """Say on standard error that evidence is not being kept, or is again."""
    if reason is None:
        print("freezewatch: the ledger takes evidence again", file=sys.stderr, flush=True)
    else:
        print(
            f"freezewatch: THE LEDGER TAKES NO EVIDENCE: {reason}. Probing goes on; "
            "nothing turns green until there is room.",
            file=sys.stderr,
            flush=True,
        )

"""The audit probe: what does the store itself say was written since the reading before?

Sorts what a source found into production writes, exempt ones and our own, and counts who may still write
from before the window. Compares with the reading before, over a restart of the watchdog as well.
"""

import asyncio
import time

from probes.answer import ExchangeError, OwnFault
from probes.audit.reading import Change, Exemption, OpenWriter, Reading, Source
from probes.base import Figure, Kind, Outcome, Result, Run, Why, skipped

NAMED = 20
"""Changes that are spelled out in a record; the rest is counted."""
LONGEST_MARK = 64 * 1024
"""Characters of a mark that is recorded; a longer one is lost with the process, and then says so."""


class Audit:
    """Reads one store's records at every run. `opens` is in epoch seconds."""

    kind = Kind.AUDIT

    def __init__(
        self, *, name: str, source: Source, exempt: list[Exemption], timeout: float, opens: float
    ) -> None:
        self.name = name
        self.surface = name
        self._source = source
        self._exempt = exempt
        self._timeout = timeout
        self._opens = opens
        self._mark: str | None = None
        self._since: float | None = None
        self._recorded: str | None = None

    def resume(self, mark: str, moment: float) -> None:
        """Go on from the newest recorded reading."""
        self._mark = self._recorded = mark
        self._since = moment

    async def aclose(self) -> None:
        """Let go of the source."""
        await self._source.aclose()

    async def run(self, run: Run) -> Result:
        """Read once: ok (nothing written), changed, unknown (cannot tell), unreachable or skipped."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                reading = await self._source.read(self._mark)
        except OwnFault as error:
            return skipped(Why.OWN_FAULT, error.reason)
        except ExchangeError as error:
            return self._unread(error.reason, began)
        except TimeoutError:
            return self._unread(f"not read within {self._timeout:g} s", began)
        result = self._result(reading, run, time.perf_counter() - began)
        self._mark, self._since = reading.mark, run.started
        return result

    @staticmethod
    def _unread(reason: str, began: float) -> Result:
        return Result(outcome=Outcome.UNREACHABLE, reason=reason, duration_s=time.perf_counter() - began)

    def _result(self, reading: Reading, run: Run, duration: float) -> Result:
        own = [change for change in reading.changes if change.own]
        others = [change for change in reading.changes if not change.own]
        exempt = [change for change in others if self._allowed(change.what, change.role)]
        changes = [change for change in others if not self._allowed(change.what, change.role)]
        waiting = self._older_than_the_window(reading, run)
        figures: dict[str, Figure] = {
            "grade": reading.grade,
            "lag_s": reading.lag_s,
            "since": self._since,
            "changes": _total(changes),
            "what": _named(changes),
            "where": [change.where for change in changes[:NAMED]],
            "own": _total(own),
            "exempt": _total(exempt),
            "exempted": _named(exempt),
            "tells_own": reading.tells_own,
            "open": None if waiting is None else len(waiting),
            "open_what": [f"{writer.who}, for {writer.age_s:.0f} s" for writer in waiting or []][:NAMED],
            "notes": list(reading.notes),
            **({"unknown": reading.unknown} if reading.unknown else {}),
            **(reading.figures or {}),
        }
        if reading.mark != self._recorded and len(reading.mark) <= LONGEST_MARK:
            figures["mark"] = self._recorded = reading.mark
        outcome, reason = self._said(reading, changes, exempt, own)
        return Result(outcome=outcome, reason=reason, duration_s=duration, figures=figures)

    def _allowed(self, what: str | None, role: str | None) -> bool:
        return any(exemption.covers(what, role) for exemption in self._exempt)

    def _older_than_the_window(self, reading: Reading, run: Run) -> list[OpenWriter] | None:
        """Who began before the window opened and may still write; None where that cannot be told."""
        if reading.open is None:
            return None
        if not run.frozen:
            return []
        age = run.started - self._opens
        return [
            writer
            for writer in reading.open
            if writer.age_s >= age and not self._allowed(writer.what, writer.role)
        ]

    def _said(
        self, reading: Reading, changes: list[Change], exempt: list[Change], own: list[Change]
    ) -> tuple[Outcome, str]:
        by = f" ({reading.grade})" if reading.grade else ""
        aside = [f"{_total(found)} {name}" for name, found in (("exempt", exempt), ("our own", own)) if found]
        apart = f", apart from {' and '.join(aside)}" if aside else ""
        if changes:
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            named = "; ".join(change.said for change in changes[:3])
            return Outcome.CHANGED, f"{named}{more}{by}"
        if reading.unknown is not None:
            return Outcome.UNKNOWN, reading.unknown
        if self._mark is None:
            return Outcome.OK, f"first reading{by}"
        return Outcome.OK, f"nothing written since the reading before{apart}{by}"


def _total(changes: list[Change]) -> int:
    return sum(change.count for change in changes)


def _named(changes: list[Change]) -> list[str]:
    return [change.said for change in changes[:NAMED]]

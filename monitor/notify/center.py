"""Which alerts fire, and who has been told. One alert for each cause; told once, resolved once.

An alert is an event first: it is sent when it is durable, and what was not delivered before a crash is
sent after it.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from monitor.events import Alerted, Event, SelfNoted
from monitor.model import Action, Decision, Verdict, iso
from monitor.notify.base import Alert, Notifier
from monitor.plan import Plan

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between tries of one delivery; the last is repeated."""
TRIES = 30
FIRES = frozenset({Action.EXTEND, Action.ROLL_BACK})
DELIVERED = "alert delivered"


@dataclass(slots=True)
class _Firing:
    since: float
    action: Action
    alert: Alert


def _key(event: Alerted) -> tuple[str, str, str]:
    """What names one alert in the ledger and in memory: times there are in milliseconds."""
    return event.cause, event.state, iso(event.at)


class AlertCenter:
    """Turns decisions into alerts, and alerts into deliveries."""

    def __init__(
        self,
        plan: Plan,
        notifiers: list[Notifier],
        append: Callable[[Event], None],
        now: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._notifiers = notifiers
        self._append = append
        self._now = now
        self._firing: dict[str, _Firing] = {}
        self._evidence: dict[str, list[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = {notifier.name: asyncio.Lock() for notifier in notifiers}
        self._raised: dict[tuple[str, str, str], Alert] = {}
        self._undelivered: dict[tuple[str, str, str], set[str]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Who is told."""
        return tuple(notifier.name for notifier in self._notifiers)

    def recall(self, event: Event) -> None:
        """Remember an event of before a restart."""
        if isinstance(event, Alerted):
            self._note(event)
            self._undelivered[_key(event)] = set(event.to)
        elif isinstance(event, SelfNoted) and event.what == DELIVERED:
            detail = {name: str(event.detail.get(name)) for name in ("cause", "state", "raised", "to")}
            key = (detail["cause"], detail["state"], detail["raised"])
            self._undelivered.get(key, set()).discard(detail["to"])

    def resume(self) -> None:
        """Send what was recorded before a restart and reached nobody, and go on resending."""
        for key, to in self._undelivered.items():
            self._send(key, [n for n in self._notifiers if n.name in to])
        self._undelivered.clear()
        for notifier in self._notifiers:
            if getattr(notifier, "resend", None):
                self._start(self._resend(notifier))

    def decided(self, decision: Decision, verdicts: Mapping[str, Verdict]) -> None:
        """Begin and end alerts as `decision` says. Only appends events."""
        wanted = decision.causes if decision.action in FIRES else ()
        for cause in wanted:
            verdict = verdicts[cause]
            known = self._firing.get(cause)
            if known is not None and known.action is decision.action:
                continue
            since = known.since if known else (verdict.since or self._now())
            self._evidence[cause] = [
                {
                    "surface": f.surface,
                    "outcome": f.outcome,
                    "what": f"{f.surface}: {f.what} ({f.count} times, last {iso(f.last)})",
                }
                for f in verdict.findings[:10]
            ] or [{"what": verdict.reason}]
            summary = f"{cause} {verdict.status.value}: {verdict.reason}"
            self._raise(cause, "firing", since, decision.action, summary)
        for cause in [cause for cause in self._firing if cause not in wanted]:
            known = self._firing[cause]
            self._raise(cause, "resolved", known.since, Action.HOLD, f"{cause} no longer holds the window")

    def _raise(self, cause: str, state: str, since: float, action: Action, summary: str) -> None:
        event = Alerted(
            at=self._now(),
            cause=cause,
            state=state,
            since=since,
            to=self.names,
            action=action,
            summary=summary,
        )
        self._note(event)
        self._append(event)

    def _note(self, event: Alerted) -> None:
        before = self._firing.pop(event.cause, None)
        former = None if before is None else before.action.value
        if event.state == "resolved":
            alert = self._alert(event, fired_as=former or event.action.value)
        else:
            alert = self._alert(event, fired_as=event.action.value, formerly=former)
            self._firing[event.cause] = _Firing(since=event.since, action=event.action, alert=alert)
        self._raised[_key(event)] = alert

    def committed(self, event: Event) -> None:
        """An event is durable: if it is an alert, tell everybody."""
        if isinstance(event, Alerted):
            self._send(_key(event), self._notifiers)

    def _alert(self, event: Alerted, fired_as: str, formerly: str | None = None) -> Alert:
        window = self._plan.window
        return Alert(
            cause=event.cause,
            state=event.state,
            since=event.since,
            action=event.action.value,
            summary=event.summary,
            window_id=window.id,
            window_title=window.title,
            evidence=self._evidence.get(event.cause, []),
            resolved_at=event.at if event.state == "resolved" else None,
            contact=window.contact,
            runbook=window.rollback,
            fired_as=fired_as,
            formerly=formerly,
        )

    def _send(self, key: tuple[str, str, str], notifiers: list[Notifier]) -> None:
        alert = self._raised.pop(key, None)
        if alert is None:
            return
        for notifier in notifiers:
            self._start(self._deliver(notifier, alert, key[2]))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, notifier: Notifier, alert: Alert, raised: str) -> None:
        async with self._turns[notifier.name]:  # so that no firing overtakes its own end
            await self._try(notifier, alert, raised)

    async def _try(self, notifier: Notifier, alert: Alert, raised: str) -> None:
        said = {"cause": alert.cause, "state": alert.state, "raised": raised, "to": notifier.name}
        for attempt in range(TRIES):
            delivery = await notifier.tell(alert)
            if delivery.problem is None:
                self._append(SelfNoted(at=self._now(), what=DELIVERED, detail=said))
                return
            if attempt == 0 or not delivery.again:
                detail = {**said, "reason": self._plan.redactor.text(delivery.problem)}
                self._append(SelfNoted(at=self._now(), what="alert not delivered", detail=detail))
            if not delivery.again:
                return
            await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])

    async def _resend(self, notifier: Notifier) -> None:
        pause = float(getattr(notifier, "resend", 60.0))
        while True:
            await asyncio.sleep(pause)
            for cause, firing in list(self._firing.items()):
                async with self._turns[notifier.name]:
                    if self._firing.get(cause) is firing:  # it may have ended meanwhile
                        await notifier.tell(firing.alert)

    async def stop(self, patience: float) -> None:
        """Let deliveries end for up to `patience` seconds; what is left is sent after a restart."""
        sending = {task for task in self._tasks if task.get_coro().__name__ == "_deliver"}  # type: ignore[union-attr]
        if sending:
            await asyncio.wait(sending, timeout=patience)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

"""An attempt that had no answer is looked for later: it may land when nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Callable

from probes.base import Outcome
from probes.http import Transport
from probes.write.attempt import EXPECTED
from probes.write.canary import canary

from ..harness import OPENS, Pause, Server, Store, frozen, http, opened, refusal
from .test_http import always, probe

Serve = Callable[..., Server]
HUNG = always(Pause(30))


def landing(store: Store, slot: float) -> None:
    """The attempt of `slot` takes effect now."""
    store.items.add(f"/items/{canary('w', 'vectors', slot).text}")


async def test_what_lands_after_its_timeout_is_a_leak_of_the_next_run(
    serve: Serve, transport: Transport
) -> None:
    store = Store(HUNG, applies=False)
    asking = probe(transport, serve(store).url, timeout=0.3)
    first = await asking.run(frozen(OPENS))
    store.put = always(refusal())
    landing(store, OPENS)

    second = await asking.run(frozen(OPENS + 5))

    assert (first.outcome, first.figures["expected"]) == (Outcome.UNREACHABLE, 1)
    assert second.outcome is Outcome.LEAKED
    assert "had no answer when it was tried, has been applied since" in second.reason
    assert second.figures["undone"] is True
    assert store.items == set()


async def test_what_lands_many_runs_later_is_found(serve: Serve, transport: Transport) -> None:
    store = Store(HUNG, applies=False)
    asking = probe(transport, serve(store).url, timeout=0.2)
    await asking.run(frozen(OPENS))
    store.put = always(refusal())
    between = [(await asking.run(frozen(OPENS + n))).outcome for n in range(1, 6)]
    landing(store, OPENS)

    last = await asking.run(frozen(OPENS + 9))

    assert between == [Outcome.REFUSED] * 5
    assert last.outcome is Outcome.LEAKED


async def test_a_restart_goes_on_looking(serve: Serve, transport: Transport) -> None:
    store = Store(always(refusal()), applies=False)
    landing(store, OPENS)
    started_again = probe(transport, serve(store).url)

    started_again.expect(OPENS)
    result = await started_again.run(frozen(OPENS + 60))

    assert result.outcome is Outcome.LEAKED


async def test_what_lands_after_the_end_is_undone(serve: Serve, transport: Transport) -> None:
    """A write that was blocked and is applied when writes are open is no leak; its canary must go."""
    store = Store(HUNG, applies=False)
    asking = probe(transport, serve(store).url, timeout=0.3)
    await asking.run(frozen(OPENS))
    store.put, store.applies = always(http(201)), True
    landing(store, OPENS)

    result = await asking.run(opened(OPENS + 100))

    assert result.outcome is Outcome.ACCEPTED
    assert store.items == set()
    assert result.figures["owed"] == 0


async def test_no_more_than_the_newest_are_looked_for(serve: Serve, transport: Transport) -> None:
    asking = probe(transport, serve(Store(always(refusal()), applies=False)).url)
    for slot in range(3 * EXPECTED):
        asking.expect(OPENS + slot)

    result = await asking.run(frozen(OPENS + 1000))

    assert result.figures["expected"] == EXPECTED


async def test_looking_takes_one_timeout_at_most(serve: Serve, transport: Transport) -> None:
    """However many are expected of a store that hangs: the run that follows must not be late for good."""
    store = Store(always(refusal()), applies=False, look=HUNG)
    asking = probe(transport, serve(store).url, timeout=0.2)
    for slot in range(EXPECTED):
        asking.expect(OPENS + slot)

    result = await asking.run(frozen(OPENS + 100))

    assert result.outcome is Outcome.UNREACHABLE  # refused, but its own read-back hangs as well
    assert result.figures["expected"] == EXPECTED

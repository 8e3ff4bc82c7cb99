"""What our own attempts wrote, so that an audit of the same store does not take it for a production write.

A store names a write by something that the attempt learnt as well: a transaction id, a GTID. Rows and keys
that bear a canary's text need no such note.
"""

from collections import OrderedDict

KEPT = 10_000


class OwnWrites:
    """The newest writes that are ours, by store and token. One for each watchdog, used on its loop alone."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def note(self, store: str, token: str) -> None:
        """The write that `store` calls `token` is ours."""
        self._known[store, token] = None
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def __contains__(self, write: tuple[str, str]) -> bool:
        return write in self._known

    def tokens(self, store: str) -> list[str]:
        """What is known of one store, the oldest first: for a store that can be asked for others only."""
        return [token for known, token in self._known if known == store]

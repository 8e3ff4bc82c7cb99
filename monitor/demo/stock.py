"""The sync of stock levels: the writer that a freeze forgets.

It has a connection of its own and asks no gate, as such jobs do: a cron script, a connector, another team's
service. In a sound service it rests; the fault `background-writer` sets it to work while writes are frozen.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

PRODUCTS = ("hp-tent-fulmar-2", "hp-stove-ember", "hp-jacket-skua", "hp-rucksack-fell-45")
FULL_SHELF = 40
PATIENCE_S = 0.2
"""How long it waits for another writer; the service answers nobody meanwhile."""


class StockSync:
    """One job that writes the level of one product after another, past the service and its guard."""

    def __init__(self, *, database: Path, at_work: Callable[[], bool]) -> None:
        self._database = database
        self._at_work = at_work
        self._runs = itertools.count()

    def work(self) -> None:
        """Write the level of the next product; nothing where it rests."""
        if not self._at_work():
            return
        run = next(self._runs)
        key = f"stock:{PRODUCTS[run % len(PRODUCTS)]}"
        level = json.dumps({"on_hand": FULL_SHELF - run % FULL_SHELF})
        with closing(sqlite3.connect(self._database, isolation_level=None, timeout=PATIENCE_S)) as own:
            own.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, level))

"""What every probe is made with."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from probes.http import Transport
from probes.own import OwnWrites


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """Passed to the maker of every probe. `opens` and `closes` are epoch seconds."""

    window: str
    opens: float
    closes: float
    agent: str
    transport: Transport
    folder: Path = Path()
    """Where relative paths begin: the folder of `window.yaml`."""
    own: OwnWrites = field(default_factory=OwnWrites)
    now: Callable[[], float] = time.time
    """The watchdog's clock, in epoch seconds."""

"""The ways in which freezewatch itself fails. A failing target is data, never one of these.

::

    FreezewatchError        exit code 4
    ├── UsageError          exit code 2: the command does not fit the window
    │   └── ConfigError     exit code 2: window.yaml, with file, line and column of every mistake
    └── LedgerError         exit code 4: the evidence cannot be read or written
        └── LedgerBroken    the chain does not hold; names the first broken record
"""

from dataclasses import dataclass


class FreezewatchError(Exception):
    """The watchdog failed."""

    exit_code = 4


class UsageError(FreezewatchError):
    """What was asked for cannot be done; the message says what can."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One mistake in a configuration file. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigError(UsageError):
    """The configuration cannot be used. `mistakes` holds every one that was found."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


class LedgerError(FreezewatchError):
    """The ledger cannot be read or written."""


class LedgerBroken(LedgerError):
    """The chain of evidence does not hold. `record` is the first one that is wrong."""

    def __init__(self, record: int, why: str) -> None:
        super().__init__(f"record {record}: {why}")
        self.record = record
        self.why = why

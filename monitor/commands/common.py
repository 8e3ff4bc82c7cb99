"""What several commands need: the plan, the report as of now, printing, and who is at the keyboard."""

import getpass
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from monitor.config import read_plan
from monitor.errors import LedgerError, UsageError
from monitor.events import Event
from monitor.ledger import GENESIS, Head, LedgerFile
from monitor.model import Colour
from monitor.plan import Plan
from monitor.report.build import Report, build
from probes.units import duration

STYLES = {Colour.GREEN: "\033[1;32m", Colour.AMBER: "\033[1;33m", Colour.RED: "\033[1;31m"}


def plan_of(config: Path) -> Plan:
    """The plan in `config`."""
    return read_plan(config)


def evidence(plan: Plan, *, any_window: bool = False) -> tuple[list[Event], Head]:
    """Every recorded event of the plan's window, checked against the chain; nothing without a ledger.

    Raises UsageError for another window's ledger, LedgerBroken for one that was changed.
    """
    if not plan.ledger.exists():
        return [], Head(records=0, link=GENESIS.hex())
    with closing(LedgerFile(plan.ledger)) as file:
        known = file.about("window")
        mine = plan.window.identity
        if not any_window and known is not None and known != mine:
            raise UsageError(f"{plan.ledger}: this ledger belongs to the window {known}, not to {mine}")
        head = file.verify()
        return [event for _, event in file.events()], head


def report_now(plan: Plan) -> Report:
    """The report as of this moment."""
    events, head = evidence(plan)
    return build(plan, events, head, time.time())


def require_ledger(plan: Plan) -> LedgerFile:
    """The ledger, for writing an act. Raises LedgerError where nobody has watched yet."""
    if not plan.ledger.exists():
        raise LedgerError(f"{plan.ledger}: nobody watches this window: start `freezewatch watch` first")
    return LedgerFile(plan.ledger)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write("\n")


def painted(colour: Colour) -> str:
    """The verdict's word, in its colour on a terminal."""
    if not sys.stdout.isatty():
        return colour.value
    return f"{STYLES[colour]}{colour.value}\033[0m"


def login_name() -> str:
    """Who is at the keyboard, when they do not say."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def length(option: str, text: str) -> float:
    """Seconds from an option such as `15m`. Raises UsageError."""
    try:
        return duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None

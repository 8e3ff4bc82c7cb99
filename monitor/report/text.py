"""How the report writes hostile text, moments, lengths and figures. Pure: no HTML but `<time>`.

It shortens and makes visible; it escapes nothing, since that is the template's business.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite

from markupsafe import Markup

from probes.base import Figure

LONGEST = 400
"""Characters of one text that are shown; a page is no place for a megabyte."""
ITEMS = 8
"""Items of a list that are shown."""
KEPT_FORMATS = frozenset("\u200c\u200d")
"""Joiners that scripts and emoji need."""
_SUSPECT = re.compile("[^ -~\u00a1-\u024f\u0370-\u03ff\u2010-\u2027\u2030-\u205e\u20ac]")
_UNITS = {"_s": "s", "_seconds": "s"}
_SHARES = ("ratio", "availability", "share", "error_budget_used")

Words = Callable[[str], str]


def _visible(match: re.Match[str]) -> str:
    """A control, a bidirectional mark or half a surrogate pair as its escape; all else as it is."""
    character = match.group()
    if character in KEPT_FORMATS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn"):
        return character
    if character in "\n\r\t":
        return " "
    return f"\\u{ord(character):04x}"


def clean(text: str, most: int = LONGEST) -> str:
    """`text` on one line, at most `most` characters of it, with nothing in it that acts unseen."""
    shown = _SUSPECT.sub(_visible, text[:most])
    return shown if len(text) <= most else f"{shown}… ({len(text):,} characters)"


def number(value: object) -> float | None:
    """`value` where it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if isfinite(found) else None


def moment(value: object, form: str = "%Y-%m-%d %H:%M:%S") -> Markup:
    """Epoch seconds as `<time>` in UTC, or a dash where there is none."""
    seconds = number(value)
    try:
        at = datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
    except (OverflowError, OSError, ValueError):
        at = None
    if at is None:
        return Markup('<span class="none">–</span>')
    exact = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, at.strftime(form))


def clock(value: object) -> Markup:
    """Only the time of the day, for rows under a date."""
    return moment(value, "%H:%M:%S")


def length(value: object) -> str:
    """A length of time for people: `840 µs`, `12.4 ms`, `3.20 s`, `5 min 12 s`, `2 h 5 min`."""
    seconds = number(value)
    if seconds is None:
        return "–"
    if seconds < 0:
        return f"-{length(-seconds)}"
    if seconds < 0.00095:
        return f"{seconds * 1e6:.0f} µs" if seconds else "0 s"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 59.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"
    if hours:
        return f"{hours} h {left} min" if left else f"{hours} h"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def label(name: str) -> str:
    """The name of a figure for people: `longest_gap_s` becomes `longest gap`."""
    for ending in _UNITS:
        name = name.removesuffix(ending)
    return name.replace("delta_s", "ΔS").replace("lambda_", "λ ").replace("_", " ")


def figure(name: str, value: Figure) -> str:
    """The value of a figure for people, with its unit."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        more = f" and {len(value) - ITEMS} more" if len(value) > ITEMS else ""
        return (", ".join(clean(str(item), 80) for item in value[:ITEMS]) + more) or "none"
    if isinstance(value, str):
        return value
    found = number(value)
    if found is None:
        return "unknown"
    if name != "delta_s" and any(name.endswith(ending) for ending in _UNITS):
        return length(found)
    if name.endswith(_SHARES) and found >= 2:
        return f"{found:,.0%}"
    if name.endswith(_SHARES):
        return f"{found * 100:,.4f}".rstrip("0").rstrip(".") + "%"
    return f"{found:,.0f}" if found == round(found) else f"{found:,.4g}"

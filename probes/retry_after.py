"""Retry-After by RFC 9110 §10.2.3, its dates by §5.6.7. Pure: header lines in, seconds or a problem out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from probes.shown import shown

FAR_S = 24 * 3600
"""A Retry-After beyond this many seconds is shown as a warning: a typing mistake, most often."""
LARGEST_S = 2**31
"""What a recipient need not be able to hold (as for delta-seconds, RFC 9111 §1.2.2): a broken Retry-After."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAfter:
    """A Retry-After as seconds from the answer, or the problem with it."""

    seconds: float | None = None
    problem: str | None = None
    warnings: tuple[str, ...] = ()


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = r"(?P<h>[01][0-9]|2[0-3]):(?P<m>[0-5][0-9]):(?P<s>[0-5][0-9]|60)"
_MON = f"(?P<mon>{'|'.join(_MONTHS)})"
_FORMS = (
    re.compile(rf"(?P<wd>{'|'.join(_DAYS)}), (?P<d>[0-9]{{2}}) {_MON} (?P<y>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"(?P<wd>{'|'.join(_LONG_DAYS)}), (?P<d>[0-9]{{2}})-{_MON}-(?P<y>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"(?P<wd>{'|'.join(_DAYS)}) {_MON} (?P<d>[0-9 ][0-9]) {_TIME} (?P<y>[0-9]{{4}})"),
)
_OBSOLETE = ("", "RFC 850 date", "asctime date")


def http_date(text: str) -> tuple[float, str] | None:
    """An HTTP-date as (epoch seconds, obsolete form or ""), or None. A wrong weekday is no date."""
    for form, obsolete in zip(_FORMS, _OBSOLETE, strict=True):
        found = form.fullmatch(text)
        if found:
            moment = _moment(found)
            return None if moment is None else (moment, obsolete)
    return None


def _moment(found: re.Match[str]) -> float | None:
    """The epoch seconds that the parts of a date stand for, or None where there is no such day."""
    year = int(found["y"])
    if len(found["y"]) == 2:
        year += 2000 if year < 70 else 1900
    try:
        day = datetime(year, _MONTHS.index(found["mon"]) + 1, int(found["d"]), tzinfo=UTC)
    except ValueError:
        return None
    if found["wd"][:3] != _DAYS[day.weekday()]:
        return None
    return day.timestamp() + 3600 * int(found["h"]) + 60 * int(found["m"]) + min(int(found["s"]), 59)


def retry_after(
    values: Sequence[str], date: Sequence[str] = (), *, closes: float | None = None
) -> RetryAfter:
    """Read a Retry-After. It is a singleton: `1*DIGIT` in ASCII, or an HTTP-date; nothing else.

    `date` is the answer's own Date header, against which a date is measured.
    """
    if not values:
        return RetryAfter(problem="there is no Retry-After")
    if len(values) > 1:
        return RetryAfter(problem=f"there are {len(values)} Retry-After headers")
    text = values[0].strip(" \t")
    sent = http_date(date[0]) if len(date) == 1 else None
    if re.fullmatch(r"[0-9]+", text):
        digits = text.lstrip("0") or "0"
        seconds = float(digits) if len(digits) <= 10 else float(LARGEST_S)
        return _weighed(seconds, (), sent, closes)
    moment = http_date(text)
    if moment is None:
        return RetryAfter(problem=f"Retry-After {shown(text)} is neither seconds nor an HTTP-date")
    old = (f"Retry-After is an obsolete {moment[1]}",) if moment[1] else ()
    if sent is None:
        return RetryAfter(warnings=(*old, "Retry-After is a date, and no Date to measure it by"))
    return _weighed(moment[0] - sent[0], old, sent, closes)


def _weighed(
    seconds: float, warnings: tuple[str, ...], sent: tuple[float, str] | None, closes: float | None
) -> RetryAfter:
    """Seconds with what is odd about them; a problem where they are more than anyone can hold."""
    if seconds >= LARGEST_S:
        return RetryAfter(problem=f"Retry-After is {LARGEST_S} s or more")
    return RetryAfter(seconds=seconds, warnings=(*warnings, *_doubts(seconds, sent, closes)))


def _doubts(seconds: float, sent: tuple[float, str] | None, closes: float | None) -> tuple[str, ...]:
    doubts = []
    if seconds <= 0:
        doubts.append(f"Retry-After {seconds:g} s: clients come back at once")
    if seconds > FAR_S:
        doubts.append(f"Retry-After {seconds:g} s is more than a day")
    elif closes is not None and sent is not None and sent[0] + seconds > closes + 60:
        doubts.append(f"Retry-After {seconds:g} s lies beyond the end of the window")
    return tuple(doubts)

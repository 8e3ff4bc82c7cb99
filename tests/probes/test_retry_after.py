"""Retry-After as RFC 9110 §10.2.3 has it, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from probes.refusal import http_date, retry_after

DATE = "Mon, 23 Nov 2026 22:00:00 GMT"
SENT = 1_795_471_200.0

ACCEPTED = {
    "120": 120.0,
    "0": 0.0,
    "00120": 120.0,
    "0" * 40 + "120": 120.0,
    " 120\t": 120.0,
    "Mon, 23 Nov 2026 22:10:00 GMT": 600.0,
    "Monday, 23-Nov-26 22:10:00 GMT": 600.0,
    "Mon Nov 23 22:10:00 2026": 600.0,
    "Thu Dec  3 22:00:00 2026": 864_000.0,
    "Mon, 23 Nov 2026 22:00:60 GMT": 59.0,
    "Mon, 23 Nov 2026 21:00:00 GMT": -3600.0,
    str(2**31 - 1): 2**31 - 1.0,
}

REJECTED = [
    "-5",
    "+5",
    "1.5",
    "1e3",
    "120s",
    "120, 60",
    "120,120",
    "",
    " ",
    "2026-11-23T22:10:00Z",
    "2026-11-23 22:10:00",
    "Mon, 23 Nov 2026 22:10:00 +0000",
    "Mon, 23 Nov 2026 22:10:00 UTC",
    "Mon, 23 Nov 2026 22:10:00",
    "mon, 23 nov 2026 22:10:00 gmt",
    "Mon, 23 Nov 2026 22:10:00 gmt",
    "Tue, 23 Nov 2026 22:10:00 GMT",
    "Tuesday, 23-Nov-26 22:10:00 GMT",
    "Tue Nov 23 22:10:00 2026",
    "Mon, 3 Nov 2026 22:10:00 GMT",
    "Mon, 31 Nov 2026 22:10:00 GMT",
    "Mon, 23 Nov 2026 24:00:00 GMT",
    "Mon, 23 Nov 2026 22:60:00 GMT",
    "Mon, 23 Nov 2026 22:10:61 GMT",
    "Mon, 23 Nov 2026 22:10:99 GMT",
    "Sat, 01 Jan 0000 00:00:00 GMT",
    "Mon,  23 Nov 2026 22:10:00 GMT",
    "Mon, 23 Nov 2026 22:10:00 GMT ;",
    "١٢٠",
    "１２０",
    "²",
    "1_000",
    "0x10",
    "120\n",
    "1\x0020",
    "infinity",
    "nan",
    str(2**31),
    "9" * 30,
    "9" * 5000,
    "Fri, 31 Dec 9999 23:59:59 GMT",
]


@pytest.mark.parametrize(("text", "seconds"), ACCEPTED.items())
def test_a_valid_value_is_seconds_from_the_answer(text: str, seconds: float) -> None:
    """Digits are seconds; each of the three date forms is measured against the answer's own Date."""
    found = retry_after([text], [DATE])

    assert (found.seconds, found.problem) == (seconds, None)


@pytest.mark.parametrize("text", REJECTED)
def test_anything_else_is_a_problem(text: str) -> None:
    """What `int()`, `str.isdigit()` or `email.utils` would take is still no Retry-After."""
    found = retry_after([text], [DATE])

    assert found.seconds is None
    assert found.problem is not None


@pytest.mark.parametrize("values", [["120", "120"], ["120", "60"], ["120", ""], ["1"] * 50])
def test_more_than_one_line_is_a_problem(values: list[str]) -> None:
    """It is a singleton, even when all lines agree."""
    assert retry_after(values).problem == f"there are {len(values)} Retry-After headers"


def test_none_at_all_is_a_problem() -> None:
    """Whether that matters is the rule's to say."""
    assert retry_after([]).problem == "there is no Retry-After"


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("0", "clients come back at once"),
        ("Mon, 23 Nov 2026 21:00:00 GMT", "clients come back at once"),
        ("86401", "more than a day"),
        ("Monday, 23-Nov-26 22:10:00 GMT", "obsolete RFC 850 date"),
        ("Mon Nov 23 22:10:00 2026", "obsolete asctime date"),
        ("4000", "beyond the end of the window"),
    ],
)
def test_what_is_odd_is_accepted_with_a_warning(text: str, warning: str) -> None:
    """Zero, the past, more than a day, an old form, later than the window: valid, and worth a look."""
    found = retry_after([text], [DATE], closes=SENT + 3600)

    assert found.problem is None
    assert any(warning in each for each in found.warnings)


def test_an_ordinary_value_has_no_warning() -> None:
    """Within the window, or up to a minute after it."""
    for text in ("600", "3600", "3659", "Mon, 23 Nov 2026 23:00:00 GMT"):
        assert retry_after([text], [DATE], closes=SENT + 3600).warnings == ()


@pytest.mark.parametrize("date", [[], [DATE, DATE], ["today"]])
def test_a_date_without_a_date_to_measure_it_by_has_no_seconds(date: list[str]) -> None:
    """Our own clock is not asked: the answer's Date is missing, doubled or none."""
    found = retry_after(["Monday, 23-Nov-26 22:10:00 GMT"], date)

    assert (found.seconds, found.problem) == (None, None)
    assert len(found.warnings) == 2


def test_a_long_value_is_not_shown_cut() -> None:
    """A cut could go through a secret that nobody would recognise then."""
    found = retry_after(["Bearer " + "s" * 100])

    assert found.problem == "Retry-After a text of 107 characters is neither seconds nor an HTTP-date"


@settings(deadline=None)
@given(some.text() | some.from_regex(r"[-+0-9a-zA-Z:, .]{0,40}"))
def test_no_text_raises_and_only_digits_or_dates_are_taken(text: str) -> None:
    """Whatever a header holds: a value, or a problem, and never both."""
    found = retry_after([text], [DATE])

    bare = text.strip(" \t")
    valid = re.fullmatch("[0-9]+", bare) is not None or http_date(bare) is not None
    assert (found.problem is None) == (found.seconds is not None)
    assert valid or found.problem is not None


@settings(deadline=None)
@given(some.integers(min_value=0, max_value=2**31 - 1), some.integers(min_value=0, max_value=20))
def test_every_number_of_seconds_is_read_as_itself(seconds: int, zeros: int) -> None:
    """Leading zeros change nothing."""
    assert retry_after(["0" * zeros + str(seconds)]).seconds == seconds


@settings(deadline=None)
@given(some.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2069, 1, 1)))
def test_every_moment_is_read_from_each_of_its_three_forms(moment: datetime) -> None:
    """IMF-fixdate, RFC 850 and asctime tell the same second."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    long = moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")
    asctime = moment.strftime(f"%a %b {moment.day:2d} %H:%M:%S %Y")

    for text in (format_datetime(moment, usegmt=True), long, asctime):
        found = http_date(text)

        assert found is not None
        assert found[0] == moment.timestamp()

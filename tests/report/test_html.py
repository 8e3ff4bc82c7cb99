"""The HTML report: complete, self-contained, and unmoved by hostile text."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from monitor.events import Acted, Decided, Event, Judged, Observed, SelfNoted
from monitor.ledger import Head
from monitor.model import CRITERIA, Act, Action, Colour
from monitor.report.build import Report, build
from monitor.report.html import render
from probes.base import Kind, Observation

from .harness import (
    CLOSES,
    HEAD,
    HOSTILE,
    OPENS,
    PROBES,
    Parsed,
    alert,
    amber,
    changed,
    green_by_acceptance,
    leaky,
    observations,
    plan_of,
    red,
    report_of,
    rows_of,
    story,
)


@pytest.fixture(name="leaking", scope="module")
def _leaking(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return red(tmp_path_factory.mktemp("red"))


@pytest.fixture(name="page", scope="module")
def _page(leaking: Report) -> str:
    return render(leaking)


def test_page_loads_nothing_from_anywhere(page: str) -> None:
    """No element fetches: the only addresses outside the page are links that the plan gives."""
    parsed = Parsed(page)

    fetched = [value for _, attrs in parsed.tags for name in ("src", "data") if (value := attrs.get(name))]
    links = [str(attrs["href"]) for _, attrs in parsed.tags if "href" in attrs]
    assert fetched == []
    assert {link for link in links if not link.startswith("#")} == {
        "https://runbooks.example.com/reindex#rollback"
    }
    assert parsed.named("link") == []
    assert "@import" not in page
    assert "url(" not in (Path(__file__).parents[2] / "monitor/report/report.css").read_text()


def test_policy_lets_only_the_own_scripts_run(page: str) -> None:
    """The content security policy names the hash of each script in the page, and no others."""
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    metas = Parsed(page).named("meta")
    policy = next(str(meta["content"]) for meta in metas if "http-equiv" in meta)
    hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts]

    assert len(scripts) == 2
    assert f"script-src {' '.join(hashes)};" in policy
    assert policy.startswith("default-src 'none'")


def test_page_says_its_language_and_its_title(page: str) -> None:
    """A screen reader and a tab strip know what this is."""
    assert '<html lang="en">' in page
    assert "<title>RED · Rebuild the catalogue search index · freezewatch report</title>" in page


def test_every_criterion_is_shown_with_its_verdict_in_words(leaking: Report, page: str) -> None:
    """Colour is never the only sign."""
    for verdict in leaking.criteria:
        assert verdict.status.value in rows_of(page, verdict.criterion)
    assert {verdict.criterion for verdict in leaking.criteria} == set(CRITERIA)


def test_waiver_is_shown_with_its_reason(page: str) -> None:
    """A waived criterion is marked, and says why."""
    row = rows_of(page, "queue")

    assert "WAIVED" in row
    assert "writes are dropped, nothing is buffered" in row


def test_red_report_says_what_broke_and_what_is_advised(page: str) -> None:
    """The verdict, the advice and both gates stand at the top."""
    words = Parsed(page).words
    top = words[: words.index("Criterion")]

    assert "RED" in top
    assert "ROLL BACK" in top
    assert top.count("CLOSED") == 2
    assert "vectors: leaked behind refusal" in top
    assert "extend by 15 min amira" in top


def test_findings_are_shown_with_surface_outcome_and_count(leaking: Report, page: str) -> None:
    """Every finding of every criterion is in the page."""
    words = Parsed(page).words
    findings = [finding for verdict in leaking.criteria for finding in verdict.findings]

    assert len(findings) >= 3
    for finding in findings:
        assert finding.surface in words
        assert finding.outcome.replace("_", " ") in words
        assert finding.what in words


def test_green_by_acceptance_names_who_accepted_and_why(tmp_path: Path) -> None:
    """GREEN with accepted findings never looks like plain GREEN."""
    report = green_by_acceptance(tmp_path)
    page = render(report)

    assert report.verdict is Colour.GREEN
    assert "GREEN with accepted findings" in Parsed(page).words
    assert "Accepted by dana (data steward)" in rows_of(page, "guard")
    assert "INC-4711" in rows_of(page, "guard")


def test_plain_green_speaks_of_no_acceptance(tmp_path: Path) -> None:
    """Nothing was accepted, so nothing says so; and both gates are open."""
    page = render(report_of(plan_of(tmp_path), *story()))
    words = Parsed(page).words

    assert "Verdict: GREEN" in words
    assert "accepted findings" not in words
    assert words.count("OPEN") == 2


def test_amber_report_shows_the_gap_and_the_quiet_criteria(tmp_path: Path) -> None:
    """Time without the watchdog is on the timeline; what nothing evidences is INCONCLUSIVE."""
    page = render(amber(tmp_path))
    words = Parsed(page).words

    assert "Verdict: AMBER" in words
    assert "no probe ran for 5 min" in words
    assert "INCONCLUSIVE" in rows_of(page, "storage")
    assert "not configured" in rows_of(page, "storage")


def hostile_report(directory: Path) -> Report:
    """Hostile text wherever a target, a person or the configuration can put it."""
    probes = PROBES.replace("surface: vectors", f"surface: {json.dumps(HOSTILE)}")
    waive = f"\nwaive: {{queue: {json.dumps(HOSTILE)}}}\n"
    plan = plan_of(directory, title=HOSTILE, rollback="javascript:alert(1)", probes=probes, waive=waive)
    giant = "\ud800" + HOSTILE + "A" * 1_000_000

    def change(observation: Observation) -> Observation:
        return changed(leaky(observation), reason=giant, figures={"code": HOSTILE, "delta_s": 0.1})

    by = Act(at=OPENS + 9, act="accept", who=HOSTILE, reason=giant, criterion="guard")
    others: list[Event] = [
        Acted(at=OPENS + 9, act=by),
        SelfNoted(at=OPENS + 10, what=HOSTILE, detail={HOSTILE: [giant]}),
        alert(OPENS + 11, "firing", giant, cause=HOSTILE),
        Judged(at=OPENS + 12, criterion=HOSTILE, verdict=HOSTILE, reason=giant),
        Decided(at=OPENS + 13, action=Action.EXTEND, causes=(HOSTILE,), reason=giant),
    ]
    return report_of(plan, *others, change=change, now=OPENS + 1900)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Nothing from outside opens an element or a script, hides, or swells the page."""
    page = render(hostile_report(tmp_path))
    parsed = Parsed(page)

    assert len(parsed.named("script")) == 3
    assert parsed.named("img") == []
    assert [attrs for _, attrs in parsed.tags for name in attrs if name.startswith("on")] == []
    assert "javascript:" not in "".join(str(attrs.get("href")) for _, attrs in parsed.tags)
    assert "alert(1)" in parsed.words
    assert "{{ 7*7 }}" in parsed.words
    assert "\\u202egnp.exe\\u0000" in parsed.words
    assert not set(page) & set("\x00\u202e\ud800")
    assert len(page.encode()) < 4_000_000


def test_hostile_names_reach_the_charts_as_data_only(tmp_path: Path) -> None:
    """The JSON parses, holds the name, and cannot end its element."""
    parsed = Parsed(render(hostile_report(tmp_path)))

    body = json.loads(parsed.data)
    assert "<" not in parsed.data
    assert "alert(1)" in json.dumps(body["doc"])
    assert set(body["roots"].values()) <= {"chart-latency", "chart-drift", "chart-blocked"}


def test_secrets_of_the_configuration_are_not_in_the_page(tmp_path: Path) -> None:
    """What the plan knows as secret is replaced by its name, wherever it comes back."""
    plan = plan_of(tmp_path, title="the window of hunter2-hunter2")
    plan.redactor.learn("API_TOKEN", "hunter2-hunter2")
    report = report_of(
        plan,
        alert(OPENS + 5, "firing", "401 for hunter2-hunter2"),
        now=OPENS + 60,
        change=lambda o: changed(o, reason="sent hunter2-hunter2"),
    )

    page = render(report)
    assert "hunter2" not in page
    assert "${API_TOKEN}" in page


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e300, -1.0])
def test_numbers_that_are_none_do_not_break_the_charts(tmp_path: Path, value: float) -> None:
    """A duration or a ΔS that is no number is left out; the rest is drawn."""

    def change(observation: Observation) -> Observation:
        if observation.kind is Kind.MEANING and observation.slot % 3 < 1:
            return changed(observation, figures={"delta_s": value})
        return changed(observation, duration_s=value) if observation.slot % 2 < 1 else observation

    page = render(report_of(plan_of(tmp_path), change=change, now=OPENS + 300))
    parsed = Parsed(page)
    body = json.loads(parsed.data, parse_constant=pytest.fail)
    assert len(body["roots"]) == 3
    assert not re.search(r"\b(nan|inf)\b", parsed.words)


def test_window_that_has_not_opened_says_so(tmp_path: Path) -> None:
    """An empty report is a page too: it says that nothing was asked, and draws no empty frames."""
    report = build(plan_of(tmp_path), [], Head(records=0, link="0" * 64), OPENS - 3600)

    page = render(report)
    words = Parsed(page).words
    assert "The window has not opened yet: there is nothing to judge." in words
    assert "No observation was recorded" in words
    assert "Nothing to draw: no read was asked up to the time of this report." in words
    assert "Nothing is recorded yet." in words
    assert "GREEN" not in words
    assert Parsed(page).named("script") == []


def test_window_without_probes_says_that_nothing_can_be_proven(tmp_path: Path) -> None:
    """No probe, no proof."""
    report = build(plan_of(tmp_path, probes="", waive=""), [], HEAD, CLOSES + 900)

    words = Parsed(render(report)).words
    assert "window.yaml names no probe: nothing was asked, so nothing can be proven." in words
    assert "window.yaml names no probe, so there is none to show." in words
    assert "Nothing to draw: window.yaml has no reads." in words


def test_window_that_goes_on_says_that_the_report_can_change(tmp_path: Path) -> None:
    """A report from the middle of the window is no last word."""
    words = Parsed(render(report_of(plan_of(tmp_path), now=OPENS + 600))).words

    assert "The window is still going on (frozen): what is said here can change." in words


def test_history_is_in_the_order_of_time(page: str) -> None:
    """Phases, verdicts, decisions, alerts, acts and notes stand in one list."""
    history = page[page.index('<section id="history"') :]
    times = re.findall(r'<time datetime="([^"]+)"', history[: history.index("</section>")])

    assert times == sorted(times)
    for kind in ("phase", "verdict", "decision", "alert", "act", "self"):
        assert f"of-{kind}" in history


def test_footer_names_the_ledger_and_the_law(page: str) -> None:
    """A reader can check the report against the ledger that it came from."""
    words = Parsed(page[page.index("<footer>") :]).words

    assert words.startswith("No evidence is never green.")
    assert HEAD.link in words
    assert "4,711" in words


def test_large_window_stays_small_and_draws_the_twelve_worst(tmp_path: Path) -> None:
    """Many probes, many entries and long reasons fit in 4 MB; what is left out is said."""
    reads = "".join(
        f"  - {{name: read-{n}, http: {{url: 'http://127.0.0.1:1/{n}'}}, answer: $.a}}\n" for n in range(40)
    )
    writes = "".join(
        f"  - {{name: write-{n}, http: {{url: 'http://127.0.0.1:1/${{canary}}'}}}}\n" for n in range(500)
    )
    plan = plan_of(tmp_path, probes=f"\nreads:\n{reads}\nwrites:\n{writes}")
    judged = [
        Judged(at=OPENS + n, criterion="guard", verdict="FAIL", reason=f"{n} " + "ж&<" * 500)
        for n in range(3000)
    ]
    few = [o for o in observations(plan, OPENS + 7200) if not o.probe.startswith("write-")]
    some = [Observed(at=o.started, observation=changed(o, reason=f"{o.slot} " + "ж&<" * 200)) for o in few]
    report = build(plan, sorted([*some, *judged], key=lambda e: e.at), HEAD, CLOSES + 900)

    page = render(report)
    words = Parsed(page).words
    assert len(page.encode()) < 4_000_000
    assert "The 12 worst of 40 reads are drawn." in words
    assert "The 12 worst of 40 questions are drawn." in words
    assert "The 400 of 540 probes with the most bad outcomes." in words
    assert "1600 earlier ones stand in the ledger" in words

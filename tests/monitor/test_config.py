"""window.yaml: every mistake is named with its place and the way out; nothing else is ever raised."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from monitor.commands.check import check
from monitor.commands.init import init
from monitor.config import read_plan
from monitor.errors import ConfigError, Mistake, UsageError
from monitor.plan import Plan
from probes.base import Kind
from probes.units import duration

from .builders import plan_in

HEAD = """window:
  id: reindex
  opens: 2026-11-23T22:00:00Z
  closes: 2026-11-23T23:00:00Z
"""
READ = """reads:
  - name: search
    http: {url: "http://127.0.0.1:1/search"}
"""
WRITE = """writes:
  - name: upsert
    http: {url: "http://127.0.0.1:1/v"}
"""
FLAG = """flags:
  - {name: read_only, http: {url: "http://127.0.0.1:1/f"}, at: $.on}
"""


def mistakes_in(directory: Path, text: str, environment: dict[str, str] | None = None) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        plan_in(directory, text, environment)
    return caught.value.mistakes


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """One mistake: a file, where it must be found, and what must be said."""

    text: str
    at: tuple[int, int]
    says: str


def in_window(line: str, at: tuple[int, int], says: str) -> Wrong:
    """A mistake in a fifth line of `window`."""
    return Wrong(text=f"{HEAD}  {line}\n", at=at, says=says)


def below(text: str, line: int, column: int, says: str) -> Wrong:
    """A mistake in what stands below `window`, lines counted from there."""
    return Wrong(text=HEAD + text, at=(4 + line, column), says=says)


WRONG = {
    # the whole file
    "empty file": Wrong(text="", at=(1, 1), says="it must be a mapping with at least `window:`"),
    "comments only": Wrong(text="# nothing\n", at=(1, 1), says="must be a mapping"),
    "a list at the top": Wrong(text="- window\n", at=(1, 1), says="must be a mapping"),
    "a word at the top": Wrong(text="window\n", at=(1, 1), says="must be a mapping"),
    "no window": Wrong(text="reads: []\n", at=(1, 1), says="'window' is missing"),
    "a tab": Wrong(text="window:\n\tid: x\n", at=(2, 1), says="cannot start any token"),
    "no YAML": Wrong(text="window: {id: x\n", at=(2, 1), says="expected ',' or '}'"),
    "an unknown alias": Wrong(text=f"{HEAD}  title: *name\n", at=(5, 10), says="undefined alias 'name'"),
    "two documents": Wrong(text=f"{HEAD}---\n{HEAD}", at=(5, 1), says="another document"),
    "a key twice": below("defaults: {}\ndefaults: {}\n", 2, 1, "'defaults' stands here twice"),
    "a key twice, deep": in_window("id: other", (5, 3), "'id' stands here twice"),
    "a list as a key": below("? [a, b]\n: 1\n", 1, 3, "a key must be a plain text"),
    "an unknown section": below("read: []\n", 1, 1, "unknown key 'read': did you mean 'reads'?"),
    "an unknown section far from any": below(
        "zzz: []\n", 1, 1, "unknown key 'zzz'; known: audits, defaults,"
    ),
    # window
    "window is a list": Wrong(text="window: []\n", at=(1, 1), says="window: input should be"),
    "window is empty": Wrong(text="window:\n", at=(1, 1), says="window: input should be"),
    "an unknown key in window": in_window("solk: 5m", (5, 3), "unknown key 'solk': did you mean 'soak'?"),
    "id is a number": Wrong(text=HEAD.replace("reindex", "5"), at=(2, 3), says="id: input should be a valid"),
    "id has a slash": Wrong(text=HEAD.replace("reindex", "../x"), at=(2, 3), says="id: string should match"),
    "id is empty": Wrong(text=HEAD.replace("reindex", '""'), at=(2, 3), says="id: string should match"),
    "title is a list": in_window("title: [a]", (5, 3), "title: input should be a valid string"),
    "opens has no zone": Wrong(
        text=HEAD.replace("22:00:00Z", "22:00:00"), at=(3, 3), says="has no zone: write it like 2026-"
    ),
    "opens is a number": Wrong(
        text=HEAD.replace("2026-11-23T22:00:00Z", "1795471200"), at=(3, 3), says="1795471200 is no time"
    ),
    "opens is a word": Wrong(
        text=HEAD.replace("2026-11-23T22:00:00Z", "tonight"), at=(3, 3), says="'tonight' is no time"
    ),
    "opens is a date that is none": Wrong(
        text=HEAD.replace("11-23T22", "02-30T22"), at=(3, 3), says="is no time"
    ),
    "opens lies before computers": Wrong(
        text=HEAD.replace("2026-11-23T22", "0001-01-01T00"), at=(3, 3), says="not between the years"
    ),
    "closes lies at the end of time": Wrong(
        text=HEAD.replace("2026-11-23T23", "9999-12-31T23"), at=(4, 3), says="not between the years"
    ),
    "closes has no zone": Wrong(text=HEAD.replace("23:00:00Z", "23:00"), at=(4, 3), says="has no zone"),
    "closes before opens": Wrong(
        text=HEAD.replace("23T23", "23T21"), at=(1, 1), says="closes must come after opens"
    ),
    "closes is missing": Wrong(
        text="".join(HEAD.splitlines(keepends=True)[:3]), at=(1, 1), says="'closes' is missing"
    ),
    "baseline is a number": in_window("baseline: 600", (5, 3), "600 is no length of time: write it like 5s"),
    "baseline has an unknown unit": in_window("baseline: 5w", (5, 3), "'5w' is no length of time"),
    "baseline is negative": in_window("baseline: -5m", (5, 3), "'-5m' is no length of time"),
    "baseline is too long": in_window("baseline: 99999d", (5, 3), "is longer than ten years"),
    "baseline has Arabic digits": in_window("baseline: ٥m", (5, 3), "is no length of time"),
    "soak is true": in_window("soak: true", (5, 3), "true is no length of time"),
    "settle is zero": in_window("settle: 0s", (5, 3), "settle: input should be greater than 0"),
    "hold is a list": in_window("hold: [5m]", (5, 3), "['5m'] is no length of time"),
    "extend is a word": in_window("extend: twice", (5, 3), "extend: input should be"),
    "extend lacks by": in_window("extend: {at_most: 2}", (5, 3), "'by' is missing"),
    "extend lacks at_most": in_window("extend: {by: 5m}", (5, 3), "'at_most' is missing"),
    "at_most is negative": in_window("extend: {by: 5m, at_most: -1}", (5, 20), "greater than or equal to 0"),
    "at_most is true": in_window("extend: {by: 5m, at_most: true}", (5, 20), "true is no number"),
    "at_most is a half": in_window("extend: {by: 5m, at_most: 1.5}", (5, 20), "at_most: input should be"),
    "contact is a mapping": in_window("contact: {a: b}", (5, 3), "contact: input should be"),
    "rollback is a number": in_window("rollback: 5", (5, 3), "rollback: input should be"),
    # defaults
    "defaults is a word": below("defaults: often\n", 1, 1, "defaults: input should be"),
    "every is a number": below("defaults: {every: 5}\n", 1, 12, "5 is no length of time"),
    "every is too fast": below("defaults: {every: 50ms}\n", 1, 12, "greater than or equal to 0.2"),
    "timeout is zero": below("defaults: {timeout: 0s}\n", 1, 12, "greater than 0"),
    "an unknown default": below("defaults: {evry: 5s}\n", 1, 12, "did you mean 'every'?"),
    # probes
    "reads is a mapping": below("reads: {}\n", 1, 1, "reads: input should be a valid list"),
    "a read is a word": below("reads: [search]\n", 1, 9, "should be a valid dictionary"),
    "no kind": below("reads:\n  - name: a\n", 2, 5, "says nothing of what to ask; known: http"),
    "an unknown kind": below(
        "reads:\n  - name: a\n    htp: {url: x}\n", 2, 5, "unknown read probe kind 'htp'; known: http"
    ),
    "no name": below('reads:\n  - http: {url: "http://a/"}\n', 2, 5, "'name' is missing"),
    "name is a number": below(READ.replace("search\n", "5\n", 1), 2, 5, "name: input should be"),
    "name has a space": below(READ.replace("search\n", "a b\n", 1), 2, 5, "name: string should match"),
    "a name twice": below(
        READ + READ.split("\n", 1)[1], 4, 5, "the name 'search' is taken by the entry in line 6"
    ),
    "the name of another section": below(
        READ + WRITE.replace("upsert", "search"), 5, 5, "the name 'search' is taken"
    ),
    "url is relative": below(READ.replace("http://127.0.0.1:1", ""), 3, 12, "is no absolute http://"),
    "url of another scheme": below(READ.replace("http://1", "ftp://1"), 3, 12, "is no absolute http://"),
    "url with a bad port": below(READ.replace(":1/", ":99999999/"), 3, 12, "port above 65535"),
    "url is missing": below(READ.replace('url: "http://127.0.0.1:1/search"', ""), 3, 5, "'url' is missing"),
    "an unknown method": below(
        READ.replace("{url", "{method: FETCH, url"), 3, 12, "method: input should be 'GET'"
    ),
    "a typing mistake in http": below(
        READ.replace("{url", "{heders: {}, url"), 3, 12, "unknown key 'heders': did you mean 'headers'?"
    ),
    "headers is a list": below(READ.replace("{url", "{headers: [], url"), 3, 12, "headers: input should be"),
    "two bodies": below(READ.replace("{url", "{json: {}, body: x, url"), 3, 5, "two bodies: keep one"),
    "a bad JSONPath": below(READ + "    answer: $.[\n", 4, 5, "is no JSONPath (RFC 9535)"),
    "a JSONPath that is a number": below(READ + "    answer: 5\n", 4, 5, "answer: input should be"),
    "must_contain is a word": below(READ + "    must_contain: x\n", 4, 5, "must_contain: input should be"),
    "a status that is none": below(READ + "    status: 42\n", 4, 5, "greater than or equal to 100"),
    "a status that is a word": below(READ + "    status: ok\n", 4, 5, "status: input should be"),
    "an unknown key in a read": below(READ + "    anser: $.a\n", 4, 5, "did you mean 'answer'?"),
    "every of one read": below(READ + "    every: 5\n", 4, 5, "5 is no length of time"),
    "an unknown key in a write": below(WRITE + "    undoo: {}\n", 4, 5, "did you mean 'undo'?"),
    "an empty undo": below(WRITE + "    undo: {}\n", 4, 5, "give http, or waived with a reason"),
    "an empty read_back": below(WRITE + "    read_back: {}\n", 4, 5, "give http, or waived"),
    "a range of statuses": below(
        WRITE + "    refusal: {status: 423-503}\n", 4, 15, "status: input should be"
    ),
    "retry_after of another sort": below(
        WRITE + "    refusal: {retry_after: maybe}\n", 4, 15, "'required' or 'optional'"
    ),
    "control is a number": below(WRITE + "    control: 7\n", 4, 5, "control: input should be"),
    "a flag without a path": below(FLAG.replace(", at: $.on", ""), 2, 5, "'at' is missing"),
    "a replica that is no URL": below(
        FLAG.replace("$.on", "$.on, replicas: [b]"), 2, 81, "no absolute http://"
    ),
    # objectives
    "objectives is a list": below("objectives: []\n", 1, 1, "objectives: input should be"),
    "an unknown objective": below("objectives: {red: {}}\n", 1, 14, "did you mean 'reads'?"),
    "a bare share": below("objectives: {reads: {availability: 99.9}}\n", 1, 22, "99.9 is no share"),
    "a share of one": below("objectives: {reads: {availability: 100%}}\n", 1, 22, "below 100 %"),
    "a share of nothing": below("objectives: {coverage: {share: 0%}}\n", 1, 25, "above 0 %"),
    "a ratio below one": below("objectives: {reads: {p95_over_baseline: 1}}\n", 1, 22, "greater than 1"),
    "a ratio that is true": below(
        "objectives: {reads: {p95_over_baseline: true}}\n", 1, 22, "true is no number"
    ),
    "a ratio that is no number": below(
        "objectives: {reads: {p95_over_baseline: fast}}\n", 1, 22, "p95_over_baseline: input should be"
    ),
    "a ratio that is NaN": below("objectives: {reads: {p95_over_baseline: nan}}\n", 1, 22, "greater than 1"),
    "a bare floor": below("objectives: {reads: {latency_floor: 25}}\n", 1, 22, "25 is no length"),
    "a band that is true": below("objectives: {meaning: {band: true}}\n", 1, 24, "true is no number"),
    "a band beyond ΔS": below("objectives: {meaning: {band: 2}}\n", 1, 24, "less than 2"),
    "a band that is a share": below("objectives: {meaning: {band: 15%}}\n", 1, 24, "band: input should be"),
    "a bare gap": below("objectives: {coverage: {gap: 15}}\n", 1, 25, "15 is no length of time"),
    # notify, waive, embedder, listen, ledger
    "notify is a mapping": below("notify: {}\n", 1, 1, "notify: input should be"),
    "an unknown notifier": below(
        "notify: [{alertmanger: {url: x}}]\n", 1, 11, "did you mean 'alertmanager'?"
    ),
    "two notifiers in one": below(
        'notify: [{webhook: {url: "http://a/"}, alertmanager: {url: "http://a/"}}]\n', 1, 10, "one notifier"
    ),
    "a notifier's bad URL": below("notify: [{webhook: {url: chat}}]\n", 1, 21, "no absolute http://"),
    "a notifier without URL": below("notify: [{webhook: {}}]\n", 1, 11, "'url' is missing"),
    "a bare resend": below(
        'notify: [{alertmanager: {url: "http://a/", resend: 60}}]\n', 1, 44, "60 is no length of time"
    ),
    "labels that are a list": below(
        'notify: [{alertmanager: {url: "http://a/", labels: []}}]\n', 1, 44, "labels: input should be"
    ),
    "an unknown criterion": below("waive: {gard: not needed}\n", 1, 9, "gard: input should be 'guard', "),
    "a waiver without a reason": below("waive: {queue: }\n", 1, 9, "queue: input should be a valid string"),
    "a waiver with a short reason": below("waive: {queue: no}\n", 1, 9, "at least 3 characters"),
    "waive is a list": below("waive: [queue]\n", 1, 1, "waive: input should be"),
    "the model is a number": below("embedder: {model: 5}\n", 1, 12, "model: input should be"),
    "embedder is a word": below("embedder: small\n", 1, 1, "embedder: input should be"),
    "a port beyond the last": below("listen: {port: 70000}\n", 1, 10, "less than or equal to 65535"),
    "a port that is true": below("listen: {port: true}\n", 1, 10, "true is no number"),
    "listen is yes": below("listen: loud\n", 1, 1, "listen: input should be 'off'"),
    "a host that is a number": below("listen: {host: 5}\n", 1, 10, "host: input should be"),
    "ledger is a number": below("ledger: 5\n", 1, 1, "ledger: input should be"),
    # the environment
    "an unset variable": in_window('title: "${MISSING}"', (5, 10), "the environment has no variable MISSING"),
    "half a character": in_window(r'title: "\ud800"', (5, 10), "half a character"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_a_mistake_is_named_with_file_line_and_column(wrong: Wrong, tmp_path: Path) -> None:
    """One mistake in a file gives exactly one message, at its place, with the rule or the way out."""
    mistakes = mistakes_in(tmp_path, wrong.text)

    said = [str(mistake) for mistake in mistakes]
    assert any(wrong.says in mistake.message for mistake in mistakes), said
    found = next(mistake for mistake in mistakes if wrong.says in mistake.message)
    assert (found.line, found.column) == wrong.at, said
    assert str(found).startswith(f"{tmp_path / 'window.yaml'}:{wrong.at[0]}:{wrong.at[1]}: ")
    assert len(mistakes) == 1, said


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """A user mends a file in one go."""
    text = (
        HEAD.replace("23:00:00Z", "23:00:00")
        + "defaults: {every: 5, tiemout: 2s}\n"
        + READ.replace("http://127", "htp://127")
        + "    anwser: $.a\n"
        + WRITE.replace("upsert", "a b")
        + "waive: {queue: no}\n"
        + "notify: [{pigeon: {}}]\n"
    )

    mistakes = mistakes_in(tmp_path, text)

    assert [mistake.line for mistake in mistakes] == [4, 5, 5, 8, 9, 11, 13, 14]


@pytest.mark.parametrize(
    "content",
    [b"\x80\x81\xff", bytes(range(256)), b"\x00\x00\x00", "window:".encode("utf-16"), b"\x1f\x8b\x08\x00"],
    ids=["no UTF-8", "every byte", "zeros", "UTF-16", "gzip"],
)
def test_a_binary_file_is_one_clear_mistake(content: bytes, tmp_path: Path) -> None:
    """What is no text has no traceback either."""
    file = tmp_path / "window.yaml"
    file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        read_plan(file, {})

    assert len(caught.value.mistakes) == 1
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_begin(tmp_path: Path) -> None:
    """The way out is `freezewatch init`."""
    with pytest.raises(ConfigError, match="`freezewatch init` writes one"):
        read_plan(tmp_path / "window.yaml", {})


def test_a_folder_in_place_of_the_file_is_a_mistake(tmp_path: Path) -> None:
    """It cannot be read, and that is said."""
    (tmp_path / "window.yaml").mkdir()

    with pytest.raises(ConfigError, match="it cannot be read"):
        read_plan(tmp_path / "window.yaml", {})


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    plan = plan_in(tmp_path, "\ufeff" + HEAD)

    assert plan.window.id == "reindex"


def test_an_anchor_used_twice_is_read_without_a_word(tmp_path: Path) -> None:
    """YAML allows it; the newer one counts."""
    plan = plan_in(tmp_path, HEAD + "  title: &t first\n  contact: &t second\n  rollback: *t\n")

    assert plan.window.rollback == "second"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
        ),
        "window: &w {id: *w}\n",
        "a: &a [*a]\n",
        "a: " + "[" * 100 + "]" * 100 + "\n",
        "a: " + "[" * 20_000 + "]" * 20_000 + "\n",
        "a: " + "{a: " * 20_000 + "\n",
        "- " * 50_000 + "\n",
        HEAD + "x: " + "9" * 10_000 + "\n",
    ],
    ids=["billion laughs", "itself", "list of itself", "deep", "deeper", "maps", "sequences", "long number"],
)
def test_a_bomb_is_a_mistake_and_no_explosion(text: str, tmp_path: Path) -> None:
    """Aliases are followed within bounds, and depth is bounded."""
    assert mistakes_in(tmp_path, text)


def test_secrets_from_the_environment_stand_in_no_message(tmp_path: Path) -> None:
    """A webhook's URL is a secret; a mistake in it is shown with its name in its place."""
    secret = "hooks.example.com/T000/B000/s3cr3t"
    text = HEAD + "defaults: {every: '${HOOK}'}\n" + 'notify: [{webhook: {url: "${HOOK}"}}]\n'

    mistakes = mistakes_in(tmp_path, text, {"HOOK": secret})

    assert len(mistakes) == 2
    assert not any("s3cr3t" in str(mistake) for mistake in mistakes)
    assert all("${HOOK}" in str(mistake) for mistake in mistakes)


def test_variables_are_filled_in_and_canaries_left_alone(tmp_path: Path) -> None:
    """`${canary}` is the attempt's own; everything else is the environment's."""
    url = '"http://${HOST}/v/${canary}"'

    plan = plan_in(tmp_path, HEAD + WRITE.replace('"http://127.0.0.1:1/v"', url), {"HOST": "db.example.com"})

    assert plan.of(Kind.WRITE)[0].spec.http.url == "http://db.example.com/v/${canary}"


def test_defaults_that_are_left_out_are_those_of_the_reference(tmp_path: Path) -> None:
    """A file with a window alone is sound."""
    plan = plan_in(tmp_path, HEAD)

    window = plan.window
    assert (window.baseline, window.soak, window.settle, window.hold) == (600.0, 300.0, 30.0, 600.0)
    assert (window.title, window.extend_at_most, plan.ledger.name) == ("reindex", 0, "reindex.ledger")


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5.0), ("10m", 600.0), ("1h30m", 5400.0), ("250ms", 0.25), ("1.5h", 5400.0)]
)
def test_lengths_are_read_as_people_write_them(text: str, seconds: float) -> None:
    """Units add up."""
    assert duration(text) == pytest.approx(seconds)


def test_the_starter_file_of_init_passes_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new user's first two commands succeed, with no warning; a second init keeps the file."""
    file = tmp_path / "window.yaml"

    assert init(file, force=False) == 0
    assert check(file, ask=False, name=None, show=False, as_machine=False) == 0
    with pytest.raises(UsageError, match="--force"):
        init(file, force=False)

    said = capsys.readouterr()
    assert "sound" in said.out
    assert said.err == ""


def test_the_command_line_shows_mistakes_as_lines_and_exits_2(tmp_path: Path) -> None:
    """No traceback reaches a user."""
    file = tmp_path / "window.yaml"
    file.write_text(HEAD + "defaults: {every: 5}\nreeds: []\n")
    command = [sys.executable, "-m", "monitor", "check", "--config", str(file)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert f"{file}:5:12: 5 is no length of time" in done.stderr
    assert f"{file}:6:1: unknown key 'reeds': did you mean 'reads'?" in done.stderr
    assert "Traceback" not in done.stderr


# -- whatever stands in the file -------------------------------------------------------------------

FULL: dict[str, Any] = {
    "window": {
        "id": "reindex",
        "title": "t",
        "opens": "2026-11-23T22:00:00Z",
        "closes": "2026-11-23T23:00:00Z",
        "baseline": "10m",
        "soak": "5m",
        "settle": "30s",
        "hold": "1m",
        "extend": {"by": "15m", "at_most": 2},
        "contact": "c",
        "rollback": "r",
    },
    "defaults": {"every": "5s", "timeout": "2s"},
    "reads": [
        {
            "name": "a",
            "every": "5s",
            "http": {
                "method": "POST",
                "url": "http://a/",
                "json": {"q": "x"},
                "headers": {"Authorization": "Bearer abcdef"},
                "params": {"p": 1},
                "verify": True,
            },
            "answer": "$.a",
            "documents": "$.s[*].id",
            "must_contain": ["30 days"],
            "status": [200],
        }
    ],
    "writes": [
        {
            "name": "w",
            "surface": "s",
            "http": {"url": "http://a/${canary}", "body": "x"},
            "refusal": {
                "status": [423, 503],
                "retry_after": "required",
                "code": "$.code",
                "equals": "X",
                "body": "x",
                "headers": {"X-A": "b"},
            },
            "read_back": {
                "http": {"url": "http://a/"},
                "absent": {"status": 404, "at": "$.x"},
                "within": "1s",
            },
            "undo": {"http": {"url": "http://a/"}, "status": [204]},
            "control": False,
            "queued": [202],
        }
    ],
    "flags": [{"name": "f", "http": {"url": "http://a/"}, "at": "$.on", "replicas": ["http://b/"]}],
    "objectives": {
        "reads": {"availability": "99.9%", "p95_over_baseline": 1.5, "latency_floor": "25ms"},
        "meaning": {"band": 0.2},
        "coverage": {"share": "95%", "gap": "15s"},
    },
    "notify": [{"alertmanager": {"url": "http://a/", "labels": {"a": "b"}, "resend": "1m"}}],
    "waive": {"queue": "nothing is buffered"},
    "embedder": {"model": "m"},
    "listen": {"host": "h", "port": 1},
    "ledger": "x.ledger",
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def with_value(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = with_value(document[path[0]], path[1:], value)
    return copy


def written(directory: Path, document: Any) -> Path:
    file = directory / "window.yaml"
    with file.open("w", encoding="utf-8") as out:
        YAML(typ="safe", pure=True).dump(document, out)
    return file


PLACES = places(FULL)
ODD = st.sampled_from(
    ["", "1e999", "${canary}", "$", "$..[?(@.a)]", "http://[", "http://a:b/", "http://é/", "%", "nan", "inf"]
) | st.sampled_from(
    ["-inf", "\x7f", "=", "<<", "~", "0x10", "0o7", "1_000", "2026-02-30", "24:00:00", "yes", "xn--", "a\nb"]
)
LONG = st.sampled_from(
    ["http://" + "a" * 70_000 + "/", "http://xn--/", "\u202e", "*", "&a", "!x", "(" * 300, "9" * 400 + "d"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | ODD | LONG,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | ODD, inner, max_size=3),
    max_leaves=8,
)


def plan_or_mistakes(file: Path) -> Plan | ConfigError:
    try:
        return read_plan(file, {})
    except ConfigError as error:
        assert error.mistakes
        assert all(mistake.line >= 1 and mistake.column >= 1 for mistake in error.mistakes)
        return error


def test_the_full_file_is_sound_so_that_its_places_mean_something(tmp_path: Path) -> None:
    """Every key of the reference stands in it."""
    assert isinstance(plan_or_mistakes(written(tmp_path, FULL)), Plan)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(path=("reads", 0, "http", "json"), value={"a": float("inf")})
@example(path=("window", "id"), value="a" * 64)
@example(path=("listen",), value="off")
@given(path=st.sampled_from(PLACES), value=VALUES)
def test_any_value_in_any_position_is_sound_or_a_mistake(
    path: tuple[Any, ...], value: Any, tmp_path: Path
) -> None:
    """Nothing but ConfigError is ever raised, whatever stands where."""
    file = written(tmp_path, with_value(FULL, path, value))

    assert isinstance(plan_or_mistakes(file), Plan | ConfigError)


WRONG_TYPES: list[Any] = [7, True, [[1]], {"zz": {"zz": 1}}]
NUMBERS = {
    ("window", "extend", "at_most"),
    ("reads", 0, "http", "params", "p"),
    ("writes", 0, "read_back", "within"),
    ("objectives", "reads", "p95_over_baseline"),
    ("listen", "port"),
}
ANYTHING = {("reads", 0, "http", "json"), ("reads", 0, "http", "json", "q")}
OWNED = [path for path in PLACES if path[0] not in ("reads", "writes", "flags") or len(path) <= 1]


@pytest.mark.parametrize("path", OWNED, ids=lambda path: ".".join(map(str, path)))
def test_a_wrong_type_in_any_field_is_a_mistake(path: tuple[Any, ...], tmp_path: Path) -> None:
    """A number, true, a list or a mapping where something else belongs is never taken for it."""
    for value in WRONG_TYPES:
        if path in NUMBERS and value == 7 and value is not True:
            continue
        found = plan_or_mistakes(written(tmp_path, with_value(FULL, path, value)))

        assert isinstance(found, ConfigError), (path, value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200) | st.text(alphabet="{}[]:,-&*!|>'\"#%@ \n\ta1", max_size=120))
def test_any_text_is_sound_or_a_mistake(text: str, tmp_path: Path) -> None:
    """So it is with what is hardly YAML."""
    file = tmp_path / "window.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    assert isinstance(plan_or_mistakes(file), ConfigError)

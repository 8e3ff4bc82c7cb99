"""What a secret looks like when it comes back, and that no probe lets it through."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from monitor.config import read_plan
from monitor.plan import Plan
from probes.base import Probe, Result
from probes.http import Transport
from probes.kinds import Tools
from probes.request import HttpRequest
from probes.secrets import SENSITIVE, Redactor

from .harness import AGENT, OPENS, Asked, Close, Server, Step, frozen, http, opened

Serve = Callable[..., Server]
SECRET = "s3cr&t/+to=ken\"é<x>'y z"


def base64_of(text: str, before: str = "", after: str = "") -> str:
    return base64.b64encode(f"{before}{text}{after}".encode()).decode()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": lambda s: quote(s, safe=""),
    "URL in lower case": lambda s: re.sub("%..", lambda found: found[0].lower(), quote(s, safe="")),
    "path": quote,
    "form": quote_plus,
    "JSON": lambda s: json.dumps(s)[1:-1],
    "JSON in UTF-8": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda s: json.dumps(json.dumps(s)[1:-1])[1:-1],
    "JSON of PHP": lambda s: json.dumps(s)[1:-1].replace("/", "\\/"),
    "JSON of Go": lambda s: (
        json.dumps(s, ensure_ascii=False)[1:-1]
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    ),
    "HTML": html.escape,
    "repr": lambda s: repr(s)[1:-1],
    "base64": base64_of,
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("secret", [SECRET, "abcd", "AKIA+x/y==", "päss wörd", "100%25", "\\n\\t\"'"])
def test_a_secret_is_hidden_in_every_spelling(secret: str, spell: Callable[[str], str]) -> None:
    """Its name stands where it stood."""
    redactor = Redactor({"API_TOKEN": secret})

    assert redactor.text(f"[{spell(secret)}]") == "[${API_TOKEN}]"


@settings(deadline=None)
@given(
    some.text(min_size=8, max_size=30).filter(lambda s: len(s.strip()) >= 8),
    some.text(max_size=9),
    some.text(max_size=9),
)
def test_a_part_of_basic_credentials_does_not_show(secret: str, before: str, after: str) -> None:
    """`user:password` in base64 shows neither, wherever in it the secret begins."""
    secret = secret.strip()

    left = Redactor({"PASSWORD": secret}).text(base64_of(secret, before, after))

    assert "${PASSWORD}" in left


@settings(deadline=None)
@given(some.text(min_size=4, max_size=40))
def test_hiding_never_raises_and_leaves_no_secret(secret: str) -> None:
    """Any text can be a secret, and any text can hold one."""
    redactor = Redactor({"N": secret})

    for text in (secret, f"a{secret}b", json.dumps({"k": secret}), f"{secret}{secret}"):
        hidden = redactor.text(text)

        assert len(secret.strip()) < 4 or secret.strip() not in hidden.replace("${N}", "")


def test_longer_secrets_are_hidden_whole() -> None:
    """No tail of one is left because another is its beginning."""
    redactor = Redactor({"SHORT": "abcdef", "LONG": "abcdefghij"})

    assert redactor.text("abcdefghij abcdef") == "${LONG} ${SHORT}"


def test_what_is_too_short_is_no_secret() -> None:
    """Hiding `a` would make every text unreadable."""
    assert Redactor({"A": "abc", "B": "  a "}).text("abc a") == "abc a"


def test_a_line_break_at_the_end_of_a_token_is_not_part_of_it() -> None:
    """As a file read into the environment has one."""
    assert Redactor({"T": "token-1\n"}).text("token-1") == "${T}"


HEADERS: dict[str, tuple[str, str, list[str]]] = {
    "bearer": ("Authorization", "Bearer abc123def456", ["abc123def456"]),
    "basic": (
        "authorization",
        f"Basic {base64_of('somebody:hunter22')}",
        ["somebody", "hunter22", base64_of("somebody:hunter22")],
    ),
    "a bare key": ("X-Api-Key", "abc123def456", ["abc123def456"]),
    "a cookie": ("Cookie", "sid=abc123def456; t=ghi789jkl012", ["abc123def456", "ghi789jkl012"]),
    "pairs": ("Authorization", 'Token token="abc123def456", id=1', ["abc123def456"]),
    "a proxy": ("Proxy-Authorization", "Bearer abc123def456", ["abc123def456"]),
}


@pytest.mark.parametrize(("name", "value", "secrets"), HEADERS.values(), ids=HEADERS)
def test_the_parts_of_a_secret_header_are_secret(name: str, value: str, secrets: list[str]) -> None:
    """A server may repeat the whole value or the token alone."""
    redactor = Redactor()
    redactor.learn_headers({name: value, "Accept": "application/json"})

    for secret in [value, *secrets]:
        assert secret not in redactor.text(f"you said {secret}!")
    assert redactor.text("application/json Bearer Basic") == "application/json Bearer Basic"


@pytest.mark.parametrize(
    ("name", "sensitive"),
    [
        *[
            (name, True)
            for name in ("Authorization", "authorisation", "auth", "X-Auth-Token", "api_key", "apikey", "sig")
        ],
        *[
            (name, True)
            for name in ("Set-Cookie", "password", "client_secret", "X-Amz-Signature", "dsn", "sessionid")
        ],
        *[(name, False) for name in ("author", "authors", "authority", "key", "Accept", "design", "answer")],
    ],
)
def test_names_tell_what_is_secret(name: str, sensitive: bool) -> None:
    """An author is none."""
    assert bool(SENSITIVE.search(name)) is sensitive


def test_values_are_cleaned_to_their_depth() -> None:
    """Keys, lists and tuples; numbers stay numbers."""
    redactor = Redactor({"T": "token-1"})

    cleaned = redactor.value({"token-1": ["a token-1", ("token-1", 1, None, True, 1.5)]})

    assert cleaned == {"${T}": ["a ${T}", ["${T}", 1, None, True, 1.5]]}


# -- through a whole plan -------------------------------------------------------------------------

ENVIRONMENT = {"API_TOKEN": "tok3n+with/sl4sh=é&", "BASE_USER": "somebody", "BASE_PASS": "p4ss-w0rd"}
TOKEN = ENVIRONMENT["API_TOKEN"]
HEADER_KEY, QUERY_KEY = "header-k3y-0000", "query-k3y-1111"
SECRETS = [*ENVIRONMENT.values(), HEADER_KEY, QUERY_KEY]

PLAN = """
window: {{id: w, opens: 2026-11-23T22:00:00Z, closes: 2026-11-23T23:00:00Z}}
listen: off
reads:
  - name: read
    http:
      url: "{base}/read?api_key={query}"
      headers: {{X-Api-Key: {header}, X-Other: plain}}
      json: {{t: "${{API_TOKEN}}"}}
    answer: $.answer
    documents: $.documents[*]
    must_contain: ["${{API_TOKEN}}"]
  - name: whole
    http: {{url: "{base}/whole?x=${{API_TOKEN}}", body: "${{API_TOKEN}}"}}
    must_contain: [nothing]
writes:
  - name: write
    http:
      method: PUT
      url: "{base}/items/${{canary}}?api_key={query}"
      headers: {{X-Api-Key: {header}}}
      json: {{t: "${{API_TOKEN}}"}}
    refusal: {{code: $.error.code}}
    read_back: {{http: {{url: "{base}/items/${{canary}}"}}}}
    undo: {{http: {{url: "{base}/items/${{canary}}"}}}}
flags:
  - name: flag
    http: {{url: "{base}/flag", params: {{token: "${{API_TOKEN}}"}}}}
    at: $.read_only
    replicas: ["{base}/flag?api_key={query}"]
"""


def planned(folder: Path, server: Server) -> Plan:
    base = server.url.replace("://", "://${BASE_USER}:${BASE_PASS}@")
    (folder / "window.yaml").write_text(PLAN.format(base=base, query=QUERY_KEY, header=HEADER_KEY))
    return read_plan(folder / "window.yaml", ENVIRONMENT)


def made(plan: Plan, transport: Transport) -> list[Probe]:
    tools = Tools(window="w", opens=OPENS, closes=OPENS + 3600, agent=AGENT, transport=transport)
    return [each.make(tools) for each in plan.probes]


def everything(secret: str) -> list[str]:
    """A secret as a target may repeat it; a whole body of JSON escapes each of them once more."""
    once = [spell(secret) for name, spell in SPELLINGS.items() if name != "JSON in JSON"]
    return [secret, *once, base64_of(secret, "somebody:"), base64_of(secret, "a:")]


def echo(asked: Asked) -> str:
    """All that a target was told, in every spelling, as a careless error page has it."""
    told = [
        asked.target,
        asked.body.decode("utf-8", "replace"),
        *(f"{name}: {value}" for name, value in asked.headers),
    ]
    return " ".join([*told, *(spelling for secret in SECRETS for spelling in everything(secret))])


ECHOES: dict[str, Callable[[Asked], Step | list[Step]]] = {
    "in a text": lambda asked: http(200, echo(asked)),
    "in an error": lambda asked: http(500, echo(asked)),
    "in a reason phrase": lambda asked: (
        f"HTTP/1.1 500 {HEADER_KEY} {QUERY_KEY}\r\nContent-Length: 0\r\n\r\n".encode()
    ),
    "in a broken status line": lambda asked: [f"{HEADER_KEY} {QUERY_KEY} {BASIC}\r\n\r\n".encode(), Close()],
    "in Retry-After": lambda asked: http(
        503, None, ("Retry-After", HEADER_KEY), json_={"error": {"code": "x"}}
    ),
    "in a long Retry-After": lambda asked: http(
        503, None, ("Retry-After", "x" * 50 + HEADER_KEY), json_={"error": {"code": "x"}}
    ),
    "as the code": lambda asked: http(503, None, ("Retry-After", "1"), json_={"error": {"code": TOKEN}}),
    "as a long code": lambda asked: http(
        503, None, ("Retry-After", "1"), json_={"error": {"code": "c" * 240 + TOKEN}}
    ),
    "as the flag": lambda asked: http(
        200, json_={"read_only": QUERY_KEY, "answer": echo(asked), "documents": [TOKEN]}
    ),
    "as a long flag": lambda asked: http(
        200,
        json_={
            "read_only": "x" * 50 + HEADER_KEY,
            "answer": HEADER_KEY,
            "documents": ["d" * 195 + HEADER_KEY],
        },
    ),
    "in a list as the flag": lambda asked: http(
        200, json_={"read_only": [HEADER_KEY], "documents": [{TOKEN: HEADER_KEY}]}
    ),
    "in a Location": lambda asked: http(302, b"", ("Location", f"/?k={QUERY_KEY}&{BASIC}")),
    "in what is cut off": lambda asked: [http(200, echo(asked))[:-3], Close()],
    "in an encoding that is none": lambda asked: http(200, echo(asked), ("Content-Encoding", "gzip")),
}
BASIC = base64_of(f"{ENVIRONMENT['BASE_USER']}:{ENVIRONMENT['BASE_PASS']}")


def leaks(text: str) -> list[str]:
    """Secrets that show, whole or by half, in any spelling."""
    wanted = {spelling for secret in SECRETS for spelling in everything(secret) if len(spelling) >= 4}
    halves = {secret[: len(secret) * 2 // 3] for secret in SECRETS if secret != "somebody"}
    return [each for each in wanted | halves if each in text]


def written(plan: Plan, result: Result) -> str:
    """All that becomes of a result, cleaned as the watchdog cleans it."""
    figures = plan.redactor.value(result.figures)
    texts = [
        plan.redactor.text(result.reason),
        plan.redactor.text(result.answer or ""),
        str(dict(result.phases)),
    ]
    return "\n".join([*texts, repr(figures), json.dumps(figures), json.dumps(figures, ensure_ascii=False)])


@pytest.mark.parametrize("script", ECHOES.values(), ids=ECHOES)
async def test_no_probe_lets_a_secret_through(
    script: Callable[[Asked], Any], serve: Serve, transport: Transport, tmp_path: Path
) -> None:
    """However a target repeats what it was told, nothing of it is left after the plan's redactor."""
    plan = planned(tmp_path, serve(script))

    for probe in made(plan, transport):
        for run in (frozen(), opened(OPENS + 1)):
            result = await probe.run(run)

            assert leaks(written(plan, result)) == [], (probe.name, result)


async def test_no_repr_shows_a_secret(serve: Serve, transport: Transport, tmp_path: Path) -> None:
    """Neither plan, specification, probe nor request, which end in logs and tracebacks."""
    plan = planned(tmp_path, serve(lambda asked: http()))

    shown = [repr(plan), str(plan), *(repr(each) for each in made(plan, transport))]
    for each in plan.probes:
        shown += [
            repr(each),
            str(each),
            repr(each.spec),
            str(each.spec),
            f"{each.spec.http}",
            repr(each.spec.http.url),
        ]
    shown.append(repr(plan.redactor))

    # must_contain is shown: it is what an answer must say, not what a request is allowed to know.
    hidden = "\n".join(shown).replace(f"must_contain=[{TOKEN!r}]", "")
    assert leaks(hidden) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://somebody:url-p4ssword@a:x/",
        "ftp://somebody:url-p4ssword@a/?api_key=query-k3y-1111",
        "http://somebody:url-p4ssword@/",
    ],
)
def test_a_mistake_in_a_url_does_not_show_its_secrets(url: str) -> None:
    """The message names the URL without user, password and query."""
    with pytest.raises(ValueError) as caught:
        HttpRequest(url=url)

    message = caught.value.errors(include_url=False)[0]["msg"]  # type: ignore[attr-defined]
    assert "url-p4ssword" not in message
    assert "query-k3y-1111" not in message


def test_a_mistake_in_a_header_does_not_show_its_value() -> None:
    """A token with a line break in it is named by its header."""
    with pytest.raises(ValueError) as caught:
        HttpRequest(url="http://a/", headers={"Authorization": "Bearer abc123def456\n"})

    message = caught.value.errors(include_url=False)[0]["msg"]  # type: ignore[attr-defined]
    assert (
        message
        == "Value error, the header Authorization holds a line break, or a character that is not ASCII"
    )

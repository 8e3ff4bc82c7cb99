"""Keeps secrets out of everything we write: ledger, log, report, screen, exception text.

A secret is replaced by its name in braces (`${API_TOKEN}`), so that a reader still knows which
one stood there. Hides what it was told of; it does not guess what else may be secret.
"""

import base64
import binascii
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote

SENSITIVE = re.compile(
    r"auth(?!or(?!i[sz]ation))|token|secret|passw|pwd|cookie|api[-_]?key|apikey|credential|signature|^sig$|session|dsn",
    re.IGNORECASE,
)
"""Names that say that their value is secret. An author is none; `Authorization` is."""
SHORTEST = 4
LIKELY = 8
"""Characters from which a part of a header's value is taken for a secret of its own."""


def _spellings(value: str) -> Iterable[str]:
    """The forms in which a value comes back: as is, in URLs, in JSON, in HTML, in base64."""
    plain = {value, unquote(value)}
    for text in plain:
        yield text
        yield from _in_urls(text)
        yield from _in_json(text)
        yield html.escape(text)
        yield html.escape(text, quote=False)
        yield repr(text)[1:-1]
        yield from _in_base64(text.encode("utf-8", "replace"))


def _in_urls(text: str) -> Iterator[str]:
    safe = ("", "/", "!$&'()*+,;=:@/?", "!$&()*+,;=:@/", "!$'()*,;:@/?")
    for spelling in (
        *(quote(text, safe=each, errors="replace") for each in safe),
        quote_plus(text, errors="replace"),
    ):
        yield spelling
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), spelling)


def _in_json(text: str) -> Iterator[str]:
    """As JSON has it by the habits of Python, PHP and Go, and as a text within JSON has that again."""
    for ascii_only in (True, False):
        python = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        php = python.replace("/", "\\/")
        go = re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", python)
        for spelling in (python, php, go):
            yield spelling
            yield json.dumps(spelling)[1:-1]
            yield json.dumps(spelling, ensure_ascii=False)[1:-1]


def _in_base64(raw: bytes) -> Iterator[str]:
    """`raw` by itself, and as a part of something longer, such as `user:password` in Basic credentials.

    Three bytes are four characters, so a part shows in one of three ways; what its neighbours have a
    share in is left out.
    """
    yield base64.b64encode(raw).decode()
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw).decode()
        inner = encoded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        if len(inner) >= SHORTEST + 1:
            yield inner
            yield inner.replace("+", "-").replace("/", "_")


class Redactor:
    """Replaces every known secret in a text. Longest first, so that no tail of one is left."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._names: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        for name, value in (secrets or {}).items():
            self.learn(name, value)

    def __repr__(self) -> str:
        return f"Redactor({len(self._names)} spellings)"

    def learn(self, name: str, value: str) -> None:
        """Hide `value` from now on, shown as `${name}`. Values under 4 characters are ignored."""
        value = value.strip()
        if len(value) < SHORTEST:
            return
        for spelling in _spellings(value):
            if len(spelling) >= SHORTEST:
                self._names.setdefault(spelling, "${" + name + "}")
        ordered = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)))

    def learn_headers(self, headers: Mapping[str, str]) -> None:
        """Hide the values of headers whose names say that they are secret: whole and in their parts."""
        for name, value in headers.items():
            if SENSITIVE.search(name):
                self.learn(name, value)
                for part in _parts(value):
                    self.learn(name, part)

    def text(self, text: str) -> str:
        """`text` without secrets."""
        if self._pattern is None or not text:
            return text
        return self._pattern.sub(lambda match: self._names[match.group()], text)

    def value(self, value: object) -> object:
        """Any JSON-like value without secrets, keys included."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


def _parts(value: str) -> Iterator[str]:
    """What is secret by itself in a header's value: after the scheme, in each pair, in Basic credentials."""
    scheme, _, rest = value.strip().partition(" ")
    if rest:
        yield rest
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return
        yield from (user, password)
        return
    for field in re.split(r"[\s;,]+", value):
        name, found, inner = field.partition("=")
        inner = inner.strip('"')
        if found and name and len(inner) >= LIKELY:
            yield inner

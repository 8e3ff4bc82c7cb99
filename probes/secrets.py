"""Keeps secrets out of everything we write: ledger, log, report, screen, exception text.

A secret is replaced by its name in braces (`${API_TOKEN}`), so that a reader still knows which
one stood there. Hides what it was told of; it does not guess what else may be secret.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

SENSITIVE = re.compile(
    r"auth|token|secret|passw|pwd|cookie|api[-_]?key|apikey|credential|signature|^sig$|session|dsn",
    re.IGNORECASE,
)
SHORTEST = 4


def _spellings(value: str) -> Iterable[str]:
    """The forms in which a value comes back: as is, in URLs, in JSON, in Basic credentials."""
    yield value
    yield quote(value, safe="")
    yield quote(value)
    yield quote_plus(value)
    yield json.dumps(value)[1:-1]
    yield base64.b64encode(value.encode()).decode()


class Redactor:
    """Replaces every known secret in a text. Longest first, so that no tail of one is left."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._names: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        for name, value in (secrets or {}).items():
            self.learn(name, value)

    def learn(self, name: str, value: str) -> None:
        """Hide `value` from now on, shown as `${name}`. Values under 4 characters are ignored."""
        if len(value) < SHORTEST:
            return
        for spelling in _spellings(value):
            self._names.setdefault(spelling, "${" + name + "}")
        ordered = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)))

    def learn_headers(self, headers: Mapping[str, str]) -> None:
        """Hide the values of headers whose names say that they are secret, scheme and token apart."""
        for name, value in headers.items():
            if SENSITIVE.search(name):
                self.learn(name, value)
                for part in value.split()[1:]:
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

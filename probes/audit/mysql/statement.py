"""What a statement in a binary log does, and to which table: its verb and its name, nothing else of it. Pure.

A statement may hold passwords and data, so no other part of its text leaves this room.
"""

import re
from dataclasses import dataclass

_COMMENT = re.compile(r"/\*.*?\*/|#[^\n]*(?:\n|\Z)|--\s[^\n]*(?:\n|\Z)", re.DOTALL)
_VERSIONED = re.compile(r"/\*M?!\d*(.*?)\*/", re.DOTALL)
_TEXT = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"", re.DOTALL)
_IDENTIFIER = r"(?:`(?:[^`]|``)+`|[^\s`.,;()]+)"
_NAMED = re.compile(
    r"\b(?:INTO|UPDATE|FROM|TRUNCATE|TABLES?|ON|VIEW|SEQUENCE|REPLACE|DATABASE|SCHEMA)\s+"
    r"(?:(?:LOW_PRIORITY|IGNORE|DELAYED|QUICK|TABLE|IF\s+NOT\s+EXISTS|IF\s+EXISTS)\s+)*"
    rf"({_IDENTIFIER})(?:\s*\.\s*({_IDENTIFIER}))?",
    re.IGNORECASE,
)
_ACCOUNTS = re.compile(r"(?:CREATE|ALTER|DROP|RENAME)\s+(?:OR\s+REPLACE\s+)?(?:USER|ROLE)\b")
_TEMPORARY = re.compile(r"(?:CREATE|DROP)\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b")
_SCHEMAS = re.compile(r"(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+)?(?:DATABASE|SCHEMA)\b")
_OBJECTS = re.compile(
    r"(CREATE|ALTER|DROP|RENAME|TRUNCATE)\b.*?\b(TABLES?|INDEX|VIEW|TRIGGER|PROCEDURE|FUNCTION|EVENT|SEQUENCE"
    r"|DATABASE|SCHEMA|SERVER)\b",
    re.DOTALL,
)
_CONTROL = re.compile(r"\s*(?:BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|XA)\b", re.IGNORECASE)
_NO_WRITE = frozenset({
    "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "FLUSH", "ANALYZE", "OPTIMIZE", "CHECK",
    "GRANT", "REVOKE", "SET",
})  # fmt: skip
"""Control of transactions, upkeep that changes no row, and accounts, which a freeze may well change."""
_ROWS = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "WITH"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """A statement that writes. `table` is None where none is named."""

    operation: str
    what: str
    table: str | None = None


def statement(text: str, schema: str) -> Statement | None:
    """What `text`, run with `schema` as the current database, writes; None when it writes no data."""
    bare = _TEXT.sub("''", _COMMENT.sub(" ", _VERSIONED.sub(r" \1 ", text))).strip(" \t\r\n(;")
    upper = bare[:2000].upper()
    verb = upper.split(None, 1)[0] if upper else ""
    if verb == "XA":
        return _distributed(bare)
    if not verb or verb in _NO_WRITE or _ACCOUNTS.match(upper) or _TEMPORARY.match(upper):
        return None
    objects = _OBJECTS.match(upper)
    operation = f"{objects[1]} {objects[2]}".lower() if objects else verb.lower()
    if verb in _ROWS:
        operation = f"{verb.lower()} (statement)"
    named = _NAMED.search(bare)
    if named is None:
        return Statement(operation=operation, what=f"{schema or '?'}.*")
    first, second = _plain(named[1]), _plain(named[2]) if named[2] else None
    if _SCHEMAS.match(upper):
        return Statement(operation=operation, what=f"{first}.*")
    table = f"{first}.{second}" if second else f"{schema or '?'}.{first}"
    return Statement(operation=operation, what=table, table=table)


def controls(text: str) -> bool:
    """It begins or ends a transaction, and changes no table, not even one of the server's own."""
    return _CONTROL.match(text) is not None


def _distributed(bare: str) -> Statement | None:
    """Only its commit writes: what was prepared shows its rows when it is prepared."""
    found = re.match(r"XA\s+COMMIT\s+([Xx]?'[^']*'|\S+)", bare)
    return Statement(operation="xa commit", what="a prepared XA transaction") if found else None


def _plain(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name

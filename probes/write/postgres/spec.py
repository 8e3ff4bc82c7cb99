"""How a write to PostgreSQL is configured. Values only: opens no session."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from probes.request import PLACEHOLDER
from probes.stores.postgres import Dsn, quoted, sets_read_only
from probes.write.canary import Canary
from probes.write.target import FromBefore, WriteBase

READ_ONLY, NO_PRIVILEGE, ENDED = "25006", "42501", "57P01"
TIMED_OUT = {"57014": "cancelled after its time", "55P03": "a lock was not to be had in time"}
"""The server gave up: its answer to a wait, which says nothing of the guard."""
_IDENTIFIER = r'(?:"(?:[^"\x00]|"")+"|[^\W\d][\w$]*)'
_TABLE = re.compile(rf"(?:{_IDENTIFIER}\.)?{_IDENTIFIER}")


def table_parts(name: str) -> tuple[str, ...]:
    """Schema, where it is named, and table, as SQL reads them: without quotes in lower case."""
    return tuple(
        part[1:-1].replace('""', '"')
        if part.startswith('"')
        else re.sub("[A-Z]", lambda found: found[0].lower(), part)
        for part in re.findall(_IDENTIFIER, name)
    )


def _table(name: str) -> str:
    if not _TABLE.fullmatch(name):
        raise ValueError(
            f'{name!r} is no table: write table or schema.table, with "double quotes" where SQL needs them'
        )
    return name


def _codes(value: object) -> object:
    """One code or several; YAML reads 25006 as a number."""
    codes = value if isinstance(value, list) else [value]
    return [f"{code:05d}" if type(code) is int else code for code in codes]


def _sqlstate(code: str) -> str:
    if not re.fullmatch("[0-9A-Z]{5}", code):
        raise ValueError(f"{code!r} is no SQLSTATE: five digits or capital letters")
    if code[:2] in ("00", "01", "02"):
        raise ValueError(f"{code} is no error: a write that is answered so was accepted")
    if code in TIMED_OUT:
        raise ValueError(f"{code} is the end of a wait, never a refusal")
    return code


def _value(value: object) -> object:
    if isinstance(value, str | bool | int | float | None):
        return value
    raise ValueError("a column's value is one text, number, true, false or null; arrays and JSON as a text")


def _sql(text: str) -> str:
    """SQL with a canary in it. A parameter stands by itself: in quotes it would be text."""
    found = list(PLACEHOLDER.finditer(text))
    if not found:
        raise ValueError("it names no ${canary}: nothing would tell one attempt from another")
    if any(text[: each.start()].count("'") % 2 for each in found):
        raise ValueError("write ${canary} without quotes: it is a parameter, and no part of a text")
    return text


Table = Annotated[str, AfterValidator(_table)]
Column = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00]+$")]
Value = str | bool | int | float | None
Scalar = Annotated[Value, BeforeValidator(_value)]
Sql = Annotated[str, AfterValidator(_sql)]
Code = Annotated[str, AfterValidator(_sqlstate)]


class PostgresTable(BaseModel):
    """What is written to. A table is named as SQL names it, a column as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dsn: Dsn
    table: Table | None = None
    column: Column | None = None
    """The column that is set to itself; the first ordinary one by default."""
    canary: Annotated[dict[Column, Scalar], Field(min_length=1)] | None = None
    """A real row: column -> value, with `${canary}` in at least one of them."""
    statement: Sql | None = None
    """A write of the user's own instead."""
    read_back_sql: Sql | None = None
    """Shows the canary, unless it gives no row, or one row of one false, 0 or null."""
    undo_sql: Sql | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "PostgresTable":
        own = [self.statement, self.read_back_sql, self.undo_sql]
        if any(own) and not all(own):
            raise ValueError("statement, read_back_sql and undo_sql come together: give all three")
        if self.statement and (self.table or self.column or self.canary):
            raise ValueError("statement says it all: leave table, column and canary out")
        if not self.statement and not self.table:
            raise ValueError("table is missing (or statement, with read_back_sql and undo_sql)")
        if self.canary is not None and self.column is not None:
            raise ValueError("column is for the attempt without a row: leave it out beside canary")
        if self.canary is not None and not self.identity:
            raise ValueError("canary holds no ${canary} in any column: its row could not be found again")
        return self

    @property
    def target(self) -> str:
        """The table, quoted for SQL."""
        return ".".join(quoted(part) for part in table_parts(self.table or ""))

    @property
    def identity(self) -> list[str]:
        """The columns by which the canary's row is known: those that are it, else those that hold it."""
        held = {c: v for c, v in (self.canary or {}).items() if isinstance(v, str) and PLACEHOLDER.search(v)}
        return [c for c, v in held.items() if PLACEHOLDER.fullmatch(v)] or list(held)

    def row(self, canary: Canary) -> dict[str, str | None]:
        """The canary's row as text, which the server reads as each column's type."""
        return {column: _filled(value, canary) for column, value in (self.canary or {}).items()}


def _filled(value: Value, canary: Canary) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return PLACEHOLDER.sub(lambda found: canary.values[found[1]], str(value))


class PostgresRefusal(BaseModel):
    """Which errors are the guard's: exactly these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sqlstate: Annotated[list[Code], Field(min_length=1), BeforeValidator(_codes)] = [READ_ONLY, NO_PRIVILEGE]


class PostgresWrite(WriteBase):
    """One PostgreSQL table as a write surface."""

    postgres: PostgresTable
    refusal: PostgresRefusal = PostgresRefusal()
    held_: bool = Field(default=True, alias="held")
    """Ask over a session from before the window as well."""

    @property
    def beside(self) -> list[tuple[str, WriteBase, float]]:
        """The same write over a session from before the window."""
        if not self.held_:
            return []
        return [("held", HeldPostgres.like(self), 1.0)]

    @property
    def own_doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        found = []
        if sets_read_only(self.postgres.dsn):
            found.append("the dsn's own options make its sessions read-only: such refusals do not count")
        if NO_PRIVILEGE in self.refusal.sqlstate and not self.control:
            found.append(
                f"{NO_PRIVILEGE} (no privilege) is also what an account gets that never could write;"
                " control: true shows that this one can"
            )
        return found


class HeldPostgres(FromBefore, PostgresWrite):
    """The same write over a session from before the window."""

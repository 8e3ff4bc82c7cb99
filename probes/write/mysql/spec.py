"""How a write to MySQL or MariaDB is configured, and which of the server's errors are the freeze. Pure."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from probes.refusal import Class, Judgement, Pattern
from probes.request import PLACEHOLDER
from probes.stores.mysql import LOCK_ERRORS, Answered
from probes.stores.mysql_dsn import Connected
from probes.write.canary import Canary
from probes.write.target import FromBefore, WriteBase

_PART = re.compile(r"`((?:[^`]|``)+)`|([^.`]+)")
LONGEST_NAME = 64
FROZEN = [1036, 1142, 1143, 1290, 1792, 1874, 3989]
"""Table or engine read-only, privilege withdrawn (table, column), read_only, read-only transaction, InnoDB
read-only, schema read-only.
"""

Scalar = str | int | float | bool | None
Column = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]


def names(table: str) -> tuple[str, ...]:
    """`products`, `shop.products` or `` `odd.db`.`odd``name` `` as one or two names. Raises ValueError."""
    found: list[str] = []
    at = 0
    while part := _PART.match(table, at):
        found.append(part[1].replace("``", "`") if part[1] is not None else part[2])
        at = part.end()
        if table[at : at + 1] != ".":
            break
        at += 1
    whole = at == len(table) and not table.endswith(".")
    fit = all(len(name) <= LONGEST_NAME and "\0" not in name for name in found)
    if not (whole and fit and 1 <= len(found) <= 2):
        raise ValueError(f"{table[:80]!r} is no name of a table: write products, shop.products or `a.b`.`c`")
    return tuple(found)


def _table(text: str) -> str:
    names(text)
    return text


class MysqlPlace(Connected):
    """The server, and the table that a write is tried on."""

    table: Annotated[str, AfterValidator(_table)]
    """In the DSN's database, or `database.table`."""
    column: Column | None = None
    """The column that is set to itself; the first that is not computed where none is named."""
    canary: Annotated[dict[Column, Scalar], Field(min_length=1)] | None = None
    """Write a real row instead: column to value, with `${canary}` in at least one."""

    @model_validator(mode="after")
    def _can_be_written(self) -> "MysqlPlace":
        if len(names(self.table)) == 1 and self.server.database is None:
            raise ValueError("name the database: in the dsn, or as database.table")
        if self.canary is None:
            return self
        if self.column is not None:
            raise ValueError("column is for the attempt that writes no row: give column or canary")
        if not self.marked:
            raise ValueError("canary: put ${canary}, ${canary_uuid} or ${canary_int} in a value")
        return self

    @property
    def names(self) -> tuple[str, str]:
        """Database and table."""
        found = names(self.table)
        return (found[0], found[1]) if len(found) == 2 else (self.server.database or "", found[0])

    @property
    def marked(self) -> list[str]:
        """The columns by which a canary's row is known."""
        stated = (self.canary or {}).items()
        return [name for name, value in stated if isinstance(value, str) and PLACEHOLDER.search(value)]

    def row(self, canary: Canary) -> dict[str, Scalar]:
        """The canary's row."""

        def filled(value: Scalar) -> Scalar:
            if value == "${canary_int}":
                return canary.number
            if isinstance(value, str):
                return PLACEHOLDER.sub(lambda found: canary.values[found[1]], value)
            return value

        return {name: filled(value) for name, value in (self.canary or {}).items()}


class MysqlRefusal(BaseModel):
    """Which of the server's errors are the freeze."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    errno: Annotated[list[Annotated[int, Field(ge=1000, le=65535)]], Field(min_length=1)] = FROZEN
    """1290 counts where it names a read-only option, 1142 and 1143 where they deny the write itself."""
    message: Pattern | None = None
    """A regular expression that the error's text must match as well."""

    @field_validator("errno", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        if any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
            raise ValueError("true and false are no error numbers")
        return [value] if isinstance(value, int) else value

    def judge(self, answer: Answered) -> Judgement:
        """Is this error a proper refusal?"""
        code = str(answer.code)
        proper = answer.code in self.errno and _speaks_of_the_freeze(answer)
        if proper and (self.message is None or re.search(self.message, answer.said)):
            return Judgement(kind=Class.PROPER, reason=str(answer), code=code)
        if answer.code in LOCK_ERRORS:
            return Judgement(kind=Class.OTHER, reason=f"waits for a lock: {answer}", code=code)
        return Judgement(kind=Class.OTHER, reason=f"blocked for another reason: {answer}", code=code)


def _speaks_of_the_freeze(answer: Answered) -> bool:
    """Errors that mean other things too: 1290 any option, 1142 and 1143 a SELECT that is denied."""
    bare = re.sub(r"'[^']*'|`[^`]*`", "", answer.said)
    if answer.code == 1290:
        return re.search(r"read[-_]only", bare, re.IGNORECASE) is not None
    if answer.code in (1142, 1143):
        return re.search(r"\b(?:INSERT|UPDATE|DELETE)\b", bare) is not None
    return True


class MysqlWrite(WriteBase):
    """One write surface in MySQL or MariaDB."""

    mysql: MysqlPlace
    refusal: MysqlRefusal = MysqlRefusal()
    held_: bool = Field(default=True, alias="held")
    """Try it over a session from before the window as well."""

    @property
    def beside(self) -> list[tuple[str, WriteBase, float]]:
        """The same write over a session from before the window."""
        if not self.held_:
            return []
        return [("held", HeldMysql.like(self), 1.0)]


class HeldMysql(FromBefore, MysqlWrite):
    """A write over a session from before the window."""

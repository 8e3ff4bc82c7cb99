"""The SQL of an attempt: an update of no row, a canary's row, or the user's own statement.

Each way knows how to write, to look and to undo over a session that it is given. Values are parameters, never
spliced into a text. Changes no setting of a session: what a guard refuses stays refused, the undo as well.
"""

from typing import Protocol

from probes.answer import Unreachable
from probes.own import OwnWrites
from probes.request import PLACEHOLDER
from probes.stores.postgres import STORE, Budget, Row, ServerError, Session, Values, own_token, quoted
from probes.write.canary import Canary
from probes.write.postgres.spec import PostgresTable

FIND_COLUMN = """
SELECT attname, ARRAY(
    SELECT tgname::text FROM pg_trigger
    WHERE tgrelid = attrelid AND NOT tgisinternal AND tgenabled <> 'D'
      AND tgtype & 1 = 0 AND tgtype & 16 <> 0)
FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped
  AND attgenerated = '' AND attidentity <> 'a' AND (%(column)s::text IS NULL OR attname = %(column)s)
ORDER BY has_column_privilege(attrelid, attnum, 'SELECT')
  AND has_column_privilege(attrelid, attnum, 'UPDATE') DESC, attnum
LIMIT 1"""
"""An ordinary column, one that the account may write if there is one; the statement triggers on UPDATE."""
TRANSACTION = "SELECT txid_current_if_assigned()::text"
SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"


class Way(Protocol):
    """One way to write."""

    traceless: bool
    """It touches no row."""
    tries: str
    """What is tried, for people."""
    side_effect: str | None
    """What an accepted attempt sets off all the same."""

    async def ready(self, session: Session, budget: Budget) -> str | None:
        """Find out what must be known before. Gives why it cannot be tried."""
        ...

    async def write(self, session: Session, canary: Canary, budget: Budget) -> None:
        """Write; raises what becomes of it."""
        ...

    async def look(self, session: Session, canary: Canary, budget: Budget) -> bool:
        """Is the canary there?"""
        ...

    async def undo(self, session: Session, canary: Canary, budget: Budget) -> None:
        """Take the canary away."""
        ...

    def forget(self) -> None:
        """What was found out is no longer so."""
        ...


class NoRow:
    """`UPDATE … SET c = c WHERE false`: no WAL, no transaction id, no step of a sequence."""

    traceless = True

    def __init__(self, what: PostgresTable) -> None:
        self._what = what
        self._update: str | None = None
        self.tries = f"UPDATE {what.table} … WHERE false"
        self.side_effect: str | None = None

    async def ready(self, session: Session, budget: Budget) -> str | None:
        """Find the column, once."""
        if self._update is not None:
            return None
        values = {"table": self._what.target, "column": self._what.column}
        found = await session.run(FIND_COLUMN, values, within=budget.left)
        if not found:
            column = "an ordinary column" if self._what.column is None else f"a column {self._what.column!r}"
            return f"this account sees no table {self._what.table} with {column} that can be set"
        [(column, triggers)] = found
        self.side_effect = f"statement triggers fire: {', '.join(triggers)}" if triggers else None
        name = quoted(column)
        self._update = f"UPDATE {self._what.target} SET {name} = {name} WHERE false"  # noqa: S608 - quoted
        return None

    async def write(self, session: Session, canary: Canary, budget: Budget) -> None:
        """One statement by itself: no transaction is left open, whatever comes."""
        await session.run(self._update or "", within=budget.left)

    async def look(self, session: Session, canary: Canary, budget: Budget) -> bool:
        """Nothing can be there."""
        return False

    async def undo(self, session: Session, canary: Canary, budget: Budget) -> None:
        """Nothing need be taken away."""

    def forget(self) -> None:
        """The table was changed: look for a column again."""
        self._update = None


class Noted:
    """Writes in a transaction of their own, whose number is noted before it is committed."""

    traceless = False
    side_effect: str | None = None

    def __init__(self, own: OwnWrites) -> None:
        self._own = own
        self._system: str | None = None

    async def ready(self, session: Session, budget: Budget) -> str | None:
        """Find out which server this is, once; where the account may not, nothing is noted."""
        if self._system is None:
            try:
                [(self._system,)] = await session.run(SYSTEM, within=budget.left)
            except ServerError:
                if session.lost:
                    raise
                self._system = ""
        return None

    async def commit(self, session: Session, statement: str, values: Values, budget: Budget) -> None:
        """Run one statement and commit it."""
        try:
            await session.run("BEGIN", within=budget.left)
            await session.run(statement, values, within=budget.left)
            [(transaction,)] = await session.run(TRANSACTION, within=budget.left)
            if transaction and self._system:
                self._own.note(STORE, own_token(self._system, int(transaction)))
            await session.run("COMMIT", within=budget.left)
        except Unreachable:
            if not session.lost:
                await session.run("ROLLBACK", within=budget.left)
            raise

    def forget(self) -> None:
        """It may be another server by now."""
        self._system = None


class OneRow(Noted):
    """A real row that bears the canary."""

    def __init__(self, what: PostgresTable, own: OwnWrites) -> None:
        super().__init__(own)
        self._what = what
        self.tries = f"INSERT INTO {what.table}"

    async def write(self, session: Session, canary: Canary, budget: Budget) -> None:
        """Insert it."""
        row = self._what.row(canary)
        columns = ", ".join(_name(column) for column in row)
        places = ", ".join(f"%(v{number})s" for number in range(len(row)))
        values = {f"v{number}": value for number, value in enumerate(row.values())}
        statement = f"INSERT INTO {self._target} ({columns}) VALUES ({places})"  # noqa: S608 - quoted
        await self.commit(session, statement, values, budget)

    async def look(self, session: Session, canary: Canary, budget: Budget) -> bool:
        """Is there a row with the canary's values?"""
        where, values = self._where(canary)
        statement = f"SELECT EXISTS (SELECT FROM {self._target} WHERE {where})"  # noqa: S608 - quoted
        [(found,)] = await session.run(statement, values, within=budget.left)
        return bool(found)

    async def undo(self, session: Session, canary: Canary, budget: Budget) -> None:
        """Delete it."""
        where, values = self._where(canary)
        statement = f"DELETE FROM {self._target} WHERE {where}"  # noqa: S608 - quoted
        await self.commit(session, statement, values, budget)

    @property
    def _target(self) -> str:
        return self._what.target.replace("%", "%%")

    def _where(self, canary: Canary) -> tuple[str, Values]:
        row, known = self._what.row(canary), self._what.identity
        terms = [f"{_name(column)} = %(v{number})s" for number, column in enumerate(known)]
        return " AND ".join(terms), {f"v{number}": row[column] for number, column in enumerate(known)}


class OwnStatement(Noted):
    """The user's own statement, with a way to see it and one to undo it."""

    def __init__(self, what: PostgresTable, own: OwnWrites) -> None:
        super().__init__(own)
        self._write, self._look, self._undo = (
            _with_parameters(text or "") for text in (what.statement, what.read_back_sql, what.undo_sql)
        )
        self.tries = " ".join((what.statement or "").split())[:80]

    async def write(self, session: Session, canary: Canary, budget: Budget) -> None:
        """Run it."""
        await self.commit(session, self._write, canary.values, budget)

    async def look(self, session: Session, canary: Canary, budget: Budget) -> bool:
        """Ask for it, in a transaction that may only read."""
        await session.run("BEGIN READ ONLY", within=budget.left)
        rows = await session.run(self._look, canary.values, within=budget.left)
        await session.run("ROLLBACK", within=budget.left)
        return shows(rows)

    async def undo(self, session: Session, canary: Canary, budget: Budget) -> None:
        """Run the undo."""
        await self.commit(session, self._undo, canary.values, budget)


def way(what: PostgresTable, own: OwnWrites) -> Way:
    """The way that is configured."""
    if what.statement is not None:
        return OwnStatement(what, own)
    return NoRow(what) if what.canary is None else OneRow(what, own)


def shows(rows: list[Row]) -> bool:
    """Does a read-back show something? `SELECT count(*)` and `SELECT EXISTS (…)` give a row in any case."""
    if len(rows) == 1 and len(rows[0]) == 1:
        return rows[0][0] not in (None, False, 0)
    return bool(rows)


def _name(column: str) -> str:
    """A column's name in a statement with parameters."""
    return quoted(column).replace("%", "%%")


def _with_parameters(text: str) -> str:
    """`${canary}` as the driver's parameter `%(canary)s`."""
    return PLACEHOLDER.sub(r"%(\1)s", text.replace("%", "%%"))

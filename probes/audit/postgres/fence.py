"""Who may still write to a PostgreSQL database from before: open transactions that wrote, and prepared ones.

A transaction that has written nothing yet may be a long report as well as a writer to come: it is noted, and
holds no fence. Asks only; ends nothing.
"""

from datetime import UTC, datetime

from probes.audit.reading import OpenWriter
from probes.stores.postgres import Budget, Session

SESSIONS = """
SELECT pid, coalesce(usename::text, backend_type), coalesce(host(client_addr), 'the server itself'),
  coalesce(application_name, ''), backend_xid IS NOT NULL,
  extract(epoch FROM clock_timestamp() - xact_start)::float8, extract(epoch FROM xact_start)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL
  AND pid <> pg_backend_pid() AND pid <> ALL (%(own)s)
  AND backend_type NOT IN ('autovacuum worker', 'parallel worker', 'walsender')"""
PREPARED = """
SELECT gid, owner::text, extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts WHERE database = current_database()"""
NOT_SEEN = "open transactions of others are not shown to this account: grant it pg_read_all_stats"


async def fence(
    session: Session, *, sees_others: bool, own: list[int], opens: float, budget: Budget
) -> tuple[tuple[OpenWriter, ...] | None, list[str]]:
    """Open writers, None where the account is not shown them, and what else may still write.

    `opens` is when the window opens (epoch seconds): older transactions without a write are noted.
    """
    if not sees_others:
        return None, [NOT_SEEN]
    writers, notes = [], []
    for pid, user, place, application, wrote, age, since in await session.run(
        SESSIONS, {"own": own}, within=budget.left
    ):
        who = f"session {pid} of {user} from {place}" + (f" ({application})" if application else "")
        if wrote:
            writers.append(OpenWriter(who=who, age_s=max(0.0, age), role=user))
        elif since < opens and age > 1.0:
            began = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            notes.append(f"{who} has a transaction open since {began}: it wrote nothing yet, and still may")
    for gid, owner, age in await session.run(PREPARED, within=budget.left):
        writers.append(
            OpenWriter(who=f"prepared transaction {gid!r} of {owner}", age_s=max(0.0, age), role=owner)
        )
    return tuple(writers), notes

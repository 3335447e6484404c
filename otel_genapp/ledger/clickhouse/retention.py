"""Removing detail: of sessions that were cleared, and of old ones.

A session's life ends with one row, and old calls are unseen by a number in `meta`, both from then on.
From the disk they are removed after that, by mutations, which write whole parts of a table anew: at
once where somebody cleared a session, else a day at a time. Records stay; they hold no text of a session.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from otel_genapp.ledger.clickhouse.living import Session, aged_before
from otel_genapp.ledger.clickhouse.rows import cleared_row, hour_of
from otel_genapp.ledger.clickhouse.schema import (
    CALLS,
    DROPPED,
    FACTS,
    LOCAL,
    META,
    METRICS,
    POSITIONS,
    SESSIONS,
    Table,
)
from otel_genapp.ledger.clickhouse.server import Server

AT_ONCE = 10_000
"""Sessions that end with one insert."""
ROW_BYTES = 100
"""What a call's detail takes besides its text."""
_DAY_S = 86_400
_GONE_KEPT_S = 7 * _DAY_S
_CUTOFF = f"""\
SELECT max(at_ns) FROM (
    SELECT at_ns, sum(length(record) + {ROW_BYTES}) OVER (ORDER BY at_ns DESC, identity) AS size
    FROM {CALLS.name} FINAL
)
WHERE size > {{keep_bytes:Int64}}"""  # noqa: S608 - our own name

_AGEING = f"""\
SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done
    AND table IN ('{CALLS.name}', '{CALLS.name}{LOCAL}') AND position(command, 'at_ns <') > 0"""  # noqa: S608 - as above


class Removal:
    """Statements that take rows away: on one server, or on all of a cluster."""

    def __init__(self, server: Server, *, on_cluster: bool) -> None:
        self._server = server
        self._on_cluster = on_cluster

    def name(self, table: Table) -> str:
        """The table whose rows are on the disk; with its database, since each server of a cluster runs this."""
        return f"{self._server.database}.{table.name}{LOCAL if self._on_cluster else ''}"

    def remove(self, table: Table, where: str) -> None:
        """Have the server remove the rows for which `where` holds; nobody waits for it."""
        self._have(table, f"DELETE WHERE {where}")

    def change(self, table: Table, what: str, *, where: str) -> None:
        """Have the server change the rows for which `where` holds; nobody waits for it."""
        self._have(table, f"UPDATE {what} WHERE {where}")

    def _have(self, table: Table, done: str) -> None:
        scope = " ON CLUSTER '{cluster}'" if self._on_cluster else ""
        self._server.run(
            f"ALTER TABLE {self.name(table)}{scope} {done}",
            settings={"mutations_sync": 0, "allow_nondeterministic_mutations": 1},
        )

    def is_ageing(self) -> bool:
        """Whether the server has not yet removed the old calls it was told to before."""
        ((number,),) = self._server.rows(_AGEING)
        return bool(number)


def end_lives(server: Server, sessions: Sequence[tuple[bytes, int]], *, now_us: int) -> None:
    """Let these lives of sessions be over; each with its epoch."""
    server.insert(SESSIONS, (cleared_row(key, epoch=max(now_us, epoch + 1)) for key, epoch in sessions))


def remove_session(removal: Removal, session: Session) -> None:
    """Remove what a session said up to a life that is over."""
    over = f"session = unhex('{session.key.hex()}') AND epoch <= {session.epoch}"
    removal.remove(CALLS, over)
    removal.remove(SESSIONS, over)


def end_aged(server: Server, before_ns: int, *, now_us: int) -> int:
    """End the sessions that have not been active since then; returns how many."""
    ended = 0
    while True:
        aged = aged_before(server, before_ns, limit=AT_ONCE)
        end_lives(server, aged, now_us=now_us)
        ended += len(aged)
        if len(aged) < AT_ONCE:
            return ended


def hide_old(server: Server, before_ns: int, *, hidden_before_ns: int) -> None:
    """Let calls and facts before then be unseen, if there are any that are not yet."""
    if _count(server, f"{_before(before_ns)} AND at_ns >= {hidden_before_ns}"):
        server.insert(META, [(DROPPED, before_ns)])


def remove_old(server: Server, before_ns: int, *, removal: Removal) -> None:
    """Remove calls and facts before then, and what is known of sessions that are over, if there are such."""
    if not _count(server, _before(before_ns)) or removal.is_ageing():
        return
    sessions, positions = removal.name(SESSIONS), removal.name(POSITIONS)
    lives = f"SELECT session, epoch, max(epoch) OVER (PARTITION BY session) AS life FROM {sessions}"  # noqa: S608 - our own name
    removal.remove(SESSIONS, f"(session, epoch) IN (SELECT session, epoch FROM ({lives}) WHERE epoch < life)")  # noqa: S608 - as above
    gone_before = f"toDateTime({int(time.time()) - _GONE_KEPT_S}, 'UTC')"
    gone = f"max(gone_at) > toDateTime(0, 'UTC') AND max(gone_at) < {gone_before}"
    removal.remove(POSITIONS, f"segment IN (SELECT segment FROM {positions} GROUP BY segment HAVING {gone})")  # noqa: S608 - as above
    removal.remove(METRICS, f"at_ns < {before_ns}")
    removal.remove(FACTS, _before(before_ns))
    removal.remove(CALLS, _before(before_ns))  # the last: while there are some, all of it is done again


def _before(at_ns: int) -> str:
    return f"hour <= toDateTime({hour_of(at_ns)}, 'UTC') AND at_ns < {at_ns}"


def _count(server: Server, where: str) -> int:
    numbers = ", ".join(f"(SELECT count() FROM {table.name} WHERE {where})" for table in (CALLS, FACTS))  # noqa: S608 - our own numbers
    return sum(server.rows(f"SELECT {numbers}")[0])


def start_of_day(at_ns: int) -> int:
    """When the day of a time began."""
    day_ns = _DAY_S * 10**9
    return at_ns // day_ns * day_ns


def age_to_keep(server: Server, keep_bytes: int) -> int:
    """The time before which detail has to go so that about `keep_bytes` of it are left; 0 if none has to."""
    ((last_ns,),) = server.rows(_CUTOFF, {"keep_bytes": keep_bytes})
    return int(last_ns) + 1 if last_ns else 0

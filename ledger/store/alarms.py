"""Alarms: since when something is out of order, and what became of it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger.alarm import AlarmRecord, SeenAlarm
from ledger.schema import alarm, tally_cursor
from ledger.store.database import Database, Transaction

#: What is not seen for so long is over: an archive that answers once in a while does not ring every minute.
GONE_S = 60.0
_LOCK = "alarm"


class Alarms(Database):
    """What whoever watches the site keeps here."""

    def keep_alarms(self, seen: Sequence[SeenAlarm], *, gone_s: float = GONE_S) -> None:
        """Keep what is seen now: open what is new, and close what was not seen for `gone_s` seconds.

        Several of one kind about the same are one.
        """
        now_seen = {(one.kind, one.about): one for one in seen}
        with self.read() as tx:
            if not now_seen and not _open(tx):
                return
        with self.write() as tx:
            _hold(tx)
            there = {(row.kind, row.about): row for row in _open(tx)}
            for key, one in now_seen.items():
                if (row := there.pop(key, None)) is None:
                    tx.connection.execute(
                        insert(alarm).values(
                            kind=one.kind,
                            about=one.about,
                            words=one.words,
                            urgent=one.urgent,
                            opened_at=tx.now,
                            seen_at=tx.now,
                        )
                    )
                    continue
                values = {"words": one.words, "urgent": one.urgent, "seen_at": tx.now}
                tx.connection.execute(update(alarm).where(alarm.c.id == row.id).values(values))
            gone = [row.id for row in there.values() if tx.now - row.seen_at >= gone_s]
            if gone:
                tx.connection.execute(update(alarm).where(alarm.c.id.in_(gone)).values(cleared_at=tx.now))

    def kept_alarms(self, *, cleared: bool = False, limit: int = 200) -> list[AlarmRecord]:
        """Those that are open, or with `cleared` those that are over as well; the latest first."""
        query = select(alarm).order_by(alarm.c.id.desc()).limit(limit)
        if not cleared:
            query = query.where(alarm.c.cleared_at.is_(None))
        with self.read() as tx:
            return [alarm_record(row) for row in tx.connection.execute(query)]


def alarm_record(row: Row[Any]) -> AlarmRecord:
    """The row as a value."""
    return AlarmRecord(
        id=row.id,
        kind=row.kind,
        about=row.about,
        words=row.words,
        urgent=row.urgent,
        opened_at=row.opened_at,
        seen_at=row.seen_at,
        cleared_at=row.cleared_at,
    )


def _open(tx: Transaction) -> Sequence[Row[Any]]:
    return tx.connection.execute(select(alarm).where(alarm.c.cleared_at.is_(None))).all()


def _hold(tx: Transaction) -> None:
    """Let nobody else keep alarms until this transaction ends: two would open the same one."""
    dialect = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    row = dialect.insert(tally_cursor).values(source=_LOCK, up_to=0, missing=[])
    tx.connection.execute(row.on_conflict_do_nothing(index_elements=["source"]))
    held = select(tally_cursor.c.id).where(tally_cursor.c.source == _LOCK).with_for_update()
    tx.connection.execute(held)

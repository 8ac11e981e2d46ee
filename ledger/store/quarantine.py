"""Files that were received and set aside, and every path of the spool that the ledger knows."""

from collections.abc import Collection, Iterator

from sqlalchemy import delete, false, select
from sqlalchemy.dialects import postgresql, sqlite

from ledger import schema
from ledger.identifiers import Digest, StudyId
from ledger.overview import QuarantineRecord
from ledger.schema import quarantine as table
from ledger.store.database import Database, Transaction
from ledger.store.history import note
from ledger.store.rows import quarantine_record

_PAGE = 5000
_HOLDERS = (
    (schema.instance, None),
    (schema.result, schema.result.c.purged == false()),
    (schema.quarantine, None),
)


class Quarantine(Database):
    """Setting aside, and accounting for files."""

    def record_quarantine(
        self,
        *,
        sop_instance: str,
        digest: Digest,
        path: str,
        because: str,
        calling: str,
        address: str,
        study_id: StudyId | None,
    ) -> None:
        """A file was set aside at `path`. The same UID with the same bytes is set aside once."""
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        with self.write() as tx:
            inserted = tx.connection.execute(
                dialect.insert(table)
                .values(
                    at=tx.now,
                    sop_instance=sop_instance,
                    digest=digest.value,
                    path=path,
                    because=because,
                    calling=calling,
                    address=address,
                    study_id=study_id,
                )
                .on_conflict_do_nothing()
                .returning(table.c.id)
            ).scalar()
            if inserted is not None:
                note(
                    tx,
                    "instance",
                    "quarantined",
                    thing_id=inserted,
                    study_id=study_id,
                    because=because,
                    detail={"path": path, "calling": calling},
                )

    def quarantined(self, limit: int = 100) -> list[QuarantineRecord]:
        """What was set aside, the latest first."""
        with self.read() as tx:
            rows = tx.connection.execute(select(table).order_by(table.c.id.desc()).limit(limit)).all()
        return [quarantine_record(row) for row in rows]

    def forget_quarantined(self, *, older_than: float) -> list[str]:
        """Forget what was set aside before the time `older_than`: the paths that may now be deleted."""
        with self.write() as tx:
            old = table.c.at < older_than
            rows = tx.connection.execute(select(table.c.id, table.c.path, table.c.study_id).where(old)).all()
            if not rows:
                return []
            tx.connection.execute(delete(table).where(table.c.id.in_([row.id for row in rows[:_PAGE]])))
            for row in rows[:_PAGE]:
                note(
                    tx,
                    "instance",
                    "quarantine expired",
                    thing_id=row.id,
                    study_id=row.study_id,
                    because="nobody asked for it in time",
                    detail={"path": row.path},
                )
            return without_row(tx, [row.path for row in rows[:_PAGE]])

    def known_paths(self) -> Iterator[str]:
        """Every path, relative to the spool, that a row stands for. Read in pages, each its own transaction.

        A path may come twice. What is recorded while this runs may be missing from it.
        """
        for holder, condition in _HOLDERS:
            last = 0
            while True:
                query = select(holder.c.id, holder.c.path).where(holder.c.id > last)
                if condition is not None:
                    query = query.where(condition)
                with self.read() as tx:
                    rows = tx.connection.execute(query.order_by(holder.c.id).limit(_PAGE)).all()
                if not rows:
                    break
                last = rows[-1].id
                yield from (row.path for row in rows)

    def unknown_paths(self, paths: Collection[str]) -> list[str]:
        """Those of `paths` that no row stands for: what may be deleted, asked as late as possible."""
        with self.read() as tx:
            return without_row(tx, paths)


def without_row(tx: Transaction, paths: Collection[str]) -> list[str]:
    """Those of `paths` that no row stands for, in their order."""
    wanted = list(dict.fromkeys(paths))
    found: set[str] = set()
    for holder, condition in _HOLDERS:
        for start in range(0, len(wanted), _PAGE):
            query = select(holder.c.path).where(holder.c.path.in_(wanted[start : start + _PAGE]))
            found.update(
                tx.connection.execute(query if condition is None else query.where(condition)).scalars()
            )
    return [path for path in wanted if path not in found]

"""What the names of models mean, and who decided so."""

from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from ledger.audit import Actor
from ledger.channel import Channel
from ledger.identifiers import JobId
from ledger.job import JobRecord, JobState
from ledger.schema import channel, job, series, study
from ledger.store.audit import audit
from ledger.store.database import Database, Transaction
from ledger.store.history import note
from ledger.store.rows import job_record


class Channels(Database):
    """Channels of models; every change is a line of history."""

    def channels(self) -> dict[str, Channel]:
        """Name → channel, of every model whose name somebody decided about."""
        with self.read() as tx:
            rows = tx.connection.execute(select(channel).order_by(channel.c.name)).all()
        return {row.name: _record(row) for row in rows}

    def promote(self, name: str, version: str, *, by: Actor, because: str) -> None:
        """From now on `name` means `version`; it is no shadow of itself any more."""
        with self.write() as tx:
            row = _row(tx, name)
            shadow = None if row is None or row.shadow == version else row.shadow
            _set(tx, name, version, shadow, by.name)
            before = row.active if row else ""
            note(tx, "model", "promoted", before=before, after=version, because=because, detail=_by(name, by))
            audit(tx, by, "model.promoted", thing_id=name, detail={"before": before, "after": version})

    def shadow(self, name: str, version: str | None, *, active: str, by: Actor, because: str) -> None:
        """Have `version` run beside the active one, or none. `active` is what `name` means where nobody has
        decided about it yet.
        """
        with self.write() as tx:
            row = _row(tx, name)
            _set(tx, name, row.active if row else active, version, by.name)
            before = (row.shadow if row else None) or ""
            event, detail = "shadowed" if version else "unshadowed", _by(name, by)
            note(tx, "model", event, before=before, after=version or "", because=because, detail=detail)
            audit(tx, by, f"model.{event}", thing_id=name, detail={"before": before, "after": version or ""})

    def drop_channel(self, name: str, *, by: Actor, because: str) -> None:
        """From now on `name` means the newest version again."""
        with self.write() as tx:
            row = _row(tx, name)
            if row is not None:
                tx.connection.execute(delete(channel).where(channel.c.name == name))
                detail = _by(name, by)
                note(tx, "model", "channel_dropped", before=row.active, because=because, detail=detail)
                audit(tx, by, "model.channel_dropped", thing_id=name, detail={"before": row.active})

    def shadow_pairs(self, name: str, limit: int = 20) -> list[tuple[JobRecord, JobRecord]]:
        """Jobs of the model `name` that are done, each with its shadow run of the same images, the latest
        first. A rule that was asked again is there with its latest run only.
        """
        done = (job.c.state == JobState.DONE) & job.c.model.startswith(f"{name}@", autoescape=True)
        query = (
            select(job, study.c.uid.label("study_uid"), series.c.uid.label("series_uid"))
            .join(study, study.c.id == job.c.study_id)
            .join(series, series.c.id == job.c.series_id)
            .where(done)
            .order_by(job.c.id.desc())
        )
        with self.read() as tx:
            shadows = tx.connection.execute(query.where(job.c.shadow).limit(limit * 2)).all()
            pairs: dict[JobId, tuple[JobRecord, JobRecord]] = {}
            for row in shadows:
                beside = (
                    ~job.c.shadow
                    & (job.c.study_id == row.study_id)
                    & (job.c.series_id == row.series_id)
                    & (job.c.rule == row.rule)
                )
                # Opened in one transaction: the active one has the nearest number below.
                of = tx.connection.execute(query.where(beside, job.c.id < row.id).limit(1)).first()
                if of is not None:
                    pairs.setdefault(JobId(of.id), (job_record(of), job_record(row)))
        return list(pairs.values())[:limit]


def _row(tx: Transaction, name: str) -> Row[Any] | None:
    return tx.connection.execute(select(channel).where(channel.c.name == name).with_for_update()).first()


def _set(tx: Transaction, name: str, active: str, shadow: str | None, by: str) -> None:
    values = {"active": active, "shadow": shadow, "changed_at": tx.now, "changed_by": by}
    changed = tx.connection.execute(update(channel).where(channel.c.name == name).values(values))
    if not changed.rowcount:
        tx.connection.execute(insert(channel).values(name=name, **values))


def _by(name: str, by: Actor) -> dict[str, object]:
    return {"model": name, "by": by.name}


def _record(row: Row[Any]) -> Channel:
    return Channel(
        name=row.name,
        active=row.active,
        shadow=row.shadow,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
    )

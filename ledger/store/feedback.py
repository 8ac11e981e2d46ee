"""What readers say of results; every word of it stays."""

import secrets
from contextlib import suppress
from typing import Any

from sqlalchemy import Row, func, insert, select

from ledger.audit import Actor
from ledger.feedback import FeedbackRecord, FeedbackRefused, Judged, Judgement, said
from ledger.feedback_link import key_of, new_key
from ledger.identifiers import JobId, StudyId
from ledger.job import JobState
from ledger.schema import feedback, feedback_key, job
from ledger.store.audit import audit
from ledger.store.database import Collided, Database, NotInLedger
from ledger.store.history import note

_JUDGED_MAX = 20_000  # results, the latest first


class FeedbackStore(Database):
    """Feedback, and the key that links to it are signed with."""

    def give_feedback(
        self, job_id: JobId, *, by: Actor, judgement: Judgement | None, comment: str = ""
    ) -> FeedbackRecord:
        """Keep what `by` says of the result of a job, and audit that it was said.

        Raises `FeedbackRefused` for a job that has no result, and `NotInLedger`.
        """
        comment = said(judgement, comment)
        with self.write() as tx:
            row = tx.connection.execute(select(job).where(job.c.id == job_id)).first()
            if row is None:
                raise NotInLedger(f"there is no job {job_id}")
            if row.state != JobState.DONE:
                raise FeedbackRefused(f"job {job_id} is {row.state}: there is no result to judge")
            values = {
                "at": tx.now,
                "job_id": row.id,
                "study_id": row.study_id,
                "model": row.model_identity,
                "said_by": by.name,
                "judgement": judgement,
                "comment": comment,
            }
            made = tx.connection.execute(insert(feedback).values(values)).inserted_primary_key
            assert made is not None
            # The comment is for those who look at the result: history is shown to more, and goes further.
            note(
                tx, "job", judgement or "commented",
                thing_id=row.id, study_id=row.study_id, job_id=row.id,
                before=row.state, after=row.state,
                detail={"by": by.name, "comment": bool(comment), "model": row.model_identity},
            )  # fmt: skip
            said_of = {"judgement": judgement or "", "comment": bool(comment), "model": row.model_identity}
            found = tx.connection.execute(select(feedback).where(feedback.c.id == made[0])).one()
            audit(tx, by, "job.judged", thing_id=row.id, detail=said_of)
        return _record(found)

    def feedback_of(self, job_id: JobId) -> list[FeedbackRecord]:
        """All that was said of the result of a job, the first one first."""
        query = select(feedback).where(feedback.c.job_id == job_id).order_by(feedback.c.id)
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query)]

    def latest_feedback(self, *, limit: int = 50, model: str | None = None) -> list[FeedbackRecord]:
        """The latest that was said, of results of any model, or of all versions of the model `model`."""
        query = select(feedback).order_by(feedback.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(feedback.c.model.startswith(f"{model}@", autoescape=True))
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query)]

    def judged(self, *, since: float = 0.0, model: str | None = None) -> list[Judged]:
        """The results that ended after `since` and were judged, each with its latest judgement, the latest
        result first; `model` as in `latest_feedback`.
        """
        latest = (
            select(func.max(feedback.c.id).label("id"))
            .where(feedback.c.judgement.is_not(None))
            .group_by(feedback.c.job_id)
            .subquery()
        )
        query = (
            select(feedback.c.job_id, feedback.c.model, feedback.c.judgement, job.c.finished_at)
            .join(latest, latest.c.id == feedback.c.id)
            .join(job, job.c.id == feedback.c.job_id)
            .where(job.c.finished_at >= since)
            .order_by(job.c.finished_at.desc(), feedback.c.job_id.desc())
            .limit(_JUDGED_MAX)
        )
        if model is not None:
            query = query.where(feedback.c.model.startswith(f"{model}@", autoescape=True))
        with self.read() as tx:
            return [
                Judged(
                    job_id=JobId(row.job_id),
                    model=row.model,
                    made_at=row.finished_at,
                    judgement=Judgement(row.judgement),
                )
                for row in tx.connection.execute(query)
            ]

    def feedback_key(self) -> bytes:
        """The key that feedback links of this site are signed with; made by whoever asks first."""
        kept = self._kept_key()
        if kept is None:
            with suppress(Collided), self.write() as tx:
                # Only one row can have this number: who comes second at the same moment takes the other's.
                values = {"id": 1, "key": new_key(secrets.token_bytes(32)), "made_at": tx.now}
                tx.connection.execute(insert(feedback_key).values(values))
            kept = self._kept_key()
        assert kept is not None
        return key_of(kept)

    def _kept_key(self) -> str | None:
        with self.read() as tx:
            kept: str | None = tx.connection.execute(select(feedback_key.c.key)).scalar()
        return kept


def _record(row: Row[Any]) -> FeedbackRecord:
    return FeedbackRecord(
        id=row.id,
        at=row.at,
        job_id=JobId(row.job_id),
        study_id=StudyId(row.study_id),
        model=row.model,
        by=row.said_by,
        judgement=Judgement(row.judgement) if row.judgement else None,
        comment=row.comment,
    )

"""What witnesses say of studies: counts of peers while a study is open, every statement when it is closed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, func, insert, or_, select, update

from ledger.completeness import (
    CountRecord,
    Lack,
    Listed,
    SeriesHeld,
    Shortfall,
    Statement,
    Witness,
)
from ledger.identifiers import SeriesId, StudyId, Uid
from ledger.schema import expected_instance, instance, job, peer_count, result, series, statement, study
from ledger.store.database import Transaction
from ledger.store.promises import Promises
from ledger.store.rows import study_record
from ledger.study import Completeness, StudyRecord, StudyState


class Witnesses(Promises):
    """What a study has, what others say that it has, and what they said when it was closed."""

    def series_held(self, study_id: StudyId) -> list[SeriesHeld]:
        """How much is here of each series of a study, in the order of arrival."""
        with self.read() as tx:
            return list(_held(tx, study_id).values())

    def result_series(self, study_id: StudyId) -> frozenset[Uid]:
        """The series of the results that we made of a study."""
        query = select(result.c.series).distinct().join(job, job.c.id == result.c.job_id)
        with self.read() as tx:
            rows = tx.connection.execute(query.where(job.c.study_id == study_id)).scalars()
            return frozenset(Uid(uid) for uid in rows)

    def record_count(
        self,
        study_id: StudyId,
        peer: str,
        *,
        theirs: int | None,
        asked_at: float,
        series: Mapping[Uid, int] | None = None,
        counted_by: str = "",
        failure: str = "",
    ) -> CountRecord:
        """Keep what a peer answered; `theirs` None with a `failure`: it did not, and what it said stays.

        The same number as before goes on being said; another one, or a failure between, begins anew.
        """
        with self.write() as tx:
            where = (peer_count.c.study_id == study_id) & (peer_count.c.peer == peer)
            row = tx.connection.execute(select(peer_count).where(where)).first()
            said = {str(uid): number for uid, number in (series or {}).items()}
            values: dict[str, Any] = {"asked_at": asked_at, "because": failure}
            if theirs is not None:
                goes_on = row is not None and not row.because and row.theirs == theirs
                # A question about the study alone takes nothing back of what was said of its series.
                kept = row.series if row is not None and goes_on and not said else said
                values |= {
                    "theirs": theirs,
                    "series": kept,
                    "counted_by": counted_by,
                    "since_at": row.since_at if row is not None and goes_on else asked_at,
                }
            if row is not None:
                tx.connection.execute(update(peer_count).where(where).values(**values))
            else:
                fresh = {"theirs": None, "series": {}, "counted_by": "", "since_at": asked_at} | values
                tx.connection.execute(insert(peer_count).values(study_id=study_id, peer=peer, **fresh))
            return _count(tx.connection.execute(select(peer_count).where(where)).one())

    def counts_of(self, study_id: StudyId) -> list[CountRecord]:
        """What peers said last about a study."""
        query = select(peer_count).where(peer_count.c.study_id == study_id).order_by(peer_count.c.peer)
        with self.read() as tx:
            return [_count(row) for row in tx.connection.execute(query)]

    def lacking(self, *, limit: int = 100) -> list[Lack]:
        """Studies, open or closed, of which some peer says that it has more than is here, by what it said
        last; the latest arrival first.

        Our own results are counted on neither side. What is fetched from the peer arrives like anything else,
        and once all is here the study is no longer in this list.
        """
        partial = (study.c.state == StudyState.CLOSED) & (study.c.closed_as == Completeness.PARTIAL)
        query = (
            select(peer_count, study.c.uid, study.c.state, study.c.last_arrival_at)
            .join(study, study.c.id == peer_count.c.study_id)
            .where(peer_count.c.theirs.is_not(None), or_(study.c.state == StudyState.OPEN, partial))
            .order_by(study.c.last_arrival_at.desc(), peer_count.c.id)
        )
        lacking: list[Lack] = []
        with self.read() as tx:
            for row in tx.connection.execute(query).all():
                lack = _lack(row, _held(tx, StudyId(row.study_id)).values())
                if lack.theirs > lack.ours:
                    lacking.append(lack)
                if len(lacking) == limit:
                    break
        return lacking

    def incomplete(self, *, since: float) -> list[StudyRecord]:
        """Studies that were closed after the time `since` although something is missing, or may be; the
        latest first.
        """
        short = (Completeness.PARTIAL, Completeness.OVERDUE)
        query = (
            select(study)
            .where(study.c.state == StudyState.CLOSED, study.c.closed_as.in_(short))
            .where(study.c.closed_at >= since)
            .order_by(study.c.closed_at.desc(), study.c.id.desc())
        )
        with self.read() as tx:
            return [study_record(row) for row in tx.connection.execute(query)]

    def statements_of(self, study_id: StudyId) -> list[Statement]:
        """What was said when the study was last closed, and of series that were routed since or before it."""
        latest = select(func.max(statement.c.generation)).where(statement.c.study_id == study_id)
        query = (
            select(statement)
            .where(statement.c.study_id == study_id, statement.c.generation == latest.scalar_subquery())
            .order_by(statement.c.id)
        )
        with self.read() as tx:
            return [_statement(row) for row in tx.connection.execute(query)]

    def listed(self, study_id: StudyId) -> Listed:
        """What senders listed of a study when they asked for storage commitment."""
        expectations = self.expectations(study_id)
        complete = [one for one in expectations if one.complete]
        lacking = tuple(
            (str(one.calling), one.held, one.expected) for one in expectations if not one.complete
        )
        if not complete:
            return Listed(lacking=lacking)
        query = (
            select(instance.c.series_id, func.count(instance.c.id.distinct()).label("named"))
            .join(expected_instance, expected_instance.c.sop_instance == instance.c.sop_instance)
            .where(instance.c.study_id == study_id)
            .where(expected_instance.c.promise_id.in_([one.promise_id for one in complete]))
            .group_by(instance.c.series_id)
        )
        with self.read() as tx:
            named = {SeriesId(row.series_id): row.named for row in tx.connection.execute(query)}
        return Listed(tuple(sorted({str(one.calling) for one in complete})), named, lacking)


def insert_statements(
    tx: Transaction, study_id: int, generation: int, statements: Sequence[Statement]
) -> None:
    """Keep what was said, in the transaction of what was done about it."""
    if not statements:
        return
    rows = [
        {
            "study_id": study_id,
            "generation": generation,
            "series_id": one.series_id,
            "at": tx.now,
            "witness": one.witness,
            "given_by": one.by,
            "because": one.because,
            "ours": one.ours,
            "theirs": one.theirs,
            "decided": one.decided,
        }
        for one in statements
    ]
    tx.connection.execute(insert(statement), rows)


def shortfall(tx: Transaction, study_id: int, job_created_at: float) -> Shortfall | None:
    """What was missing of a study by the closing that opened a job: by what was said then, whatever has come
    or been said since, so that the job's results are the same whenever it is tried again.

    None: nobody said that anything was, or the series was routed before the study was closed.
    """
    then = (statement.c.study_id == study_id) & (statement.c.at <= job_created_at)
    latest = select(func.max(statement.c.generation)).where(then).scalar_subquery()
    query = select(statement.c.ours, statement.c.theirs).where(
        then,
        statement.c.generation == latest,
        statement.c.series_id.is_(None),
        statement.c.ours < statement.c.theirs,
    )
    said = [(row.theirs, row.ours) for row in tx.connection.execute(query)]
    if not said:
        return None
    expected, here = max(said)
    return Shortfall(here=here, expected=expected)


def _our_series() -> Any:
    """The series that hold a result of ours."""
    return (
        select(series.c.id)
        .join(job, job.c.study_id == series.c.study_id)
        .join(result, (result.c.job_id == job.c.id) & (result.c.series == series.c.uid))
    )


def _held(tx: Transaction, study_id: StudyId) -> dict[Uid, SeriesHeld]:
    mine = _our_series().where(series.c.study_id == study_id)
    ours = set(tx.connection.execute(mine).scalars())
    query = (
        select(
            series.c.id,
            series.c.uid,
            func.count(instance.c.id).label("instances"),
            func.max(instance.c.received_at).label("last"),
        )
        .join(instance, instance.c.series_id == series.c.id)
        .where(instance.c.study_id == study_id)
        .group_by(series.c.id, series.c.uid)
        .order_by(series.c.id)
    )
    return {
        Uid(row.uid): SeriesHeld(
            series_id=SeriesId(row.id),
            series=Uid(row.uid),
            instances=row.instances,
            last_arrival_at=row.last,
            ours=row.id in ours,
        )
        for row in tx.connection.execute(query)
    }


def _count(row: Row[Any]) -> CountRecord:
    return CountRecord(
        study_id=StudyId(row.study_id),
        peer=row.peer,
        theirs=row.theirs,
        series={Uid(uid): number for uid, number in row.series.items()},
        counted_by=row.counted_by,
        asked_at=row.asked_at,
        since_at=row.since_at,
        failure=row.because,
    )


def _lack(row: Row[Any], held: Iterable[SeriesHeld]) -> Lack:
    here = {one.series: one.instances for one in held if not one.ours}
    said = {Uid(uid): number for uid, number in row.series.items()}
    return Lack(
        study_id=StudyId(row.study_id),
        study=Uid(row.uid),
        state=StudyState(row.state),
        peer=row.peer,
        ours=sum(here.values()),
        theirs=row.theirs,
        series={uid: (here.get(uid, 0), number) for uid, number in said.items() if number > here.get(uid, 0)},
        asked_at=row.asked_at,
        last_arrival_at=row.last_arrival_at,
    )


def _statement(row: Row[Any]) -> Statement:
    return Statement(
        witness=Witness(row.witness),
        by=row.given_by,
        because=row.because,
        ours=row.ours,
        theirs=row.theirs,
        decided=row.decided,
        series_id=None if row.series_id is None else SeriesId(row.series_id),
        at=row.at,
    )

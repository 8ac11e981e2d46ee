"""What is fetched from peers, and which instances came that way."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, func, insert, or_, select, update

from ledger.audit import Actor
from ledger.fetch import FetchEvent, FetchId, FetchRecord, FetchState, NewFetch, Purpose
from ledger.identifiers import SeriesId, StudyId, Uid
from ledger.schema import fetch, fetch_item, instance, result, study
from ledger.store.audit import audit
from ledger.store.database import Database, NotInLedger, Transaction
from ledger.store.history import note
from ledger.store.moves import FETCH, lock, move
from ledger.store.rows import study_record
from ledger.study import StudyRecord

_CHUNK = 500  # A statement takes only so many parameters.
# What the peer sent on its way when we were told that all is done, or gave up, is still on our account.
_AFTERWARDS_S = 300.0


class Fetches(Database):
    """Fetches, from the first wish to the last instance."""

    def ask_fetch(self, new: NewFetch, *, again: bool = False, by: Actor | None = None) -> FetchId | None:
        """Keep a wish, of a person where `by` says whose, durably; it is due at once. None: the same is being
        fetched already.

        What was settled is not asked for on the same terms anew, unless it is wanted `again`.
        """
        with self.write() as tx:
            same = (
                (fetch.c.purpose == new.purpose)
                & (fetch.c.study_uid == new.study.value)
                & (fetch.c.peer == new.peer)
            )
            if new.told_with is not None:
                same &= fetch.c.study_id == new.told_with
            terms = dict(new.terms)
            for row in tx.connection.execute(select(fetch).where(same)):
                if row.state == FetchState.ASKED or (row.terms == terms and not again):
                    return None
            inserted = tx.connection.execute(
                insert(fetch).values(
                    purpose=new.purpose,
                    study_uid=new.study.value,
                    peer=new.peer,
                    study_id=new.told_with,
                    terms=terms,
                    state=FetchState.ASKED,
                    attempts=0,
                    next_attempt_at=tx.now,
                    asked_at=tx.now,
                    started_at=None,
                    finished_at=None,
                    because=new.because,
                )
            )
            (number,) = inserted.inserted_primary_key or (0,)
            note(
                tx,
                "fetch",
                "asked",
                thing_id=number,
                study_id=new.told_with,
                after=FetchState.ASKED,
                because=new.because,
                detail={"peer": new.peer, "purpose": new.purpose, "study": new.study.value},
            )
            if by is not None:
                said = {"peer": new.peer, "purpose": str(new.purpose)}
                audit(tx, by, "fetch.asked", thing_id=number, detail=said)
            return FetchId(number)

    def due_fetches(self, limit: int = 20) -> list[FetchId]:
        """What is due, the longest due first."""
        with self.read() as tx:
            due = (fetch.c.state == FetchState.ASKED) & (fetch.c.next_attempt_at <= tx.now)
            query = select(fetch.c.id).where(due).order_by(fetch.c.next_attempt_at, fetch.c.id).limit(limit)
            return [FetchId(number) for number in tx.connection.execute(query).scalars()]

    def fetch(self, fetch_id: FetchId) -> FetchRecord:
        """One fetch. Raises `NotInLedger`."""
        with self.read() as tx:
            row = tx.connection.execute(select(fetch).where(fetch.c.id == fetch_id)).first()
            if row is None:
                raise NotInLedger(f"there is no fetch {fetch_id}")
            return _record(tx, row)

    def fetches_of(self, study_uid: Uid, *, peer: str | None = None) -> list[FetchRecord]:
        """All that was fetched of a study, or looked for because of it, the oldest first."""
        with self.read() as tx:
            mine = select(study.c.id).where(study.c.uid == study_uid.value).scalar_subquery()
            query = select(fetch).where(or_(fetch.c.study_uid == study_uid.value, fetch.c.study_id == mine))
            if peer is not None:
                query = query.where(fetch.c.peer == peer)
            return [_record(tx, row) for row in tx.connection.execute(query.order_by(fetch.c.id)).all()]

    def fetch_begins(self, fetch_id: FetchId, wanted: Collection[Uid]) -> None:
        """The peer is asked now for `wanted`; what was wanted at an earlier attempt stays on the list."""
        with self.write() as tx:
            row = lock(tx, FETCH, fetch_id)
            listed = set(
                tx.connection.execute(
                    select(fetch_item.c.sop_instance).where(fetch_item.c.fetch_id == fetch_id)
                ).scalars()
            )
            fresh = sorted({uid.value for uid in wanted} - listed)
            for start in range(0, len(fresh), _CHUNK):
                part = [{"fetch_id": fetch_id, "sop_instance": uid} for uid in fresh[start : start + _CHUNK]]
                tx.connection.execute(insert(fetch_item), part)
            if row.started_at is None:
                tx.connection.execute(update(fetch).where(fetch.c.id == row.id).values(started_at=tx.now))

    def fetch_done(self, fetch_id: FetchId, because: str) -> None:
        """All is here. Raises `IllegalTransition`, `NotInLedger`; so do the next two."""
        self._move_fetch(fetch_id, FetchEvent.FETCHED, because)

    def fetch_abandoned(self, fetch_id: FetchId, because: str) -> None:
        """It is not tried again."""
        self._move_fetch(fetch_id, FetchEvent.GAVE_UP, because)

    def fetch_postponed(
        self, fetch_id: FetchId, because: str, *, retry_in_s: float, counts: bool = True
    ) -> None:
        """It is tried again in `retry_in_s` seconds; `counts`: this was an attempt."""
        self._move_fetch(fetch_id, FetchEvent.POSTPONED, because, retry_in_s=retry_in_s, counts=counts)

    def _move_fetch(
        self,
        fetch_id: FetchId,
        event: FetchEvent,
        because: str,
        *,
        retry_in_s: float = 0.0,
        counts: bool = True,
    ) -> None:
        with self.write() as tx:
            row = lock(tx, FETCH, fetch_id)
            attempts = row.attempts + counts
            ends = event is not FetchEvent.POSTPONED
            # What an operator wanted may be here only since it was fetched.
            told_with = row.study_id or _study_id(tx, row.study_uid)
            if told_with != row.study_id:
                tx.connection.execute(update(fetch).where(fetch.c.id == row.id).values(study_id=told_with))
                row = lock(tx, FETCH, fetch_id)
            move(
                tx,
                FETCH,
                row,
                event,
                because=because,
                detail={"attempt": attempts, "peer": row.peer, "study": row.study_uid},
                attempts=attempts,
                next_attempt_at=tx.now + retry_in_s,
                finished_at=tx.now if ends else None,
            )

    def study_by_uid(self, study_uid: Uid) -> StudyRecord | None:
        """A study by its Study Instance UID; None where nothing of it ever came."""
        with self.read() as tx:
            row = tx.connection.execute(select(study).where(study.c.uid == study_uid.value)).first()
        return None if row is None else study_record(row)

    def held_of(self, study_uid: Uid) -> frozenset[Uid]:
        """The instances of a study that are here."""
        query = (
            select(instance.c.sop_instance)
            .join(study, study.c.id == instance.c.study_id)
            .where(study.c.uid == study_uid.value)
        )
        with self.read() as tx:
            return frozenset(Uid(uid) for uid in tx.connection.execute(query).scalars())

    def count_held(self, study_uid: Uid) -> int:
        """How many instances of a study are here: cheap enough to be asked several times a second."""
        query = select(study.c.instances).where(study.c.uid == study_uid.value)
        with self.read() as tx:
            return int(tx.connection.execute(query).scalar() or 0)

    def made_of(self, study_uid: Uid) -> frozenset[Uid]:
        """The results of ours that belong to a study: a peer has them because we sent them."""
        query = select(result.c.sop_instance).where(result.c.study == study_uid.value)
        with self.read() as tx:
            return frozenset(Uid(uid) for uid in tx.connection.execute(query).scalars())

    def fetched_of(self, study_id: StudyId) -> int:
        """How many instances of a study are here because they were missing, and were fetched."""
        query = select(func.count(instance.c.id.distinct())).where(
            instance.c.study_id == study_id, _came_by(Purpose.MISSING)
        )
        with self.read() as tx:
            return int(tx.connection.execute(query).scalar_one())

    def prior_of(self, series_id: SeriesId) -> Uid | None:
        """The study that a series was fetched for as a prior; None where any of it came another way."""
        mine = instance.c.series_id == series_id
        with self.read() as tx:
            if tx.connection.execute(
                select(instance.c.id).where(mine, ~_came_by(Purpose.PRIOR)).limit(1)
            ).first():
                return None
            query = (
                select(study.c.uid)
                .join(fetch, fetch.c.study_id == study.c.id)
                .join(fetch_item, fetch_item.c.fetch_id == fetch.c.id)
                .join(instance, instance.c.sop_instance == fetch_item.c.sop_instance)
                .where(mine, fetch.c.purpose == Purpose.PRIOR)
                .order_by(fetch.c.id)
                .limit(1)
            )
            found = tx.connection.execute(query).scalar()
        return None if found is None else Uid(found)


def _came_by(purpose: Purpose) -> ColumnElement[bool]:
    """Whether an instance is here because of such a fetch: it was on its list, and came in its time."""
    return exists().where(
        fetch_item.c.sop_instance == instance.c.sop_instance,
        fetch_item.c.fetch_id == fetch.c.id,
        fetch.c.purpose == purpose,
        fetch.c.started_at <= instance.c.received_at,
        or_(
            fetch.c.finished_at.is_(None),
            instance.c.received_at <= fetch.c.finished_at + _AFTERWARDS_S,
        ),
    )


def _study_id(tx: Transaction, uid: str) -> int | None:
    found: int | None = tx.connection.execute(select(study.c.id).where(study.c.uid == uid)).scalar()
    return found


def _record(tx: Transaction, row: Row[Any]) -> FetchRecord:
    wanted, got = tx.connection.execute(
        select(func.count(fetch_item.c.id), func.count(instance.c.id))
        .select_from(fetch_item)
        .outerjoin(instance, instance.c.sop_instance == fetch_item.c.sop_instance)
        .where(fetch_item.c.fetch_id == row.id)
    ).one()
    terms: Mapping[str, object] = row.terms
    return FetchRecord(
        id=FetchId(row.id),
        purpose=Purpose(row.purpose),
        study=Uid(row.study_uid),
        peer=row.peer,
        told_with=None if row.study_id is None else StudyId(row.study_id),
        terms=terms,
        state=FetchState(row.state),
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        asked_at=row.asked_at,
        because=row.because,
        wanted=wanted,
        got=got,
    )

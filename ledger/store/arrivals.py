"""
Arrivals: a batch of received instances becomes rows, in one transaction.

Rule 1: an instance is known by its SOP Instance UID (PS3.3 §C.12.1). The same bytes again are the same
instance; other bytes are a conflict, and the first are kept.
Rule 2: nothing that arrives is ignored: a new instance of a closed or purged study opens the study again.
Rule 3: history has no row for every slice, only one for every change of the study.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Row, Table, bindparam, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ledger.identifiers import StudyId
from ledger.schema import instance, series, study
from ledger.store.arrivals_known import record_known
from ledger.store.database import Collided, Database, Transaction
from ledger.store.headers import instance_values, series_values, study_values
from ledger.store.history import note
from ledger.store.moves import STUDY, move
from ledger.study import Arrival, ArrivalKind, Receipt, StudyEvent, StudyState

_CHUNK = 500  # A statement takes only so many parameters.
_TRIES = 5

# The busiest transaction of all. SQLAlchemy needs longer to put a statement together than the database to
# execute it, so these are put together once.
_HELD = select(instance.c.sop_instance, instance.c.digest, instance.c.study_id).where(
    instance.c.sop_instance.in_(bindparam("uids", expanding=True))
)
_STUDIES = (
    select(study)
    .where(
        or_(
            study.c.uid.in_(bindparam("uids", expanding=True)),
            study.c.id.in_(bindparam("ids", expanding=True)),
        )
    )
    .order_by(study.c.id)
    .with_for_update()
)
_SERIES = select(series.c.id, series.c.study_id, series.c.uid, series.c.instances).where(
    series.c.study_id.in_(bindparam("studies", expanding=True)),
    series.c.uid.in_(bindparam("uids", expanding=True)),
)
_INSERT_INSTANCE = insert(instance)
_COUNT_IN_SERIES = (
    update(series)
    .where(series.c.id == bindparam("of_id"))
    .values(instances=series.c.instances + bindparam("more"))
)
_GROW = (
    update(study)
    .where(study.c.id == bindparam("of_id"))
    .values(
        {name: bindparam(f"new_{name}") for name in ("instances", "series", "last_arrival_at", "calling")}
    )
)


class Arrivals(Database):
    """What the node's group commit calls."""

    def record_arrivals(
        self, arrivals: Sequence[Arrival], *, before_commit: Callable[[], None] = lambda: None
    ) -> list[Receipt]:
        """Record a batch durably; one receipt for each arrival, in their order.

        `before_commit` is called when all is said and nothing is durable: where it raises, nothing has
        happened. It may be called more than once. The caller may answer Success once it has the receipts.
        After CONFLICT it has to set the file aside and call `record_quarantine`.
        """
        if not arrivals:
            return []
        for _ in range(_TRIES - 1):
            # Another node may record one of these instances between our look and our insert: look again.
            with suppress(Collided):
                return self._record_once(arrivals, before_commit)
        return self._record_once(arrivals, before_commit)

    def _record_once(self, arrivals: Sequence[Arrival], before_commit: Callable[[], None]) -> list[Receipt]:
        with self.write() as tx:
            receipts = record_known(tx, arrivals) or _record(tx, arrivals)
            before_commit()
        return receipts


def _record(tx: Transaction, arrivals: Sequence[Arrival]) -> list[Receipt]:
    held = _held(tx, {arrival.sop_instance.value for arrival in arrivals})
    kept = {uid: row.digest for uid, row in held.items()}
    fresh: dict[str, Arrival] = {}  # by SOP Instance UID
    kinds: list[ArrivalKind] = []
    for arrival in arrivals:
        uid = arrival.sop_instance.value
        if uid not in kept:
            fresh[uid], kept[uid] = arrival, arrival.digest.value
            kinds.append(ArrivalKind.NEW)
        else:
            kinds.append(ArrivalKind.AGAIN if kept[uid] == arrival.digest.value else ArrivalKind.CONFLICT)

    studies = _studies(tx, fresh.values(), {row.study_id for row in held.values()})
    by_uid = {row.uid: row for row in studies}
    by_id = {row.id: row for row in studies}
    if fresh:
        _insert_instances(tx, list(fresh.values()), by_uid)

    owners = [
        held[uid].study_id if uid in held else by_uid[fresh[uid].study.value].id
        for uid in (arrival.sop_instance.value for arrival in arrivals)
    ]
    late = {id for id, row in by_id.items() if row.state != StudyState.OPEN}
    late &= {owner for owner, kind in zip(owners, kinds, strict=True) if kind is ArrivalKind.NEW}
    _note_repetitions(tx, arrivals, kinds, owners, kept)
    # Whoever sends again, or sends something else, is still sending: an open study waits for the end of it.
    grown = {by_uid[arrival.study.value].id for arrival in fresh.values()}
    silent = {id for id, row in by_id.items() if row.state == StudyState.OPEN and id in owners} - grown
    if silent:
        tx.connection.execute(update(study).where(study.c.id.in_(silent)).values(last_arrival_at=tx.now))
    return [
        Receipt(kind=kind, study_id=StudyId(owner), reopened=kind is ArrivalKind.NEW and owner in late)
        for kind, owner in zip(kinds, owners, strict=True)
    ]


def _held(tx: Transaction, uids: Collection[str]) -> dict[str, Row[Any]]:
    """What is held under these SOP Instance UIDs: digest and study."""
    ordered = sorted(uids)
    held: dict[str, Row[Any]] = {}
    for start in range(0, len(ordered), _CHUNK):
        found = tx.connection.execute(_HELD, {"uids": ordered[start : start + _CHUNK]})
        held |= {row.sop_instance: row for row in found}
    return held


def _insert_missing(tx: Transaction, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert, and leave alone what is there."""
    dialect = postgresql if tx.connection.dialect.name == "postgresql" else sqlite
    tx.connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def _studies(tx: Transaction, fresh: Collection[Arrival], touched: Collection[int]) -> list[Row[Any]]:
    """The studies of this batch, locked; those that did not exist are made, open and empty."""
    first: dict[str, Arrival] = {}
    for arrival in fresh:
        first.setdefault(arrival.study.value, arrival)
    mine = {"uids": list(first), "ids": list(touched)}
    found = list(tx.connection.execute(_STUDIES, mine))
    missing = sorted(set(first) - {row.uid for row in found})
    if not missing:
        return found
    _insert_missing(tx, study, [study_values(first[uid], tx.now) for uid in missing])
    found = list(tx.connection.execute(_STUDIES, mine))
    for row in found:
        if row.uid in missing and row.instances == 0:
            note(
                tx,
                "study",
                StudyEvent.ARRIVED,
                thing_id=row.id,
                study_id=row.id,
                after=row.state,
                because=f"first instance, from {first[row.uid].calling}",
            )
    return found


def _insert_instances(tx: Transaction, fresh: Sequence[Arrival], studies: Mapping[str, Row[Any]]) -> None:
    """Insert instances and their series, and bring the studies up to date."""
    of_series: dict[tuple[int, str], list[Arrival]] = {}
    of_study: dict[int, list[Arrival]] = {}
    for arrival in fresh:
        study_id = studies[arrival.study.value].id
        of_series.setdefault((study_id, arrival.series.value), []).append(arrival)
        of_study.setdefault(study_id, []).append(arrival)

    mine = {"studies": list(of_study), "uids": list({uid for _, uid in of_series})}
    found = {(row.study_id, row.uid): row for row in tx.connection.execute(_SERIES, mine)}
    missing = [key for key in of_series if key not in found]
    if missing:
        _insert_missing(tx, series, [series_values(of_series[key][0], key[0]) for key in missing])
        found = {(row.study_id, row.uid): row for row in tx.connection.execute(_SERIES, mine)}

    rows = [
        instance_values(arrival, study_id=key[0], series_id=found[key].id, now=tx.now)
        for key, members in of_series.items()
        for arrival in members
    ]
    tx.connection.execute(_INSERT_INSTANCE, rows)

    counted = [{"of_id": found[key].id, "more": len(members)} for key, members in of_series.items()]
    tx.connection.execute(_COUNT_IN_SERIES, counted)
    for row in studies.values():
        if row.id in of_study:
            began = sum(1 for key in of_series if key[0] == row.id and found[key].instances == 0)
            _grow(tx, row, of_study[row.id], began)


def _grow(tx: Transaction, row: Row[Any], members: Sequence[Arrival], series_begun: int) -> None:
    """Count what came to a study, and open it if it was not."""
    last = members[-1]
    # What a purge deleted does not count as held, though the row still says how much there had been.
    held = row.state != StudyState.PURGED
    values = {
        "instances": len(members) + (row.instances if held else 0),
        "series": series_begun + (row.series if held else 0),
        "last_arrival_at": tx.now,
        "calling": last.calling.value,
    }
    if row.state == StudyState.OPEN:
        named = {f"new_{name}": value for name, value in values.items()}
        tx.connection.execute(_GROW, {"of_id": row.id, **named})
        return
    move(
        tx,
        STUDY,
        row,
        StudyEvent.ARRIVED,
        because=f"late instance from {last.calling}",
        detail={"instances": len(members)},
        opened_at=tx.now,
        **values,
    )


def _note_repetitions(
    tx: Transaction,
    arrivals: Sequence[Arrival],
    kinds: Sequence[ArrivalKind],
    owners: Sequence[int],
    kept: Mapping[str, str],
) -> None:
    """History of what came again (one row for each study) and of every contradiction to what is held."""
    again = Counter(
        (owner, arrival.calling.value)
        for arrival, kind, owner in zip(arrivals, kinds, owners, strict=True)
        if kind is ArrivalKind.AGAIN
    )
    for (owner, calling), count in again.items():
        because = f"the same bytes again, from {calling}"
        note(
            tx,
            "study",
            "received_again",
            thing_id=owner,
            study_id=owner,
            because=because,
            detail={"instances": count},
        )
    for arrival, kind, owner in zip(arrivals, kinds, owners, strict=True):
        if kind is not ArrivalKind.CONFLICT:
            continue
        note(
            tx,
            "instance",
            "conflict",
            study_id=owner,
            because=f"other bytes under a known SOP Instance UID, from {arrival.calling}: the first are kept",
            detail={
                "sop_instance": arrival.sop_instance.value,
                "received": arrival.digest.value,
                "kept": kept[arrival.sop_instance.value],
            },
        )

"""The commonest batch of all, quickly: new instances of one open study whose series are known.

It writes just what the general way of `arrivals` writes, and leaves everything else to it.
"""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import bindparam, exists, insert, select, update

from ledger.identifiers import StudyId
from ledger.schema import instance, series, study
from ledger.store.database import Transaction
from ledger.store.headers import instance_values
from ledger.store.prepared import Prepared
from ledger.study import Arrival, ArrivalKind, Receipt, StudyState

_PLACE = Prepared(
    select(
        study.c.id,
        series.c.id,
        exists(select(instance.c.id).where(instance.c.sop_instance == bindparam("sop_instance"))),
    ).where(
        study.c.uid == bindparam("study"),
        study.c.state == StudyState.OPEN.value,
        series.c.study_id == study.c.id,
        series.c.uid == bindparam("series"),
        series.c.instances > 0,
    )
)
_INSERT = Prepared(insert(instance).values({c.name: bindparam(c.name) for c in instance.c if c.name != "id"}))
_COUNT_IN_SERIES = Prepared(
    update(series)
    .where(series.c.id == bindparam("of"))
    .values(instances=series.c.instances + bindparam("more"))
)
_COUNT_IN_STUDY = Prepared(
    update(study)
    .where(study.c.id == bindparam("of"))
    .values(
        instances=study.c.instances + bindparam("more"),
        last_arrival_at=bindparam("at"),
        calling=bindparam("from"),
    )
)


def record_known(tx: Transaction, arrivals: Sequence[Arrival]) -> list[Receipt] | None:
    """Record the batch; None where it is not of this kind: then nothing was changed."""
    if tx.connection.dialect.name != "sqlite":
        return None
    first = arrivals[0]
    uids = {arrival.sop_instance.value for arrival in arrivals}
    if len(uids) < len(arrivals) or any(arrival.study != first.study for arrival in arrivals):
        return None
    places: list[tuple[int, int]] = []
    for arrival in arrivals:
        found = _PLACE.run(
            tx,
            {
                "study": arrival.study.value,
                "series": arrival.series.value,
                "sop_instance": arrival.sop_instance.value,
            },
        )
        if not found or found[0][2]:
            return None
        places.append((found[0][0], found[0][1]))

    rows = [
        instance_values(arrival, study_id=study_id, series_id=series_id, now=tx.now)
        for arrival, (study_id, series_id) in zip(arrivals, places, strict=True)
    ]
    _INSERT.run_each(tx, rows)
    counts = Counter(series_id for _, series_id in places)
    _COUNT_IN_SERIES.run_each(tx, [{"of": of, "more": more} for of, more in counts.items()])
    study_id = places[0][0]
    last = {"of": study_id, "more": len(arrivals), "at": tx.now, "from": arrivals[-1].calling.value}
    _COUNT_IN_STUDY.run(tx, last)
    receipt = Receipt(kind=ArrivalKind.NEW, study_id=StudyId(study_id), reopened=False)
    return [receipt] * len(arrivals)

"""What runs took: written with the end of a run, read before the next one and by whoever watches."""

from collections.abc import Collection
from statistics import median
from typing import Any

from sqlalchemy import Select, insert, or_, select

from ledger.estimate import took
from ledger.identifiers import JobId
from ledger.schema import usage as table
from ledger.store.database import Database, Transaction
from ledger.usage import LATELY, RAN_OUT_LATELY_S, ModelFigures, Peak, Usage, UsageRecord, figures, peaks

#: Of one model: enough for several size classes, few enough to be read before every run.
_LOOKED_AT = 10 * LATELY
_FIGURES_OF = 5000  # runs of all models
_IDLE = ("queue", "wait")  # stages in which a run keeps nobody busy
_COLUMNS = tuple(Usage.__dataclass_fields__)


def note_usage(tx: Transaction, job_id: int, reference: str, used: Usage) -> None:
    """Write one usage into the transaction. `reference` is the model as the job names it."""
    values = {name: getattr(used, name) for name in _COLUMNS}
    as_json = {
        "seconds": dict(used.seconds),
        "began": dict(used.began),
        "lowered": list(used.lowered),
    }
    tx.connection.execute(
        insert(table).values({**values, **as_json, "job_id": job_id, "reference": reference, "at": tx.now})
    )


class Usages(Database):
    """What was measured."""

    def record_usage(self, job_id: JobId, reference: str, used: Usage) -> None:
        """Keep what a run took that was not finished; `finish_job` keeps it of one that was."""
        with self.write() as tx:
            note_usage(tx, job_id, reference, used)

    def usages_of(self, job_id: JobId) -> list[UsageRecord]:
        """The measured runs of a job, the first one first."""
        with self.read() as tx:
            return _usages(tx, select(table).where(table.c.job_id == job_id).order_by(table.c.id))

    def peaks(self, reference: str) -> list[Peak]:
        """What the model that rules call `reference` is known to take, of its latest runs anywhere. Runs that
        ran out of memory more than `RAN_OUT_LATELY_S` ago are forgotten.
        """
        with self.read() as tx:
            lately = or_(~table.c.out_of_memory, table.c.at > tx.now - RAN_OUT_LATELY_S)
            query = select(table).where(table.c.reference == reference, lately).order_by(table.c.id.desc())
            found = _usages(tx, query.limit(_LOOKED_AT))
        return peaks(one.usage for one in found)

    def seconds_of_runs(self) -> dict[str, float]:
        """What a run takes, in seconds: the median of the latest ones, by the name that jobs give the model,
        and by that name without a version.
        """
        query = select(table.c.reference, table.c.seconds).where(~table.c.out_of_memory)
        with self.read() as tx:
            rows = tx.connection.execute(query.order_by(table.c.id.desc()).limit(_FIGURES_OF)).all()
        alike: dict[str, list[float]] = {}
        for row in rows:
            took = sum(spent for stage, spent in row.seconds.items() if stage not in _IDLE)
            for name in {row.reference, row.reference.partition("@")[0]}:
                alike.setdefault(name, []).append(took)
        return {name: median(found) for name, found in alike.items()}

    def took_lately(self, references: Collection[str]) -> dict[str, float]:
        """Seconds that a run of each of these models, as jobs name them, takes: the median of its latest runs
        that did not run out of memory. What was never measured is not there.
        """
        found = {}
        with self.read() as tx:
            for reference in references:
                query = select(table.c.seconds).where(table.c.reference == reference, ~table.c.out_of_memory)
                rows = tx.connection.execute(query.order_by(table.c.id.desc()).limit(LATELY)).scalars().all()
                if (seconds := took(rows)) is not None:
                    found[reference] = seconds
        return found

    def model_figures(self, *, since: float = 0.0) -> list[ModelFigures]:
        """Times and memory by model and device, of runs that ended after `since`."""
        query = select(table).where(table.c.at >= since).order_by(table.c.id.desc()).limit(_FIGURES_OF)
        with self.read() as tx:
            found = _usages(tx, query)
        return figures(one.usage for one in found)


def _usages(tx: Transaction, query: Select[Any]) -> list[UsageRecord]:
    return [
        UsageRecord(
            job_id=JobId(row.job_id),
            at=row.at,
            usage=Usage(**{**{name: getattr(row, name) for name in _COLUMNS}, "lowered": tuple(row.lowered)}),
        )
        for row in tx.connection.execute(query)
    ]

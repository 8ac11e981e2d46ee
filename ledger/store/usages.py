"""What runs took: written with the end of a run, read before the next one and by whoever watches."""

from typing import Any

from sqlalchemy import Select, insert, select

from ledger.identifiers import JobId
from ledger.schema import usage as table
from ledger.store.database import Database, Transaction
from ledger.usage import LATELY, ModelFigures, Peak, Usage, UsageRecord, figures, peaks

#: Of one model: enough for several size classes, few enough to be read before every run.
_LOOKED_AT = 10 * LATELY
_FIGURES_OF = 5000  # runs of all models
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
        query = select(table).where(table.c.job_id == job_id).order_by(table.c.id)
        return self._usages(query)

    def peaks(self, reference: str) -> list[Peak]:
        """What the model that rules call `reference` is known to take, of its latest runs anywhere."""
        query = select(table).where(table.c.reference == reference).order_by(table.c.id.desc())
        return peaks(one.usage for one in self._usages(query.limit(_LOOKED_AT)))

    def model_figures(self, *, since: float = 0.0) -> list[ModelFigures]:
        """Times and memory by model and device, of runs that ended after `since`."""
        query = select(table).where(table.c.at >= since).order_by(table.c.id.desc()).limit(_FIGURES_OF)
        return figures(one.usage for one in self._usages(query))

    def _usages(self, query: Select[Any]) -> list[UsageRecord]:
        with self.read() as tx:
            rows = tx.connection.execute(query).all()
        return [
            UsageRecord(
                job_id=JobId(row.job_id),
                at=row.at,
                usage=Usage(
                    **{**{name: getattr(row, name) for name in _COLUMNS}, "lowered": tuple(row.lowered)}
                ),
            )
            for row in rows
        ]

"""What DICOMweb asks: which studies are held here, with their series, instances and results."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, false, func, select

from ledger.holding import HeldInstance, HeldSeries, HeldStudy, StudyFilter
from ledger.identifiers import StudyId, Uid
from ledger.result import ResultRecord, Role, of_one_plan
from ledger.schema import instance, job, result, series, study
from ledger.store.database import Database, Transaction
from ledger.store.rows import result_record
from ledger.store.stand_ins import stands_in

_PAGE = 20  # Studies; each may have thousands of instances.
#: What a viewer is shown. A rejection note is for archives: here the newer result just takes the place.
_SHOWN = [role for role in Role if role not in (Role.OLDER_REPORT, Role.REJECTION_NOTE)]


class Holdings(Database):
    """Questions about what can be given out. A purged study is not there."""

    def held_studies(self, wanted: StudyFilter, *, instances: bool) -> Iterator[HeldStudy]:
        """The studies that match, the latest arrival first; with their `instances` or only the count of them.

        Read in pages, each its own transaction: it may be left at any time, and a study that something
        arrives in meanwhile may be missed, but never comes twice.
        """
        query = select(study).where(study.c.instances > 0, *_conditions(wanted))
        query = query.order_by(study.c.last_arrival_at.desc(), study.c.id.desc())
        seen: set[int] = set()
        offset = 0
        while True:
            with self.read() as tx:
                rows = tx.connection.execute(query.limit(_PAGE).offset(offset)).all()
                fitting = [row for row in rows if row.id not in seen and _takes(wanted, row)]
                page = _with_contents(tx, fitting, instances=instances)
            seen.update(row.id for row in rows)
            yield from page
            if len(rows) < _PAGE:
                return
            offset += _PAGE

    def held_study(self, uid: Uid) -> HeldStudy | None:
        """One study, or None where nothing of it is held."""
        return next(self.held_studies(StudyFilter(studies=(uid,)), instances=True), None)


def _conditions(wanted: StudyFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.studies is not None:
        yield study.c.uid.in_([uid.value for uid in wanted.studies])
    if wanted.patient_id is not None:
        yield study.c.patient_id.like(_like(wanted.patient_id), escape="\\")
    if wanted.patient_name is not None:
        # The pattern may describe one component group only; and SQLite knows the case of ASCII letters alone.
        near = "".join(c if c.isascii() else "?" for c in wanted.patient_name.rstrip("^=").lower())
        yield func.lower(study.c.patient_name).like(_like(f"*{near}*"), escape="\\")
    if wanted.accession_number is not None:
        yield study.c.accession_number.like(_like(wanted.accession_number), escape="\\")
    if wanted.study_dates is not None:
        first, last = wanted.study_dates
        yield study.c.study_date >= (first or "0")  # A study without a date is in no range.
        if last:
            yield study.c.study_date <= last


def _takes(wanted: StudyFilter, row: Row[Any]) -> bool:
    return wanted.takes(row.patient_id, row.patient_name, row.accession_number)


def _like(pattern: str) -> str:
    """A pattern of DICOM as one of SQL."""
    for special in "\\%_":
        pattern = pattern.replace(special, "\\" + special)
    return pattern.replace("*", "%").replace("?", "_")


def _with_contents(tx: Transaction, studies: Sequence[Row[Any]], *, instances: bool) -> list[HeldStudy]:
    ids = [row.id for row in studies]
    of_series: dict[int, list[HeldInstance]] = defaultdict(list)
    if instances:
        query = select(instance).where(instance.c.study_id.in_(ids))
        for row in tx.connection.execute(query.order_by(instance.c.instance_number, instance.c.id)):
            of_series[row.series_id].append(_received(row))
    of_study: dict[int, list[HeldSeries]] = defaultdict(list)
    query = select(series).where(series.c.study_id.in_(ids), series.c.instances > 0)
    for row in tx.connection.execute(query.order_by(series.c.id)):
        contents = tuple(of_series[row.id])
        of_study[row.study_id].append(
            HeldSeries(
                series=Uid(row.uid),
                modality=row.modality,
                headers=row.headers,
                count=row.instances,
                instances=contents,
            )
        )
    for study_id, made in _results(tx, ids).items():
        of_study[study_id] += made
    return [_study(row, of_study[row.id]) for row in studies]


def _results(tx: Transaction, ids: Sequence[int]) -> dict[int, list[HeldSeries]]:
    """What was made of the studies, and not made again since. What has come back from an archive is held
    as received already.
    """
    later = job.alias("later")
    newer = result.alias("newer")
    # Not only by the next one: that may have been overtaken before it made anything.
    made_again = exists().where(
        later.c.study_id == job.c.study_id,
        later.c.subject == job.c.subject,
        later.c.shadow == false(),
        later.c.rule == job.c.rule,
        later.c.id > job.c.id,
        newer.c.job_id == later.c.id,
        # What only says that a run was given up takes no result's place.
        ~stands_in(newer, later) | stands_in(),
    )
    had_results_after_all = job.c.finished_at.is_not(None) & stands_in()
    came_back = exists().where(instance.c.sop_instance == result.c.sop_instance)
    query = (
        select(result, job.c.study_id, came_back.label("came_back"))
        .join(job, job.c.id == result.c.job_id)
        # What a shadow version says goes nowhere; it is compared, and not read.
        .where(job.c.study_id.in_(ids), job.c.shadow == false(), result.c.purged == false())
        .where(~made_again, ~had_results_after_all)
        .where(result.c.role.in_(_SHOWN))
    )
    rows = tx.connection.execute(query.order_by(result.c.id)).all()
    of_job: dict[int, list[ResultRecord]] = defaultdict(list)
    for row in rows:
        of_job[row.job_id].append(result_record(row))
    # A run for several destinations makes some objects in several forms: one of them is enough to look at.
    shown = {one.id for results in of_job.values() for one in of_one_plan(results)}
    seen: set[str] = set()
    of_series: dict[tuple[int, str, str], list[HeldInstance]] = defaultdict(list)
    for row in rows:
        # A job that ran twice made the same twice.
        if row.sop_instance not in seen and row.id in shown and not row.came_back:
            seen.add(row.sop_instance)
            of_series[row.study_id, row.series, row.role].append(_made(row))
    found: dict[int, list[HeldSeries]] = defaultdict(list)
    for (study_id, uid, role), instances in of_series.items():
        found[study_id].append(
            HeldSeries(
                series=Uid(uid),
                modality=Role(role).modality,
                headers={},
                count=len(instances),
                instances=tuple(instances),
            )
        )
    return found


def _study(row: Row[Any], contents: Sequence[HeldSeries]) -> HeldStudy:
    return HeldStudy(
        id=StudyId(row.id),
        study=Uid(row.uid),
        patient_id=row.patient_id,
        patient_name=row.patient_name,
        accession_number=row.accession_number,
        study_date=row.study_date,
        description=row.description,
        series=tuple(contents),
    )


def _received(row: Row[Any]) -> HeldInstance:
    return HeldInstance(
        sop_instance=Uid(row.sop_instance),
        sop_class=Uid(row.sop_class),
        transfer_syntax=Uid(row.transfer_syntax),
        path=row.path,
        size=row.size,
        instance_number=row.instance_number,
        frames=row.frames,
        made=False,
    )


def _made(row: Row[Any]) -> HeldInstance:
    return HeldInstance(
        sop_instance=Uid(row.sop_instance),
        sop_class=Uid(row.sop_class),
        transfer_syntax=Uid(row.transfer_syntax),
        path=row.path,
        size=row.size,
        instance_number=1,
        frames=1,
        made=True,
    )

"""A study as one row of a list: the same for the page and for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from console.outlook import Outlook
from console.web.journey import Step, current, journey
from console.web.sentences import plain
from console.why import why
from dicom_node.routing import without_values
from ledger.delivery import DeliveryRecord
from ledger.identifiers import JobId
from ledger.present import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """Times are seconds since 1970 UTC. `patient` is None where it may not be shown."""

    id: int
    study: str  #: Study Instance UID
    accession: str
    date: str  #: Study Date as DICOM writes it
    modalities: tuple[str, ...]
    calling: str
    instances: int
    series: int
    state: str
    arrived_at: float
    steps: tuple[Step, ...]
    models: tuple[str, ...]
    stat: bool
    where: str  #: one sentence
    finish_at: float | None  #: when its last job will be done; None: not known, or nothing is to be done
    patient: tuple[str, str] | None  #: name and id


def rows(found: Sequence[Found], outlook: Outlook, *, patients: bool) -> tuple[StudyRow, ...]:
    """A row for each. What headers say in free text is left out of `where` unless `patients`."""
    return tuple(_row(one, outlook, patients=patients) for one in found)


def _row(found: Found, outlook: Outlook, *, patients: bool) -> StudyRow:
    study = found.study
    jobs = current(found.jobs)
    sentence = plain(why(study, found.notes, found.jobs, by_job(found.deliveries), pauses=outlook.pauses))
    return StudyRow(
        id=study.id,
        study=str(study.study),
        accession=study.accession_number,
        date=study.study_date,
        modalities=found.modalities,
        calling=str(study.calling),
        instances=study.instances,
        series=study.series,
        state=str(study.state),
        arrived_at=study.last_arrival_at,
        steps=journey(found),
        models=tuple(dict.fromkeys(job.model for job in jobs)),
        stat=study.stat or any(job.priority == "stat" for job in jobs),
        where=sentence if patients else without_values(sentence),
        finish_at=outlook.finish_of(study.id),
        patient=(study.patient_name, study.patient_id) if patients else None,
    )


def by_job(deliveries: Sequence[DeliveryRecord]) -> Mapping[JobId, Sequence[DeliveryRecord]]:
    """The deliveries of each job."""
    found: dict[JobId, list[DeliveryRecord]] = {}
    for one in deliveries:
        found.setdefault(one.job_id, []).append(one)
    return found

"""All that is known of one study, as its page and programs are told: the story with nothing private in it,
unless that is asked for and allowed.
"""

from dataclasses import dataclass, replace

from console.show import Story
from console.tables import STAGES
from console.web.journey import Step
from console.web.sentences import plain as without_commands
from dicom_node.routing import without_values
from ledger.delivery import DeliveryRecord
from ledger.event import EventRecord
from ledger.job import JobRecord
from ledger.result import ResultRecord, Role
from ledger.study import RoutingNote, SeriesRecord, StudyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPart:
    """A series, and what every rule said of it."""

    series: SeriesRecord
    number: str
    description: str  #: as the scanner wrote it; empty where patients are hidden: people type names there
    images: int
    ours: bool  #: a result that came back
    notes: tuple[RoutingNote, ...]

    @property
    def taken(self) -> bool:
        """Whether any rule took it."""
        return any(note.taken for note in self.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultPart:
    """One object that was made, and where it went."""

    result: ResultRecord
    deliveries: tuple[DeliveryRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPart:
    """A job with what it says, what it made and what became of it."""

    job: JobRecord
    says: tuple[str, ...]
    values: tuple[tuple[str, str, float, str], ...]  #: (about, quantity, value, UCUM unit)
    results: tuple[ResultPart, ...]
    superseded: tuple[str, ...]
    notifications: tuple[tuple[str, str, str], ...]  #: (receiver, state, because)
    stages: tuple[tuple[str, float], ...]  #: (stage, seconds), in their order

    @property
    def objects(self) -> tuple[ResultRecord, ...]:
        """What it made."""
        return tuple(part.result for part in self.results)

    @property
    def shows(self) -> bool:
        """Whether there is something to look at in a viewer."""
        return any(part.result.role is not Role.REJECTION_NOTE for part in self.results)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPage:
    """One study. `patient` is None where it may not be shown."""

    study: StudyRecord
    why: str
    steps: tuple[Step, ...]
    patient: tuple[str, str] | None
    description: str
    story: Story
    series: tuple[SeriesPart, ...]
    jobs: tuple[JobPart, ...]
    history: tuple[EventRecord, ...]
    hidden: bool  #: patient data are left out


def told(story: Story, steps: tuple[Step, ...], *, patients: bool) -> StudyPage:
    """The page of a story. Sentences lose what headers said in free text, unless `patients`."""

    def plain(sentence: str) -> str:
        return sentence if patients else without_values(sentence)

    study = story.study
    return StudyPage(
        study=study,
        why=without_commands(plain(story.why)),
        steps=steps,
        patient=(study.patient_name, study.patient_id) if patients else None,
        description=study.description if patients else "",
        story=replace(
            story,
            statements=tuple(replace(each, because=plain(each.because)) for each in story.statements),
        ),
        series=tuple(_series(story, one, patients=patients) for one in story.series),
        jobs=tuple(
            JobPart(
                job=one.job,
                says=tuple(plain(sentence) for sentence in one.says),
                values=tuple((value.about, value.name, value.value, value.unit) for value in one.values),
                results=tuple(
                    ResultPart(
                        result=made,
                        deliveries=tuple(each for each in one.deliveries if each.result.id == made.id),
                    )
                    for made in one.results
                ),
                superseded=one.superseded,
                notifications=tuple(
                    (each.receiver, str(each.state), each.because) for each in one.notifications
                ),
                stages=tuple((name, one.job.timings[name]) for name in STAGES if name in one.job.timings),
            )
            for one in reversed(story.jobs)
        ),
        history=tuple(replace(each, because=plain(each.because)) for each in story.history),
        hidden=not patients,
    )


def _series(story: Story, one: SeriesRecord, *, patients: bool) -> SeriesPart:
    notes = tuple(note for note in story.notes if note.series_id == one.id)
    if not patients:
        notes = tuple(replace(note, because=without_values(note.because)) for note in notes)
    made = {str(result.series) for job in story.jobs for result in job.results}
    return SeriesPart(
        series=one,
        number=one.headers.get("SeriesNumber", ""),
        description=one.headers.get("SeriesDescription", "") if patients else "",
        images=sum(max(1, instance.frames) for instance in one.instances),
        ours=str(one.series) in made,
        notes=notes,
    )

"""The whole history of one study, with reasons: what came, what was chosen and why, what was made, where it
went.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from console.reading import try_report
from console.serving import memory_words
from console.settings import Site
from console.superseded import superseded
from console.tables import (
    Value,
    clock_time,
    duration,
    findings_table,
    listed,
    local_time,
    plain_table,
    size,
    state,
    timings,
)
from console.why import awaited, why
from dicom_node.routing import without_values
from dicom_node.technical import TECHNICAL
from ledger.commitment import CommitmentRecord, reason_words
from ledger.completeness import CountRecord, Lack, Statement
from ledger.delivery import DeliveryRecord
from ledger.errors import WetreadError
from ledger.event import EventRecord
from ledger.identifiers import Uid
from ledger.job import JobRecord
from ledger.notification import NotificationRecord
from ledger.result import ResultRecord, Role, of_one_plan
from ledger.store.ledger import Ledger
from ledger.study import RoutingNote, SeriesRecord, StudyRecord
from ledger.usage import UsageRecord

_NUMBERED = ("job", "delivery", "commitment", "notification", "fetch")
# Of the study: what names the patient, or is free text in which people name patients.
_PRIVATE = ("patient_id", "patient_name", "description")


class NotFound(WetreadError):
    """The ledger knows nothing of that name."""


@dataclass(frozen=True, slots=True)
class JobStory:
    """A job with what it made, and where that went."""

    job: JobRecord
    results: tuple[ResultRecord, ...]
    deliveries: tuple[DeliveryRecord, ...]
    commitments: tuple[CommitmentRecord, ...] = ()
    superseded: tuple[str, ...] = ()  #: by which job, and what each peer was told of it
    says: tuple[str, ...] = ()  #: the sentences of its report
    values: tuple[Value, ...] = ()  #: and its numbers
    usages: tuple[UsageRecord, ...] = ()  #: what its measured runs took
    notifications: tuple[NotificationRecord, ...] = ()  #: who was told of it


@dataclass(frozen=True, slots=True)
class Story:
    """All that the ledger knows of one study, or of one job of it."""

    why: str
    study: StudyRecord
    series: tuple[SeriesRecord, ...]
    notes: tuple[RoutingNote, ...]
    jobs: tuple[JobStory, ...]
    history: tuple[EventRecord, ...]
    now: float
    statements: tuple[Statement, ...] = ()
    counts: tuple[CountRecord, ...] = ()
    lacking: tuple[Lack, ...] = ()


def show(site: Site, ledger: Ledger, what: str, console: Console, *, as_json: bool, patient: bool) -> None:
    """Print the story of `what`. Raises `NotFound`."""
    if what == "quarantine":
        console.print(quarantine(site, ledger))
        return
    story = read_story(site, ledger, what)
    if as_json:
        console.print_json(json.dumps(as_values(story, patient=patient), default=plain))
    else:
        console.print(page(site, story, patient=patient))


def read_story(site: Site, ledger: Ledger, what: str) -> Story:
    """The story of the study or job that `what` names. Raises `NotFound`."""
    found = ledger.find(what.strip())
    if found is None:
        raise NotFound(
            f"the ledger knows no study and no job {what!r}; give a study UID, an accession number "
            "or a job's number (`wetread status` lists the latest)"
        )
    study = ledger.study(found.study_id) if isinstance(found, JobRecord) else found
    jobs = ledger.jobs_of(study.id)
    deliveries = {job.id: ledger.deliveries_of(job.id) for job in jobs}
    notes = ledger.routing_notes(study.id)
    rejections = ledger.rejections_of(study.id)
    policies = {peer.name: peer.superseded for peer in site.peers}
    counts = ledger.counts_of(study.id)
    notifications = ledger.notifications_of(study.id)
    lacking = [lack for lack in ledger.lacking() if lack.study_id == study.id]
    only = found.id if isinstance(found, JobRecord) else None
    return Story(
        why=why(
            study,
            notes,
            [job for job in jobs if only in (None, job.id)],
            deliveries,
            awaited(counts, lacking),
            notifications=notifications,
            pauses=ledger.pauses(),
        ),
        study=study,
        series=tuple(ledger.series_of(study.id)),
        notes=tuple(notes),
        statements=tuple(ledger.statements_of(study.id)),
        counts=tuple(counts),
        lacking=tuple(lacking),
        jobs=tuple(
            _with_reading(
                site,
                JobStory(
                    job,
                    tuple(ledger.results_of(job.id)),
                    tuple(deliveries[job.id]),
                    tuple(ledger.commitments_of(job.id)),
                    tuple(superseded(job, jobs, deliveries, rejections, policies)),
                    usages=tuple(ledger.usages_of(job.id)),
                    notifications=tuple(note for note in notifications if note.job_id == job.id),
                ),
            )
            for job in jobs
            if only in (None, job.id)
        ),
        history=tuple(ledger.history(job_id=only) if only is not None else ledger.history(study_id=study.id)),
        now=ledger.now(),
    )


def _with_reading(site: Site, one: JobStory) -> JobStory:
    """The job with what its report says, as long as that lies in the spool."""
    # The latest: one that only says that the run was given up comes before that of a later run.
    report = next(
        (result for result in reversed(of_one_plan(one.results)) if result.role is Role.REPORT), None
    )
    reading = try_report(Path(site.spool.path, report.path)) if report is not None else None
    return one if reading is None else replace(one, says=reading.sentences, values=reading.values)


def page(site: Site, story: Story, *, patient: bool) -> RenderableType:
    """The story for a terminal: the answer first, then the reasons, then every step."""
    return Group(
        Panel(Text(story.why, "bold"), border_style="cyan", padding=(0, 2), expand=False),
        _section("Study", _study(story.study, patient)),
        *(
            [_section("Complete?", _witnesses(story))]
            if story.statements or (story.counts and story.study.state == "open")
            else []
        ),
        _section("Series", _series(story.series, story.notes)),
        *(_section(f"Job {one.job.id}", _job(site, one, story.now)) for one in story.jobs),
        _section("History", _history(story.history, story.now)),
    )


def _section(title: str, content: RenderableType) -> RenderableType:
    return Group(Text(f" {title}", "bold cyan"), Padding(content, (0, 0, 1, 3)))


def _facts(rows: Iterable[tuple[str, RenderableType | None]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, value)
    return table


def _study(study: StudyRecord, patient: bool) -> RenderableType:
    return _facts(
        [
            ("Study UID", str(study.study)),
            ("Accession number", study.accession_number),
            ("Patient", f"{study.patient_name} ({study.patient_id})" if patient else None),
            ("Description", " ".join(filter(None, [study.study_date, study.description]))),
            ("State", state(study.state)),
            ("Images", f"{study.instances} in {study.series} series, from {study.calling}"),
            ("Arrived", f"{local_time(study.first_arrival_at)} to {local_time(study.last_arrival_at)}"),
            ("Closed", f"{local_time(study.closed_at)}: {study.closed_because}" if study.closed_at else None),
            ("Routed by", f"version {study.rules} of the rules" if study.rules else None),
            (
                "Closed before",
                f"{study.generation - 1} times: late images came" if study.generation > 1 else None,
            ),
        ]
    )


def _witnesses(story: Story) -> RenderableType:
    """Who said what when the study was closed; what peers say meanwhile, where it is open."""
    table = plain_table("Witness", "Who", "About", "", "What was said")
    numbers = {one.id: f"series {one.headers.get('SeriesNumber', '?')}" for one in story.series}
    for one in story.statements:
        about = numbers.get(one.series_id, "a series") if one.series_id is not None else "the study"
        believed = Text("✔ believed", "green") if one.decided else ""
        table.add_row(str(one.witness), one.by or "nobody: a clock", about, believed, one.because)
    for count in story.counts if story.study.state == "open" else ():
        theirs = "no number" if count.theirs is None else f"{count.theirs} images"
        said = count.failure or f"it has {theirs}, here are {story.study.instances}"
        table.add_row("count", count.peer, "the study", Text("now", "dim"), said)
    for lack in story.lacking:
        for uid, (here, there) in lack.series.items():
            said = f"{here} of {there} are here, of series {uid}"
            table.add_row("count", lack.peer, "a series", Text("missing", "yellow"), said)
    return table


def _series(series: Sequence[SeriesRecord], notes: Sequence[RoutingNote]) -> RenderableType:
    table = plain_table("Series", "What", "Images", "Rule", "", "Because")
    for one in series:
        number = one.headers.get("SeriesNumber", "?")
        what = f"{one.modality} {one.headers.get('SeriesDescription', '')}".strip()
        images = str(sum(max(1, instance.frames) for instance in one.instances) or "deleted")
        theirs = [note for note in notes if note.series_id == one.id]
        for position, note in enumerate(theirs or [None]):
            first = (number, what, images) if position == 0 else ("", "", "")
            table.add_row(*first, *_answer(note))
    for note in notes:
        if note.series_id is None:
            table.add_row("", "", "", *_answer(note))
    return table


def _answer(note: RoutingNote | None) -> tuple[RenderableType, RenderableType, RenderableType]:
    if note is None:
        return "", "", Text("not asked yet", "dim")
    return note.rule, Text("✔ taken", "green") if note.taken else Text("✘ not taken", "yellow"), note.because


def _job(site: Site, one: JobStory, now: float) -> RenderableType:
    job = one.job
    beside = " beside the active version" if job.shadow else ""
    where = listed(job.destinations, f"nowhere: a shadow run{beside}")
    ran = f"{local_time(job.started_at)}" if job.started_at else None
    if job.started_at and job.finished_at:
        ran = f"{ran}, for {duration(job.finished_at - job.started_at)}"
    lease = None
    if job.lease_until is not None and job.lease_until > now:
        lease = f"{job.lease_owner}, for another {duration(job.lease_until - now)}"
    facts = _facts(
        [
            ("Model", f"{job.model}, by rule {job.rule!r}, {job.priority}"),
            ("State", Text.assemble(state(job.state), f", {job.outcome}" if job.outcome else "")),
            ("Because", job.because),
            ("Attempts", str(job.attempts)),
            ("Opened", local_time(job.created_at)),
            ("Started", ran),
            (
                "Next attempt",
                local_time(job.next_attempt_at) if job.state == "queued" and job.attempts else None,
            ),
            ("Held by", lease),
            ("Time", timings(job.timings)),
            ("Memory", memory_words(one.usages)),
            ("Series UID", str(job.series)),
            ("Replaces", f"job {job.supersedes}" if job.supersedes else None),
            ("Replaced", "\n".join(one.superseded)),
            ("Goes to", where),
        ]
    )
    return Group(
        facts,
        *([Text("\n".join(["", *one.says, ""]))] if one.says else []),
        *([findings_table(one.values)] if one.values else []),
        *([Text(), _results(site, one, now)] if one.results else []),
        *([Text(), _commitments(one.commitments, now)] if one.commitments else []),
        *([Text(), _notifications(one.notifications, now)] if one.notifications else []),
    )


def _results(site: Site, one: JobStory, now: float) -> RenderableType:
    table = plain_table("Result", "File", "Size", "To", "State", "Attempts", "What the peer said")
    for result in one.results:
        path = str(Path(site.spool.path, result.path))
        theirs = [delivery for delivery in one.deliveries if delivery.result.id == result.id]
        for position, delivery in enumerate(theirs or [None]):
            first = (str(result.role), path, size(result.size)) if position == 0 else ("", "", "")
            table.add_row(*first, *_delivery(delivery, now))
    return table


def _delivery(delivery: DeliveryRecord | None, now: float) -> tuple[RenderableType, ...]:
    if delivery is None:
        return "", Text("stays here", "dim"), "", ""
    said = delivery.because
    if delivery.state == "waiting" and delivery.attempts:
        said = f"{said} (again at {clock_time(delivery.next_attempt_at, now)})"
    return delivery.peer, state(delivery.state), str(delivery.attempts), said


def _commitments(commitments: Sequence[CommitmentRecord], now: float) -> RenderableType:
    table = plain_table("Storage commitment", "To", "Opened", "State", "What the peer said")
    for one in commitments:
        said = [one.because]
        said += [
            f"{item.sop_instance}: {reason_words(item.reason)}"
            for item in one.items
            if item.committed is False
        ]
        opened = clock_time(one.opened_at, now)
        table.add_row(str(one.transaction), one.peer, opened, state(one.state), "\n".join(said))
    return table


def _notifications(notifications: Sequence[NotificationRecord], now: float) -> RenderableType:
    table = plain_table("Notification", "To", "Says", "State", "Attempts", "What the receiver said")
    for one in notifications:
        says = f"{one.occasion}, a correction" if one.corrects else str(one.occasion)
        said = one.because
        if one.state == "waiting" and one.attempts:
            said = f"{said} (again at {clock_time(one.next_attempt_at, now)})"
        table.add_row(one.control_id, one.receiver, says, state(one.state), str(one.attempts), said)
    return table


def _history(history: Sequence[EventRecord], now: float) -> RenderableType:
    table = plain_table("When", "What", "Happened", "State", "Because")
    for event in history:
        what = f"{event.thing} {event.thing_id}" if event.thing in _NUMBERED else event.thing
        after = (
            Text.assemble(f"{event.before} → " if event.before else "", state(event.after))
            if event.after
            else ""
        )
        if event.before == event.after:
            after = ""
        table.add_row(clock_time(event.at, now), what, event.event.replace("_", " "), after, event.because)
    return table


def quarantine(site: Site, ledger: Ledger) -> RenderableType:
    """What was received and set aside."""
    records = ledger.quarantined()
    if not records:
        return Text("Nothing lies in quarantine.")
    table = plain_table("Number", "When", "From", "Address", "File", "Because")
    now = ledger.now()
    for record in records:
        path = str(Path(site.spool.path, record.path))
        when = clock_time(record.at, now)
        table.add_row(str(record.id), when, record.calling, record.address, path, record.because)
    return table


def as_values(story: Story, *, patient: bool) -> dict[str, object]:
    """The same for programs. Who the patient is, and what people typed, are in it only where `patient`."""
    values = asdict(replace(story, counts=(), lacking=()))
    values["counts"] = [_by_uid(asdict(replace(one, series={})), one.series) for one in story.counts]
    values["lacking"] = [_by_uid(asdict(replace(one, series={})), one.series) for one in story.lacking]
    if not patient:
        for key in _PRIVATE:
            values["study"].pop(key)
        for series in values["series"]:
            for thing in (series, *(one for one in series["instances"] if one["headers"] is not None)):
                thing["headers"] = {key: text for key, text in thing["headers"].items() if key in TECHNICAL}
        values["why"] = without_values(values["why"])
        for reasoned in (*values["notes"], *values["history"], *values["statements"]):
            reasoned["because"] = without_values(reasoned["because"])
        for job in values["jobs"]:
            job["says"] = [without_values(sentence) for sentence in job["says"]]
    return values


def _by_uid(values: dict[str, Any], series: Mapping[Uid, object]) -> dict[str, Any]:
    return {**values, "series": {str(uid): said for uid, said in series.items()}}


def plain(value: object) -> object:
    """What JSON has no form for, as it is written."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return dict(value)
    return str(getattr(value, "value", value))

"""How the site stands: alarms, counts, queues, and the latest studies. A view on the ledger, and nothing
else.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from console.alarms import (
    INCOMPLETE_S,
    REFUSALS_S,
    Alarm,
    alarms,
    disk_under,
    ledger_disk_alarms,
    notification_alarms,
    pause_alarms,
    urgent_first,
)
from console.certificates import certificate_alarms
from console.pulse import node_alarms
from console.rule_checks import rule_alarms
from console.serving import FRESH_S, LATELY_S, serving, serving_values
from console.settings import Site
from console.tables import clock_time, duration, plain_table, state
from console.why import awaited, why
from dicom_node.routing import without_values
from ledger.completeness import Lack
from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.identifiers import JobId
from ledger.job import JobState
from ledger.notification import NotificationState
from ledger.overview import Counts
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord, StudyState
from ledger.usage import ModelFigures, WorkerRecord

_LOOK_S = 1.0
_ALARMS_SHOWN = 8
_ENDED = (DeliveryState.SENT, DeliveryState.COMMITTED, DeliveryState.DECLINED)


@dataclass(frozen=True, slots=True)
class StudyLine:
    """A study with where it stands, in one sentence."""

    study: StudyRecord
    jobs: tuple[JobId, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything that `wetread status` shows, read at one moment."""

    at: float
    counts: Counts
    alarms: tuple[Alarm, ...]
    studies: tuple[StudyLine, ...]
    workers: tuple[WorkerRecord, ...] = ()
    models: tuple[ModelFigures, ...] = ()

    @property
    def well(self) -> bool:
        """Whether no alarm is urgent."""
        return not any(alarm.urgent for alarm in self.alarms)


def read_standing(site: Site, ledger: Ledger, limit: int) -> Standing:
    """Read it from the ledger, the spool's disk, and the node itself."""
    now = ledger.now()
    counts = ledger.counts()
    lines = []
    lacking, pauses = ledger.lacking(), ledger.pauses()
    for study in ledger.studies(limit=limit):
        jobs = ledger.jobs_of(study.id)
        deliveries: dict[JobId, list[DeliveryRecord]] = {job.id: ledger.deliveries_of(job.id) for job in jobs}
        sentence = why(
            study,
            ledger.routing_notes(study.id),
            jobs,
            deliveries,
            _still_to_come(ledger, study, lacking),
            pauses=pauses,
        )
        lines.append(StudyLine(study, tuple(job.id for job in jobs), sentence))
    found = [*site_alarms(site, ledger), *ledger_alarms(site, ledger)]
    return Standing(
        now,
        counts,
        tuple(urgent_first(found)),
        tuple(lines),
        tuple(ledger.workers(fresh_s=FRESH_S)),
        tuple(ledger.model_figures(since=now - LATELY_S)),
    )


def site_alarms(site: Site, ledger: Ledger) -> list[Alarm]:
    """What is wrong around the ledger: the node, disks, certificates, rules, models. Asks the node, which may
    take a second.
    """
    return [
        *node_alarms(site),
        *ledger_disk_alarms(site.ledger, site.spool),
        *certificate_alarms(site, ledger.now()),
        *rule_alarms(site, ledger),
    ]


def ledger_alarms(site: Site, ledger: Ledger) -> list[Alarm]:
    """What the ledger knows to be out of order, and the spool's disk."""
    now = ledger.now()
    untold = ledger.notifications(states=[NotificationState.WAITING, NotificationState.PARKED], limit=500)
    return [
        *notification_alarms(untold, now),
        *pause_alarms(ledger.pauses(), now),
        *alarms(
            ledger.present(),
            disk_under(site.spool),
            site.spool,
            parked=ledger.jobs(states=[JobState.PARKED], limit=_ALARMS_SHOWN),
            deliveries=ledger.deliveries(states=[DeliveryState.WAITING, DeliveryState.PARKED], limit=500),
            declined=ledger.deliveries(states=_ENDED, limit=200),
            refusals=ledger.refusals(since=now - REFUSALS_S),
            incomplete=ledger.incomplete(since=now - INCOMPLETE_S),
            now=now,
        ),
    ]


def _still_to_come(ledger: Ledger, study: StudyRecord, lacking: Sequence[Lack]) -> str:
    if study.state is not StudyState.OPEN:
        return ""
    return awaited(ledger.counts_of(study.id), [one for one in lacking if one.study_id == study.id])


def print_status(
    site: Site, ledger: Ledger, console: Console, *, as_json: bool, limit: int, patient: bool
) -> bool:
    """Print it once; whether all is well."""
    standing = read_standing(site, ledger, limit)
    if as_json:
        console.print_json(json.dumps(as_values(standing, patient=patient)))
    else:
        console.print(page(site, standing, patient=patient))
    return standing.well


def watch(site: Site, ledger: Ledger, console: Console, *, limit: int, patient: bool) -> None:
    """Show it until Ctrl-C."""
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            live.update(page(site, read_standing(site, ledger, limit), patient=patient), refresh=True)
            time.sleep(_LOOK_S)


def page(site: Site, standing: Standing, *, patient: bool) -> RenderableType:
    """The whole page for a terminal."""
    title = Text.assemble(
        (f"  {site.site.name}", "bold"), (f"   {time.strftime('%Y-%m-%d %H:%M:%S %Z')}", "dim")
    )
    return Group(
        Text(),
        title,
        Text(),
        _alarms(standing),
        _counts(standing.counts),
        serving(standing.workers, standing.models),
        _studies(standing, patient),
    )


def _alarms(standing: Standing) -> RenderableType:
    if not standing.alarms:
        return Text("  ✔ nothing needs attention\n", "green")
    lines = [
        Text.assemble(("  ● ", "bold red" if alarm.urgent else "yellow"), alarm.words)
        for alarm in standing.alarms[:_ALARMS_SHOWN]
    ]
    more = len(standing.alarms) - _ALARMS_SHOWN
    return Group(*lines, *([Text(f"    and {more} more", "dim")] if more > 0 else []), Text())


def _counts(counts: Counts) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    rows: list[tuple[str, Mapping[str, int], str]] = [
        ("Studies", {str(key): n for key, n in counts.studies.items()}, f"{counts.instances} instances held"),
        (
            "Jobs",
            {str(key): n for key, n in counts.jobs.items()},
            _age("oldest waits", counts.oldest_queued_s),
        ),
        (
            "Deliveries",
            {str(key): n for key, n in counts.deliveries.items()},
            _age("oldest waits", counts.oldest_waiting_s),
        ),
    ]
    for name, by_state, note in rows:
        line = Text("   ").join(
            Text.assemble((str(number), "bold"), " ", state(key)) if number else Text(f"0 {key}", "dim")
            for key, number in by_state.items()
        )
        table.add_row(Text(name, "bold"), Text.assemble(line, ("   " + note if note else "", "dim")))
    return Padding(table, (0, 0, 1, 2))


def _studies(standing: Standing, patient: bool) -> RenderableType:
    if not standing.studies:
        return Text("  No study has arrived yet.\n", "dim")
    table = plain_table("Last image", "Study", "From", "Images", "State", "Jobs", "Where it stands")
    if patient:
        table.add_column("Patient")
    for line in standing.studies:
        study = line.study
        cells: list[RenderableType] = [
            clock_time(study.last_arrival_at, standing.at),
            study.accession_number or f"…{str(study.study)[-10:]}",
            str(study.calling),
            str(study.instances),
            state(study.state),
            " ".join(str(job) for job in line.jobs),
            line.where,
        ]
        table.add_row(*cells, *([study.patient_name] if patient else []))
    return Padding(table, (0, 0, 1, 2))


def as_values(standing: Standing, *, patient: bool) -> dict[str, object]:
    """The same for programs. Patient names, and what headers say in free text, are in it only where
    `patient`.
    """
    return {
        "at": standing.at,
        "well": standing.well,
        "alarms": [asdict(alarm) for alarm in standing.alarms],
        "counts": {
            "studies": {str(key): number for key, number in standing.counts.studies.items()},
            "jobs": {str(key): number for key, number in standing.counts.jobs.items()},
            "deliveries": {str(key): number for key, number in standing.counts.deliveries.items()},
            "instances": standing.counts.instances,
            "quarantined": standing.counts.quarantined,
            "unpublished": standing.counts.unpublished,
            "oldest_queued_s": standing.counts.oldest_queued_s,
            "oldest_waiting_s": standing.counts.oldest_waiting_s,
        },
        "serving": serving_values(standing.workers, standing.models),
        "studies": [
            {
                "study": str(line.study.study),
                "state": str(line.study.state),
                "instances": line.study.instances,
                "series": line.study.series,
                "calling": str(line.study.calling),
                "last_arrival_at": line.study.last_arrival_at,
                "closed_because": line.study.closed_because,
                "closed_as": line.study.closed_as,
                "jobs": list(line.jobs),
                "where": line.where if patient else without_values(line.where),
                **(
                    {"patient_name": line.study.patient_name, "accession_number": line.study.accession_number}
                    if patient  # Monitoring keeps what it is given: patients are shown only when asked for.
                    else {}
                ),
            }
            for line in standing.studies
        ],
    }


def _age(words: str, seconds: float | None) -> str:
    return "" if seconds is None else f"{words} {duration(seconds)}"

"""The queue as people and programs are told: who waits, since when, until when, and what can be done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from console.actions import Action, job_actions, quarantine_actions
from console.outlook import InHand, Outlook, Place, read_outlook
from console.settings import Site
from console.web.deck import Deck
from ledger.estimate import Promise
from ledger.identifiers import StudyId
from ledger.job import JobRecord
from ledger.overview import QuarantineRecord
from ledger.pause import Pause
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord
from ledger.wish import WishRecord

LIMIT = 300  # Who stands further back is told how many there are, and no time.


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A job that runs or waits. Times are seconds since 1970 UTC; `patient` is None where it may not be
    shown.
    """

    job: int
    study: int
    accession: str
    study_uid: str
    patient: tuple[str, str] | None
    model: str
    rule: str
    priority: str
    opened_at: float
    begins_at: float | None
    done_at: float | None  #: None: not known yet
    unknown: str  #: why it is not
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Row):
    """A job that waits."""

    arranged: bool  #: an operator decided its place
    due: bool
    attempts: int
    paused: str  #: who paused its model, and why; empty: nobody did
    above: int | None  #: the job before the one before it: behind that it goes when it goes up; 0: first


@dataclass(frozen=True, slots=True, kw_only=True)
class Running(Row):
    """A job in a worker's hands."""

    worker: str
    stage: str
    part: float | None
    started_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A file in quarantine, and what somebody decided about it."""

    file: QuarantineRecord
    wish: WishRecord | None
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePage:
    """Everything on the page, read at one moment."""

    at: float
    running: tuple[Running, ...]
    stat: tuple[Waiting, ...]
    routine: tuple[Waiting, ...]
    more: bool
    pauses: tuple[Pause, ...]
    quarantine: tuple[Held, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pausable:
    """What a form offers to pause."""

    models: tuple[str, ...]
    workers: tuple[str, ...]
    peers: tuple[str, ...]


def read_queue(deck: Deck, *, patients: bool) -> QueuePage:
    """Read it: a dozen queries, however long the history is."""
    ledger = deck.ledger
    found = read_outlook(ledger, limit=LIMIT)
    known = {place.queued.study.id: place.queued.study for place in (*found.stat, *found.routine)}
    for hand in found.running:
        if hand.job.study_id not in known:
            known[hand.job.study_id] = ledger.study(hand.job.study_id)
    files = ledger.quarantined(limit=50)
    wishes = {wish.quarantined: wish for wish in ledger.wishes_about([file.id for file in files])}
    return QueuePage(
        at=found.at,
        running=tuple(_running(hand, known, patients) for hand in found.running),
        stat=_lane(found.stat, patients),
        routine=_lane(found.routine, patients),
        more=found.more,
        pauses=found.pauses,
        quarantine=tuple(_held(file, wishes.get(file.id)) for file in files),
    )


def pausable(site: Site, ledger: Ledger, found: Outlook) -> Pausable:
    """Models that wait or run here, workers that were seen, peers that results go to."""
    jobs = [place.job for place in (*found.stat, *found.routine)] + [hand.job for hand in found.running]
    models = {job.model.partition("@")[0] for job in jobs if ":" not in job.model}
    models |= {one.model.partition("@")[0] for one in ledger.model_figures(since=found.at - 7 * 86400)}
    return Pausable(
        models=tuple(sorted(models)),
        workers=tuple(one.report.owner for one in found.workers),
        peers=tuple(peer.name for peer in site.peers if peer.send),
    )


def _lane(places: tuple[Place, ...], patients: bool) -> tuple[Waiting, ...]:
    return tuple(
        Waiting(
            **_common(place.job, place.queued.study, place.promise, patients),
            arranged=place.queued.arranged,
            due=place.queued.due,
            attempts=place.job.attempts,
            paused=place.pause.said if place.pause is not None else "",
            above=None if at == 0 else places[at - 2].job.id if at > 1 else 0,
        )
        for at, place in enumerate(places)
    )


def _running(hand: InHand, known: Mapping[StudyId, StudyRecord], patients: bool) -> Running:
    return Running(
        **_common(hand.job, known[hand.job.study_id], hand.promise, patients),
        worker=hand.job.lease_owner or "",
        stage=hand.work.stage if hand.work is not None else "",
        part=hand.work.part if hand.work is not None else None,
        started_at=hand.job.started_at,
    )


def _common(job: JobRecord, study: StudyRecord, promise: Promise, patients: bool) -> dict[str, Any]:
    return {
        "job": job.id,
        "study": study.id,
        "accession": study.accession_number,
        "study_uid": str(study.study),
        "patient": (study.patient_name, study.patient_id) if patients else None,
        "model": job.model,
        "rule": job.rule,
        "priority": str(job.priority),
        "opened_at": job.created_at,
        "begins_at": promise.begins_at,
        "done_at": promise.done_at,
        "unknown": promise.because,
        "actions": job_actions(job),
    }


def _held(file: QuarantineRecord, wish: WishRecord | None) -> Held:
    asked = wish is not None and wish.settled_at is None
    return Held(file=file, wish=wish, actions=quarantine_actions(asked=asked))

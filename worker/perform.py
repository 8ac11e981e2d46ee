"""
Performing what a task manager lists: claim a workitem, have its images here, wait for what the site's rule
makes of them, and say how it ended (IHE AI Workflow for Imaging: the Task Performer).

A workitem starts nothing by itself: the study is received, closed and routed like any other, and the workitem
follows it. So a late image, a second attempt and a crash need no special case, and a study that was analysed
before the workitem came is not analysed again. Each round looks at the ledger and does what is due; who died
in between is replaced by the next round, with the same Transaction UID.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from zoneinfo import ZoneInfo

import structlog
from pydicom.uid import generate_uid

from dicom_node.peers import PeerSettings
from dicom_node.workitem_messages import Listed, cancellation, performed, progress
from dicom_node.worklist import Answered, Step, Worklist
from dicom_node.worklist_settings import WorklistSettings
from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.errors import PeerError
from ledger.failpoint import failpoint
from ledger.fetch import FetchRecord, FetchState, NewFetch, Purpose
from ledger.identifiers import AETitle, Uid
from ledger.job import JobRecord, JobState
from ledger.store.ledger import Ledger
from ledger.study import RoutingNote, StudyRecord, StudyState
from ledger.workitem import NewWorkitem, Output, WorkitemRecord, WorkitemState
from results.words import plain
from worker.settings import WorkerSite

log = structlog.get_logger()

_OPEN = (
    WorkitemState.LISTED,
    WorkitemState.IN_PROGRESS,
    WorkitemState.COMPLETING,
    WorkitemState.CANCELING,
)
_UNDER_WAY = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.SENT)


#: A job and its deliveries
Followed = tuple[JobRecord, tuple[DeliveryRecord, ...]]


class Course(Enum):
    """Where the work on a workitem stands."""

    GOES_ON = auto()
    FINISHED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the course of a workitem follows from."""

    study: StudyRecord | None
    fetches: tuple[FetchRecord, ...]
    notes: tuple[RoutingNote, ...]  #: of its rule, from the last closing
    jobs: tuple[Followed, ...]  #: of its rule; no shadows
    waited_s: float  #: since it was claimed


@dataclass(frozen=True, slots=True)
class Verdict:
    """The course, in words for the task manager, and how far it is in percent."""

    course: Course
    because: str
    percent: int = 0


def judge(facts: Facts, *, images_within_s: float) -> Verdict:
    """The course of a workitem, from facts alone."""
    if facts.study is None or facts.study.state is StudyState.PURGED:
        return _without_images(facts, images_within_s)
    if facts.study.state is StudyState.OPEN:
        return Verdict(Course.GOES_ON, "images are coming", 10)
    current = [(job, sent) for job, sent in facts.jobs if job.state is not JobState.CANCELLED]
    return _with_jobs([job for job, _ in current], current) if current else _without_jobs(facts)


def _without_images(facts: Facts, within_s: float) -> Verdict:
    if facts.fetches and facts.fetches[-1].state is FetchState.ABANDONED:
        return Verdict(Course.FAILED, f"its images could not be fetched: {facts.fetches[-1].because}")
    if facts.waited_s >= within_s:
        return Verdict(Course.FAILED, f"its images did not come within {within_s:g} s")
    return Verdict(Course.GOES_ON, "waiting for its images")


def _without_jobs(facts: Facts) -> Verdict:
    if facts.jobs:
        return Verdict(Course.FAILED, f"its job was withdrawn: {facts.jobs[-1][0].because}")
    said = "; ".join(dict.fromkeys(note.because for note in facts.notes if not note.taken))
    return Verdict(Course.FAILED, f"no series of it is for the rule: {said or 'no rule looked at it'}")


def _with_jobs(jobs: Sequence[JobRecord], current: Sequence[Followed]) -> Verdict:
    if parked := [job for job in jobs if job.state is JobState.PARKED]:
        return Verdict(Course.FAILED, f"its job was given up: {parked[0].because}")
    if any(job.state is not JobState.DONE for job in jobs):
        return Verdict(Course.GOES_ON, "it is being computed", 50)
    deliveries = [one for _, sent in current for one in sent]
    if any(one.state in _UNDER_WAY for one in deliveries):
        return Verdict(Course.GOES_ON, "its results are on their way", 90)
    if stopped := [one for one in deliveries if one.state is DeliveryState.PARKED]:
        # An operator may still mend that: it stays ours, and says what it waits for.
        return Verdict(Course.GOES_ON, f"a result was refused by {stopped[0].peer}", 90)
    return Verdict(Course.FINISHED, "its results are committed", 100)


def committed(facts: Facts) -> tuple[Output, ...]:
    """Exactly what archives have proved to have, each object once."""
    return tuple(
        dict.fromkeys(
            Output(one.result.study, one.result.series, one.result.sop_class, one.result.sop_instance)
            for _, sent in facts.jobs
            for one in sent
            if one.state is DeliveryState.COMMITTED
        )
    )


class Performer:
    """Where workitems are performed. One is enough; several do no harm: a claim is the manager's to give."""

    def __init__(self, ledger: Ledger, site: WorkerSite) -> None:
        self._ledger, self._site = ledger, site
        self._zone = ZoneInfo(site.time_zone)
        self._next_look: dict[str, float] = {}
        self._away: set[str] = set()
        self._said: dict[int, str] = {}  #: what each manager heard last of each workitem of ours

    def round(self) -> None:
        """Look at every list that is due, and do what there is to do. Trouble with one holds up no other."""
        for peer in self._site.peers:
            if peer.worklist is None or time.monotonic() < self._next_look.get(peer.name, 0.0):
                continue
            self._next_look[peer.name] = time.monotonic() + peer.worklist.every_s
            try:
                self._look(peer, peer.worklist)
            except PeerError as error:
                if peer.name not in self._away:  # Said once: it may be away for days.
                    self._away.add(peer.name)
                    log.warning("worklist.away", peer=peer.name, because=str(error))
            else:
                self._away.discard(peer.name)

    def _look(self, peer: PeerSettings, settings: WorklistSettings) -> None:
        calling = AETitle.parse(self._site.node_ae_title)
        with Worklist.of(peer, calling=calling, deadline_s=peer.deadline_s) as worklist:
            for one in [*worklist.scheduled(settings.station)]:
                self._take_down(peer, settings, one)
            failpoint("workitem_listed")
            for workitem in self._ledger.workitems(manager=peer.name, states=_OPEN):
                self._go_on(worklist, settings, workitem)

    def _take_down(self, peer: PeerSettings, settings: WorklistSettings, one: Listed) -> None:
        rule = settings.rules.get(one.code)
        if rule is None:
            return  # Work for somebody else.
        new = NewWorkitem(
            manager=peer.name,
            sop_instance=one.sop_instance,
            study=one.study,
            code=one.code,
            rule=rule,
            transaction=Uid.parse(str(generate_uid(prefix=None))),
        )
        self._ledger.list_workitem(new)

    def _go_on(self, worklist: Worklist, settings: WorklistSettings, workitem: WorkitemRecord) -> None:
        if workitem.state is WorkitemState.LISTED:
            self._claim(worklist, workitem)
            return
        if workitem.state is WorkitemState.IN_PROGRESS:
            facts = self._facts(workitem)
            verdict = judge(facts, images_within_s=settings.images_within_s)
            if verdict.course is Course.GOES_ON:
                self._fetch(settings, workitem, facts)
                self._report(worklist, workitem, verdict)
                return
            if verdict.course is Course.FINISHED:
                workitem = self._ledger.workitem_finished(workitem.id, committed(facts), verdict.because)
            else:
                workitem = self._ledger.workitem_failed(workitem.id, verdict.because)
            failpoint("workitem_ended")
        self._end(worklist, workitem)

    def _claim(self, worklist: Worklist, workitem: WorkitemRecord) -> None:
        answer = worklist.change_state(workitem.sop_instance, "IN PROGRESS", workitem.transaction)
        failpoint("workitem_answered")
        if answer.step is Step.BUSY:
            # Whose it is shows whether our key opens it: a claim of ours may have got through before a crash.
            answer = worklist.say(workitem.sop_instance, progress(workitem.transaction, 0, "claimed"))
        if answer.step is Step.DONE:
            self._ledger.workitem_claimed(workitem.id, answer.because)
            log.info("workitem.claimed", workitem=workitem.id, peer=workitem.manager, rule=workitem.rule)
        elif answer.step is Step.GONE:
            self._lost(workitem, answer)

    def _report(self, worklist: Worklist, workitem: WorkitemRecord, verdict: Verdict) -> None:
        if self._said.get(workitem.id) == verdict.because:
            return
        words = plain(verdict.because, 1024)
        answer = worklist.say(workitem.sop_instance, progress(workitem.transaction, verdict.percent, words))
        if answer.step is Step.GONE:
            self._lost(workitem, answer)
        elif answer.step is Step.DONE:
            self._said[workitem.id] = verdict.because

    def _end(self, worklist: Worklist, workitem: WorkitemRecord) -> None:
        finished = workitem.state is WorkitemState.COMPLETING
        ended = self._local(workitem.ended_at)
        if finished:
            modifications = performed(
                workitem.transaction,
                code=workitem.code,
                station=self._site.node_ae_title,
                began=self._local(workitem.claimed_at),
                ended=ended,
                outputs=workitem.outputs,
                retrieve_from=self._retrieve_from(workitem),
                words=plain(workitem.because, 1024),
            )
        else:
            modifications = cancellation(workitem.transaction, ended, plain(workitem.because, 1024))
        answer = worklist.say(workitem.sop_instance, modifications)
        state = "COMPLETED" if finished else "CANCELED"
        if answer.step is not Step.REFUSED:  # Also where it is over: the next answer says how.
            answer = worklist.change_state(workitem.sop_instance, state, workitem.transaction)
        self._said.pop(workitem.id, None)
        if answer.step is Step.DONE:
            self._ledger.workitem_told(workitem.id)
            log.info("workitem.ended", workitem=workitem.id, peer=workitem.manager, state=state)
        elif answer.step is Step.GONE:
            self._lost(workitem, answer)
        else:
            log.warning("workitem.not_ended", workitem=workitem.id, because=answer.because)

    def _lost(self, workitem: WorkitemRecord, answer: Answered) -> None:
        self._ledger.workitem_taken(workitem.id, answer.because)
        log.warning("workitem.lost", workitem=workitem.id, peer=workitem.manager, because=answer.because)

    def _fetch(self, settings: WorklistSettings, workitem: WorkitemRecord, facts: Facts) -> None:
        """Have the images fetched where nobody sent them, once."""
        if not settings.fetch_from or facts.fetches or facts.study is not None:
            return
        self._ledger.ask_fetch(
            NewFetch(
                purpose=Purpose.WISH,
                study=workitem.study,
                peer=settings.fetch_from,
                told_with=None,
                because=f"{workitem.manager} lists it for rule {workitem.rule}",
            )
        )

    def _facts(self, workitem: WorkitemRecord) -> Facts:
        ledger = self._ledger
        study = ledger.study_by_uid(workitem.study)
        fetches = [one for one in ledger.fetches_of(workitem.study) if one.purpose is Purpose.WISH]
        waited_s = ledger.now() - (workitem.claimed_at or workitem.listed_at)
        if study is None:
            return Facts(None, tuple(fetches), (), (), waited_s)
        notes = [note for note in ledger.routing_notes(study.id) if note.rule == workitem.rule]
        jobs = [
            (job, tuple(ledger.deliveries_of(job.id)))
            for job in ledger.jobs_of(study.id)
            if job.rule == workitem.rule and not job.shadow
        ]
        return Facts(study, tuple(fetches), tuple(notes), tuple(jobs), waited_s)

    def _retrieve_from(self, workitem: WorkitemRecord) -> str:
        """The AE title of the archive that has the outputs; ours where no peer with one got them."""
        made = {one.sop_instance for one in workitem.outputs}
        study = self._ledger.study_by_uid(workitem.study)
        for job in self._ledger.jobs_of(study.id) if study else ():
            for one in self._ledger.deliveries_of(job.id):
                peer = self._site.peer(one.peer)
                if one.result.sop_instance in made and peer is not None and peer.ae_title:
                    return peer.ae_title
        return self._site.node_ae_title

    def _local(self, at: float | None) -> datetime:
        return datetime.fromtimestamp(at or self._ledger.now(), self._zone)

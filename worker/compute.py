"""
One job, from the claim to the last row: the order of the steps is the promise, so they stay on one screen.

Several jobs may be in hand at once, each in another step (`worker.seats`); each has a thread of its own that
takes its steps in this order, and none of them changes another's.

Results are computed in a folder that nobody else knows, kept in the spool under their digest, and only then
recorded, in one transaction with the deliveries that they open. A crash between any two steps leaves either
nothing, or files that the next attempt makes again, byte for byte, under the same names.
"""

import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog

from dicom_node.peers import PeerSettings, named
from dicom_node.spool import Spool
from ledger.errors import ModelError, SiteError
from ledger.failpoint import failpoint
from ledger.identifiers import JobId
from ledger.job import Claim, JobEvent, JobState, LeaseLost, Priority
from ledger.notification import Fault
from ledger.result import NewResult
from ledger.store.database import Collided, LedgerAway, LedgerRefused
from ledger.store.ledger import Ledger
from ledger.usage import Peak, ran_out
from models.settings import BUILT_IN_ONLY, ModelsSettings
from worker.attempt import Answer, Child, Interrupted, Lost
from worker.claim import Interruption, Lease, steady_s
from worker.exchange import (
    Admitted,
    Done,
    Entered,
    Failed,
    Progressed,
    ResultFile,
    RunReply,
    RunRequest,
    files_of,
)
from worker.lookout import Lookout
from worker.plans import plans_of
from worker.seats import Room, Seat, Seats
from worker.settings import WorkerSettings
from worker.verify import Verification
from worker.workplace import Workplace

log = structlog.get_logger()

_AWAY_PAUSE_S = 1.0
#: Nobody else writes the rows of a job that is ours: what collides so often will not stop colliding.
_COLLISIONS_MAX = 5

_LEFT_PAUSE_S = 0.1
_FAULTS = {"study": Fault.IMAGES, "model": Fault.MODEL, "site": Fault.SITE}
_GIVEN_BACK = {
    Interruption.STOPPING: "the worker was stopped",
    Interruption.BYSTANDER: "the child was lost for another job's sake",
    Interruption.SOMEBODY_IDLE: "another worker has nothing to do",
}

Told = TypeVar("Told")


class ForeignFile(ModelError):
    """The child named a file outside its own folder."""


def own_file(path: Path, folder: Path) -> Path:
    """`path`, if it is a file in `folder` and no way out of it. Raises `ForeignFile`.

    The child runs third-party code; it must not make us publish a file that only we can read.
    """
    if path.is_symlink() or path.resolve().parent != folder.resolve() or not path.is_file():
        raise ForeignFile(f"the child names {path.name}, which is not a file in its own folder")
    return path


def complete_at(paths: Sequence[Path]) -> float:
    """When the last of these spool files was received, in whole seconds since 1970 UTC: the time of a result.

    The file's own time of modification, and nothing that the ledger knows: so a job that is opened again by a
    renamed rule, a second rule or a rebuilt ledger makes the same bytes under the same UIDs. Backups keep it,
    to the second. A file that is missing counts for nothing here; `Verification` says so.
    """
    times = [0]
    for path in paths:
        with suppress(OSError):
            times.append(int(path.stat().st_mtime))
    return float(max(times))


class Bench:
    """Where jobs are computed, one at a time, with one being read before and one encoded after it."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        settings: WorkerSettings,
        child: Child,
        *,
        owner: str,
        workplace: Workplace,
        time_zone: str,
        models: ModelsSettings = BUILT_IN_ONLY,
        peers: Sequence[PeerSettings] = (),
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._settings = settings
        self._child = child
        self._owner = owner
        self._workplace = workplace
        self._time_zone = time_zone
        self._models = models
        self._peers = peers
        self._stopping = threading.Event()
        self._pause = threading.Event()  # Never set: a second goes by.
        # Who shares a child with a study that kills it loses an attempt: there must be another one.
        self.seats = Seats(ahead=settings.ahead and settings.attempts_max > 1)
        self._urgent: list[threading.Thread] = []
        self._lookout = Lookout(
            ledger, settings, child, self.seats, owner=owner, take_urgent=self._take_urgent
        )

    def open(self) -> None:
        """Tell others of this worker from now on."""
        self._lookout.start()

    def stop(self) -> None:
        """Give back the jobs in hand and take no other. Safe to call from a signal handler."""
        self._stopping.set()
        self.seats.ring(Interruption.STOPPING)

    def close(self) -> None:
        """After `stop`, and after the last `compute` has returned."""
        self._lookout.stop(within_s=self._settings.look_s)
        for thread in self._urgent:
            thread.join(self._settings.stop_s)

    def compute(self, hinted: JobId) -> None:
        """Take the job that this worker should do next, and do it. `hinted` is one that waits, or did."""
        if self._stopping.is_set():
            return
        with self.seats.hint():
            if (seat := self._take(hinted)) is not None:
                self._do(seat)

    def _take_urgent(self) -> None:
        """Have an urgent job go before the one that waits here, if there is one."""
        seat = None if self._stopping.is_set() else self._claim(urgent=True, ahead=True)
        if seat is not None:
            thread = threading.Thread(target=self._do, args=(seat,), name="urgent job", daemon=True)
            self._urgent = [*(one for one in self._urgent if one.is_alive()), thread]
            thread.start()

    def _take(self, hinted: JobId) -> Seat | None:
        """The best job for this worker, claimed."""
        with self.seats.choosing() as room:
            ahead = room is Room.AHEAD
            seat = None if room is Room.NONE else self._claim(ahead=ahead)
            if seat is None and (ahead or room is Room.NONE or self.seats.paused):
                # The hint came to the wrong place: somebody else shall have it, or this one later.
                self.seats.shut()
                self._ledger.pass_on([hinted])
            return seat

    def _claim(self, *, urgent: bool = False, ahead: bool = False) -> Seat | None:
        """Claim the best of what waits; what is left to another worker is waited for, for a moment."""
        left_until, passed_on = steady_s() + self._settings.affinity_s, False
        while not self._stopping.is_set():
            choice = self._ledger.choose_jobs(
                self._owner,
                self.seats.keeping.models,
                patience_s=self._settings.patience_s,
                affinity_s=self._settings.affinity_s,
                fresh_s=self._settings.lease_s,
                urgent=urgent,
                ahead=ahead and not urgent,
            )
            if choice.paused:
                self.seats.pause(paused=True)  # The lookout sees when that is over.
                log.info("worker.paused", owner=self._owner)
                return None
            for job_id in choice.jobs:
                claim = self._ledger.claim_job(
                    job_id,
                    owner=self._owner,
                    lease_s=self._settings.lease_s,
                    attempts_max=self._settings.attempts_max,
                )
                if claim is not None:
                    failpoint("job_claimed")
                    log.info("job.claimed", job=job_id, attempt=claim.attempt, model=claim.model)
                    return self.seats.take(claim)
            if choice.jobs:
                continue  # Others took them all; there may be more.
            if not choice.left or steady_s() > left_until:
                return None
            if not passed_on:
                self._ledger.pass_on(choice.left)
                passed_on = True
            self._stopping.wait(_LEFT_PAUSE_S)
        return None

    def _do(self, seat: Seat) -> None:
        """Do a claimed job."""
        claim, bell = seat.claim, seat.bell
        if self._stopping.is_set():  # It was set before there was a bell to ring.
            bell.ring(Interruption.STOPPING)
        folder = None
        lease = Lease(
            lambda: self._ledger.renew_job(claim),
            what=f"job {claim.job_id}",
            heartbeat_s=self._settings.heartbeat_s,
            silence_s=self._settings.silence_s,
            lost=lambda: bell.ring(Interruption.LEASE_LOST),
        )
        try:
            folder = self._workplace.folder(claim)
            with lease:
                self._attempt(seat, folder, lease)
        except LeaseLost as lost:
            log.warning("job.lost", job=claim.job_id, epoch=claim.epoch, because=str(lost))
            if lease.ledger_away:
                with suppress(LeaseLost):
                    self._release(claim, "the ledger was away for longer than the lease", 0.0)
        finally:
            self.seats.leave(seat)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _attempt(self, seat: Seat, folder: Path, lease: Lease) -> None:
        claim, bell = seat.claim, seat.bell
        paths = [self._spool.absolute(one.path) for one in claim.inputs]
        verification = Verification(
            list(zip(claim.inputs, paths, strict=True)), broken=lambda: bell.ring(Interruption.INPUT_BROKEN)
        )
        answer = self._run(seat, self._request(claim, paths, folder))
        if isinstance(answer, Interrupted) and answer.why is not Interruption.INPUT_BROKEN:
            verification.abandon()
            if answer.why is Interruption.LEASE_LOST:
                raise LeaseLost(f"job {claim.job_id} was broken off")
            self._release(claim, _GIVEN_BACK[answer.why], 0.0)
            return

        if isinstance(answer, Lost) or (isinstance(answer, Failed) and answer.fault in ("crash", "memory")):
            self.seats.forget_models()
        # Whatever the child says of them, it counts only if these are the bytes that arrived.
        if (broken := verification.result()) is not None:
            self._park(claim, lease, broken, Fault.SITE)  # The spool did not keep what it was given.
            return

        match answer:
            case Done(reply=reply):
                try:
                    results = [self._keep(one, folder, lease) for one in reply.files]
                except SiteError as error:
                    self._release(claim, str(error), self._settings.site_backoff_s)
                    return
                except ModelError as error:
                    self._park(claim, lease, str(error), Fault.MODEL)
                    return
                failpoint("results_kept")
                try:
                    self._finish(claim, reply, results, lease)
                except LedgerRefused as refused:
                    self._park(claim, lease, str(refused), Fault.SITE)
                    return
                failpoint("job_finished")
            case Failed(fault="study" | "model" | "site"):
                self._park(claim, lease, answer.because, _FAULTS[answer.fault])
            case Failed(fault="disk") | Lost(before_work=True):
                self._release(claim, answer.because, self._settings.site_backoff_s)
            case Failed(fault="memory") | Lost(killed=True):
                self._crashed(claim, lease, self._ran_out(seat, answer))
            case Failed() | Lost():
                self._crashed(claim, lease, answer.because)

    def _run(self, seat: Seat, request: RunRequest) -> Answer:
        """What the child answers. A run that has too little memory beside others waits until it is alone, and
        then has the last word.
        """

        def run(*, alone: bool) -> Answer:
            return self._child.run(request, seat.bell, hear=lambda said: self._hear(seat, said), alone=alone)

        answer = run(alone=seat.alone)
        if isinstance(answer, Failed) and answer.fault == "crowded":
            log.warning("job.crowded", job=seat.claim.job_id, because=answer.because)
            seat.stage, seat.admitted = None, None
            answer = run(alone=True)
        return answer

    def _hear(self, seat: Seat, said: Entered | Admitted | Progressed) -> None:
        self.seats.hear(seat, said)
        if isinstance(said, Entered) and seat.stage == "ready" and self.seats.waiting is not None:
            log.info("job.read_ahead", job=seat.claim.job_id)

    def _ran_out(self, seat: Seat, answer: Failed | Lost) -> str:
        """Remember that what the run was allowed was too much: the next attempt begins further down."""
        if seat.usage is None or seat.stage != "model":
            return answer.because
        # So torch names it where a GPU's memory ran out; all else is the host's.
        of_device = isinstance(answer, Failed) and answer.error == "OutOfMemoryError"
        used = ran_out(seat.usage, of_device=of_device and seat.usage.device != "cpu")
        try:
            self._ledger.record_usage(seat.claim.job_id, seat.claim.model, used)
        except SiteError as error:  # It is only a hint; that the job failed has to be told in any case.
            log.warning("job.usage_not_recorded", job=seat.claim.job_id, because=str(error))
        allowed = [
            f"{size / 2**30:.1f} GiB of {where}"
            for size, where in (
                (seat.usage.device_allowed, seat.usage.device),
                (seat.usage.host_allowed, "the host's memory"),
            )
            if size
        ]
        return f"{answer.because}; it was allowed {' and '.join(allowed)}"

    def _peaks(self, claim: Claim) -> tuple[Peak, ...]:
        try:
            return tuple(self._ledger.peaks(claim.model))
        except SiteError as error:  # The model's own estimate has to do.
            log.warning("job.peaks_not_known", job=claim.job_id, because=str(error))
            return ()

    def _request(self, claim: Claim, paths: list[Path], folder: Path) -> RunRequest:
        return RunRequest(
            number=claim.job_id,
            urgent=claim.priority is Priority.STAT,
            peaks=self._peaks(claim),
            model=claim.model,
            settings=claim.settings,
            **dict(files_of(claim, paths)),
            out=str(folder),
            at=complete_at(paths),
            time_zone=self._time_zone,
            plans=plans_of(claim, lambda name: named(self._peers, name)),
            shortfall=claim.shortfall,
            again=claim.again,
            device=self._settings.device,
            allow_python_models=self._settings.allow_python_models,
            models=self._models,
        )

    def _keep(self, one: ResultFile, folder: Path, lease: Lease) -> NewResult:
        lease.confirm()
        return one.kept(*self._spool.keep_result(own_file(Path(one.path), folder)))

    def _finish(self, claim: Claim, reply: RunReply, results: list[NewResult], lease: Lease) -> None:
        deliveries = self._told(
            claim,
            lease,
            lambda: self._ledger.finish_job(
                claim,
                outcome=reply.outcome,
                because=reply.because,
                model_identity=reply.model_identity,
                results=results,
                timings=reply.timings,
                used=reply.usage,
            ),
        )
        log.info(
            "job.done",
            job=claim.job_id,
            model=reply.model_identity,
            trust=reply.trust or "built-in",
            outcome=reply.outcome,
            results=len(results),
            deliveries=len(deliveries),
            **{f"{stage}_s": round(seconds, 3) for stage, seconds in reply.timings.items()},
        )

    def _park(self, claim: Claim, lease: Lease, because: str, fault: Fault) -> None:
        """It would end the same way again: somebody has to look."""
        self._told(claim, lease, lambda: self._ledger.park_job(claim, because, fault))
        log.error("job.parked", job=claim.job_id, because=because)

    def _crashed(self, claim: Claim, lease: Lease, because: str) -> None:
        state = self._told(
            claim,
            lease,
            lambda: self._ledger.return_job(
                claim,
                JobEvent.CRASHED,
                because=because,
                retry_in_s=self._settings.crash_backoff_s * claim.attempt,
                attempts_max=self._settings.attempts_max,
            ),
        )
        event = "job.parked" if state is JobState.PARKED else "job.crashed"
        log.error(event, job=claim.job_id, attempt=claim.attempt, because=because)

    def _release(self, claim: Claim, because: str, retry_in_s: float) -> None:
        """Not the job's fault: it waits without a counted attempt, however long the disk stays full.

        The ledger may lie on the same disk, so this does not ask the lease: giving back late harms nobody,
        and the ledger refuses it once somebody else has the job.
        """
        self._told(
            claim,
            None,
            lambda: self._ledger.return_job(
                claim,
                JobEvent.RELEASED,
                because=because,
                retry_in_s=retry_in_s,
                attempts_max=self._settings.attempts_max,
            ),
        )
        log.warning("job.given_back", job=claim.job_id, because=because)

    def _told(self, claim: Claim, lease: Lease | None, tell: Callable[[], Told]) -> Told:
        """Tell the ledger, again and again while it is away and the lease holds: a minute's work outlives a
        second's outage.

        Raises `LeaseLost`, and `LedgerRefused` where it would refuse the same again.
        """
        collisions = 0
        while True:
            if lease is not None:
                lease.confirm()
            try:
                return tell()
            except Collided as collided:
                collisions += 1
                if collisions == _COLLISIONS_MAX:
                    raise LedgerRefused(str(collided)) from collided
                because = str(collided)
            except LedgerAway as away:
                because = str(away)
            log.warning("job.not_recorded", job=claim.job_id, because=because)
            self._pause.wait(_AWAY_PAUSE_S)

"""A worker that is held still, and what it tells of its work."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ledger.job import JobState
from ledger.pause import PauseKind
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.usage import Gauges, Work, WorkerReport
from tests.ledger.people import ANN
from tests.patience import patient
from tests.peers.loopback import until
from tests.worker.site import QUICK, model, worker_bench
from tests.worker.test_seats import A_JOB, computing
from worker.attempt import Child
from worker.exchange import Entered, Progressed, Ready
from worker.lookout import Lookout
from worker.seats import Room, Seats

SOON = QUICK.model_copy(update={"look_s": 0.02})


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as opened:
        yield opened


def reports(ledger: Ledger) -> list[WorkerReport]:
    return [one.report for one in ledger.workers(fresh_s=60)]


def test_a_paused_worker_has_no_room_whatever_it_has_in_hand() -> None:
    seats = Seats(ahead=True)
    stirred = threading.Event()
    seats.wake = stirred.set
    seats.pause(paused=True)
    assert (seats.room, seats.open) == (Room.NONE, False)
    stirred.clear()
    seats.pause(paused=False)
    assert stirred.is_set()  # The consumer looks again at once.
    assert seats.room is Room.ANY
    computing(seats)
    assert seats.room is Room.AHEAD
    seats.pause(paused=True)
    assert seats.room is Room.NONE


def test_seats_know_how_far_each_job_is() -> None:
    seats = Seats(ahead=True)
    first, second = computing(seats), seats.take(replace(A_JOB, job_id=2))
    seats.hear(first, Progressed(part=0.25))
    assert [(one.job_id, one.stage, one.part) for one in seats.works] == [(1, "model", 0.25), (2, "", None)]
    assert all(one.since > 1.7e9 for one in seats.works)
    seats.hear(first, Entered(stage="computed"))
    assert seats.works[0].part is None  # It was of the stage before.
    seats.leave(first)
    seats.leave(second)
    assert seats.works == ()


def test_what_a_worker_tells_of_its_work_is_what_others_read(ledger: Ledger) -> None:
    report = WorkerReport(
        owner="w",
        device="NVIDIA H100",
        works=(Work(job_id=A_JOB.job_id, stage="model", since=1.75e9, part=0.5),),
        gauges=Gauges(used_bytes=1, total_bytes=2, temperature_c=61.0),
    )
    ledger.report_worker(report)
    assert reports(ledger) == [report]
    ledger.report_worker(replace(report, works=(), gauges=None))
    assert reports(ledger) == [WorkerReport(owner="w", device="NVIDIA H100")]


class Standing(Child):
    """A child that stands ready and computes nothing: the lookout only asks whether it is there."""

    def __init__(self) -> None:
        super().__init__(SOON, {})
        self.ready = Ready(device="cpu", budget_bytes=10)


def test_a_paused_worker_says_that_it_is_not_idle_and_looks_out_for_the_end_of_it(ledger: Ledger) -> None:
    seats, child = Seats(ahead=True), Standing()
    lookout = Lookout(ledger, SOON, child, seats, owner="w", take_urgent=lambda: None)
    ledger.pause(PauseKind.WORKER, "w", by=ANN)
    seats.pause(paused=True)
    lookout.start()
    try:
        until(lambda: reports(ledger), within_s=10, what="the worker told of itself")
        assert [one.idle for one in reports(ledger)] == [False]
        ledger.resume(PauseKind.WORKER, "w", by=ANN)
        until(lambda: seats.open, within_s=10, what="the worker takes jobs again")
        until(lambda: [one.idle for one in reports(ledger)] == [True], within_s=10, what="it says so")
    finally:
        lookout.stop(within_s=10)
        child.kill()


def test_progress_is_told_once_a_second_and_news_at_once(ledger: Ledger) -> None:
    seats, child = Seats(ahead=True), Standing()
    lookout = Lookout(ledger, SOON, child, seats, owner="w", take_urgent=lambda: None)
    told: list[WorkerReport] = []
    ledger.report_worker = told.append  # type: ignore[method-assign]
    lookout.start()
    try:
        until(lambda: told and told[-1].idle, within_s=10, what="it is idle")
        seat = computing(seats)
        until(lambda: not told[-1].idle, within_s=10, what="it works")
        before = len(told)
        for hundredth in range(1, 51):
            seats.hear(seat, Progressed(part=hundredth / 100))
        until(lambda: told[-1].works and told[-1].works[0].part == 0.5, within_s=10, what="how far it is")
        # Fifty times something changed within a moment, and it was worth two reports at most.
        assert len(told) - before <= 2
        seats.leave(seat)
        until(lambda: told[-1].idle, within_s=10, what="it is idle again")
        assert told[-1].works == ()
    finally:
        lookout.stop(within_s=10)
        child.kill()


@pytest.mark.peer
def test_a_real_worker_tells_how_far_it_is_rests_when_it_is_told_to_and_goes_on_at_once(tmp_path) -> None:
    gate = tmp_path / "gate"
    with worker_bench(
        tmp_path, worker=QUICK.model_copy(update={"look_s": 0.2, "republish_after_s": 60.0})
    ) as bench:
        bench.start("dispatch")
        worker = bench.start("compute")
        running = bench.open_job(model("Telling"), settings={"until": str(gate)})

        def told() -> Work | None:
            works = [work for one in reports(bench.ledger) for work in one.works]
            return next((one for one in works if one.part is not None), None)

        until(told, within_s=40, what="the worker says how far its job is")
        work = told()
        assert work is not None
        assert (work.job_id, work.stage, work.part) == (running, "model", 0.75)

        (owner,) = [one.owner for one in reports(bench.ledger)]
        bench.ledger.pause(PauseKind.WORKER, owner, by=ANN, because="new driver")
        waiting = bench.open_job(model("Fine"))
        gate.touch()
        bench.wait(running, JobState.DONE)
        until(lambda: "worker.paused" in worker.log.read_text(), within_s=20, what="the worker rests")
        hinted = _hints(bench.ledger)
        assert not threading.Event().wait(patient(0.3))  # A busy loop would hint a hundred times.
        assert _hints(bench.ledger) - hinted <= 2
        assert bench.job(waiting).state is JobState.QUEUED
        assert bench.job(waiting).attempts == 0

        bench.ledger.resume(PauseKind.WORKER, owner, by=ANN)
        bench.wait(waiting, JobState.DONE, within_s=10)

        again = bench.ledger.run_again(waiting, by=ANN)
        bench.wait(again, JobState.DONE, within_s=20)
        first, second = (
            {one.sop_instance for one in bench.ledger.results_of(job)} for job in (waiting, again)
        )
        assert len(first) == len(second) > 0
        assert not first & second  # What another run makes may differ in a byte.


def _hints(ledger: Ledger) -> int:
    """How many hints there have been so far."""
    with ledger.write() as tx:
        return int(
            tx.connection.exec_driver_sql(
                "SELECT max(seq) FROM sqlite_sequence WHERE name='outbox'"
            ).scalar_one()
        )

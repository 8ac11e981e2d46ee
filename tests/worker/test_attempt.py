"""The parent's side of runs, with a real child: whom it lets go of, who comes again, who is never killed."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ledger.identifiers import StudyId, Uid
from ledger.job import Claim, Priority
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.usage import WorkerReport
from models.training.phantom_series import write_series
from models.training.phantoms import chest
from tests.patience import patient
from tests.peers.loopback import until
from tests.worker.site import QUICK, ROOT, model
from worker.attempt import Answer, Child, Interrupted, Lost
from worker.claim import Bell, Interruption, steady_s
from worker.exchange import Done, Entered, RunRequest
from worker.lookout import Lookout
from worker.seats import Seats

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> list[Path]:
    return write_series(chest((8, 48, 48), seed=5), tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    process = Child(QUICK, ENVIRONMENT)
    process.start()
    yield process
    process.kill()


class Run:
    """A run of a job in a thread of its own, what is heard of it, and its answer."""

    def __init__(self, child: Child, job: int, series, folder: Path, name="Fine", *, bell=None, **settings):
        self.bell = bell or Bell()
        self.stages: list[str] = []
        self.answer: Answer | None = None
        out = folder / f"run{sum(1 for _ in folder.iterdir())}"
        out.mkdir()
        request = RunRequest(
            number=job, model=model(name), settings=settings, at=1.7e9, inputs=tuple(map(str, series)),
            out=str(out), device="cpu", allow_python_models=True,
        )  # fmt: skip
        self.thread = threading.Thread(target=self._run, args=(child, request), daemon=True)
        self.thread.start()

    def _run(self, child: Child, request: RunRequest) -> None:
        self.answer = child.run(request, self.bell, hear=self._hear)

    def _hear(self, said) -> None:
        if isinstance(said, Entered):
            self.stages.append(said.stage)

    def wait(self, stage: str) -> None:
        until(lambda: stage in self.stages or self.answer, within_s=30, what=f"the run is in {stage}")
        assert self.answer is None

    def end(self) -> Answer | None:
        self.thread.join(patient(30))
        return self.answer


@pytest.mark.parametrize("why", [Interruption.SOMEBODY_IDLE, Interruption.LEASE_LOST])
def test_a_job_that_was_given_back_while_it_waited_may_come_again_before_the_child_let_go_of_it(
    child, series, tmp_path, why
):
    gate = tmp_path / "gate"
    neighbour = Run(child, 1, series, tmp_path, "Slow", until=str(gate))
    neighbour.wait("model")
    before = Run(child, 2, series, tmp_path)
    before.wait("ready")
    if why is Interruption.SOMEBODY_IDLE:
        assert child.let_go(before.bell)
    else:
        before.bell.ring(why)
    assert before.end() == Interrupted(why)
    again = Run(child, 2, series, tmp_path)
    again.wait("ready")
    gate.touch()

    assert isinstance(neighbour.end(), Done)
    assert isinstance(again.end(), Done)
    assert before.stages == ["load", "ready"]


def test_nothing_that_computes_is_ended_because_another_worker_is_idle(child, series, tmp_path):
    """The worker looked, and saw a job that waits; by the time that it acts, the job computes."""
    gate = tmp_path / "gate"
    seats = Seats(ahead=True)
    first, second = (
        seats.take(
            Claim(
                job_id=number, epoch=1, owner="w", lease_s=60.0, attempt=1, study_id=StudyId(1),
                study=Uid("1.2"), series=Uid("1.3"), rule="r", model="m", settings={},
                priority=Priority.ROUTINE, destinations=(), inputs=(),
            )
        )
        for number in (1, 2)
    )  # fmt: skip
    seats.hear(first, Entered(stage="model"))
    run = Run(child, 2, series, tmp_path, "Slow", bell=second.bell, until=str(gate))
    run.wait("model")
    pid = child.pid
    assert seats.waiting is second  # What is known here is old.

    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        ledger.report_worker(WorkerReport(owner="bored", idle=True))
        settings = QUICK.model_copy(update={"look_s": 0.05})
        lookout = Lookout(ledger, settings, child, seats, owner="w", take_urgent=lambda: None)
        lookout.start()
        for _ in range(2):  # Seen for the second time, the first look is over.
            until(lambda: seats.others_idle, within_s=10, what="the worker sees that another is idle")
            seats.others_idle = False
        gate.touch()
        answer = run.end()
        lookout.stop(within_s=10)

    assert isinstance(answer, Done)
    assert child.pid == pid


def test_a_child_that_cannot_be_started_gives_its_jobs_back_and_is_tried_once_a_second(
    series, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    child = Child(QUICK, ENVIRONMENT)
    with capture_logs() as logged:
        began = steady_s()
        answers = [Run(child, job, series, tmp_path).end() for job in (1, 2, 3)]
        passed_s = steady_s() - began
    monkeypatch.undo()

    for answer in answers:
        assert isinstance(answer, Lost)
        assert answer.before_work
        assert "could not start the process that computes (No such file or directory)" in answer.because
    assert 1.9 < passed_s < patient(15)
    told = [line["because"] for line in logged if line["event"] == "child.not_started"]
    assert len(told) == 3
    assert len(logged) <= 4  # Nothing else, but for a try that is under way.
    # Nobody has to ask again: it starts as soon as it can be.
    until(lambda: child.ready, within_s=30, what="the child is ready")
    child.kill()

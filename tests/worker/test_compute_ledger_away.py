"""A worker whose ledger is away, or refuses: its job waits uncounted, or is parked, never left behind."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ledger.identifiers import JobId
from ledger.job import JobState
from tests.patience import patient
from tests.peers.loopback import until
from tests.worker.site import QUICK, WorkerBench, events, model, started, worker_bench
from worker.attempt import Child
from worker.compute import Bench
from worker.workplace import Workplace

pytestmark = pytest.mark.peer

BRIEF = QUICK.model_copy(update={"lease_s": 2.5, "heartbeat_s": 0.1, "silence_s": 2.0})


@contextmanager
def computing(bench: WorkerBench, job_id: JobId) -> Iterator[threading.Thread]:
    """A worker in this process computes the job; ends when it has."""
    child = Child(bench.site.worker, dict(os.environ))
    workplace = Workplace(bench.spool.path / "work", "here")
    worker = Bench(
        bench.ledger,
        bench.spool,
        bench.site.worker,
        child,
        owner="here",
        workplace=workplace,
        time_zone="UTC",
    )
    thread = threading.Thread(target=worker.compute, args=(job_id,))
    thread.start()
    try:
        yield thread
        thread.join(patient(20))
        assert not thread.is_alive()
    finally:
        child.kill()
        workplace.close()


@pytest.mark.parametrize("spool_is_full", [True, False])
def test_an_outage_longer_than_the_lease_does_not_count_as_an_attempt(tmp_path, monkeypatch, spool_is_full):
    monkeypatch.setattr("ledger.store.connect.BUSY_TIMEOUT_MS", 50)
    gate, trace = tmp_path / "gate", tmp_path / "trace"
    with worker_bench(tmp_path, worker=BRIEF) as bench:
        job_id = bench.open_job(model("Slow"), settings={"until": str(gate), "trace": str(trace)})
        with computing(bench, job_id):
            started(trace)
            if spool_is_full:
                shutil.rmtree(tmp_path / "spool" / "results")
            no_room = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
            no_room.execute("BEGIN IMMEDIATE")
            gate.touch()
            until(
                lambda: (bench.job(job_id).lease_until or 0) < bench.ledger.now() - 1,
                within_s=10,
                what="the lease ran out long ago",
            )
            assert bench.job(job_id).state is JobState.RUNNING
            no_room.execute("ROLLBACK")
            no_room.close()

        job = bench.job(job_id)
        assert (job.state, job.attempts) == (JobState.QUEUED, 0)
        assert events(bench, job_id) == ["opened", "claimed", "released"]


def test_a_job_is_computed_although_nobody_can_say_what_its_model_took_before(tmp_path):
    with worker_bench(tmp_path) as bench:
        job_id = bench.open_job(model("Broken"))
        with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
            other.execute("DROP TABLE usage")
        with computing(bench, job_id):
            pass

        job = bench.job(job_id)
        assert job.state is JobState.PARKED
        assert "the weights do not fit the network" in job.because


def test_a_run_that_ran_out_of_memory_is_given_back_although_what_it_took_is_not_recorded(tmp_path):
    with worker_bench(tmp_path) as bench:
        allowed = tmp_path / "allowed"
        job_id = bench.open_job("tests.worker.fault_models.hungry:Killed", settings={"allowed": str(allowed)})
        with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
            other.execute(
                "CREATE TRIGGER no BEFORE INSERT ON usage BEGIN SELECT RAISE(ABORT, 'no more usage'); END"
            )
        with computing(bench, job_id):
            pass

        assert allowed.exists()
        job = bench.job(job_id)
        assert (job.state, job.attempts) == (JobState.QUEUED, 1)
        assert events(bench, job_id) == ["opened", "claimed", "crashed"]
        assert bench.ledger.usages_of(job_id) == []


def test_a_result_that_the_ledger_refuses_again_and_again_parks_its_job(tmp_path, monkeypatch):
    monkeypatch.setattr("worker.compute._AWAY_PAUSE_S", 0.01)
    with worker_bench(tmp_path) as bench:
        job_id = bench.open_job(model("Fine"))
        with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
            other.execute(
                "CREATE TRIGGER no BEFORE INSERT ON result BEGIN SELECT RAISE(ABORT, 'no more results'); END"
            )
        with computing(bench, job_id):
            pass

        job = bench.job(job_id)
        assert job.state is JobState.PARKED
        assert "no more results" in job.because
        assert bench.ledger.results_of(job_id) == []

"""Workers that die, freeze or are stopped in the middle of a job: somebody else finishes it, once."""

import os
import signal
from pathlib import Path

import pydicom
import pytest

from ledger.job import JobState, Priority
from ledger.result import Role
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.ledger.site import OPERATOR
from tests.patience import patient
from tests.peers.loopback import until
from tests.worker.site import QUICK, close, events, model, receive, started, traces, worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]


def test_a_killed_workers_job_runs_elsewhere_when_its_lease_is_over(tmp_path):
    with worker_bench(tmp_path) as bench:
        gate, trace = tmp_path / "gate", tmp_path / "trace"
        job_id = bench.open_job(model("Slow"), settings={"until": str(gate), "trace": str(trace)})
        bench.start("dispatch")
        first = bench.start("compute")
        started(trace)
        bench.start("compute")
        first.kill()
        started(trace, runs=2)
        gate.touch()
        job = bench.wait(job_id, JobState.DONE)

        assert job.attempts == 2
        assert "lease_expired" in events(bench, job_id)
        assert len(bench.kept(job_id)) == 2
        until(lambda: not bench.leftovers(), within_s=5, what="nothing is left over")


def test_a_worker_that_wakes_up_after_its_lease_changes_nothing(tmp_path):
    # One heartbeat, late: its thread could be stopped with SQLite's lock in its hands.
    with worker_bench(tmp_path, worker=QUICK.model_copy(update={"heartbeat_s": 1.9})) as bench:
        gate, trace = tmp_path / "gate", tmp_path / "trace"
        job_id = bench.open_job(model("Slow"), settings={"until": str(gate), "trace": str(trace)})
        bench.start("dispatch")
        sleeper = bench.start("compute")
        started(trace)
        sleeper.signal(signal.SIGSTOP)
        bench.start("compute")
        started(trace, runs=2)
        # Both children may finish now: the sleeper's has its answer in the pipe before its parent wakes up.
        gate.touch()
        done = bench.wait(job_id, JobState.DONE)
        before = (bench.kept(job_id), bench.ledger.history(job_id=job_id))
        sleeper.signal(signal.SIGCONT)
        until(lambda: "job.lost" in sleeper.log.read_text(), within_s=10, what="the sleeper noticed")

        assert (bench.kept(job_id), bench.ledger.history(job_id=job_id)) == before
        assert bench.job(job_id) == done
        assert events(bench, job_id).count("finished") == 1
        until(lambda: not bench.leftovers(), within_s=5, what="the sleeper cleared its folder")


def test_a_stopped_worker_gives_its_job_back_uncounted(tmp_path):
    with worker_bench(tmp_path) as bench:
        gate, trace = tmp_path / "gate", tmp_path / "trace"
        job_id = bench.open_job(model("Slow"), settings={"until": str(gate), "trace": str(trace)})
        dispatch = bench.start("dispatch")
        first = bench.start("compute")
        pid = started(trace)

        assert first.stop(within_s=10) == 0
        assert not Path(f"/proc/{pid}").exists()
        assert bench.job(job_id).state is JobState.QUEUED
        assert not bench.leftovers()

        bench.start("compute")
        started(trace, runs=2)
        gate.touch()
        assert bench.wait(job_id, JobState.DONE).attempts == 1
        assert len(traces(trace)) == 2
        assert dispatch.stop(within_s=10) == 0


@pytest.mark.parametrize("point", ["job_claimed", "results_kept", "job_finished"])
def test_a_worker_killed_between_two_steps_leaves_one_set_of_results(tmp_path, point):
    with worker_bench(tmp_path) as bench:
        undisturbed = bench.open_job(model("Fine"))
        bench.start("dispatch")
        doomed = bench.start("compute", failpoint=f"{point}:kill")
        doomed.process.wait(patient(20))
        bench.start("compute")
        bench.wait(undisturbed, JobState.DONE)
        digests = bench.kept(undisturbed)

        assert len(digests) == 2
        assert events(bench, undisturbed).count("finished") == 1
        # The first attempt's files, where it kept any, are the second one's files.
        files = {path.stem for path in (tmp_path / "spool" / "results").iterdir()}
        assert files == set(digests)
        until(lambda: not bench.leftovers(), within_s=5, what="nothing is left over")


def test_a_job_withdrawn_while_it_runs_is_broken_off(tmp_path):
    with worker_bench(tmp_path) as bench:
        trace = tmp_path / "trace"
        job_id = bench.open_job(model("Slow"), settings={"seconds": 60, "trace": str(trace)})
        bench.start("dispatch")
        bench.start("compute")
        pid = started(trace)
        bench.ledger.cancel_job(job_id, "not needed", by=OPERATOR)

        until(lambda: not Path(f"/proc/{pid}").exists(), within_s=5, what="the run was broken off")
        assert bench.job(job_id).state is JobState.CANCELLED
        assert bench.ledger.results_of(job_id) == []


def test_every_part_stops_within_its_time_although_redis_is_away(tmp_path):
    with worker_bench(tmp_path) as bench:
        parts = [bench.start(part) for part in ("dispatch", "compute", "deliver")]
        bench.redis.kill()
        bench.open_job(model("Fine"))  # The dispatcher has something that it cannot publish.
        for part in parts:
            part.signal(signal.SIGTERM)

        assert [part.process.wait(patient(30)) for part in parts] == [0, 0, 0]


def test_other_jobs_on_the_same_images_make_the_same_bytes_under_the_same_uids(tmp_path):
    """Another rule, a ledger that was lost, images that came again: no reason for other bytes."""
    with worker_bench(tmp_path) as bench:
        first = bench.open_job(model("Fine"))
        for path in (tmp_path / "spool" / "instances").rglob("*.dcm"):
            os.utime(path, (1.7e9 + 0.25,) * 2)
        bench.start("dispatch")
        bench.start("compute")
        bench.wait(first, JobState.DONE)

        site = bench.site.model_copy(
            update={"ledger": LedgerSettings(url=f"sqlite:///{tmp_path}/rebuilt.sqlite")}
        )
        with Ledger.open(site.ledger) as rebuilt:
            study_id = receive(rebuilt, bench.spool, tmp_path / "again", seed=1)
            again = close(
                rebuilt, study_id, model("Fine"), settings={}, priority=Priority.STAT, destinations=()
            )
            bench.start("dispatch", site=site)
            bench.start("compute", site=site)
            until(lambda: rebuilt.job(again).state is JobState.DONE, within_s=20, what="it is made again")

            made, remade = bench.ledger.results_of(first), rebuilt.results_of(again)
        assert len(made) == 2
        assert [(one.sop_instance, one.digest) for one in made] == [
            (one.sop_instance, one.digest) for one in remade
        ]
        (report,) = [one for one in made if one.role is Role.REPORT]
        dataset = pydicom.dcmread(bench.spool.absolute(report.path))
        assert (dataset.ContentDate, dataset.ContentTime) == ("20231114", "221320.000000")

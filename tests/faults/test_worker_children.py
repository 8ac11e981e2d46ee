"""What a model can do to a worker, and what is left of it afterwards."""

import os
import signal
from pathlib import Path

import pytest

from ledger.job import JobState, Outcome
from tests.peers.loopback import until
from tests.worker.site import QUICK, events, model, started, traces, worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]


def test_a_child_that_is_killed_returns_its_job_at_once_and_the_result_is_the_same(tmp_path):
    with worker_bench(tmp_path, worker=QUICK.model_copy(update={"lease_s": 60, "silence_s": 45})) as bench:
        gate, trace = tmp_path / "gate", tmp_path / "trace"
        undisturbed = bench.open_job(model("Slow"), settings={"until": str(gate), "trace": str(trace)})
        bench.start("dispatch")
        bench.start("compute")
        os.kill(started(trace), signal.SIGKILL)
        # The lease is 60 s long: whoever sees the second run within seconds did not wait for it.
        second = started(trace, runs=2)
        gate.touch()
        job = bench.wait(undisturbed, JobState.DONE)

        assert job.attempts == 2
        assert second != traces(trace)[0]
        assert "crashed" in events(bench, undisturbed)
        assert len(bench.kept(undisturbed)) == 2
        assert not bench.leftovers()


def test_a_poison_study_is_parked_after_three_attempts_and_the_queue_moves_on(tmp_path):
    with worker_bench(tmp_path) as bench:
        poison = bench.open_job(model("Poison"))
        fine = bench.open_job(model("Fine"))
        bench.start("dispatch")
        bench.start("compute")
        parked = bench.wait(poison, JobState.PARKED)
        bench.wait(fine, JobState.DONE)

        assert parked.attempts == 3
        assert "killed by signal 9" in parked.because
        assert "attempt 3 of 3" in parked.because
        assert bench.ledger.results_of(poison) == []


def test_a_model_that_hangs_is_killed_at_its_manifests_limit(tmp_path):
    with worker_bench(tmp_path, worker=QUICK.model_copy(update={"attempts_max": 1})) as bench:
        trace = tmp_path / "trace"
        hang = bench.open_job(model("Hang"), settings={"trace": str(trace)})
        bench.start("dispatch")
        bench.start("compute")
        pid = started(trace)
        parked = bench.wait(hang, JobState.PARKED)

        assert "killed after 0.7 s, its time limit, while the model ran" in parked.because
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("name", "because", "attempts"),
    [
        ("Greedy", "not enough memory", 2),
        ("Careless", "KeyError was raised in models.py", 2),
        ("Broken", "the weights do not fit the network", 1),
    ],
)
def test_what_a_model_raises_parks_its_job_with_the_reason(tmp_path, name, because, attempts):
    with worker_bench(tmp_path, worker=QUICK.model_copy(update={"attempts_max": 2})) as bench:
        job_id = bench.open_job(model(name))
        bench.start("dispatch")
        bench.start("compute")
        parked = bench.wait(job_id, JobState.PARKED)

        assert because in parked.because
        assert parked.attempts == attempts
        assert "CANARY" not in bench.log
        assert "CANARY" not in parked.because


def test_a_child_outlives_a_run_but_not_one_that_went_wrong(tmp_path):
    trace = {"trace": str(tmp_path / "trace")}
    settings = QUICK.model_copy(update={"attempts_max": 1, "runs_per_child": 3})
    with worker_bench(tmp_path, worker=settings) as bench:
        bench.start("dispatch")
        bench.start("compute")
        # Three of one process; one of the next, its last because it went wrong; one of a third.
        for name, state in [("Fine", "done")] * 3 + [("Careless", "parked"), ("Fine", "done")]:
            bench.wait(bench.open_job(model(name), settings=trace), JobState(state))
        first, second, third, fourth, fifth = traces(tmp_path / "trace")

        assert first == second == third
        assert len({third, fourth, fifth}) == 3


def test_an_unknown_model_parks_its_job_at_once(tmp_path):
    with worker_bench(tmp_path) as bench:
        job_id = bench.open_job("no_such_model@1")
        bench.start("dispatch")
        bench.start("compute")

        assert "no_such_model@1" in bench.wait(job_id, JobState.PARKED).because


def test_a_child_that_cannot_even_start_is_not_the_studys_fault(tmp_path):
    # 256 MiB of address space: torch cannot be imported.
    cramped = QUICK.model_copy(update={"child_memory_mib": 256, "site_backoff_s": 60})
    with worker_bench(tmp_path, worker=cramped) as bench:
        job_id = bench.open_job(model("Fine"))
        bench.start("dispatch")
        bench.start("compute")
        until(lambda: "released" in events(bench, job_id), within_s=15, what="the job was given back")

        job = bench.job(job_id)
        assert (job.state, job.attempts) == (JobState.QUEUED, 0)
        assert "while it started" in job.because


def test_a_broken_disk_costs_no_attempt_and_work_resumes_when_it_is_mended(tmp_path):
    with worker_bench(tmp_path) as bench:
        job_id = bench.open_job(model("Fine"))
        results = tmp_path / "spool" / "results"
        bench.start("dispatch")
        bench.start("compute")
        results.rename(tmp_path / "elsewhere")
        results.touch()  # a file where a folder should be: nothing can be kept
        until(
            lambda: events(bench, job_id).count("released") >= 2, within_s=15, what="it was given back twice"
        )
        results.unlink()
        (tmp_path / "elsewhere").rename(results)
        job = bench.wait(job_id, JobState.DONE)

        assert job.attempts == 1
        assert len(bench.kept(job_id)) == 2


def test_a_series_that_the_model_refuses_gets_a_report_that_says_so(tmp_path):
    with worker_bench(tmp_path) as bench:
        job_id = bench.open_job(model("Picky"))
        bench.start("dispatch")
        bench.start("compute")
        job = bench.wait(job_id, JobState.DONE)

        assert job.outcome is Outcome.REFUSED
        assert "the lungs are not in the picture" in job.because
        assert [one.role for one in bench.ledger.results_of(job_id)] == ["report"]


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_an_input_that_is_not_what_arrived_parks_the_job_and_names_the_instance(tmp_path, damage):
    with worker_bench(tmp_path) as bench:
        job_id = bench.open_job(model("Fine"))
        (series,) = bench.ledger.series_of(bench.job(job_id).study_id)
        hurt = series.instances[3]
        path = bench.spool.absolute(hurt.path)
        if damage == "missing":
            path.unlink()
        else:
            contents = bytearray(path.read_bytes())
            contents[-100] ^= 0x10
            path.chmod(0o600)
            path.write_bytes(contents)
        bench.start("dispatch")
        bench.start("compute")
        parked = bench.wait(job_id, JobState.PARKED)

        assert "input_corrupt" in parked.because
        assert str(hurt.sop_instance) in parked.because
        assert bench.ledger.results_of(job_id) == []


def test_the_child_dies_with_its_parent(tmp_path):
    with worker_bench(tmp_path) as bench:
        trace = tmp_path / "trace"
        bench.open_job(model("Slow"), settings={"seconds": 60, "trace": str(trace)})
        bench.start("dispatch")
        compute = bench.start("compute")
        pid = started(trace)
        assert pid in compute.children()
        compute.kill()

        until(lambda: not Path(f"/proc/{pid}").exists(), within_s=5, what="the child is gone")


def test_the_parent_knows_no_torch(tmp_path):
    with worker_bench(tmp_path) as bench:
        job_id = bench.open_job(model("Fine"))
        bench.start("dispatch")
        compute = bench.start("compute")
        bench.wait(job_id, JobState.DONE)
        (child,) = compute.children()

        assert "libtorch" not in Path(f"/proc/{compute.process.pid}/maps").read_text()
        assert "libtorch" in Path(f"/proc/{child}/maps").read_text()


def test_the_child_sees_no_credentials(tmp_path, monkeypatch):
    monkeypatch.setenv("WETREAD_LEDGER_PASSWORD", "secret")
    with worker_bench(tmp_path) as bench:
        compute = bench.start("compute")
        (child,) = until(compute.children, within_s=5, what="there is a child")
        environment = Path(f"/proc/{child}/environ").read_bytes()
        command = Path(f"/proc/{child}/cmdline").read_bytes()

        assert b"secret" not in environment
        assert b"sqlite" not in command + environment
        assert b"redis" not in command + environment


def test_a_device_that_is_not_there_is_no_studys_fault(tmp_path):
    with worker_bench(tmp_path, worker=QUICK.model_copy(update={"device": "cuda:77"})) as bench:
        job = bench.open_job(model("Fine"))
        bench.start("dispatch")
        bench.start("compute")
        until(lambda: events(bench, job).count("released") > 1, within_s=20, what="it was given back twice")

        waiting = bench.job(job)
        assert waiting.attempts == 0
        assert "there is no device 'cuda:77' that could be used here, only cpu" in waiting.because
        assert "job.given_back" in bench.log


def test_a_worker_that_starts_and_stops_is_plainly_told(tmp_path):
    with worker_bench(tmp_path) as bench:
        compute = bench.start("compute")
        compute.stop()
        told = compute.log.read_text()
    assert '"part": "compute"' in told
    assert "SecurityWarning" not in told
    assert "x0a" not in told

"""Jobs that share a child: what one does to the others, and what they may never do to each other."""

import os
import signal

import pytest

from ledger.job import JobEvent, JobState, Priority
from tests.ledger.site import OPERATOR
from tests.patience import patient
from tests.peers.loopback import until
from tests.peers.postgresql import postgresql
from tests.worker.site import QUICK, WorkerBench, events, model, started, traces, worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]

#: Nobody loses a lease here by being slow: what happens to jobs is to be told apart.
CALM = QUICK.model_copy(update={"lease_s": 60, "heartbeat_s": 5, "silence_s": 45, "look_s": 0.1})
HUNGRY = "tests.worker.fault_models.hungry"


def computing(bench: WorkerBench, **more):
    """A job that computes until its gate is there, and the path of the gate."""
    gate, trace = bench.folder / "gate", bench.folder / "trace"
    job_id = bench.open_job(model("Slow"), settings={"until": str(gate), "trace": str(trace)}, **more)
    started(trace, runs=len(traces(trace)) + 1)
    return job_id, gate


def claimed(bench: WorkerBench, job_id) -> None:
    until(lambda: "claimed" in events(bench, job_id), within_s=15, what=f"job {job_id} is taken ahead")


def was_read(bench: WorkerBench, job_id) -> None:
    """Its input lies in the child's memory, and it waits for the model."""
    until(
        lambda: any(
            "job.read_ahead" in line and f'"job": {job_id}' in line for line in bench.log.splitlines()
        ),
        within_s=15,
        what=f"job {job_id} is read ahead",
    )


def test_the_next_job_is_read_while_one_computes_and_the_ledger_has_the_proof(tmp_path):
    with worker_bench(tmp_path, worker=CALM) as bench:
        bench.start("dispatch")
        bench.start("compute")
        first, gate = computing(bench)
        second = bench.open_job(model("Fine"))
        third = bench.open_job(model("Fine"))
        claimed(bench, second)
        assert bench.job(third).state is JobState.QUEUED  # One ahead, and no more.
        was_read(bench, second)
        gate.touch()
        for job_id in (first, second, third):
            bench.wait(job_id, JobState.DONE)

        (slow,), (fast,) = bench.ledger.usages_of(first), bench.ledger.usages_of(second)
        ended = slow.usage.began["model"] + slow.usage.seconds["model"]
        assert fast.usage.began["load"] < ended <= fast.usage.began["model"] + 0.01
        assert {"queue", "load", "wait", "open", "model", "encode", "check"} == set(fast.usage.seconds)
        assert bench.job(second).timings == fast.usage.seconds
        (last,) = bench.ledger.usages_of(third)
        assert last.usage.resident


def test_a_study_that_kills_the_child_costs_its_neighbour_one_attempt_at_most(tmp_path):
    with worker_bench(tmp_path, worker=CALM) as bench:
        bench.start("dispatch")
        bench.start("compute")
        innocent, gate = computing(bench)
        poison = bench.open_job(model("Poison"))
        claimed(bench, poison)
        others = [bench.open_job(model("Fine")) for _ in range(2)]
        gate.touch()
        parked = bench.wait(poison, JobState.PARKED, within_s=40)
        done = [bench.wait(job_id, JobState.DONE, within_s=40) for job_id in (innocent, *others)]

        assert (parked.attempts, "killed by signal 9" in parked.because) == (3, True)
        assert all(job.attempts <= 2 for job in done)
        for job in done:
            assert len(bench.kept(job.id)) == 2
            assert events(bench, job.id).count("finished") == 1


def test_a_child_that_is_killed_gives_back_what_only_waited_in_it_uncounted(tmp_path):
    with worker_bench(tmp_path, worker=CALM) as bench:
        bench.start("dispatch")
        bench.start("compute")
        first, gate = computing(bench)
        second = bench.open_job(model("Fine"))
        claimed(bench, second)
        pid = traces(tmp_path / "trace")[-1]
        was_read(bench, second)
        os.kill(pid, signal.SIGKILL)
        started(tmp_path / "trace", runs=2)
        gate.touch()

        assert bench.wait(first, JobState.DONE).attempts == 2
        assert bench.wait(second, JobState.DONE).attempts == 1
        assert "released" in events(bench, second)


def test_a_hanging_model_is_killed_at_its_limit_and_its_neighbours_are_not_blamed(tmp_path):
    with worker_bench(tmp_path, worker=CALM.model_copy(update={"attempts_max": 2})) as bench:
        bench.start("dispatch")
        bench.start("compute")
        first, gate = computing(bench)
        hang = bench.open_job(model("Hang"))
        claimed(bench, hang)
        gate.touch()
        bench.wait(first, JobState.DONE)
        fine = bench.open_job(model("Fine"))

        parked = bench.wait(hang, JobState.PARKED)
        assert "killed after 0.7 s, its time limit, while the model ran" in parked.because
        assert bench.wait(fine, JobState.DONE).attempts == 1


def test_a_job_that_was_tried_before_is_next_and_does_not_wait_for_the_end_of_a_backlog(tmp_path):
    with worker_bench(tmp_path, worker=CALM) as bench:
        tried = bench.open_job(model("Slow"), settings={"seconds": 0.1})
        attempt = bench.ledger.claim_job(tried, owner="gone", lease_s=60, attempts_max=3)
        bench.start("dispatch")
        bench.start("compute")
        first, gate = computing(bench)
        ahead = bench.open_job(model("Slow"), settings={"seconds": 0.5})
        claimed(bench, ahead)
        bench.ledger.return_job(
            attempt, JobEvent.CRASHED, because="a neighbour died", retry_in_s=0, attempts_max=3
        )
        backlog = [bench.open_job(model("Slow"), settings={"seconds": 0.1}) for _ in range(3)]
        gate.touch()
        done = [bench.wait(one, JobState.DONE, within_s=40) for one in (first, ahead, tried, *backlog)]

        order = [job.id for job in sorted(done, key=lambda job: job.started_at)]
        assert order == [first, ahead, tried, *backlog]
        assert [job.attempts for job in done] == [1, 1, 2, 1, 1, 1]


def test_an_urgent_job_is_computed_before_one_that_was_already_read(tmp_path):
    with worker_bench(tmp_path, worker=CALM) as bench:
        bench.start("dispatch")
        bench.start("compute")
        first, gate = computing(bench)
        routine = bench.open_job(model("Fine"))
        claimed(bench, routine)
        urgent = bench.open_job(model("Fine"), priority=Priority.STAT)
        was_read(bench, urgent)
        gate.touch()
        for job_id in (first, routine, urgent):
            bench.wait(job_id, JobState.DONE)

        began = {
            job_id: bench.ledger.usages_of(job_id)[0].usage.began["model"] for job_id in (routine, urgent)
        }
        assert began[urgent] < began[routine]


def test_a_job_that_lacks_memory_beside_one_that_waits_is_computed_alone_and_not_parked(tmp_path):
    with worker_bench(tmp_path, worker=CALM) as bench:
        bench.start("dispatch")
        bench.start("compute")
        first, gate = computing(bench)
        routine = bench.open_job(model("Fine"))
        claimed(bench, routine)
        was_read(bench, routine)
        urgent = bench.open_job(
            f"{HUNGRY}:Cramped", settings={"tried": str(tmp_path / "tried")}, priority=Priority.STAT
        )
        was_read(bench, urgent)
        gate.touch()

        for job_id in (first, routine, urgent):
            assert bench.wait(job_id, JobState.DONE).attempts == 1
        assert events(bench, urgent) == ["opened", "claimed", "finished"]
        assert '"job.crowded"' in bench.log
        (before,), (after,) = bench.ledger.usages_of(routine), bench.ledger.usages_of(urgent)
        assert before.usage.began["check"] < after.usage.began["load"]


def test_what_lacks_memory_although_it_is_alone_is_parked(tmp_path):
    with worker_bench(tmp_path, worker=CALM) as bench:
        job_id = bench.open_job(f"{HUNGRY}:Cramped", settings={"tried": str(tmp_path / "tried")})
        bench.start("dispatch")
        bench.start("compute")
        assert bench.wait(job_id, JobState.PARKED).attempts == 1
        assert "job.crowded" not in bench.log


def test_withdrawing_a_job_that_only_waits_breaks_nothing_off(tmp_path):
    # The withdrawal is noticed by the next heartbeat.
    with worker_bench(tmp_path, worker=CALM.model_copy(update={"heartbeat_s": 0.2})) as bench:
        bench.start("dispatch")
        bench.start("compute")
        first, gate = computing(bench)
        second = bench.open_job(model("Fine"))
        claimed(bench, second)
        bench.ledger.cancel_job(second, "not needed", by=OPERATOR)
        until(lambda: "job.lost" in bench.log, within_s=10, what="the worker noticed")
        third = bench.open_job(model("Fine"))
        gate.touch()

        assert bench.wait(first, JobState.DONE).attempts == 1
        assert bench.wait(third, JobState.DONE).attempts == 1
        assert bench.job(second).state is JobState.CANCELLED
        assert len(set(traces(tmp_path / "trace"))) == 1
        until(lambda: not bench.leftovers(), within_s=5, what="nothing is left over")


def test_a_worker_that_stops_gives_back_all_that_it_has_in_hand(tmp_path):
    with worker_bench(tmp_path, worker=CALM) as bench:
        bench.start("dispatch")
        compute = bench.start("compute")
        first, gate = computing(bench)
        second = bench.open_job(model("Fine"))
        claimed(bench, second)

        assert compute.stop(within_s=10) == 0
        assert [(bench.job(one).state, bench.job(one).attempts) for one in (first, second)] == [
            (JobState.QUEUED, 0)
        ] * 2
        assert not bench.leftovers()
        assert bench.ledger.workers(fresh_s=60) == []
        gate.touch()
        bench.start("compute")
        assert [bench.wait(one, JobState.DONE).attempts for one in (first, second)] == [1, 1]


@pytest.mark.parametrize("point", ["job_claimed:kill:2", "results_kept:kill:2", "job_finished:kill:1"])
def test_a_worker_killed_with_several_jobs_in_hand_leaves_each_with_one_set_of_results(tmp_path, point):
    with worker_bench(tmp_path) as bench:
        jobs = [bench.open_job(model("Fine")) for _ in range(4)]
        bench.start("dispatch")
        bench.start("compute", failpoint=point).process.wait(patient(30))
        bench.start("compute")
        for job_id in jobs:
            bench.wait(job_id, JobState.DONE, within_s=40)
            assert events(bench, job_id).count("finished") == 1

        kept = [digest for job_id in jobs for digest in bench.kept(job_id)]
        assert len(kept) == 8
        assert {path.stem for path in (tmp_path / "spool" / "results").iterdir()} == set(kept)
        until(lambda: not bench.leftovers(), within_s=5, what="nothing is left over")


def test_a_job_that_only_waits_goes_to_a_worker_that_has_nothing_to_do(tmp_path):
    with worker_bench(tmp_path, worker=CALM) as bench:
        bench.start("dispatch")
        bench.start("compute")
        first, gate = computing(bench)
        second = bench.open_job(model("Fine"))
        claimed(bench, second)
        bench.start("compute")

        # The first one's gate is still shut: somebody else did this.
        assert bench.wait(second, JobState.DONE).attempts == 1
        assert bench.job(first).state is JobState.RUNNING
        assert "another worker has nothing to do" in bench.log
        gate.touch()
        bench.wait(first, JobState.DONE)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_job_goes_to_the_idle_worker_that_keeps_its_model(tmp_path, database):
    waits = CALM.model_copy(update={"affinity_s": patient(10.0)})
    if database == "sqlite":
        with worker_bench(tmp_path, worker=waits) as bench:
            _goes_where_its_model_is(bench)
    else:
        with postgresql() as server, worker_bench(tmp_path, worker=waits, ledger_url=server.url) as bench:
            _goes_where_its_model_is(bench)


def _goes_where_its_model_is(bench: WorkerBench) -> None:
    trace = bench.folder / "kept"
    bench.start("dispatch")
    bench.start("compute")
    bench.wait(bench.open_job(model("Fine"), settings={"trace": str(trace)}), JobState.DONE)
    bench.start("compute")
    both_idle = lambda: [one.report.idle for one in bench.ledger.workers(fresh_s=60)] == [True, True]  # noqa: E731
    until(both_idle, within_s=30, what="both workers are idle")
    keeper = traces(trace)[0]
    for _ in range(4):
        job_id = bench.open_job(model("Fine"), settings={"trace": str(trace)})
        (usage,) = bench.ledger.usages_of(bench.wait(job_id, JobState.DONE).id)
        assert usage.usage.resident
        until(both_idle, within_s=10, what="both workers are idle")

    assert traces(trace) == [keeper] * 5
    assert sorted(len(one.report.models) for one in bench.ledger.workers(fresh_s=60)) == [0, 2]


@pytest.mark.parametrize(("patience_s", "place"), [(600.0, "last"), (0.0, "first")])
def test_a_worker_stays_with_its_model_until_another_job_has_waited_long_enough(tmp_path, patience_s, place):
    settings = CALM.model_copy(update={"patience_s": patience_s, "ahead": False})
    with worker_bench(tmp_path, worker=settings) as bench:
        bench.start("dispatch")
        bench.start("compute")
        first, gate = computing(bench)
        stranger = bench.open_job(model("Picky"))
        favoured = [bench.open_job(model("Slow"), settings={"seconds": 0.01}) for _ in range(3)]
        gate.touch()
        for job_id in (first, stranger, *favoured):
            bench.wait(job_id, JobState.DONE, within_s=40)
        order = sorted((stranger, *favoured), key=lambda one: bench.job(one).started_at)

        assert order == ([*favoured, stranger] if place == "last" else [stranger, *favoured])


def test_running_out_of_memory_lowers_what_the_next_attempt_may_take_and_ends(tmp_path):
    with worker_bench(tmp_path, worker=CALM.model_copy(update={"memory_mib": 2000})) as bench:
        allowed = tmp_path / "allowed"
        job_id = bench.open_job(f"{HUNGRY}:Deceived", settings={"allowed": str(allowed)})
        bench.start("dispatch")
        bench.start("compute")
        parked = bench.wait(job_id, JobState.PARKED, within_s=60)

        first, second, third = (int(line) for line in allowed.read_text().split())
        assert second == int(first * 0.6)
        assert third == int(second * 0.6)
        assert parked.attempts == 3
        assert "it was allowed 0.7 GiB of the host's memory" in parked.because
        assert [one.usage.out_of_memory for one in bench.ledger.usages_of(job_id)] == [True] * 3
        (figures,) = bench.ledger.model_figures()
        assert figures.ran_out == 3


@pytest.mark.parametrize(
    ("name", "said"), [("Boundless", "beside its weights of"), ("Incapable", "even with the least demanding")]
)
def test_what_can_never_fit_is_parked_at_once_with_the_sizes(tmp_path, name, said):
    with worker_bench(tmp_path, worker=CALM.model_copy(update={"memory_mib": 500})) as bench:
        job_id = bench.open_job(f"{HUNGRY}:{name}")
        fine = bench.open_job(model("Fine"))
        bench.start("dispatch")
        bench.start("compute")
        parked = bench.wait(job_id, JobState.PARKED)

        assert parked.attempts == 1
        assert said in parked.because
        assert "MiB" in parked.because
        bench.wait(fine, JobState.DONE)


def test_a_model_goes_down_its_ladder_where_memory_is_short_and_the_ledger_says_so(tmp_path):
    with worker_bench(tmp_path, worker=CALM.model_copy(update={"memory_mib": 3000})) as bench:
        job_id = bench.open_job(f"{HUNGRY}:Climber")
        bench.start("dispatch")
        bench.start("compute")
        bench.wait(job_id, JobState.DONE)

        (usage,) = bench.ledger.usages_of(job_id)
        assert usage.usage.lowered == ("smaller batch",)
        assert usage.usage.host_allowed <= 3000 << 20
        assert not usage.usage.out_of_memory


def test_the_ledger_knows_the_worker_and_what_it_keeps_until_it_stops(tmp_path):
    with worker_bench(tmp_path, worker=CALM.model_copy(update={"memory_mib": 900})) as bench:
        bench.start("dispatch")
        compute = bench.start("compute")
        bench.wait(bench.open_job(f"{HUNGRY}:Heavy"), JobState.DONE)
        kept = lambda: [one for one in bench.ledger.workers(fresh_s=60) if one.report.models]  # noqa: E731
        (worker,) = until(kept, within_s=10, what="the worker says what it keeps")

        report = worker.report
        assert report.models == ("heavy@1.0.0", f"{HUNGRY}:Heavy")
        assert (report.device, report.budget_bytes) == ("cpu", 900 << 20)
        assert 60 << 20 < report.taken_bytes < 90 << 20
        compute.stop()
        assert bench.ledger.workers(fresh_s=60) == []

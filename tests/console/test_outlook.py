"""The queue with what is promised, as it is read from a ledger."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from console.outlook import read_outlook
from console.queue_table import print_queue
from ledger.job import Priority
from ledger.pause import PauseKind
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.usage import Usage, Work, WorkerReport
from tests.ledger.people import ANN
from tests.ledger.site import claim, finish, queued_job


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as opened:
        yield opened


def measured(ledger: Ledger, seconds: float = 20.0) -> None:
    """A run of lung_ct that took so long, and left nothing to do."""
    job_id = queued_job(ledger, "1.2.99", to=())
    held = claim(ledger, job_id)
    used = Usage(model="lung_ct@1.0.0", device="cpu", voxels=1, seconds={"model": seconds})
    ledger.record_usage(held.job_id, "lung_ct", used)
    finish(ledger, held)


def test_every_job_has_its_place_and_its_promise(ledger: Ledger) -> None:
    measured(ledger)
    running = queued_job(ledger, "1.2.1")
    claim(ledger, running, owner="w")
    first, urgent = queued_job(ledger, "1.2.2"), queued_job(ledger, "1.2.3", priority=Priority.STAT)
    ledger.report_worker(
        WorkerReport(owner="w", works=(Work(job_id=running, stage="model", since=0.0, part=0.0),))
    )
    found = read_outlook(ledger)

    assert [one.job.id for one in found.running] == [running]
    assert found.running[0].work is not None
    assert ([one.job.id for one in found.stat], [one.job.id for one in found.routine]) == ([urgent], [first])
    times = [one.promise.done_at for one in (*found.running, *found.stat, *found.routine)]
    assert [round(later - times[0]) for later in times] == [0, 20, 40]
    assert found.finish_of(ledger.job(first).study_id) == times[2]


def test_what_was_never_measured_is_not_promised(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    ledger.report_worker(WorkerReport(owner="w", idle=True))
    found = read_outlook(ledger)
    assert found.routine[0].promise.because == "lung_ct has never been measured here"
    assert found.finish_of(ledger.job(job_id).study_id) is None


def test_runs_that_ran_out_of_memory_say_nothing_of_how_long_one_takes(ledger: Ledger) -> None:
    measured(ledger, 20.0)
    job_id = queued_job(ledger)
    short = Usage(model="lung_ct@1.0.0", device="cpu", voxels=1, seconds={"model": 1.0}, out_of_memory=True)
    ledger.record_usage(job_id, "lung_ct", short)
    assert ledger.took_lately(["lung_ct", "other"]) == {"lung_ct": 20.0}


def test_a_paused_worker_is_not_counted_on_and_a_paused_model_is_promised_nothing(ledger: Ledger) -> None:
    measured(ledger)
    queued_job(ledger)
    ledger.report_worker(WorkerReport(owner="w/1/a", idle=True))
    ledger.pause(PauseKind.WORKER, "w", by=ANN)
    assert read_outlook(ledger).routine[0].promise.because == "no worker takes jobs"
    ledger.resume(PauseKind.WORKER, "w", by=ANN)
    ledger.pause(PauseKind.MODEL, "lung_ct", by=ANN)
    (place,) = read_outlook(ledger).routine
    assert place.pause is not None
    assert place.pause.by == "ann"
    assert place.promise.because == "its model is paused"


def test_a_paused_worker_that_computes_holds_up_nobody_beside_an_idle_one(ledger: Ledger) -> None:
    measured(ledger, 600.0)
    running, _waiting = queued_job(ledger, "1.2.1"), queued_job(ledger, "1.2.2")
    claim(ledger, running, owner="a/1/x")
    ledger.report_worker(WorkerReport(owner="a/1/x"))
    ledger.report_worker(WorkerReport(owner="b/1/x", idle=True))
    ledger.pause(PauseKind.WORKER, "a", by=ANN)

    found = read_outlook(ledger)
    assert found.routine[0].promise.begins_at == found.at
    assert found.running[0].promise.done_at == pytest.approx(found.at + 600, abs=60)


def test_a_long_queue_is_shown_from_its_front(ledger: Ledger) -> None:
    jobs = [queued_job(ledger, f"1.2.{number}") for number in range(3)]
    found = read_outlook(ledger, limit=2)
    assert [one.job.id for one in found.routine] == jobs[:2]
    assert found.more


def test_the_terminal_shows_what_runs_what_waits_and_what_is_paused(ledger: Ledger) -> None:
    measured(ledger)
    running, waiting = queued_job(ledger, "1.2.1"), queued_job(ledger, "1.2.2")
    claim(ledger, running, owner="w")
    ledger.place_job(waiting, after=None, by=ANN)
    ledger.pause(PauseKind.PEER, "PACS", by=ANN, because="migration")
    ledger.report_worker(WorkerReport(owner="w"))
    console = Console(file=io.StringIO(), width=200)
    print_queue(ledger, console, 50)
    said = console.file.getvalue()
    assert "peer PACS is paused by ann: migration, since" in said
    assert "routine ↑" in said
    assert "not known yet" not in said

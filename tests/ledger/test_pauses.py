"""What an operator holds still: it waits, keeps its place and its attempts, and goes on at once."""

from dataclasses import replace

import pytest

from ledger.delivery import DeliveryState
from ledger.identifiers import JobId
from ledger.job import JobState
from ledger.pause import Pause, PauseKind, pause_of
from ledger.store.ledger import Ledger
from ledger.usage import WorkerReport
from tests.ledger.people import ANN, BOB
from tests.ledger.site import claim, close, finish, new_job, queued_job, receive, send

PATIENT = {"patience_s": 600.0, "affinity_s": 0.0, "fresh_s": 60.0}
SWEEP = {"republish_after_s": 0.0, "attempts_max": 3, "crash_backoff_s": 0.0}


def a_job(ledger: Ledger, number: int, model: str) -> JobId:
    study_id = receive(ledger, f"1.2.{number}")
    opened = close(ledger, study_id, [replace(new_job(ledger, study_id), model=model)])
    assert opened is not None
    return opened[0]


def told(ledger: Ledger) -> list[int]:
    hints = ledger.unpublished()
    ledger.mark_published(hints)
    return [hint.subject_id for hint in hints]


def test_the_jobs_of_a_paused_model_wait_and_nobody_is_told_of_them(ledger: Ledger) -> None:
    lung, liver = a_job(ledger, 1, "lung_ct"), a_job(ledger, 2, "liver")
    assert ledger.pause(PauseKind.MODEL, "lung_ct", by=ANN, because="wrong laterality")

    assert told(ledger) == [liver]
    assert ledger.choose_jobs("w", ["lung_ct"], **PATIENT).jobs == (liver,)
    assert ledger.claim_job(lung, owner="w", lease_s=60, attempts_max=3) is None
    assert ledger.job(lung).attempts == 0
    # The broom does not say again and again what nobody may do.
    ledger.sweep(**SWEEP)
    assert told(ledger) == [liver]
    assert ledger.job(lung).state is JobState.QUEUED


@pytest.mark.parametrize("already_told", [True, False], ids=["hint lost on a worker", "hint still here"])
def test_what_waited_for_a_model_is_told_of_at_once_when_it_goes_on(ledger: Ledger, already_told) -> None:
    first, second = a_job(ledger, 1, "lung_ct@1.0.0"), a_job(ledger, 2, "lung_ct@1.1.0")
    if already_told:
        assert told(ledger) == [first, second]
    ledger.pause(PauseKind.MODEL, "lung_ct", by=ANN)
    assert told(ledger) == []
    assert ledger.resume(PauseKind.MODEL, "lung_ct", by=BOB, because="mended")

    assert told(ledger) == [first, second]
    assert ledger.choose_jobs("w", [], **PATIENT).jobs == (first, second)


def test_one_version_is_paused_and_the_others_go_on(ledger: Ledger) -> None:
    a_job(ledger, 1, "lung_ct@1.0.0")
    newer, other, alike = (
        a_job(ledger, 2, "lung_ct@1.0.0b"),
        a_job(ledger, 3, "lung"),
        a_job(ledger, 4, "lungXct"),
    )
    ledger.pause(PauseKind.MODEL, "lung_ct@1.0.0", by=ANN)
    assert ledger.choose_jobs("w", [], **PATIENT).jobs == (newer, other, alike)
    ledger.pause(PauseKind.MODEL, "lung_ct", by=ANN)
    assert ledger.choose_jobs("w", [], **PATIENT).jobs == (other, alike)
    assert [one.name for one in ledger.pauses()] == ["lung_ct@1.0.0", "lung_ct"]


def test_a_running_job_of_a_paused_model_runs_to_its_end(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    held = claim(ledger, job_id)
    ledger.pause(PauseKind.MODEL, "lung_ct", by=ANN)
    assert ledger.renew_job(held)
    finish(ledger, held)
    assert ledger.job(job_id).state is JobState.DONE


def test_a_paused_worker_takes_nothing_and_the_others_everything(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    held = claim(ledger, queued_job(ledger, "1.2.4"), owner="host-a/1/xy")
    ledger.pause(PauseKind.WORKER, "host-a", by=ANN, because="new driver")

    choice = ledger.choose_jobs("host-a/1/xy", [], **PATIENT)
    assert choice.paused
    assert choice.jobs == choice.left == ()
    assert ledger.claim_job(job_id, owner="host-a/1/xy", lease_s=60, attempts_max=3) is None
    assert ledger.worker_paused("host-a/1/xy")
    assert not ledger.worker_paused("host-ab/1/xy")
    # What it has it finishes.
    assert ledger.renew_job(held)
    assert ledger.choose_jobs("host-ab/1/xy", [], **PATIENT).jobs == (job_id,)
    ledger.resume(PauseKind.WORKER, "host-a", by=ANN)
    assert ledger.choose_jobs("host-a/1/xy", [], **PATIENT).jobs == (job_id,)


def test_nothing_is_left_to_a_paused_worker_although_it_stands_idle(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    ledger.report_worker(WorkerReport(owner="keeper/1/a", models=("lung_ct",), idle=True))
    ask = {**PATIENT, "affinity_s": 60.0}
    assert ledger.choose_jobs("w", [], **ask).left == (job_id,)
    ledger.pause(PauseKind.WORKER, "keeper/1/a", by=ANN)
    assert ledger.choose_jobs("w", [], **ask).jobs == (job_id,)
    assert not ledger.others_idle("w", fresh_s=60)


def test_the_pause_of_a_process_ends_with_it_and_that_of_a_host_does_not(ledger: Ledger) -> None:
    ledger.report_worker(WorkerReport(owner="host/1/a"))
    ledger.pause(PauseKind.WORKER, "host/1/a", by=ANN)
    ledger.pause(PauseKind.WORKER, "host", by=ANN)
    ledger.forget_worker("host/1/a")
    assert [one.name for one in ledger.pauses()] == ["host"]
    assert ledger.history()[-1].event == "resumed"
    assert ledger.history()[-1].detail == {"worker": "host/1/a"}


def test_what_goes_to_a_paused_destination_waits_in_its_order_without_an_attempt(ledger: Ledger) -> None:
    leaf, root = finish(ledger, claim(ledger, queued_job(ledger)))
    (other, _) = finish(ledger, claim(ledger, queued_job(ledger, "1.2.4", to=("OTHER",))))
    ledger.pause(PauseKind.PEER, "PACS", by=ANN, because="migration")

    assert ledger.claim_delivery(leaf, owner="w", lease_s=60) is None
    assert told(ledger) == [other]
    ledger.sweep(**SWEEP)
    assert told(ledger) == [other]
    job_id = ledger.deliveries(limit=10)[-1].job_id
    assert [(one.state, one.attempts) for one in ledger.deliveries_of(job_id)] == [
        (DeliveryState.WAITING, 0)
    ] * 2
    assert ledger.counts().oldest_waiting_s is not None  # That of OTHER.

    ledger.resume(PauseKind.PEER, "PACS", by=ANN)
    assert told(ledger) == [leaf]  # The root goes after its leaf, as ever.
    send(ledger, leaf)
    assert told(ledger) == [root]


def test_a_delivery_that_is_on_its_way_arrives_although_its_peer_is_paused_meanwhile(ledger: Ledger) -> None:
    leaf, _ = finish(ledger, claim(ledger, queued_job(ledger)))
    held = ledger.claim_delivery(leaf, owner="w", lease_s=60)
    ledger.pause(PauseKind.PEER, "PACS", by=ANN)
    assert ledger.renew_delivery(held, lease_s=60)


def test_what_is_paused_is_not_late(ledger: Ledger) -> None:
    queued_job(ledger)
    finish(ledger, claim(ledger, queued_job(ledger, "1.2.4")))
    assert ledger.counts().oldest_queued_s is not None
    ledger.pause(PauseKind.MODEL, "lung_ct", by=ANN)
    ledger.pause(PauseKind.PEER, "PACS", by=ANN)
    assert ledger.counts().oldest_queued_s is None
    assert ledger.counts().oldest_waiting_s is None


def test_who_paused_and_who_let_go_on_is_history_and_doing_it_twice_is_nothing(ledger: Ledger) -> None:
    assert not ledger.resume(PauseKind.PEER, "PACS", by=BOB)
    assert ledger.pause(PauseKind.PEER, "PACS", by=ANN, because="migration")
    assert not ledger.pause(PauseKind.PEER, "PACS", by=BOB, because="the same")
    (held,) = ledger.pauses()
    assert (held.kind, held.name, held.by, held.because) == (PauseKind.PEER, "PACS", "ann", "migration")
    assert abs(held.since - ledger.now()) < 60
    assert ledger.resume(PauseKind.PEER, "PACS", by=BOB, because="over")

    assert ledger.pauses() == []
    said = [(one.thing, one.event, one.because, one.detail) for one in ledger.history()]
    assert said == [
        ("peer", "paused", "migration", {"peer": "PACS", "by": "ann"}),
        ("peer", "resumed", "over", {"peer": "PACS", "by": "bob"}),
    ]


def test_the_pause_of_a_name_covers_its_versions_and_processes_and_nothing_else() -> None:
    model = Pause(kind=PauseKind.MODEL, name="lung", since=0.0, by="ann", because="why.")
    peer = Pause(kind=PauseKind.PEER, name="PACS", since=0.0, by="ann")
    assert pause_of([peer, model], PauseKind.MODEL, "lung@1") is model
    assert pause_of([peer, model], PauseKind.MODEL, "lungs@1") is None
    assert pause_of([peer, model], PauseKind.WORKER, "lung") is None
    assert pause_of([peer], PauseKind.PEER, "PACS") is peer
    assert pause_of([peer], PauseKind.PEER, "PACS@2") is None
    assert (model.said, peer.said) == ("by ann: why", "by ann")

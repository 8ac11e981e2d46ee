"""Which job a worker should look at next, and what workers say of themselves."""

from dataclasses import replace

import pytest

from ledger.identifiers import JobId
from ledger.job import JobEvent, JobState, Priority
from ledger.store.ledger import Ledger
from ledger.usage import WorkerReport
from tests.ledger.site import OPERATOR, claim, close, new_job, pass_by, queued_job, receive

PATIENT = {"patience_s": 600.0, "affinity_s": 0.0, "fresh_s": 60.0}


def a_job(
    ledger: Ledger, number: int, model: str = "lung_ct", priority: Priority = Priority.ROUTINE
) -> JobId:
    study_id = receive(ledger, f"1.2.{number}")
    opened = close(ledger, study_id, [replace(new_job(ledger, study_id, priority=priority), model=model)])
    assert opened is not None
    return opened[0]


def crash(ledger: Ledger, job_id: JobId) -> None:
    """The job counts an attempt and is due again."""
    ledger.return_job(claim(ledger, job_id), JobEvent.CRASHED, because="died", retry_in_s=0, attempts_max=3)


def hinted(ledger: Ledger) -> list[int]:
    hints = ledger.unpublished()
    ledger.mark_published(hints)
    return [hint.subject_id for hint in hints]


def test_a_worker_prefers_the_model_that_it_keeps_and_otherwise_the_oldest_job(ledger: Ledger) -> None:
    jobs = [a_job(ledger, number, model) for number, model in enumerate(["liver", "lung", "liver", "lung"])]

    assert ledger.choose_jobs("w", ["lung"], **PATIENT).jobs == (jobs[1], jobs[3], jobs[0], jobs[2])
    assert ledger.choose_jobs("w", ["liver"], **PATIENT).jobs == (jobs[0], jobs[2], jobs[1], jobs[3])
    assert ledger.choose_jobs("w", [], **PATIENT).jobs == tuple(jobs)


def test_urgent_jobs_go_first_whatever_a_worker_keeps(ledger: Ledger) -> None:
    routine = a_job(ledger, 1, "lung")
    urgent = a_job(ledger, 2, "liver", Priority.STAT)

    assert ledger.choose_jobs("w", ["lung"], **PATIENT).jobs == (urgent, routine)
    assert ledger.choose_jobs("w", ["lung"], **PATIENT, urgent=True).jobs == (urgent,)


def test_no_job_waits_for_ever_because_its_model_is_not_loaded(ledger: Ledger) -> None:
    old = a_job(ledger, 1, "liver")
    pass_by(ledger, 0.05)
    young = a_job(ledger, 2, "lung")

    chosen = ledger.choose_jobs("w", ["lung"], patience_s=0.03, affinity_s=0, fresh_s=60).jobs
    assert chosen == (old, young)


def test_a_job_is_left_for_a_moment_to_an_idle_worker_that_keeps_its_model(ledger: Ledger) -> None:
    job = a_job(ledger, 1, "lung")
    other = a_job(ledger, 2, "liver")
    ledger.report_worker(WorkerReport(owner="keeper", models=("lung", "bones"), idle=True))
    ask = {"patience_s": 600.0, "affinity_s": 30.0, "fresh_s": 60.0}

    assert ledger.choose_jobs("w", [], **ask).jobs == (other,)
    assert ledger.choose_jobs("w", [], **ask).left == (job,)
    # Not by the keeper itself, nor by who keeps it too, nor for longer than a moment.
    assert ledger.choose_jobs("keeper", ["lung"], **ask).jobs == (job, other)
    assert ledger.choose_jobs("w", ["lung"], **ask).left == ()
    pass_by(ledger, 0.05)
    assert ledger.choose_jobs("w", [], patience_s=600, affinity_s=0.02, fresh_s=60).left == ()


@pytest.mark.parametrize("how", ["busy", "gone", "silent", "without the model"])
def test_nothing_is_left_to_a_worker_that_could_not_take_it(ledger: Ledger, how: str) -> None:
    job = a_job(ledger, 1, "lung")
    ledger.report_worker(WorkerReport(owner="keeper", models=("lung",), idle=True))
    fresh_s = 60.0
    if how == "busy":
        ledger.report_worker(WorkerReport(owner="keeper", models=("lung",), idle=False))
    elif how == "gone":
        ledger.forget_worker("keeper")
    elif how == "silent":
        pass_by(ledger, 0.05)
        fresh_s = 0.02
    else:
        ledger.report_worker(WorkerReport(owner="keeper", models=("liver",), idle=True))

    assert ledger.choose_jobs("w", [], patience_s=600, affinity_s=30, fresh_s=fresh_s).jobs == (job,)


def test_a_hint_that_is_passed_on_is_given_again_and_only_for_jobs_that_wait(ledger: Ledger) -> None:
    waiting, taken = a_job(ledger, 1), a_job(ledger, 2)
    claim(ledger, taken)
    hinted(ledger)
    ledger.pass_on([waiting, taken])

    assert hinted(ledger) == [waiting]


def test_nothing_is_taken_ahead_that_was_tried_before_or_that_an_idle_worker_could_have(
    ledger: Ledger,
) -> None:
    fresh, tried = a_job(ledger, 1), a_job(ledger, 2)
    crash(ledger, tried)
    assert ledger.choose_jobs("w", [], **PATIENT).jobs == (fresh, tried)
    assert ledger.choose_jobs("w", [], **PATIENT, ahead=True).jobs == (fresh,)

    ledger.report_worker(WorkerReport(owner="w", idle=True))
    assert ledger.choose_jobs("w", [], **PATIENT, ahead=True).jobs == (fresh,)
    ledger.report_worker(WorkerReport(owner="bored", idle=True))
    assert ledger.choose_jobs("w", [], **PATIENT, ahead=True).jobs == ()
    assert ledger.others_idle("w", fresh_s=60)
    assert not ledger.others_idle("bored", fresh_s=0)


def test_a_job_that_was_tried_before_has_its_turn_however_many_fresh_ones_wait(ledger: Ledger) -> None:
    before = [a_job(ledger, number) for number in (1, 2)]
    tried = a_job(ledger, 3)
    after = [a_job(ledger, number) for number in range(4, 15)]
    crash(ledger, tried)
    for job in before:
        assert ledger.choose_jobs("w", [], **PATIENT, ahead=True).jobs == tuple(before)
        before = before[1:]
        claim(ledger, job)
    # Whoever computes takes nothing ahead now, so that it soon computes nothing: then the turn has come.
    assert ledger.choose_jobs("w", [], **PATIENT, ahead=True).jobs == ()
    assert ledger.choose_jobs("w", [], **PATIENT).jobs[0] == tried
    claim(ledger, tried)
    assert ledger.choose_jobs("w", [], **PATIENT, ahead=True).jobs == tuple(after[:8])


def test_a_job_that_was_tried_before_keeps_its_place_among_urgent_overdue_and_favoured_ones(
    ledger: Ledger,
) -> None:
    tried = a_job(ledger, 1, "liver")
    crash(ledger, tried)
    favoured, urgent = a_job(ledger, 2, "lung"), a_job(ledger, 3, "liver", Priority.STAT)
    assert ledger.choose_jobs("w", ["lung"], **PATIENT, ahead=True).jobs == (urgent, favoured)
    claim(ledger, urgent)
    pass_by(ledger, 0.05)
    soon = {**PATIENT, "patience_s": 0.03}
    assert ledger.choose_jobs("w", ["lung"], **soon, ahead=True).jobs == ()

    pressing = a_job(ledger, 4, "bones", Priority.STAT)
    crash(ledger, pressing)
    assert ledger.choose_jobs("w", ["lung"], **PATIENT, ahead=True).jobs == ()
    assert ledger.choose_jobs("w", ["lung"], **PATIENT).jobs == (pressing, favoured, tried)


def test_what_is_not_due_or_not_queued_is_not_chosen(ledger: Ledger) -> None:
    done, later = queued_job(ledger, "1.2.8"), queued_job(ledger, "1.2.9")
    ledger.cancel_job(done, "not needed", by=OPERATOR)
    held = claim(ledger, later)
    ledger.return_job(held, JobEvent.RELEASED, because="disk full", retry_in_s=60, attempts_max=3)

    assert ledger.choose_jobs("w", ["lung_ct"], **PATIENT).jobs == ()
    assert ledger.job(later).state is JobState.QUEUED


def test_what_a_worker_says_replaces_what_it_said(ledger: Ledger) -> None:
    first = WorkerReport(owner="a", device="cpu", models=("lung", "liver"), idle=True, budget_bytes=9)
    last = WorkerReport(owner="a", device="cpu", models=("liver", "bones"), budget_bytes=9, taken_bytes=4)
    for report in (first, WorkerReport(owner="b"), last):
        ledger.report_worker(report)

    assert [one.report for one in ledger.workers(fresh_s=60)] == [
        replace(last, models=("bones", "liver")),
        WorkerReport(owner="b"),
    ]
    ledger.forget_worker("a")
    assert [one.report.owner for one in ledger.workers(fresh_s=60)] == ["b"]

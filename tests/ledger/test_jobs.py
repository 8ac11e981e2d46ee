import threading
import time

import pytest

from ledger.delivery import DeliveryState
from ledger.identifiers import JobId
from ledger.job import JobEvent, JobState, LeaseLost, Outcome, Priority
from ledger.result import Role
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import OPERATOR, claim, close, finish, new_job, pass_by, queued_job, slice_of
from tests.patience import patient

BLINK_S = 0.02


def test_a_claim_carries_all_that_the_work_needs(ledger: Ledger) -> None:
    job_id = queued_job(ledger, priority=Priority.STAT, to=("PACS", "RESEARCH"))
    held = claim(ledger, job_id, owner="gpu-1")

    assert (held.epoch, held.attempt, held.owner, held.lease_s) == (1, 1, "gpu-1", 60)
    assert (str(held.study), str(held.series), held.rule, held.model) == (
        "1.2.3",
        "1.2.3.1",
        "lungs",
        "lung_ct",
    )
    assert (held.settings, held.priority) == ({"threshold_hu": -950}, Priority.STAT)
    assert held.destinations == ("PACS", "RESEARCH")
    assert [(i.sop_instance, i.path, i.digest) for i in held.inputs] == [
        (a.sop_instance, a.path, a.digest) for a in (slice_of("1.2.3", n) for n in (1, 2, 3))
    ]
    job = ledger.job(job_id)
    assert (job.state, job.attempts, job.lease_owner) == (JobState.RUNNING, 1, "gpu-1")


def test_of_many_that_claim_at_once_exactly_one_gets_the_job(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    start = threading.Barrier(12)
    claims = []

    def take(name: str) -> None:
        start.wait(patient(10))
        claims.append(ledger.claim_job(job_id, owner=name, lease_s=60, attempts_max=3))

    threads = [threading.Thread(target=take, args=(f"gpu-{n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(30))
    won = [held for held in claims if held is not None]
    assert (len(claims), len(won)) == (12, 1)
    assert ledger.job(job_id).lease_owner == won[0].owner
    assert ledger.job(job_id).attempts == 1


def test_what_does_not_exist_cannot_be_claimed_or_cancelled(ledger: Ledger) -> None:
    assert ledger.claim_job(JobId(7), owner="a", lease_s=1, attempts_max=3) is None
    for act in (ledger.cancel_job, ledger.retry_job):
        with pytest.raises(NotInLedger, match="there is no job 7"):
            act(JobId(7), "for a test", by=OPERATOR)


def test_finishing_records_results_and_opens_a_delivery_to_each_destination(ledger: Ledger) -> None:
    job_id = queued_job(ledger, to=("PACS", "RESEARCH"))
    deliveries = finish(ledger, claim(ledger, job_id))

    job = ledger.job(job_id)
    assert (job.state, job.outcome) == (JobState.DONE, Outcome.FOUND)
    assert job.timings == {"queue": job.timings["queue"], "load": 0.5, "model": 2.0}
    assert job.finished_at is not None
    assert job.lease_owner is None
    results = ledger.results_of(job_id)
    assert [made.role for made in results] == [Role.SEGMENTATION, Role.REPORT]
    found = ledger.deliveries_of(job_id)
    assert [d.id for d in found] == deliveries
    assert [(d.peer, d.result.role, d.state) for d in found] == [
        ("PACS", Role.SEGMENTATION, DeliveryState.WAITING),
        ("RESEARCH", Role.SEGMENTATION, DeliveryState.WAITING),
        ("PACS", Role.REPORT, DeliveryState.WAITING),
        ("RESEARCH", Role.REPORT, DeliveryState.WAITING),
    ]
    assert ledger.is_our_result(results[0].sop_instance)
    assert not ledger.is_our_result(slice_of("1.2.3", 1).sop_instance)


def test_a_rule_without_destinations_is_a_shadow_run(ledger: Ledger) -> None:
    job_id = queued_job(ledger, to=())
    assert finish(ledger, claim(ledger, job_id)) == []
    assert len(ledger.results_of(job_id)) == 2


def test_a_worker_that_was_overtaken_can_change_nothing(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    stale = claim(ledger, job_id, owner="gpu", lease_s=BLINK_S)
    pass_by(ledger, BLINK_S)
    ledger.sweep(republish_after_s=60, attempts_max=3, crash_backoff_s=0)
    fresh = claim(ledger, job_id, owner="gpu")  # Even under the same name.
    before = (ledger.job(job_id), ledger.history(job_id=job_id), ledger.unpublished())

    assert not ledger.renew_job(stale)
    with pytest.raises(LeaseLost, match=f"gpu no longer holds job {job_id} in epoch 1"):
        finish(ledger, stale)
    with pytest.raises(LeaseLost):
        ledger.park_job(stale, "late")
    for event in (JobEvent.CRASHED, JobEvent.RELEASED):
        with pytest.raises(LeaseLost):
            ledger.return_job(stale, event, because="late", retry_in_s=0, attempts_max=3)

    assert (ledger.job(job_id), ledger.history(job_id=job_id), ledger.unpublished()) == before
    assert ledger.results_of(job_id) == []
    assert fresh.epoch == 2
    assert finish(ledger, fresh)


def test_a_lease_that_ran_out_is_lost_also_if_nobody_has_taken_it(ledger: Ledger) -> None:
    held = claim(ledger, queued_job(ledger), lease_s=BLINK_S)
    pass_by(ledger, BLINK_S)
    assert not ledger.renew_job(held)
    with pytest.raises(LeaseLost, match="ran out"):
        finish(ledger, held)


def test_a_renewed_lease_lasts_on(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    held = claim(ledger, job_id, lease_s=60)
    first = ledger.job(job_id).lease_until
    pass_by(ledger, 0.01)
    assert ledger.renew_job(held)
    assert ledger.job(job_id).lease_until > first


def test_leases_follow_the_clock_of_the_database_not_of_the_worker(ledger: Ledger, monkeypatch) -> None:
    job_id = queued_job(ledger)
    held = claim(ledger, job_id)
    for skew in (-3600, 3600):
        monkeypatch.setattr(time, "time", lambda skew=skew: 1.7e9 + skew)
        assert ledger.sweep(republish_after_s=60, attempts_max=3, crash_backoff_s=0).expired_jobs == ()
        assert ledger.renew_job(held)


def test_a_crash_returns_the_job_and_counts_and_the_last_one_parks_it(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    for attempt in (1, 2):
        held = claim(ledger, job_id)
        assert held.attempt == attempt
        state = ledger.return_job(
            held, JobEvent.CRASHED, because="the child was killed", retry_in_s=0, attempts_max=3
        )
        assert state is JobState.QUEUED
    held = claim(ledger, job_id)
    state = ledger.return_job(
        held, JobEvent.CRASHED, because="the child was killed", retry_in_s=0, attempts_max=3
    )

    assert state is JobState.PARKED
    job = ledger.job(job_id)
    assert (job.state, job.because) == (JobState.PARKED, "the child was killed (attempt 3 of 3)")
    assert ledger.history(job_id=job_id)[-1].event == "gave_up"


def test_a_released_attempt_does_not_count(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    for _ in range(5):
        held = claim(ledger, job_id, attempts_max=1)
        ledger.return_job(held, JobEvent.RELEASED, because="being stopped", retry_in_s=0, attempts_max=1)
    assert ledger.job(job_id).attempts == 0


def test_giving_back_late_does_not_count_unless_somebody_took_the_job(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    held = claim(ledger, job_id, lease_s=BLINK_S)
    pass_by(ledger, BLINK_S)
    with pytest.raises(LeaseLost, match="ran out"):
        ledger.return_job(held, JobEvent.CRASHED, because="", retry_in_s=0, attempts_max=3)
    ledger.return_job(held, JobEvent.RELEASED, because="the disk was full", retry_in_s=0, attempts_max=3)
    assert (ledger.job(job_id).state, ledger.job(job_id).attempts) == (JobState.QUEUED, 0)

    held = claim(ledger, job_id, lease_s=BLINK_S)
    pass_by(ledger, BLINK_S)
    ledger.sweep(republish_after_s=60, attempts_max=3, crash_backoff_s=0)
    with pytest.raises(LeaseLost, match="no longer holds"):
        ledger.return_job(held, JobEvent.RELEASED, because="late", retry_in_s=0, attempts_max=3)
    assert ledger.job(job_id).attempts == 1


def test_a_job_can_be_given_back_in_two_ways_only(ledger: Ledger) -> None:
    held = claim(ledger, queued_job(ledger))
    with pytest.raises(IllegalTransition):
        ledger.return_job(held, JobEvent.FINISHED, because="", retry_in_s=0, attempts_max=3)


def test_a_returned_job_waits_until_it_is_due(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    ledger.mark_published(ledger.unpublished())
    held = claim(ledger, job_id)
    ledger.return_job(held, JobEvent.CRASHED, because="killed", retry_in_s=3600, attempts_max=3)
    assert ledger.claim_job(job_id, owner="b", lease_s=60, attempts_max=3) is None
    assert ledger.unpublished() == []


def test_a_job_whose_attempts_are_used_up_is_parked_when_it_is_claimed(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    ledger.return_job(claim(ledger, job_id), JobEvent.CRASHED, because="killed", retry_in_s=0, attempts_max=3)
    assert ledger.claim_job(job_id, owner="b", lease_s=60, attempts_max=1) is None
    assert ledger.job(job_id).state is JobState.PARKED
    assert ledger.job(job_id).because == "1 attempts used up; the last: killed"


def test_an_operator_can_withdraw_and_ask_again(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    held = claim(ledger, job_id)
    ledger.cancel_job(job_id, "wrong patient", by=OPERATOR)
    assert ledger.job(job_id).state is JobState.CANCELLED
    with pytest.raises(LeaseLost):
        finish(ledger, held)
    with pytest.raises(IllegalTransition, match="a cancelled job cannot be withdrawn"):
        ledger.cancel_job(job_id, "again", by=OPERATOR)

    ledger.retry_job(job_id, "right patient after all", by=OPERATOR)
    assert (ledger.job(job_id).state, ledger.job(job_id).attempts) == (JobState.QUEUED, 0)
    again = claim(ledger, job_id)
    assert (again.attempt, again.epoch) == (1, 2)
    finish(ledger, again)
    with pytest.raises(IllegalTransition, match="a done job cannot be resubmitted"):
        ledger.retry_job(job_id, "once more", by=OPERATOR)


def test_what_a_later_job_took_the_place_of_is_not_run_again(ledger: Ledger) -> None:
    first = queued_job(ledger)
    study = ledger.job(first).study_id
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study, [new_job(ledger, study)])
    assert ledger.job(first).state is JobState.CANCELLED
    with pytest.raises(IllegalTransition, match=f"overtaken by job {second}: run that one again"):
        ledger.retry_job(first, "the images of then", by=OPERATOR)
    ledger.cancel_job(second, "not now", by=OPERATOR)
    ledger.retry_job(second, "after all", by=OPERATOR)
    assert ledger.job(second).state is JobState.QUEUED


def test_history_tells_a_job_from_its_opening_to_its_end(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    ledger.park_job(claim(ledger, job_id, owner="gpu-1"), "slice spacing 7.5 mm")
    told = [(e.event, e.before, e.after, e.because) for e in ledger.history(job_id=job_id)]
    assert told == [
        ("opened", "", "queued", "rule lungs: lung_ct on 3 instances"),
        ("claimed", "queued", "running", ""),
        ("gave_up", "running", "parked", "slice spacing 7.5 mm"),
    ]

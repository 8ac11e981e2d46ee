"""The outbox and the sweep: a hint may be lost or doubled anywhere, and nothing is forgotten."""

from concurrent.futures import ThreadPoolExecutor

from ledger.delivery import DeliveryState
from ledger.hint import HintKind
from ledger.job import JobEvent, JobState, Priority
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.ledger.site import OPERATOR, claim, close, finish, new_job, pass_by, queued_job, receive

BLINK_S = 0.02


def sweep(ledger: Ledger, *, republish_after_s: float = 60, attempts_max: int = 3):
    return ledger.sweep(republish_after_s=republish_after_s, attempts_max=attempts_max, crash_backoff_s=0)


def subjects(ledger: Ledger) -> list[tuple[HintKind, int]]:
    return [(hint.kind, hint.subject_id) for hint in ledger.unpublished()]


def test_stat_before_deliveries_before_routine_and_the_oldest_first(ledger: Ledger) -> None:
    done = queued_job(ledger, "1.2.1")
    (leaf, _) = finish(ledger, claim(ledger, done))
    routine = [queued_job(ledger, f"1.2.{n}") for n in (2, 3)]
    stat = [queued_job(ledger, f"1.2.{n}", priority=Priority.STAT) for n in (4, 5)]
    assert [(hint.queue, hint.subject_id) for hint in ledger.unpublished()] == [
        ("stat", stat[0]),
        ("stat", stat[1]),
        ("deliver", leaf),
        ("routine", routine[0]),
        ("routine", routine[1]),
    ]
    assert [hint.subject_id for hint in ledger.unpublished(limit=2)] == stat


def test_a_crash_between_commit_and_publication_forgets_nothing(settings: LedgerSettings) -> None:
    with Ledger.open(settings) as before:
        job_id = queued_job(before)
    with Ledger.open(settings) as after:
        assert subjects(after) == [(HintKind.JOB, job_id)]
        after.mark_published(after.unpublished())
        assert subjects(after) == []


def test_a_crash_between_publication_and_its_mark_only_repeats_the_hint(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    first, second = ledger.unpublished(), ledger.unpublished()
    assert first == second
    claim(ledger, job_id)
    assert ledger.claim_job(job_id, owner="b", lease_s=60, attempts_max=3) is None
    ledger.mark_published(first)
    ledger.mark_published(second)
    ledger.mark_published([])
    assert subjects(ledger) == []


def test_a_hint_that_the_queue_lost_is_given_again(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    ledger.mark_published(ledger.unpublished())
    assert sweep(ledger).hinted == 0
    pass_by(ledger, BLINK_S)

    assert sweep(ledger, republish_after_s=BLINK_S).hinted == 1
    assert subjects(ledger) == [(HintKind.JOB, job_id)]
    assert sweep(ledger, republish_after_s=BLINK_S).hinted == 0  # One unpublished hint is enough.


def test_a_delivery_that_the_queue_forgot_is_hinted_at_but_not_the_root_before_its_leaf(
    ledger: Ledger,
) -> None:
    leaf, _root = finish(ledger, claim(ledger, queued_job(ledger)))
    ledger.mark_published(ledger.unpublished())
    pass_by(ledger, BLINK_S)
    assert sweep(ledger, republish_after_s=BLINK_S).hinted == 1
    assert subjects(ledger) == [(HintKind.DELIVERY, leaf)]


def test_hints_of_what_is_no_longer_to_be_done_are_never_given(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    ledger.cancel_job(job_id, "for a test", by=OPERATOR)
    assert subjects(ledger) == []
    assert sweep(ledger).forgotten == 1
    ledger.retry_job(job_id, "after all", by=OPERATOR)
    assert subjects(ledger) == [(HintKind.JOB, job_id)]


def test_the_outbox_stays_small(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    for _ in range(5):
        ledger.mark_published(ledger.unpublished())
        held = claim(ledger, job_id)
        ledger.return_job(held, JobEvent.RELEASED, because="stopped", retry_in_s=0, attempts_max=3)
    ledger.mark_published(ledger.unpublished())
    pass_by(ledger, BLINK_S)
    assert sweep(ledger, republish_after_s=BLINK_S).forgotten == 6
    assert ledger.counts().unpublished == 1


def test_a_silent_worker_loses_its_job_and_the_sweep_can_be_repeated(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    claim(ledger, job_id, owner="gpu-1", lease_s=BLINK_S)
    pass_by(ledger, BLINK_S)

    report = sweep(ledger)
    assert report.expired_jobs == (job_id,)
    assert report.found_anything
    once = (ledger.jobs(), ledger.history(), ledger.unpublished())
    assert not sweep(ledger).found_anything
    assert (ledger.jobs(), ledger.history(), ledger.unpublished()) == once
    assert ledger.job(job_id).because == "gpu-1 fell silent in attempt 1 of 3"
    assert subjects(ledger) == [(HintKind.JOB, job_id)]


def test_a_study_that_silences_every_worker_is_parked(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    for attempt in (1, 2, 3):
        assert claim(ledger, job_id, lease_s=BLINK_S).attempt == attempt
        pass_by(ledger, BLINK_S)
        report = sweep(ledger)
    assert (report.expired_jobs, report.parked_jobs) == ((), (job_id,))
    assert ledger.job(job_id).state is JobState.PARKED


def test_an_expired_job_waits_out_its_pause(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    claim(ledger, job_id, lease_s=BLINK_S)
    pass_by(ledger, BLINK_S)
    ledger.sweep(republish_after_s=60, attempts_max=3, crash_backoff_s=3600)
    assert ledger.claim_job(job_id, owner="b", lease_s=60, attempts_max=3) is None
    assert subjects(ledger) == []


def test_two_sweepers_at_once_do_what_one_would(ledger: Ledger) -> None:
    jobs = [queued_job(ledger, f"1.2.{n}") for n in range(1, 9)]
    for job_id in jobs:
        claim(ledger, job_id, lease_s=BLINK_S)
    pass_by(ledger, BLINK_S)
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: sweep(ledger), range(4)))
    assert sorted(job_id for report in reports for job_id in report.expired_jobs) == jobs
    assert sorted(hint.subject_id for hint in ledger.unpublished()) == jobs


def test_the_counts_are_those_of_the_tables(ledger: Ledger) -> None:
    finish(ledger, claim(ledger, queued_job(ledger, "1.2.1")))
    queued_job(ledger, "1.2.2")
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id, [new_job(ledger, study_id, rule=rule) for rule in ("a", "b")])
    receive(ledger, "1.2.4")
    counts = ledger.counts()
    assert {state.value: n for state, n in counts.studies.items()} == {"open": 1, "closed": 3, "purged": 0}
    assert counts.instances == 12
    assert (counts.jobs[JobState.QUEUED], counts.jobs[JobState.DONE], counts.jobs[JobState.PARKED]) == (
        3,
        1,
        0,
    )
    assert counts.deliveries[DeliveryState.WAITING] == 2
    assert (counts.quarantined, counts.unpublished) == (0, 5)
    assert counts.oldest_queued_s is not None
    assert counts.oldest_waiting_s is not None
    assert 0 <= counts.oldest_queued_s < 60

"""The order of the queue, and who may change it."""

import tempfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.identifiers import JobId, StudyId
from ledger.job import JobState, Priority
from ledger.settings import LedgerSettings
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from ledger.usage import WorkerReport
from tests.ledger.people import ANN, BOB
from tests.ledger.site import claim, close, finish, new_job, receive

PATIENT = {"patience_s": 600.0, "affinity_s": 30.0, "fresh_s": 60.0}


def a_job(ledger: Ledger, number: int, model: str = "lung_ct", **how) -> JobId:
    study_id = receive(ledger, f"1.2.{number}")
    opened = close(ledger, study_id, [replace(new_job(ledger, study_id, **how), model=model)])
    assert opened is not None
    return opened[0]


def jobs_in(ledger: Ledger, count: int, **how) -> list[JobId]:
    return [a_job(ledger, number, **how) for number in range(1, count + 1)]


def order(ledger: Ledger) -> list[JobId]:
    return [one.job.id for one in ledger.queue()]


def taken(ledger: Ledger, keeps: tuple[str, ...] = ()) -> tuple[JobId, ...]:
    return ledger.choose_jobs("w", keeps, **PATIENT).jobs


def events(ledger: Ledger, job_id: JobId) -> list[tuple[str, str, object]]:
    return [(one.event, one.because, one.detail.get("by")) for one in ledger.history(job_id=job_id)]


def test_without_an_operator_the_oldest_goes_first_and_stat_before_routine(ledger: Ledger) -> None:
    routine = jobs_in(ledger, 2)
    stat = a_job(ledger, 9, priority=Priority.STAT)

    assert order(ledger) == [stat, *routine]
    assert [one.arranged for one in ledger.queue()] == [False] * 3
    assert [one.job.id for one in ledger.queue(limit=1)] == [stat]
    assert [one.study.study.value for one in ledger.queue()] == ["1.2.9", "1.2.1", "1.2.2"]


def test_what_was_moved_to_the_front_is_what_the_next_worker_takes_whatever_it_keeps(ledger: Ledger) -> None:
    first, second, third = (a_job(ledger, n, model) for n, model in ((1, "lung"), (2, "lung"), (3, "liver")))
    ledger.report_worker(WorkerReport(owner="keeper", models=("liver",), idle=True))
    ledger.place_job(third, after=None, by=ANN, because="the surgeon waits")

    assert order(ledger) == [third, first, second]
    assert taken(ledger, ("lung",)) == (third, first, second)
    # Not even left to an idle worker that keeps its model: the next that is free takes it.
    assert ledger.choose_jobs("w", ["lung"], **PATIENT).left == ()
    assert events(ledger, third)[-1] == ("moved", "the surgeon waits", "ann")


def test_a_job_that_was_first_already_is_first_for_every_worker_once_somebody_says_so(ledger: Ledger) -> None:
    first, second = a_job(ledger, 1, "liver"), a_job(ledger, 2, "lung")
    assert taken(ledger, ("lung",)) == (second, first)
    ledger.place_job(first, after=None, by=ANN)

    assert taken(ledger, ("lung",)) == (first, second)
    assert events(ledger, first)[-1] == ("moved", "moved to the front of the routine lane", "ann")


def test_a_job_goes_between_two_others_and_everything_before_it_keeps_its_order(ledger: Ledger) -> None:
    models = ("liver", "lung", "bones", "lung", "lung")
    a, b, c, d, e = (a_job(ledger, n, model) for n, model in enumerate(models, start=1))
    ledger.place_job(e, after=b, by=ANN)

    assert order(ledger) == [a, b, e, c, d]
    assert taken(ledger, ("lung",)) == (a, b, e, d, c)
    assert [one.arranged for one in ledger.queue()] == [True, True, True, False, False]


def test_a_job_that_was_moved_back_is_taken_where_it_is_shown_and_so_is_what_it_was_put_behind(
    ledger: Ledger,
) -> None:
    models = ("lung", "bones", "liver", "liver", "lung")
    a, b, c, d, e = (a_job(ledger, n, model) for n, model in enumerate(models, start=1))
    ledger.place_job(a, after=c, by=ANN)

    assert order(ledger) == [b, c, a, d, e]
    assert taken(ledger, ("lung",)) == (b, c, a, e, d)
    assert [one.arranged for one in ledger.queue()] == [True, True, True, False, False]
    assert a_job(ledger, 6) == order(ledger)[-1]


def test_once_the_moved_job_is_taken_workers_prefer_what_they_keep_again(ledger: Ledger) -> None:
    liver, lung, moved = (a_job(ledger, n, model) for n, model in ((1, "liver"), (2, "lung"), (3, "bones")))
    ledger.place_job(moved, after=None, by=ANN)
    claim(ledger, moved)

    assert taken(ledger, ("lung",)) == (lung, liver)


def test_two_that_are_moved_to_the_front_one_after_the_other_stand_there_the_later_first(
    ledger: Ledger,
) -> None:
    a, b, c = jobs_in(ledger, 3)
    ledger.place_job(b, after=None, by=ANN)
    ledger.place_job(c, after=None, by=ANN)
    assert order(ledger) == [c, b, a]


def test_there_is_always_room_between_two_jobs(ledger: Ledger) -> None:
    first, *others = jobs_in(ledger, 3)
    for turn in range(60):  # More often than a float can be halved.
        ledger.place_job(others[turn % 2], after=first, by=ANN)
        assert order(ledger) == [first, others[turn % 2], others[1 - turn % 2]]


def test_urgent_jobs_have_an_order_of_their_own(ledger: Ledger) -> None:
    routine = jobs_in(ledger, 2)
    stat = [a_job(ledger, n, priority=Priority.STAT) for n in (7, 8)]
    ledger.place_job(stat[1], after=None, by=ANN)
    ledger.place_job(routine[1], after=None, by=ANN)
    assert order(ledger) == [stat[1], stat[0], routine[1], routine[0]]
    with pytest.raises(IllegalTransition, match=f"behind job {stat[0]}, which does not wait in the routine"):
        ledger.place_job(routine[0], after=stat[0], by=ANN)


def test_only_what_is_queued_has_a_place(ledger: Ledger) -> None:
    running, queued = jobs_in(ledger, 2)
    claim(ledger, running)
    with pytest.raises(IllegalTransition, match=f"job {running} is running: only what is queued"):
        ledger.place_job(running, after=None, by=ANN)
    with pytest.raises(IllegalTransition, match=f"behind job {running}"):
        ledger.place_job(queued, after=running, by=ANN)
    with pytest.raises(IllegalTransition, match="only what is queued"):
        ledger.set_priority(running, Priority.STAT, by=ANN)
    with pytest.raises(NotInLedger):
        ledger.place_job(JobId(99), after=None, by=ANN)
    assert order(ledger) == [queued]


def test_a_job_that_is_made_stat_is_told_to_the_queue_of_urgent_ones(ledger: Ledger) -> None:
    first, second = jobs_in(ledger, 2)
    ledger.mark_published(ledger.unpublished())
    ledger.set_priority(second, Priority.STAT, by=ANN, because="stroke")

    assert order(ledger) == [second, first]
    assert [(hint.subject_id, hint.queue) for hint in ledger.unpublished()] == [(second, "stat")]
    assert ledger.choose_jobs("w", [], **PATIENT, urgent=True).jobs == (second,)
    assert events(ledger, second)[-1] == ("made_stat", "stroke", "ann")
    ledger.set_priority(second, Priority.STAT, by=ANN)
    ledger.set_priority(second, Priority.ROUTINE, by=BOB)
    assert order(ledger) == [first, second]
    assert events(ledger, second)[-1] == ("made_routine", "from stat to routine", "bob")


def test_a_stat_study_makes_what_waits_and_what_comes_later_urgent(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    assert ledger.set_study_priority(study_id, Priority.STAT, by=ANN, because="bleeding") == []
    assert ledger.study(study_id).stat
    (opened,) = close(ledger, study_id, [new_job(ledger, study_id)])
    assert ledger.job(opened).priority is Priority.STAT
    assert [hint.queue for hint in ledger.unpublished()] == ["stat"]

    other = a_job(ledger, 5)
    owner = ledger.job(other).study_id
    assert ledger.set_study_priority(owner, Priority.STAT, by=ANN) == [other]
    assert ledger.set_study_priority(owner, Priority.ROUTINE, by=ANN) == [other]
    assert ledger.job(other).priority is Priority.ROUTINE
    assert not ledger.study(owner).stat


def test_a_shadow_run_of_a_stat_study_holds_nobody_up(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    ledger.set_study_priority(study_id, Priority.STAT, by=ANN)
    job = new_job(ledger, study_id)
    shadow = replace(new_job(ledger, study_id, rule="other", to=()), shadow=True)
    opened = close(ledger, study_id, [job, shadow])
    assert [ledger.job(one).priority for one in opened] == [Priority.STAT, Priority.ROUTINE]


def test_a_purged_study_is_not_made_urgent(ledger: Ledger) -> None:
    job_id = a_job(ledger, 1, to=())
    finish(ledger, claim(ledger, job_id))
    study_id = ledger.job(job_id).study_id
    ledger.purge_study(study_id, "old")
    with pytest.raises(IllegalTransition, match="is purged"):
        ledger.set_study_priority(study_id, Priority.STAT, by=ANN)
    with pytest.raises(NotInLedger):
        ledger.set_study_priority(StudyId(99), Priority.STAT, by=ANN)


@settings(max_examples=8, deadline=None)
@given(moves=st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), max_size=8))
def test_the_queue_is_what_a_list_would_be(moves: list[tuple[int, int]]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.open(LedgerSettings(url=f"sqlite:///{folder}/ledger.sqlite")) as ledger,
    ):
        jobs = jobs_in(ledger, 5)
        model = list(jobs)
        for which, behind in moves:
            moved, after = jobs[which], None if behind < 0 else jobs[behind]
            if moved == after:
                continue
            ledger.place_job(moved, after=after, by=ANN)
            model.remove(moved)
            model.insert(0 if after is None else model.index(after) + 1, moved)
            assert order(ledger) == model
        assert all(one.job.state is JobState.QUEUED for one in ledger.queue())
        # A worker without models takes them just so.
        assert taken(ledger) == tuple(model)

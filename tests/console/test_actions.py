"""Which buttons exist: exactly those that the ledger would carry out."""

from collections.abc import Callable, Iterator

import pytest

from console.actions import (
    Action,
    delivery_actions,
    job_actions,
    quarantine_actions,
    study_actions,
)
from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.errors import WetreadError
from ledger.identifiers import DeliveryId, JobId, StudyId
from ledger.job import JobState, Priority
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.study import StudyState
from tests.ledger.people import ANN
from tests.ledger.site import claim, close, finish, queued_job, receive, send


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as opened:
        yield opened


def works(act: Callable[[], object]) -> bool:
    try:
        act()
    except WetreadError:
        return False
    return True


def job_in(ledger: Ledger, state: JobState, study: str = "1.2.3") -> JobId:
    job_id = queued_job(ledger, study)
    match state:
        case JobState.RUNNING:
            claim(ledger, job_id)
        case JobState.DONE:
            finish(ledger, claim(ledger, job_id))
        case JobState.PARKED:
            ledger.park_job(claim(ledger, job_id), "the images are odd")
        case JobState.CANCELLED:
            ledger.cancel_job(job_id, "not needed", by=ANN)
    assert ledger.job(job_id).state is state
    return job_id


def _again(ledger: Ledger, job_id: JobId) -> None:
    done = ledger.job(job_id).state is JobState.DONE
    ledger.run_again(job_id, by=ANN) if done else ledger.retry_job(job_id, "", by=ANN)


ON_JOBS: dict[Action, Callable[[Ledger, JobId], object]] = {
    Action.RUN_AGAIN: _again,
    Action.CANCEL: lambda ledger, job_id: ledger.cancel_job(job_id, "", by=ANN),
    Action.TO_FRONT: lambda ledger, job_id: ledger.place_job(job_id, after=None, by=ANN),
    Action.MAKE_STAT: lambda ledger, job_id: ledger.set_priority(job_id, Priority.STAT, by=ANN),
    Action.DELIVER_ELSEWHERE: lambda ledger, job_id: ledger.deliver_to(job_id, "TEACHING", by=ANN),
}


@pytest.mark.parametrize("state", JobState)
def test_a_job_has_the_buttons_that_the_ledger_would_carry_out_and_no_other(
    ledger: Ledger, state: JobState
) -> None:
    for number, (action, act) in enumerate(ON_JOBS.items()):
        job_id = job_in(ledger, state, f"1.2.{number + 10}")
        offered = action in job_actions(ledger.job(job_id))
        assert works(lambda act=act, job_id=job_id: act(ledger, job_id)) is offered, (action, state)


def test_an_overtaken_job_a_purged_one_and_one_without_results_have_fewer(ledger: Ledger) -> None:
    done = ledger.job(job_in(ledger, JobState.DONE))
    assert job_actions(done) == (Action.RUN_AGAIN, Action.DELIVER_ELSEWHERE)
    assert job_actions(done, overtaken=True) == (Action.DELIVER_ELSEWHERE,)
    assert job_actions(done, images=False, results=False) == ()
    parked = ledger.job(job_in(ledger, JobState.PARKED, "1.2.4"))
    assert Action.RUN_AGAIN in job_actions(parked)
    assert Action.RUN_AGAIN not in job_actions(parked, images=False)
    cancelled = ledger.job(job_in(ledger, JobState.CANCELLED, "1.2.5"))
    assert Action.RUN_AGAIN in job_actions(cancelled)
    assert Action.RUN_AGAIN not in job_actions(cancelled, overtaken=True)


def test_a_stat_job_can_be_made_routine(ledger: Ledger) -> None:
    stat = ledger.job(queued_job(ledger, priority=Priority.STAT))
    assert Action.MAKE_ROUTINE in job_actions(stat)
    assert Action.MAKE_STAT not in job_actions(stat)


def study_in(ledger: Ledger, state: StudyState) -> StudyId:
    study_id = receive(ledger, "1.2.3")
    if state is not StudyState.OPEN:
        close(ledger, study_id)
    if state is StudyState.PURGED:
        ledger.purge_study(study_id, "old")
    return study_id


@pytest.mark.parametrize("state", StudyState)
def test_a_study_is_closed_by_hand_while_it_is_open_and_analysed_by_hand_while_it_is_closed(
    ledger: Ledger, state: StudyState
) -> None:
    study_id = study_in(ledger, state)
    offered = study_actions(ledger.study(study_id))
    assert (Action.FORCE_COMPLETE in offered) is works(lambda: ledger.wish_close(study_id, by=ANN))
    assert (Action.RUN_MODEL in offered) is (state is StudyState.CLOSED)
    assert (Action.MAKE_STAT in offered) is (state is StudyState.OPEN)  # Of a closed one nothing waits.


def test_what_somebody_asked_for_is_not_offered_again(ledger: Ledger) -> None:
    study = ledger.study(study_in(ledger, StudyState.OPEN))
    assert study_actions(study, asked=True) == (Action.MAKE_STAT,)
    ledger.set_study_priority(study.id, Priority.STAT, by=ANN)
    assert study_actions(ledger.study(study.id)) == (Action.FORCE_COMPLETE, Action.MAKE_ROUTINE)
    assert quarantine_actions(asked=True) == ()
    assert quarantine_actions(asked=False) == (Action.RELEASE, Action.DISCARD)


def test_a_closed_study_with_jobs_that_wait_can_be_made_stat_and_one_of_our_results_not_analysed(
    ledger: Ledger,
) -> None:
    study = ledger.study(study_in(ledger, StudyState.CLOSED))
    assert study_actions(study, queued=True) == (Action.RUN_MODEL, Action.MAKE_STAT)
    assert study_actions(study, series=False) == ()


def delivery_in(ledger: Ledger, state: DeliveryState) -> DeliveryId:
    leaf, _ = finish(ledger, claim(ledger, queued_job(ledger)))
    match state:
        case DeliveryState.SENDING:
            ledger.claim_delivery(leaf, owner="w", lease_s=60)
        case DeliveryState.SENT:
            send(ledger, leaf)
        case DeliveryState.COMMITTED:
            send(ledger, leaf)
            ledger.confirm_delivery(leaf, "it is there")
        case DeliveryState.PARKED:
            send(ledger, leaf, DeliveryEvent.REFUSED)
        case DeliveryState.CANCELLED:
            ledger.cancel_delivery(leaf, "not needed", by=ANN)
        case DeliveryState.DECLINED:
            held = ledger.claim_delivery(leaf, owner="w", lease_s=60)
            assert held is not None
            ledger.decline_delivery(held, status=0x0122, because="no such class", instead=None)
    return leaf


@pytest.mark.parametrize("state", DeliveryState)
def test_a_delivery_is_sent_again_where_the_table_has_such_a_row(
    ledger: Ledger, state: DeliveryState
) -> None:
    leaf = delivery_in(ledger, state)
    (record,) = [one for one in ledger.deliveries() if one.id == leaf]
    assert record.state is state
    offered = delivery_actions(record)
    assert (offered == (Action.DELIVER_AGAIN,)) is works(lambda: ledger.retry_delivery(leaf, "", by=ANN))
    assert delivery_actions(record, held=False) == ()
    assert delivery_actions(record, named=True) == ()

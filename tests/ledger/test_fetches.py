"""Fetches: asked once, made until they are settled, and known by what came."""

import pytest

from ledger.fetch import FetchId, FetchState, NewFetch, Purpose
from ledger.identifiers import StudyId, Uid
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import claim, finish, queued_job, receive

STUDY, PRIOR = Uid("1.2.3"), Uid("1.2.4")


def wish(purpose: Purpose, study: Uid = STUDY, told_with: StudyId | None = None, **terms: object) -> NewFetch:
    return NewFetch(
        purpose=purpose, study=study, peer="archive", told_with=told_with, because="asked for", terms=terms
    )


def asked(ledger: Ledger, new: NewFetch) -> FetchId:
    fetch_id = ledger.ask_fetch(new)
    assert fetch_id is not None
    return fetch_id


def uids(study: Uid, *numbers: int) -> list[Uid]:
    return [Uid(f"{study}.1.{number}") for number in numbers]


def test_the_same_is_asked_for_once_while_it_is_being_fetched(ledger: Ledger) -> None:
    study_id = receive(ledger, str(STUDY))
    first = asked(ledger, wish(Purpose.MISSING, told_with=study_id, theirs=5))

    assert ledger.ask_fetch(wish(Purpose.MISSING, told_with=study_id, theirs=6)) is None
    assert ledger.ask_fetch(wish(Purpose.WISH, told_with=study_id)) is not None
    assert ledger.fetch(first).state is FetchState.ASKED
    assert ledger.due_fetches() == [first, first + 1]


def test_what_was_settled_is_not_asked_for_on_the_same_terms_unless_it_is_wanted_again(
    ledger: Ledger,
) -> None:
    study_id = receive(ledger, str(STUDY))
    new = wish(Purpose.MISSING, told_with=study_id, theirs=5)
    ledger.fetch_abandoned(asked(ledger, new), "no more")

    assert ledger.ask_fetch(new) is None
    assert ledger.ask_fetch(wish(Purpose.MISSING, told_with=study_id, theirs=6)) is not None
    ledger.fetch_done(ledger.due_fetches()[0], "all is here")
    assert ledger.ask_fetch(new) is None
    assert ledger.ask_fetch(new, again=True) is not None


def test_a_fetch_that_is_postponed_is_due_later_and_one_that_ended_never(ledger: Ledger) -> None:
    later, done, given_up = (asked(ledger, wish(Purpose.WISH, Uid(f"1.2.3.{n}"))) for n in range(3))
    ledger.fetch_postponed(later, "the archive is away", retry_in_s=3600)
    ledger.fetch_done(done, "all is here")
    ledger.fetch_abandoned(given_up, "given up")

    assert ledger.due_fetches() == []
    assert [ledger.fetch(each).attempts for each in (later, done, given_up)] == [1, 1, 1]
    assert [ledger.fetch(each).state for each in (later, done, given_up)] == [
        FetchState.ASKED,
        FetchState.FETCHED,
        FetchState.ABANDONED,
    ]
    with pytest.raises(IllegalTransition):
        ledger.fetch_done(given_up, "after all")
    with pytest.raises(NotInLedger):
        ledger.fetch(FetchId(99))


def test_a_stopped_attempt_does_not_count(ledger: Ledger) -> None:
    fetch_id = asked(ledger, wish(Purpose.WISH))
    ledger.fetch_postponed(fetch_id, "the node is stopping", retry_in_s=0, counts=False)
    assert ledger.fetch(fetch_id).attempts == 0
    assert ledger.due_fetches() == [fetch_id]


def test_what_came_is_counted_here(ledger: Ledger) -> None:
    study_id = receive(ledger, str(STUDY), (1, 2))
    fetch_id = asked(ledger, wish(Purpose.MISSING, told_with=study_id))
    ledger.fetch_begins(fetch_id, uids(STUDY, 3, 4))
    assert (ledger.fetch(fetch_id).wanted, ledger.fetch(fetch_id).got) == (2, 0)

    receive(ledger, str(STUDY), (3,))
    ledger.fetch_begins(fetch_id, uids(STUDY, 4, 5))

    record = ledger.fetch(fetch_id)
    assert (record.wanted, record.got) == (3, 1)
    assert ledger.fetched_of(study_id) == 1
    assert ledger.held_of(STUDY) == set(uids(STUDY, 1, 2, 3))
    assert ledger.count_held(STUDY) == 3


def test_a_series_is_a_prior_only_where_all_of_it_was_fetched_as_one(ledger: Ledger) -> None:
    current = receive(ledger, str(STUDY))
    fetch_id = asked(ledger, wish(Purpose.PRIOR, PRIOR, current))
    before = receive(ledger, str(PRIOR), (1,), series=2)
    ledger.fetch_begins(fetch_id, [*uids(PRIOR, 1, 2), Uid(f"{PRIOR}.2.1"), Uid(f"{PRIOR}.2.2")])
    receive(ledger, str(PRIOR), (1, 2))
    receive(ledger, str(PRIOR), (2,), series=2)
    of_series = {str(one.series): one.id for one in ledger.series_of(before)}

    assert ledger.prior_of(of_series[f"{PRIOR}.1"]) == STUDY
    assert ledger.prior_of(of_series[f"{PRIOR}.2"]) is None, "some of it was here before it was fetched"
    assert ledger.prior_of(ledger.series_of(current)[0].id) is None

    ledger.fetch_done(fetch_id, "all is here")
    assert ledger.prior_of(of_series[f"{PRIOR}.1"]) == STUDY
    receive(ledger, str(PRIOR), (3,))
    assert ledger.prior_of(of_series[f"{PRIOR}.1"]) is None, "an image came by itself"


def test_an_image_that_was_fetched_as_missing_makes_no_prior(ledger: Ledger) -> None:
    study_id = receive(ledger, str(STUDY), (1,))
    fetch_id = asked(ledger, wish(Purpose.MISSING, told_with=study_id))
    ledger.fetch_begins(fetch_id, uids(STUDY, 2))
    receive(ledger, str(STUDY), (2,))
    assert ledger.prior_of(ledger.series_of(study_id)[0].id) is None


def test_our_results_are_known_as_made(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    finish(ledger, claim(ledger, job_id))
    made = {one.sop_instance for one in ledger.results_of(job_id)}
    of_study = ledger.study(ledger.job(job_id).study_id).study
    assert made
    assert ledger.made_of(ledger.results_of(job_id)[0].study) == made
    assert ledger.results_of(job_id)[0].study == of_study


def test_the_history_of_a_study_tells_of_its_fetches(ledger: Ledger) -> None:
    current = receive(ledger, str(STUDY))
    prior = asked(ledger, wish(Purpose.PRIOR, PRIOR, current))
    ledger.fetch_postponed(prior, "the archive is away", retry_in_s=0)
    ledger.fetch_done(prior, "3 of 3 fetched")
    told = [(one.event, one.because) for one in ledger.history(study_id=current) if one.thing == "fetch"]
    assert told == [
        ("asked", "asked for"),
        ("postponed", "the archive is away"),
        ("fetched", "3 of 3 fetched"),
    ]
    assert [one.id for one in ledger.fetches_of(STUDY)] == [prior]
    assert [one.id for one in ledger.fetches_of(PRIOR)] == [prior]
    assert ledger.fetches_of(PRIOR, peer="other") == []


def test_a_wish_is_told_with_the_study_once_that_is_here(ledger: Ledger) -> None:
    fetch_id = asked(ledger, wish(Purpose.WISH))
    ledger.fetch_begins(fetch_id, uids(STUDY, 1))
    study_id = receive(ledger, str(STUDY), (1,))
    ledger.fetch_done(fetch_id, "1 of 1 fetched")
    assert ledger.fetch(fetch_id).told_with == study_id
    assert "fetch" in {one.thing for one in ledger.history(study_id=study_id)}

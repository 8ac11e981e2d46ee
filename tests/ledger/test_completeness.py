"""What peers count and witnesses say is kept, so that anybody can tell what is missing, and who said so."""

from dataclasses import replace

import pytest

from ledger.completeness import Shortfall, Statement, Witness
from ledger.identifiers import AETitle, StudyId, Uid
from ledger.job import JobEvent, JobState
from ledger.promise import Reference
from ledger.store.ledger import Ledger
from ledger.study import Completeness, RoutingNote, StudyState
from tests.ledger.site import CT, LITTLE_ENDIAN, claim, digest, finish, new_job, receive, slice_of

SAID = Statement(witness=Witness.COUNT, by="PACS", because="complete: 3 of 3", ours=3, theirs=3, decided=True)


def close(
    ledger: Ledger, study_id: StudyId, jobs=(), *, closed_as=Completeness.PRESUMED, statements=(), notes=()
):
    facts = ledger.study(study_id)
    return ledger.close_study(
        study_id,
        seen_instances=facts.instances,
        seen_last_arrival_at=facts.last_arrival_at,
        because="as asked",
        closed_as=closed_as,
        statements=statements,
        notes=notes,
        jobs=jobs,
    )


def test_what_every_witness_said_stays_with_the_closing(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    timer = Statement(witness=Witness.QUIET, because="waiting: 1 s of 5 s quiet")
    close(ledger, study_id, closed_as=Completeness.COMPLETE, statements=[SAID, timer])

    assert ledger.study(study_id).closed_as is Completeness.COMPLETE
    said = ledger.statements_of(study_id)
    assert [(one.witness, one.by, one.ours, one.theirs, one.decided) for one in said] == [
        (Witness.COUNT, "PACS", 3, 3, True),
        (Witness.QUIET, "", None, None, False),
    ]
    assert said[0].at == ledger.study(study_id).closed_at


def test_the_latest_closing_is_what_is_shown(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id, statements=[SAID])
    receive(ledger, "1.2.3", [4])
    late = Statement(witness=Witness.LONGEST_WAIT, because="overdue", decided=True)
    close(ledger, study_id, closed_as=Completeness.OVERDUE, statements=[late])

    assert [one.because for one in ledger.statements_of(study_id)] == ["overdue"]


def test_a_count_is_said_since_it_did_not_change(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    for at, theirs in ((10.0, 4), (11.0, 5), (12.0, 5)):
        ledger.record_count(study_id, "PACS", theirs=theirs, asked_at=at)

    (count,) = ledger.counts_of(study_id)
    assert (count.theirs, count.asked_at, count.since_at, count.failure) == (5, 12.0, 11.0, "")


@pytest.mark.fault
def test_a_peer_that_goes_away_leaves_what_it_said_and_begins_anew(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    said = {Uid("1.2.3.1"): 5}
    ledger.record_count(study_id, "PACS", theirs=5, asked_at=10.0, series=said)
    away = ledger.record_count(study_id, "PACS", theirs=None, asked_at=11.0, failure="PACS is away")
    assert (away.theirs, away.series, away.failure) == (5, said, "PACS is away")

    again = ledger.record_count(study_id, "PACS", theirs=5, asked_at=12.0)
    assert (again.since_at, again.failure, again.series) == (12.0, "", {})


@pytest.mark.fault
def test_a_peer_that_never_answered_is_no_reason_to_miss_anything(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    ledger.record_count(study_id, "PACS", theirs=None, asked_at=10.0, failure="PACS is away")

    assert ledger.lacking() == []
    assert ledger.counts_of(study_id)[0].theirs is None


def test_a_study_lacks_what_a_peer_has_more_of_it_series_by_series(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1, 2, 3], series=1)
    receive(ledger, "1.2.3", [1], series=2)
    said = {Uid("1.2.3.1"): 3, Uid("1.2.3.2"): 4, Uid("1.2.3.9"): 2}
    ledger.record_count(study_id, "PACS", theirs=9, asked_at=10.0, series=said)

    (lack,) = ledger.lacking()
    assert (lack.study, lack.peer, lack.ours, lack.theirs) == (Uid("1.2.3"), "PACS", 4, 9)
    assert lack.series == {Uid("1.2.3.2"): (1, 4), Uid("1.2.3.9"): (0, 2)}
    receive(ledger, "1.2.3", [2, 3, 4], series=2)
    assert ledger.lacking()[0].series == {Uid("1.2.3.9"): (0, 2)}
    receive(ledger, "1.2.3", [1, 2], series=9)
    assert ledger.lacking() == []


@pytest.mark.parametrize(
    ("closed_as", "listed"),
    [(Completeness.PARTIAL, 1), (Completeness.COMPLETE, 0), (Completeness.OVERDUE, 0)],
)
def test_a_study_that_was_closed_in_part_still_lacks_the_rest(
    ledger: Ledger, closed_as: Completeness, listed: int
) -> None:
    study_id = receive(ledger, "1.2.3")
    ledger.record_count(study_id, "PACS", theirs=9, asked_at=10.0)
    close(ledger, study_id, closed_as=closed_as)

    assert len(ledger.lacking()) == listed


def test_our_own_results_are_counted_on_neither_side(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (job_id,) = close(ledger, study_id, [new_job(ledger, study_id)])
    finish(ledger, claim(ledger, job_id), of="2.25.7")
    back = slice_of("1.2.3", 1)
    ledger.record_arrivals([
        type(back)(
            sop_instance=Uid("2.25.7.1"), sop_class=CT, transfer_syntax=LITTLE_ENDIAN, study=Uid("1.2.3"),
            series=Uid("2.25.7.1.1"), digest=digest("back"), size=5000, path="instances/aa/back.dcm",
            calling=AETitle("PACS"), called=AETitle("WETREAD"), address="127.0.0.1",
        )
    ])  # fmt: skip

    assert [(str(one.series), one.instances, one.ours) for one in ledger.series_held(study_id)] == [
        ("1.2.3.1", 3, False),
        ("2.25.7.1.1", 1, True),
    ]
    ledger.record_count(study_id, "PACS", theirs=4, asked_at=10.0)
    assert [(lack.ours, lack.theirs) for lack in ledger.lacking()] == [(3, 4)]


def references(*numbers: int, series: int = 1) -> list[Reference]:
    return [Reference(CT, Uid(f"1.2.3.{series}.{number}")) for number in numbers]


def test_lists_name_instances_of_a_series_once_and_only_where_all_of_a_list_is_here(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3", [1, 2, 3], series=1)
    receive(ledger, "1.2.3", [1, 2], series=2)
    first, second = (one.series_id for one in ledger.series_held(study_id))
    asked = {"calling": AETitle("CT"), "address": "127.0.0.1", "answer_in_s": 60}
    ledger.record_promise(Uid("9.1"), references=references(1, 2), **asked)
    ledger.record_promise(Uid("9.2"), references=references(2, 3), **asked)
    ledger.record_promise(Uid("9.3"), references=references(1, 2, 3, series=2), **asked)

    listed = ledger.listed(study_id)
    assert (listed.by, listed.named, listed.lacking) == (("CT",), {first: 3}, (("CT", 2, 3),))
    receive(ledger, "1.2.3", [3], series=2)
    assert ledger.listed(study_id).named == {first: 3, second: 3}


def test_a_series_is_routed_before_its_study_is_closed_and_once(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (series,) = ledger.series_held(study_id)
    note = RoutingNote(series_id=series.series_id, rule="lungs", taken=True, because="CT, 3 images")
    job = new_job(ledger, study_id)
    said = {"notes": [note], "jobs": [job], "statement": SAID}

    assert ledger.route_series(study_id, series.series_id, seen_instances=2, **said) is None
    (job_id,) = ledger.route_series(study_id, series.series_id, seen_instances=3, **said)
    assert ledger.study(study_id).state is StudyState.OPEN
    assert [one.rule for one in ledger.routing_notes(study_id)] == ["lungs"]
    assert [hint.subject_id for hint in ledger.unpublished()] == [job_id]

    assert close(ledger, study_id, [job], notes=[note], statements=[SAID]) == []
    assert [one.id for one in ledger.jobs_of(study_id)] == [job_id]
    assert [one.rule for one in ledger.routing_notes(study_id)] == ["lungs"]
    assert len(ledger.statements_of(study_id)) == 2
    assert ledger.route_series(study_id, series.series_id, seen_instances=3, **said) is None


def test_one_more_image_of_a_routed_series_replaces_its_job(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (series,) = ledger.series_held(study_id)
    said = {"notes": [], "statement": SAID}
    (first,) = ledger.route_series(
        study_id, series.series_id, seen_instances=3, jobs=[new_job(ledger, study_id)], **said
    )
    receive(ledger, "1.2.3", [4])
    (second,) = ledger.route_series(
        study_id, series.series_id, seen_instances=4, jobs=[new_job(ledger, study_id)], **said
    )

    assert ledger.job(first).state is JobState.CANCELLED
    assert ledger.job(second).supersedes == first


def test_studies_that_were_closed_incomplete_are_found_for_a_while(ledger: Ledger) -> None:
    for study, closed_as in (("1.2.3", Completeness.PARTIAL), ("1.2.4", Completeness.COMPLETE)):
        close(ledger, receive(ledger, study), closed_as=closed_as)

    (found,) = ledger.incomplete(since=0.0)
    assert (found.study, found.closed_as) == (Uid("1.2.3"), Completeness.PARTIAL)
    assert ledger.incomplete(since=ledger.now() + 1) == []


SHORT = Statement(witness=Witness.COUNT, by="PACS", because="3 of 5", ours=3, theirs=5)
TIMER = Statement(witness=Witness.LONGEST_WAIT, because="overdue", decided=True)


def test_a_job_of_an_incomplete_study_says_so_at_every_attempt(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (job_id,) = close(ledger, study_id, [new_job(ledger, study_id)], statements=[SHORT, TIMER])
    first = claim(ledger, job_id)
    assert first.shortfall == Shortfall(here=3, expected=5)
    ledger.return_job(first, JobEvent.RELEASED, because="stopping", retry_in_s=0, attempts_max=3)
    assert claim(ledger, job_id).shortfall == first.shortfall

    # What comes later, and what is said then, is of another job.
    receive(ledger, "1.2.3", [4, 5])
    whole = replace(SAID, ours=5, theirs=5)
    (later,) = close(
        ledger, study_id, [new_job(ledger, study_id)], closed_as=Completeness.COMPLETE, statements=[whole]
    )
    assert claim(ledger, later).shortfall is None


def test_nobody_invents_a_shortfall(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    unknown = Statement(witness=Witness.COUNT, by="PACS", because="no answer", ours=3)
    (job_id,) = close(ledger, study_id, [new_job(ledger, study_id)], statements=[unknown, SAID, TIMER])
    assert claim(ledger, job_id).shortfall is None


def test_a_series_that_was_routed_before_the_closing_knows_of_none(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (series,) = ledger.series_held(study_id)
    (job_id,) = ledger.route_series(
        study_id,
        series.series_id,
        seen_instances=3,
        notes=[],
        statement=SAID,
        jobs=[new_job(ledger, study_id)],
    )
    close(ledger, study_id, statements=[SHORT, TIMER])
    assert claim(ledger, job_id).shortfall is None

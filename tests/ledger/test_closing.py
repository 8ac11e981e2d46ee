import pytest

from ledger.delivery import DeliveryState
from ledger.identifiers import StudyId
from ledger.job import JobEvent, JobState, Priority
from ledger.result import Role
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.study import RoutingNote, StudyState
from tests.ledger.site import OPERATOR, claim, close, finish, new_job, receive, send, slice_of


def test_closing_opens_the_jobs_and_tells_the_queue_in_one_transaction(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (series,) = ledger.series_of(study_id)
    facts = ledger.study(study_id)
    (job_id,) = ledger.close_study(
        study_id,
        seen_instances=3,
        seen_last_arrival_at=facts.last_arrival_at,
        because="quiet for 5 s",
        notes=[
            RoutingNote(series_id=series.id, rule="lungs", taken=True, because="CT, 3 instances"),
            RoutingNote(series_id=None, rule="brain", taken=False, because="no MR series"),
        ],
        jobs=[new_job(ledger, study_id, priority=Priority.STAT)],
    )

    study = ledger.study(study_id)
    assert (study.state, study.generation, study.closed_because) == (StudyState.CLOSED, 1, "quiet for 5 s")
    assert study.closed_at is not None
    assert [note.rule for note in ledger.routing_notes(study_id)] == ["lungs", "brain"]
    job = ledger.job(job_id)
    assert (job.state, job.attempts, job.study, job.rule, job.destinations) == (
        JobState.QUEUED,
        0,
        study.study,
        "lungs",
        ("PACS",),
    )
    assert [(hint.subject_id, hint.queue) for hint in ledger.unpublished()] == [(job_id, "stat")]
    assert [(e.thing, e.event, e.after) for e in ledger.history(study_id=study_id)] == [
        ("study", "arrived", "open"),
        ("job", "opened", "queued"),
        ("study", "completed", "closed"),
    ]


def test_nothing_happens_if_something_arrived_since_the_facts_were_read(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    facts = ledger.study(study_id)
    job = new_job(ledger, study_id)
    ledger.record_arrivals([slice_of("1.2.3", 4)])

    assert (
        ledger.close_study(
            study_id,
            seen_instances=facts.instances,
            seen_last_arrival_at=facts.last_arrival_at,
            because="quiet",
            notes=(),
            jobs=[job],
        )
        is None
    )
    assert ledger.study(study_id).state is StudyState.OPEN
    assert ledger.jobs_of(study_id) == []
    assert ledger.unpublished() == []


def test_a_closed_study_is_not_closed_twice(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    jobs = [new_job(ledger, study_id)]
    assert close(ledger, study_id, jobs) is not None
    assert close(ledger, study_id, jobs) is None
    assert ledger.study(study_id).generation == 1


def test_there_is_no_closing_of_what_is_not_there(ledger: Ledger) -> None:
    with pytest.raises(NotInLedger, match="there is no study 99"):
        ledger.close_study(
            StudyId(99), seen_instances=0, seen_last_arrival_at=0.0, because="", notes=(), jobs=()
        )


def test_the_same_input_set_is_the_same_job(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (first,) = close(ledger, study_id, [new_job(ledger, study_id)])
    receive(ledger, "1.2.3", [1], series=2)

    opened = close(ledger, study_id, [new_job(ledger, study_id), new_job(ledger, study_id, series=1)])

    assert len(opened) == 1
    assert first not in opened
    assert ledger.job(first).state is JobState.QUEUED  # The late series is none of its business.


@pytest.mark.parametrize("stands", [JobState.QUEUED, JobState.RUNNING, JobState.PARKED])
def test_a_late_slice_overtakes_the_unfinished_job_of_its_series(ledger: Ledger, stands: JobState) -> None:
    study_id = receive(ledger, "1.2.3")
    other, first = close(
        ledger, study_id, [new_job(ledger, study_id, rule="other"), new_job(ledger, study_id)]
    )
    if stands is not JobState.QUEUED:
        held = claim(ledger, first)
        if stands is JobState.PARKED:
            ledger.park_job(held, "the model said no")
    ledger.record_arrivals([slice_of("1.2.3", 4)])

    (second,) = close(ledger, study_id, [new_job(ledger, study_id)])

    assert ledger.job(first).state is JobState.CANCELLED
    assert ledger.job(first).because == f"overtaken by job {second}: more instances arrived"
    assert ledger.job(second).supersedes == first
    assert ledger.job(other).state is JobState.QUEUED
    assert len(claim(ledger, second).inputs) == 4


def test_a_finished_job_stays_finished_and_is_what_the_new_one_supersedes(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (first,) = close(ledger, study_id, [new_job(ledger, study_id)])
    finish(ledger, claim(ledger, first))
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study_id, [new_job(ledger, study_id)])
    ledger.record_arrivals([slice_of("1.2.3", 5)])
    (third,) = close(ledger, study_id, [new_job(ledger, study_id)])

    assert [job.state for job in ledger.jobs_of(study_id)] == [
        JobState.DONE,
        JobState.CANCELLED,
        JobState.QUEUED,
    ]
    assert [ledger.job(job_id).supersedes for job_id in (first, second, third)] == [None, first, second]


def test_what_a_late_slice_made_out_of_date_is_not_sent_any_more(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (first,) = close(ledger, study_id, [new_job(ledger, study_id, to=("PACS", "RESEARCH"))])
    finish(ledger, claim(ledger, first))
    to_pacs, to_research, *_ = ledger.deliveries_of(first)
    assert to_pacs.result.role is Role.SEGMENTATION
    send(ledger, to_pacs.id)
    assert ledger.claim_delivery(to_research.id, owner="sender-1", lease_s=60) is not None
    ledger.record_arrivals([slice_of("1.2.3", 4)])

    (second,) = close(ledger, study_id, [new_job(ledger, study_id, to=("PACS", "RESEARCH"))])

    # What is there stays there, and what is on its way arrives.
    sent, sending, *withdrawn = ledger.deliveries_of(first)
    assert (sent.state, sending.state) == (DeliveryState.SENT, DeliveryState.SENDING)
    because = f"overtaken by job {second}: more instances arrived"
    assert {(one.state, one.because) for one in withdrawn} == {(DeliveryState.CANCELLED, because)}
    told = [e for e in ledger.history(job_id=first) if e.thing == "delivery" and e.event == "superseded"]
    assert [(e.thing_id, e.before, e.after) for e in told] == [
        (one.id, "waiting", "cancelled") for one in withdrawn
    ]
    # Neither peer got the first report, so the second names none.
    assert claim(ledger, second).predecessor is None


def test_a_new_report_names_the_one_that_its_destination_has(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (first,) = close(ledger, study_id, [new_job(ledger, study_id)])
    finish(ledger, claim(ledger, first))
    for one in ledger.deliveries_of(first):
        send(ledger, one.id)
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study_id, [new_job(ledger, study_id)])
    ledger.record_arrivals([slice_of("1.2.3", 5)])
    other, third = close(
        ledger, study_id, [new_job(ledger, study_id, rule="other"), new_job(ledger, study_id)]
    )

    # The second was overtaken before it ran: the first is still the one to replace.
    assert ledger.job(second).state is JobState.CANCELLED
    (report,) = [made for made in ledger.results_of(first) if made.role is Role.REPORT]
    held = claim(ledger, third)
    assert held.predecessor == report
    assert claim(ledger, other).predecessor is None
    # It is part of the new report's bytes, so nothing that happens later changes it.
    ledger.cancel_delivery(ledger.deliveries_of(first)[-1].id, "the archive lost it", by=OPERATOR)
    ledger.return_job(held, JobEvent.CRASHED, because="", retry_in_s=0, attempts_max=3)
    assert claim(ledger, third).predecessor == report


def test_a_shadow_runs_report_names_the_latest_that_is_kept(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    (first,) = close(ledger, study_id, [new_job(ledger, study_id, to=())])
    finish(ledger, claim(ledger, first))
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study_id, [new_job(ledger, study_id, to=())])

    held = claim(ledger, second)
    assert held.predecessor is not None
    assert (held.predecessor.job_id, held.predecessor.role) == (first, Role.REPORT)


def test_notes_are_those_of_the_latest_closing(ledger: Ledger) -> None:
    study_id = receive(ledger, "1.2.3")
    for number in (4, 5):
        facts = ledger.study(study_id)
        ledger.close_study(
            study_id,
            seen_instances=facts.instances,
            seen_last_arrival_at=facts.last_arrival_at,
            because="quiet",
            notes=[RoutingNote(series_id=None, rule="lungs", taken=False, because=f"before {number}")],
            jobs=(),
        )
        ledger.record_arrivals([slice_of("1.2.3", number)])
    assert [note.because for note in ledger.routing_notes(study_id)] == ["before 5"]

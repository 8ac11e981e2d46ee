import pytest

from ledger.identifiers import JobId, StudyId
from ledger.job import JobRecord, JobState
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord, StudyState
from tests.ledger.site import claim, close, finish, pass_by, queued_job, receive, slice_of


def test_an_operator_finds_a_study_or_a_job_by_what_is_at_hand(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    ledger.record_arrivals(
        [slice_of("1.2.4", 1, AccessionNumber="A7"), slice_of("1.2.5", 1, AccessionNumber="77")]
    )
    for text, study in (("1.2.3", "1.2.3"), ("A7", "1.2.4"), (" 77 ", "1.2.5")):
        found = ledger.find(text)
        assert isinstance(found, StudyRecord)
        assert str(found.study) == study
    for text in (str(job_id), f"job {job_id}", f"JOB{job_id}", f"#{job_id}"):
        found = ledger.find(text)
        assert isinstance(found, JobRecord)
        assert found.id == job_id
    for text in ("", "  ", "9.9.9", "job 77", "nonsense", "'; DROP TABLE study", "\0"):
        assert ledger.find(text) is None


def test_studies_are_listed_latest_first_by_state_and_by_text(ledger: Ledger) -> None:
    for n, name in ((1, "Doe^Jane"), (2, "Roe^100%"), (3, "Moe")):
        ledger.record_arrivals([slice_of(f"1.2.{n}", 1, PatientName=name, PatientID=f"ID{n}")])
        pass_by(ledger, 0.002)
    close(ledger, ledger.studies()[-1].id)

    def listed(**how) -> list[str]:
        return [str(study.study) for study in ledger.studies(**how)]

    assert listed() == ["1.2.3", "1.2.2", "1.2.1"]
    assert listed(limit=1) == ["1.2.3"]
    assert listed(state=StudyState.CLOSED) == ["1.2.1"]
    assert listed(text="jane") == ["1.2.1"]
    assert listed(text="id2") == ["1.2.2"]
    assert listed(text="%") == ["1.2.2"]
    assert listed(text="_") == []


def test_jobs_and_deliveries_are_listed_by_state(ledger: Ledger) -> None:
    first, second = queued_job(ledger, "1.2.1"), queued_job(ledger, "1.2.2")
    finish(ledger, claim(ledger, first))
    assert [job.id for job in ledger.jobs()] == [second, first]
    assert [job.id for job in ledger.jobs(states=[JobState.DONE])] == [first]
    assert ledger.jobs(states=[], limit=5) == []
    assert [d.job_id for d in ledger.deliveries(limit=1)] == [first]
    assert ledger.deliveries(states=[]) == []


def test_history_is_that_of_everything_of_a_study_or_of_a_job(ledger: Ledger) -> None:
    first = queued_job(ledger, "1.2.1")
    other = receive(ledger, "1.2.2")
    finish(ledger, claim(ledger, first))
    ledger.record_event("node", "started", because="version 0.1.0", detail={"port": 11112})
    ledger.record_event("study", "looked at", because="by an operator", study_id=other)

    everything = ledger.history()
    assert [e.at for e in everything] == sorted(e.at for e in everything)
    assert (everything[-2].thing, everything[-2].detail, everything[-2].thing_id) == (
        "node",
        {"port": 11112},
        None,
    )
    assert everything[-1].thing_id == other
    assert {e.study_id for e in ledger.history(study_id=other)} == {other}
    things = [(e.thing, e.event) for e in ledger.history(job_id=first)]
    assert things == [
        ("job", "opened"),
        ("job", "claimed"),
        ("job", "finished"),
        ("delivery", "opened"),
        ("delivery", "opened"),
    ]
    assert ledger.history(limit=2) == everything[-2:]


def test_refused_senders_are_remembered_by_when_and_whence(ledger: Ledger) -> None:
    def refuse(thing, event, because):
        ledger.record_event(thing, event, because=because, detail={"address": "10.0.0.5"})
        pass_by(ledger, 0.002)

    refuse("node", "association_rejected", "before")
    refuse("node", "started", "no refusal")
    since = ledger.now()
    refuse("node", "association_rejected", "another title")
    refuse("instance", "refused", "another UID")
    refuse("instance", "received again", "no refusal")

    found = ledger.refusals(since=since)
    assert [(e.thing, e.because, e.detail) for e in found] == [
        ("node", "another title", {"address": "10.0.0.5"}),
        ("instance", "another UID", {"address": "10.0.0.5"}),
    ]
    assert [e.because for e in ledger.refusals(since=0.0, limit=2)] == ["another title", "another UID"]

    for thing, event in (
        ("node", "connection_refused"),
        ("node", "association_aborted"),
        ("node", "association_idle"),
        ("instance", "postponed"),
    ):
        refuse(thing, event, event)
    assert [e.event for e in ledger.refusals(since=0.0, limit=3)] == [
        "connection_refused",
        "association_aborted",
        "postponed",
    ]


def test_callers_are_measured_by_what_they_have_here(ledger: Ledger) -> None:
    assert ledger.open_by_caller() == {}
    assert ledger.bytes_held_for("CT1") == 0
    receive(ledger, "1.2.3")
    receive(ledger, "1.2.4")
    ((caller, studies),) = ledger.open_by_caller().items()
    assert studies == 2
    assert ledger.bytes_held_for(caller) > 0


def test_asking_for_what_is_not_there_says_so(ledger: Ledger) -> None:
    with pytest.raises(NotInLedger, match="there is no study 5"):
        ledger.study(StudyId(5))
    with pytest.raises(NotInLedger, match="there is no job 6"):
        ledger.job(JobId(6))
    assert ledger.jobs_of(StudyId(5)) == []
    assert ledger.routing_notes(StudyId(5)) == []

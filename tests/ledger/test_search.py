"""Looking for studies, and at what is going on: the same on both databases."""

import pytest

from ledger.identifiers import AETitle
from ledger.job import JobState
from ledger.present import Search
from ledger.store.ledger import Ledger
from ledger.study import StudyState
from ledger.usage import WorkerReport
from tests.ledger.site import claim, close, finish, new_job, parked_long_ago, queued_job, receive, slice_of


def of(ledger: Ledger, **wanted: object) -> list[str]:
    return [str(found.study.study) for found in ledger.search(Search(**{"patients": True} | wanted))]


def arrive(ledger: Ledger, study: str, **headers: str) -> None:
    ledger.record_arrivals([slice_of(study, 1, **headers)])


def test_text_is_looked_for_in_everything_that_people_know_a_study_by(ledger: Ledger) -> None:
    arrive(ledger, "1.2.1", PatientName="Müller^Jörg", PatientID="77", AccessionNumber="A1")
    arrive(ledger, "1.2.2", PatientName="Nobody", StudyDescription="Thorax nativ")

    assert of(ledger, text="Müller") == ["1.2.1"]
    assert of(ledger, text="LLER") == ["1.2.1"]
    assert of(ledger, text="thorax") == ["1.2.2"]
    assert of(ledger, text="1.2.") == ["1.2.2", "1.2.1"]
    for wild in ("1_2", "%", "\\"):
        assert of(ledger, text=wild) == []
    assert of(ledger, accession="A1") == ["1.2.1"]


@pytest.mark.parametrize("text", ["Mül", "77", "thorax"])
def test_who_may_not_see_patients_finds_nothing_by_what_is_known_of_them(ledger: Ledger, text: str) -> None:
    arrive(ledger, "1.2.1", PatientName="Müller^Jörg", PatientID="77", StudyDescription="Thorax nativ")

    assert of(ledger, text=text, patients=False) == []
    assert of(ledger, text=text) == ["1.2.1"]
    assert of(ledger, text="1.2.", patients=False) == ["1.2.1"]


def test_dates_senders_modalities_and_states_narrow_the_list(ledger: Ledger) -> None:
    arrive(ledger, "1.2.1", StudyDate="20261101")
    arrive(ledger, "1.2.2", StudyDate="20261120", Modality="MR")
    study_id = receive(ledger, "1.2.3")
    close(ledger, study_id)

    assert of(ledger, since="20261102") == ["1.2.2"]
    assert of(ledger, since="20261101", until="20261101") == ["1.2.1"]
    assert of(ledger, modality="MR") == ["1.2.2"]
    assert of(ledger, state=StudyState.CLOSED) == ["1.2.3"]
    assert of(ledger, calling="SCANNER") == ["1.2.3", "1.2.2", "1.2.1"]
    assert of(ledger, calling="ANOTHER") == []
    assert ledger.callers() == [AETitle("SCANNER").value]


def test_a_study_is_found_with_all_that_says_where_it_stands(ledger: Ledger) -> None:
    finish(ledger, claim(ledger, queued_job(ledger, "1.2.1")))

    (found,) = ledger.search(Search(jobs=None))

    assert found.modalities == ("CT",)
    assert [job.state for job in found.jobs] == [JobState.DONE]
    assert [one.peer for one in found.deliveries] == ["PACS", "PACS"]
    assert of(ledger, jobs=JobState.QUEUED) == []


def test_the_list_goes_on_where_it_ended_although_studies_arrive_meanwhile(ledger: Ledger) -> None:
    for number in range(5):
        receive(ledger, f"1.2.{number + 1}", [1])
    first = ledger.search(Search(limit=2))
    receive(ledger, "1.2.9", [1])
    last = first[-1].study

    rest = of(ledger, before=(last.last_arrival_at, last.id))

    assert [str(found.study.study) for found in first] == ["1.2.5", "1.2.4"]
    assert rest == ["1.2.3", "1.2.2", "1.2.1"]


def test_the_present_counts_what_is_unfinished(ledger: Ledger) -> None:
    receive(ledger, "1.2.1")
    queued_job(ledger, "1.2.2")
    claim(ledger, queued_job(ledger, "1.2.3"))
    finish(ledger, claim(ledger, queued_job(ledger, "1.2.4")))

    present = ledger.present()

    assert present.open_studies == 1
    assert present.jobs == {JobState.QUEUED: 1, JobState.RUNNING: 1, JobState.PARKED: 0}
    assert present.deliveries["waiting"] == 2
    assert present.oldest_queued_s is not None


def test_a_job_of_long_ago_that_runs_again_waits_since_that_decision(ledger: Ledger) -> None:
    parked_long_ago(ledger)
    for waits_s in (ledger.present().oldest_queued_s, ledger.counts().oldest_queued_s):
        assert waits_s is not None
        assert waits_s < 3600


def test_what_happened_lately_stands_in_its_minute(ledger: Ledger) -> None:
    finish(ledger, claim(ledger, queued_job(ledger, "1.2.1")))

    activity = ledger.activity(buckets=3)

    assert len(activity.closed) == 3
    assert (sum(activity.closed), sum(activity.finished), sum(activity.failed)) == (1, 1, 0)
    assert activity.closed[0] == 0


@pytest.mark.parametrize("news", ["an image", "a job", "a worker"])
def test_the_signature_is_another_after_any_news(ledger: Ledger, news: str) -> None:
    study_id = receive(ledger, "1.2.1", [1])
    before = ledger.signature()
    assert ledger.signature() == before

    match news:
        case "an image":
            receive(ledger, "1.2.1", [2])
        case "a job":
            close(ledger, study_id, [new_job(ledger, study_id)])
        case _:
            ledger.report_worker(WorkerReport(owner="w"))

    assert ledger.signature() != before

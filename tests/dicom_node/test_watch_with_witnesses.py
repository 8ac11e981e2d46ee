"""Peers, lists and geometry decide: what is closed, what is routed early, and what is on record."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from dicom_node.peers import PeerSettings
from dicom_node.routing import Rule
from dicom_node.senders import Senders
from dicom_node.settings import ClosingSettings
from dicom_node.watch import Watch
from ledger.completeness import Witness
from ledger.identifiers import AETitle, Uid
from ledger.job import JobState, Outcome
from ledger.promise import Reference
from ledger.store.ledger import Ledger
from ledger.study import Arrival, Completeness, StudyRecord, StudyState
from tests.dicom_node.counting_pacs import counting_pacs
from tests.dicom_node.test_count_asking import RESULTS, our_result
from tests.dicom_node.test_watch import armed, arrival
from tests.peers.loopback import free_port, until

# The timers alone would not close anything within a test.
PATIENT = ClosingSettings(
    quiet_s=3600, quiet_open_s=3600, longest_s=7200, settle_s=0.2, ask_after_s=0.05, ask_deadline_s=2,
    ask_again_s=1, series_quiet_s=0.2, counted_at="PACS",
)  # fmt: skip
EARLY = Rule(name="lungs", model="lung_ct", modality="CT", when="series")  # type: ignore[arg-type]
LATER = Rule(name="lungs", model="lung_ct", modality="CT")  # type: ignore[arg-type]
FIRST, SECOND = "1.2.3.1", "1.2.3.2"


def numbered(number: int, *, series: str = FIRST) -> Arrival:
    one = arrival(number, series=series)
    return replace(one, headers={**one.headers, "InstanceNumber": str(number)})


@contextmanager
def watching(
    ledger: Ledger,
    *rules: Rule,
    peers: tuple[PeerSettings, ...] = (),
    senders: Senders | None = None,
    **patience: object,
) -> Iterator[Watch]:
    settings = PATIENT.model_copy(update={"counted_at": None if not peers else "PACS", **patience})
    senders = senders or Senders()
    watch = Watch(ledger, rules=rules, patience=settings, associations=senders, peers=peers, every_s=0.05)
    senders.changed = watch.wake
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def closed(ledger: Ledger, *, generation: int = 1) -> StudyRecord:
    def study() -> StudyRecord | None:
        (known,) = ledger.studies()
        return known if known.state is StudyState.CLOSED and known.generation == generation else None

    return until(study, within_s=10, what="the study is closed")


def wait_for(condition: Callable[[], object], what: str) -> None:
    until(condition, within_s=10, what=what)


def test_a_study_is_closed_when_the_pacs_has_no_more(ledger: Ledger) -> None:
    with counting_pacs("1.2.3", "4") as pacs, watching(ledger, LATER, peers=(pacs.settings,)):
        ledger.record_arrivals([numbered(n) for n in (1, 2, 3)])
        wait_for(ledger.lacking, "the PACS has said that it has more")
        assert ledger.studies()[0].state is StudyState.OPEN
        ledger.record_arrivals([numbered(4)])
        study = closed(ledger)

    assert study.closed_as is Completeness.COMPLETE
    assert study.closed_because.startswith("complete: 4 of 4 per PACS, ")
    said = ledger.statements_of(study.id)
    assert [(one.witness, one.by, one.ours, one.theirs) for one in said if one.decided] == [
        (Witness.COUNT, "PACS", 4, 4)
    ]
    assert len(ledger.jobs_of(study.id)) == 1
    assert ledger.lacking() == []


def test_while_the_sender_is_connected_a_number_that_grows_is_not_believed(ledger: Ledger) -> None:
    senders = Senders()
    senders.opened("association")
    with (
        counting_pacs("1.2.3", "3") as pacs,
        watching(ledger, LATER, peers=(pacs.settings,), senders=senders, settle_s=1.0),
    ):
        (*_, receipt) = ledger.record_arrivals([numbered(n) for n in (1, 2, 3)])
        senders.sent("association", receipt.study_id)
        wait_for(lambda: ledger.counts_of(receipt.study_id), "the PACS has been asked once")
        pacs.whole = "5"
        wait_for(ledger.lacking, "it has grown")
        assert ledger.studies()[0].state is StudyState.OPEN
        ledger.record_arrivals([numbered(4), numbered(5)])
        study = closed(ledger)

    assert study.closed_because.startswith("complete: 5 of 5 per PACS")


@pytest.mark.fault
def test_a_pacs_that_is_away_leaves_it_to_the_pauses(ledger: Ledger) -> None:
    away = PeerSettings(name="PACS", ae_title="PACS", host="127.0.0.1", port=free_port(), count="find")
    with watching(ledger, LATER, peers=(away,), quiet_s=0.5):
        ledger.record_arrivals([numbered(n) for n in (1, 2, 3)])
        study = closed(ledger)

    assert study.closed_as is Completeness.PRESUMED
    count = next(one for one in ledger.statements_of(study.id) if one.witness is Witness.COUNT)
    assert count.because.startswith("PACS does not say how many there are: no connection")
    assert len(ledger.jobs_of(study.id)) == 1


@pytest.mark.fault
def test_a_study_that_stays_incomplete_is_closed_in_the_end_and_says_so(ledger: Ledger) -> None:
    with (
        counting_pacs("1.2.3", "5", _1="5") as pacs,
        watching(ledger, LATER, peers=(pacs.settings,), quiet_s=2.0, longest_s=3.0),
    ):
        ledger.record_arrivals([numbered(n) for n in (1, 2, 3)])
        study = closed(ledger)

    assert study.closed_as is Completeness.PARTIAL
    assert study.closed_because.startswith("partial: 3 of 5 per PACS; open for ")
    assert [(one.ours, one.theirs) for one in ledger.lacking()] == [(3, 5)]


def test_a_result_of_ours_that_comes_back_alone_asks_for_nothing(ledger: Ledger) -> None:
    ledger.record_arrivals([numbered(n) for n in (1, 2, 3)])
    with watching(ledger, LATER, quiet_s=0.0):
        study = closed(ledger)
    claim = ledger.claim_job(ledger.jobs_of(study.id)[0].id, owner="test", lease_s=60, attempts_max=3)
    how = {"outcome": Outcome.FOUND, "because": "", "model_identity": "lung_ct", "timings": {}}
    ledger.finish_job(claim, results=[our_result(1)], **how)
    ledger.purge_study(study.id, "expired")
    ledger.record_arrivals([arrival(1, series=str(RESULTS))])
    with (
        counting_pacs("1.2.3", "4", _1="3") as pacs,
        watching(ledger, LATER, peers=(pacs.settings,), quiet_s=0.5),
    ):
        closed(ledger, generation=2)

    assert pacs.asked == []
    assert ledger.lacking() == []


def ask_for_commitment(ledger: Ledger, *uids: str) -> None:
    ct = Uid("1.2.840.10008.5.1.4.1.1.2")
    ledger.record_promise(
        Uid("9.1"), calling=AETitle("SCANNER"), address="127.0.0.1", answer_in_s=60,
        references=[Reference(ct, Uid(uid)) for uid in uids],
    )  # fmt: skip


def test_what_a_scanner_asks_us_to_answer_for_closes_the_study(ledger: Ledger) -> None:
    with watching(ledger, LATER) as watch:
        ledger.record_arrivals([numbered(n) for n in (1, 2, 3)])
        ask_for_commitment(ledger, *(f"{FIRST}.{n}" for n in (1, 2, 3)))
        watch.heard_list()
        study = closed(ledger)

    assert study.closed_as is Completeness.COMPLETE
    assert "in the storage commitment requests of SCANNER" in study.closed_because


def opened(ledger: Ledger, number: int) -> None:
    (study,) = ledger.studies()
    wait_for(lambda: len(ledger.jobs_of(study.id)) == number, f"there are {number} jobs")
    assert ledger.study(study.id).state is StudyState.OPEN


def test_a_series_whose_number_is_known_is_routed_while_the_study_is_open(ledger: Ledger) -> None:
    with counting_pacs("1.2.3", "5", _1="3", _2="2") as pacs, watching(ledger, EARLY, peers=(pacs.settings,)):
        ledger.record_arrivals([*(numbered(n) for n in (1, 2, 3)), numbered(1, series=SECOND)])
        opened(ledger, 1)
        (study,) = ledger.studies()
        assert [str(job.series) for job in ledger.jobs_of(study.id)] == [FIRST]
        assert [note.rule for note in ledger.routing_notes(study.id)] == ["lungs"]
        ledger.record_arrivals([numbered(2, series=SECOND)])
        study = closed(ledger)

    assert [str(job.series) for job in ledger.jobs_of(study.id)] == [FIRST, SECOND]
    assert {job.state for job in ledger.jobs_of(study.id)} == {JobState.QUEUED}
    early, *_ = ledger.statements_of(study.id)
    assert early.because.startswith("complete: 3 of 3 per PACS, ")
    assert early.series_id is not None
    assert len(ledger.routing_notes(study.id)) == 2


def test_a_regular_stack_is_routed_after_a_short_pause_and_once_more_with_another_slice(
    ledger: Ledger,
) -> None:
    with watching(ledger, EARLY):
        ledger.record_arrivals([numbered(n) for n in range(1, 13)])
        opened(ledger, 1)
        ledger.record_arrivals([numbered(13)])
        opened(ledger, 2)

    (study,) = ledger.studies()
    first, second = ledger.jobs_of(study.id)
    assert (first.state, second.state, second.supersedes) == (JobState.CANCELLED, JobState.QUEUED, first.id)
    said = [one.because for one in ledger.statements_of(study.id)]
    assert said[0].startswith(
        "complete: 12 slices stand evenly, 1.00 mm apart, numbered 1 to 12 without a gap"
    )
    assert len(said) == 2


@pytest.mark.fault
def test_a_stack_with_a_gap_waits_for_the_study_and_the_gap_is_on_record(ledger: Ledger) -> None:
    with watching(ledger, EARLY, longest_s=1.0):
        ledger.record_arrivals([numbered(n) for n in range(1, 14) if n != 6])
        study = closed(ledger)

    assert [
        str(one.because) for one in ledger.statements_of(study.id) if one.witness is Witness.GEOMETRY
    ] == ["there is a gap of 2.00 mm between slices 1.00 mm apart"]
    opened_at = [event.at for event in ledger.history(study_id=study.id) if event.event == "opened"]
    assert opened_at == [study.closed_at]


def test_a_rule_that_waits_for_the_study_is_not_asked_of_a_series(ledger: Ledger) -> None:
    other = EARLY.model_copy(update={"name": "first look"})
    with watching(ledger, LATER, other):
        ledger.record_arrivals([numbered(n) for n in range(1, 13)])
        opened(ledger, 1)

    (study,) = ledger.studies()
    assert [job.rule for job in ledger.jobs_of(study.id)] == ["first look"]


def test_a_series_that_no_rule_takes_leaves_no_trace_before_its_study_is_closed(ledger: Ledger) -> None:
    mr = Rule(name="brain", model="brain_mr", modality="MR", when="series")  # type: ignore[arg-type]
    ledger.record_arrivals([numbered(n) for n in range(1, 13)])
    with watching(ledger, mr, longest_s=1.0):
        study = closed(ledger)

    assert ledger.jobs_of(study.id) == []
    assert [event.event for event in ledger.history(study_id=study.id)] == ["arrived", "completed"]


@pytest.mark.fault
def test_a_late_image_of_one_series_reruns_that_series_and_no_other(ledger: Ledger) -> None:
    with watching(ledger, LATER, quiet_s=0.2):
        for series in (FIRST, SECOND):
            ledger.record_arrivals([numbered(n, series=series) for n in (1, 2, 3)])
        study = closed(ledger)
        before = {str(job.series): job.id for job in ledger.jobs_of(study.id)}
        ledger.record_arrivals([numbered(4, series=SECOND)])
        closed(ledger, generation=2)

    after = {job.id: job for job in ledger.jobs_of(study.id)}
    (new,) = [job for number, job in after.items() if number not in before.values()]
    assert (str(new.series), new.supersedes) == (SECOND, before[SECOND])
    assert after[before[FIRST]].state is JobState.QUEUED
    assert after[before[SECOND]].state is JobState.CANCELLED


@pytest.mark.fault
def test_a_crash_while_a_series_is_routed_leaves_nothing_or_all_of_it(ledger: Ledger) -> None:
    ledger.record_arrivals([numbered(n) for n in range(1, 13)])
    with armed("before_series_commit:raise"), watching(ledger, EARLY):
        opened(ledger, 1)

    (study,) = ledger.studies()
    assert len(ledger.routing_notes(study.id)) == 1


def test_it_looks_less_often_while_no_study_is_open(ledger: Ledger) -> None:
    watch = Watch(ledger, rules=(), patience=PATIENT, associations=Senders(), every_s=0.5)
    watch.look()
    assert watch.rest_s == 2.0
    ledger.record_arrivals([numbered(1)])
    watch.look()
    assert watch.rest_s == 0.5

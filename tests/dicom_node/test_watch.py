"""Studies are closed, routed and given their jobs in one go, and late instances are never ignored."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.routing import Rule
from dicom_node.senders import Senders
from dicom_node.settings import ClosingSettings
from dicom_node.watch import Watch
from ledger import failpoint
from ledger.identifiers import AETitle, Digest, StudyId, Uid
from ledger.job import JobState, Priority
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.study import Arrival, StudyState
from tests.peers.loopback import until

STUDY = Uid("1.2.3")
AT_ONCE = ClosingSettings(quiet_s=0.0, quiet_open_s=3600.0, longest_s=3600.0)
RULE = Rule(name="lungs", model="lung_ct", modality="CT", at_least=3, deliver_to=("archive",))  # type: ignore[arg-type]


def arrival(
    number: int,
    *,
    series: str = "1.2.3.1",
    modality: str = "CT",
    sop_class: str = "1.2.840.10008.5.1.4.1.1.2",
) -> Arrival:
    return Arrival(
        sop_instance=Uid(f"{series}.{number}"),
        sop_class=Uid(sop_class),
        transfer_syntax=Uid("1.2.840.10008.1.2.1"),
        study=STUDY,
        series=Uid(series),
        digest=Digest(f"{abs(hash((series, number))):064x}"),
        size=1000,
        path=f"instances/00/{series}.{number}.dcm",
        calling=AETitle("SCANNER"),
        called=AETitle("WETREAD"),
        address="127.0.0.1",
        headers={
            "Modality": modality,
            "ImagePositionPatient": f"0\\0\\{number}",
            "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
        },
    )


def watch(
    ledger: Ledger, *rules: Rule, patience: ClosingSettings = AT_ONCE, senders: Senders | None = None
) -> Watch:
    return Watch(ledger, rules=rules, patience=patience, associations=senders or Senders(), every_s=0.01)


def the_study(ledger: Ledger) -> StudyId:
    (study,) = ledger.studies()
    return study.id


def notes(ledger: Ledger) -> list[tuple[str, bool, str]]:
    return [(note.rule, note.taken, note.because) for note in ledger.routing_notes(the_study(ledger))]


def test_a_quiet_study_is_closed_with_its_reason_its_notes_and_its_job(ledger: Ledger) -> None:
    ledger.record_arrivals([arrival(n) for n in (3, 1, 2, 4)])

    assert watch(ledger, RULE).look() == [STUDY]

    (study,) = ledger.studies()
    assert study.state is StudyState.CLOSED
    assert study.closed_because.startswith("presumed complete: no association open and ")
    assert study.closed_because.endswith(" quiet after image 4")
    assert notes(ledger) == [("lungs", True, "CT, 4 images at 1.00 mm")]
    (job,) = ledger.jobs_of(study.id)
    assert (job.state, job.rule, job.model, job.destinations, job.priority) == (
        JobState.QUEUED, "lungs", "lung_ct", ("archive",), Priority.ROUTINE,
    )  # fmt: skip
    claim = ledger.claim_job(job.id, owner="test", lease_s=60, attempts_max=3)
    assert [str(known.sop_instance) for known in claim.inputs] == [f"1.2.3.1.{n}" for n in (1, 2, 3, 4)]


def test_a_study_whose_sender_is_still_connected_stays_open(ledger: Ledger) -> None:
    senders = Senders()
    senders.opened("association")
    (receipt,) = ledger.record_arrivals([arrival(1)])
    senders.sent("association", receipt.study_id)
    looking = watch(ledger, RULE, senders=senders)

    assert looking.look() == []
    senders.closed("association")
    assert looking.look() == [STUDY]


def test_silence_before_the_node_listened_does_not_count(ledger: Ledger) -> None:
    ledger.record_arrivals([arrival(1)])
    patience = ClosingSettings(quiet_s=0.2, quiet_open_s=0.2, longest_s=3600)
    last = ledger.studies()[0].last_arrival_at
    until(
        lambda: ledger.now() > last + 0.3, within_s=5, what="the study has been quiet for longer than asked"
    )
    just_started = watch(ledger, RULE, patience=patience)

    assert just_started.look() == []
    until(just_started.look, within_s=5, what="it is quiet for long enough since the node listens")


def test_without_rules_the_history_says_so(ledger: Ledger) -> None:
    ledger.record_arrivals([arrival(1)])
    watch(ledger).look()

    assert notes(ledger) == [
        ("", False, "there is no rule: save some in the console, or add a [[rule]] to wetread.toml")
    ]
    assert ledger.jobs_of(the_study(ledger)) == []


def test_every_series_gets_the_answer_of_every_rule(ledger: Ledger) -> None:
    mr = Rule(name="brain", model="brain_mr", modality="MR")  # type: ignore[arg-type]
    ledger.record_arrivals([*(arrival(n) for n in range(1, 6)), arrival(1, series="1.2.3.2", modality="CR")])
    watch(ledger, RULE, mr).look()

    assert sorted(notes(ledger)) == [
        ("brain", False, "modality is CR, rule asks MR"),
        ("brain", False, "modality is CT, rule asks MR"),
        ("lungs", False, "modality is CR, rule asks CT"),
        ("lungs", True, "CT, 5 images at 1.00 mm"),
    ]
    assert len(ledger.jobs_of(the_study(ledger))) == 1


@pytest.mark.fault
def test_a_late_instance_reopens_the_study_and_its_job_supersedes_the_first(ledger: Ledger) -> None:
    looking = watch(ledger, RULE)
    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    looking.look()
    (first,) = ledger.jobs_of(the_study(ledger))

    (receipt,) = ledger.record_arrivals([arrival(4)])
    assert receipt.reopened
    assert looking.look() == [STUDY]

    jobs = {job.id: job for job in ledger.jobs_of(the_study(ledger))}
    second = jobs[max(jobs)]
    assert jobs[first.id].state is JobState.CANCELLED
    assert (second.state, second.supersedes) == (JobState.QUEUED, first.id)
    assert ledger.studies()[0].generation == 2


def test_a_series_that_did_not_change_gets_no_second_job_when_another_is_late(ledger: Ledger) -> None:
    looking = watch(ledger, RULE)
    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    looking.look()
    ledger.record_arrivals([arrival(n, series="1.2.3.9") for n in (1, 2, 3)])
    looking.look()

    jobs = ledger.jobs_of(the_study(ledger))
    assert sorted((str(job.series), job.state) for job in jobs) == [
        ("1.2.3.1", JobState.QUEUED),
        ("1.2.3.9", JobState.QUEUED),
    ]


@pytest.mark.fault
def test_an_instance_that_arrives_while_its_study_is_being_closed_is_not_left_out(ledger: Ledger) -> None:
    class LateLedger:
        """The real ledger, with one more arrival at the worst moment."""

        def __getattr__(self, name: str) -> object:
            if (
                name == "close_study"
                and not ledger.is_our_result(Uid("1.2"))
                and len(ledger.series_of(the_study(ledger))[0].instances) == 3
            ):
                ledger.record_arrivals([arrival(4)])
            return getattr(ledger, name)

    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    looking = watch(LateLedger(), RULE)

    assert looking.look() == []
    assert ledger.jobs_of(the_study(ledger)) == []
    assert looking.look() == [STUDY]
    (job,) = ledger.jobs_of(the_study(ledger))
    assert len(ledger.claim_job(job.id, owner="test", lease_s=60, attempts_max=3).inputs) == 4


@contextmanager
def armed(text: str) -> Iterator[None]:
    failpoint.arm(text)
    try:
        yield
    finally:
        failpoint.disarm()


@pytest.mark.fault
@pytest.mark.parametrize("name", ["before_close_commit", "after_close_commit"])
def test_a_crash_while_closing_leaves_all_or_nothing(ledger: Ledger, name: str) -> None:
    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    with armed(f"{name}:raise"), pytest.raises(failpoint.FailpointReached):
        watch(ledger, RULE).look()

    (study,) = ledger.studies()
    assert (study.state is StudyState.CLOSED) == (name == "after_close_commit")
    assert len(ledger.jobs_of(study.id)) == (1 if name == "after_close_commit" else 0)

    watch(ledger, RULE).look()
    assert len(ledger.jobs_of(the_study(ledger))) == 1
    assert ledger.studies()[0].state is StudyState.CLOSED


@pytest.mark.fault
def test_the_thread_survives_what_it_stumbles_over(ledger: Ledger) -> None:
    ledger.record_arrivals([arrival(n) for n in (1, 2, 3)])
    with armed("before_close_commit:raise"):
        looking = watch(ledger, RULE)
        looking.start()
        try:
            until(
                lambda: ledger.studies()[0].state is StudyState.CLOSED,
                within_s=10,
                what="the study is closed",
            )
        finally:
            looking.stop()

    assert len(ledger.jobs_of(the_study(ledger))) == 1
    assert not any(thread.name == "watch" for thread in threading.enumerate())


@given(order=st.permutations(list(range(1, 8))), batches=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_the_order_of_arrival_makes_no_difference_to_the_job(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], batches: int
) -> None:
    ledger = Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'l.sqlite'}"))
    try:
        for start in range(0, len(order), batches):
            ledger.record_arrivals([arrival(n) for n in order[start : start + batches]])
        watch(ledger, RULE).look()
        (job,) = ledger.jobs_of(the_study(ledger))
        claim = ledger.claim_job(job.id, owner="test", lease_s=60, attempts_max=3)
        assert {str(known.sop_instance) for known in claim.inputs} == {f"1.2.3.1.{n}" for n in range(1, 8)}
        assert notes(ledger) == [("lungs", True, "CT, 7 images at 1.00 mm")]
    finally:
        ledger.close()


def test_a_result_of_our_own_that_comes_back_is_no_input(ledger: Ledger) -> None:
    ledger.record_arrivals(
        [replace(arrival(n), headers={"Modality": "CT", "Manufacturer": "Wetread"}) for n in (1, 2, 3)]
    )
    watch(ledger, RULE).look()

    assert notes(ledger) == [("lungs", False, "a result of our own is never an input")]


@pytest.mark.fault
def test_a_study_that_cannot_be_judged_does_not_hold_up_the_others(ledger: Ledger) -> None:
    ledger.record_arrivals([replace(arrival(1), study=Uid("1.2.8"))])
    ledger.record_arrivals([arrival(n, series="1.2.3.1") for n in (5, 6, 7)])
    with armed("before_close_commit:raise"), pytest.raises(failpoint.FailpointReached):
        watch(ledger, RULE).look()

    assert {str(study.study): study.state for study in ledger.studies()} == {
        "1.2.8": StudyState.OPEN,
        "1.2.3": StudyState.CLOSED,
    }

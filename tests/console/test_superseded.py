"""What became of an older result, in one sentence for each peer."""

from dataclasses import replace

import pytest

from console.superseded import superseded
from console.why import why
from ledger.delivery import DeliveryRecord, DeliveryState
from ledger.identifiers import DeliveryId, JobId
from ledger.job import JobState
from ledger.rejection import RejectionRecord
from ledger.result import Role
from tests.console.test_why import a_delivery, a_job, a_study

OLD, NEW = a_job(JobState.DONE, 7), a_job(JobState.DONE, 8, supersedes=7)
THERE = replace(a_delivery(DeliveryState.COMMITTED), sent_at=1.0)


def a_note(state: DeliveryState, policy: str = "reject", because: str = "") -> RejectionRecord:
    result = replace(THERE.result, role=Role.REJECTION_NOTE, job_id=JobId(8))
    note = replace(THERE, id=DeliveryId(9), job_id=JobId(8), state=state, because=because, result=result)
    return RejectionRecord(note=note, policy=policy, names=(THERE,))


def said(rejections=(), policy: str = "reject", jobs=(OLD, NEW), there: DeliveryRecord = THERE) -> list[str]:
    policies = {"archive": policy} if policy else {}
    return superseded(jobs[0], jobs, {JobId(7): [there]}, rejections, policies)


def test_a_result_that_nothing_replaced_has_nothing_to_tell() -> None:
    assert said(jobs=(OLD,)) == []
    assert said(jobs=(OLD, replace(NEW, rule="another"))) == []


@pytest.mark.parametrize(("policy", "words"), [("reject", "hide"), ("replace", "remove")])
def test_the_archive_was_told_and_this_is_how_far_it_got(policy: str, words: str) -> None:
    told = f"superseded by job 8; archive was told to {words} the old result: "
    assert said([a_note(DeliveryState.COMMITTED, policy)]) == [told + "committed"]
    assert said([a_note(DeliveryState.WAITING, policy, "it is away.")]) == [told + "waiting (it is away)"]


def test_the_policy_of_the_note_counts_and_not_todays() -> None:
    (sentence,) = said([a_note(DeliveryState.COMMITTED, "replace")], policy="keep")
    assert "told to remove" in sentence


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ("reject", "archive will be told to hide the old result once that of job 8 is committed there"),
        ("keep", 'archive shows both, for its settings say superseded = "keep"'),
        ("", "archive keeps the old result, for the settings do not know it any more"),
    ],
)
def test_an_archive_that_was_not_told_keeps_the_old_result_for_a_reason(policy: str, sentence: str) -> None:
    assert said(policy=policy) == [f"superseded by job 8; {sentence}"]


def test_nobody_has_to_be_told_of_what_never_arrived() -> None:
    assert said(there=a_delivery(DeliveryState.CANCELLED)) == ["superseded by job 8"]


def test_a_newer_result_that_is_not_made_yet_replaces_nothing_yet() -> None:
    assert said(jobs=(OLD, a_job(JobState.QUEUED, 8, supersedes=7))) == [
        "overtaken by job 8, which is queued"
    ]


def test_why_says_that_an_archive_will_not_put_the_older_one_away() -> None:
    note = a_note(DeliveryState.PARKED, because="status 0xA776: it has to retain that study").note
    newer = replace(THERE, job_id=JobId(8))
    deliveries = {JobId(7): [THERE], JobId(8): [newer, note]}
    assert why(a_study(), (), [OLD, NEW], deliveries) == (
        "lung_ct has a result, and archive has it, but archive will not put away the older one: status"
        " 0xA776: it has to retain that study."
    )
    waiting = a_note(DeliveryState.WAITING).note
    assert why(a_study(), (), [OLD, NEW], {JobId(7): [THERE], JobId(8): [newer, waiting]}) == (
        "lung_ct has a result, and archive has it."
    )

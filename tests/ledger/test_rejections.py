"""Which peer is owed which rejection note: of what it has, once, and after the newer result is there."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.identifiers import DeliveryId, JobId, StudyId
from ledger.rejection import OwedNote
from ledger.result import Role
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.ledger.site import OPERATOR, claim, close, finish, new_job, receive, result, send, slice_of
from tests.ledger.test_migration_0002 import at_revision

S, R = Role.SEGMENTATION, Role.REPORT


def opened(ledger: Ledger, numbers: int, *, to: tuple[str, ...] = ("PACS",), **how) -> JobId:
    """The study 1.2.3 with so many slices, closed; its new job."""
    ledger.record_arrivals([slice_of("1.2.3", number) for number in range(1, numbers + 1)])
    study_id = ledger.studies()[0].id
    (job_id,) = close(ledger, study_id, [new_job(ledger, study_id, to=to, **how)])
    return job_id


def done(ledger: Ledger, numbers: int, **how) -> JobId:
    job_id = opened(ledger, numbers, **how)
    finish(ledger, claim(ledger, job_id))
    return job_id


def delivery(ledger: Ledger, job_id: JobId, role: Role, peer: str = "PACS"):
    return next(d for d in ledger.deliveries_of(job_id) if (d.result.role, d.peer) == (role, peer))


def commit(ledger: Ledger, job_id: JobId, *roles: Role, peer: str = "PACS") -> None:
    """The peer takes results of the job and proves it; all of them, leaves first, where no role is given."""
    for role in roles or (S, R):
        one = delivery(ledger, job_id, role, peer)
        send(ledger, one.id)
        ledger.confirm_delivery(one.id, "found")


def told(owed: OwedNote) -> tuple[JobId, str, list[tuple[JobId, Role]]]:
    return owed.job_id, owed.peer, [(one.job_id, one.result.role) for one in owed.superseded]


def owed(ledger: Ledger, *peers: str) -> list[tuple[JobId, str, list[tuple[JobId, Role]]]]:
    return [told(one) for one in ledger.owed_notes(peers or ("PACS",))]


def open_note(ledger: Ledger, one: OwedNote, policy: str = "reject") -> DeliveryId | None:
    of = f"2.25.99.{'.'.join(str(each.delivery_id) for each in one.superseded)}"
    return ledger.open_note(one, result(Role.REJECTION_NOTE, 3, of), policy)


def test_nothing_is_rejected_before_the_whole_newer_result_is_committed(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first)
    second = opened(ledger, 4)
    assert owed(ledger) == []

    finish(ledger, claim(ledger, second))
    commit(ledger, second, S)
    assert owed(ledger) == []
    send(ledger, delivery(ledger, second, R).id)
    assert owed(ledger) == []  # Accepted is not yet proved.

    ledger.confirm_delivery(delivery(ledger, second, R).id, "found")
    assert owed(ledger) == [(second, "PACS", [(first, S), (first, R)])]


def test_a_newer_result_that_the_peer_refuses_in_part_leaves_the_older_one_in_place(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first)
    second = done(ledger, 4)
    segmentation = delivery(ledger, second, S)
    send(ledger, segmentation.id, DeliveryEvent.REFUSED, status=0x0122)
    commit(ledger, second, R)
    assert owed(ledger) == []

    ledger.retry_delivery(segmentation.id, "the archive learned it", by=OPERATOR)
    commit(ledger, second, S)
    assert owed(ledger) == [(second, "PACS", [(first, S), (first, R)])]


def test_a_note_is_opened_once_with_its_delivery_and_the_queue_is_told(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first)
    second = done(ledger, 4)
    commit(ledger, second)
    ledger.mark_published(ledger.unpublished())
    (one,) = ledger.owed_notes(["PACS"])

    note = open_note(ledger, one, "replace")

    assert note is not None
    assert owed(ledger) == []
    assert open_note(ledger, one) is None  # Another process made the same a moment later.
    assert [hint.subject_id for hint in ledger.unpublished()] == [note]
    (rejection,) = ledger.rejections_of(ledger.studies()[0].id)
    assert rejection == ledger.rejection(note)
    assert (rejection.note.id, rejection.note.job_id, rejection.note.state) == (
        note,
        second,
        DeliveryState.WAITING,
    )
    assert rejection.policy == "replace"
    assert [named.id for named in rejection.names] == [d.id for d in ledger.deliveries_of(first)]
    assert ledger.rejection(delivery(ledger, first, R).id) is None
    assert [made.role for made in ledger.results_of(second)] == [S, R, Role.REJECTION_NOTE]
    said = ledger.history(job_id=second)[-1]
    assert (said.event, said.because) == (
        "opened",
        f"rejection note to PACS: segmentation and report of job {first} out of date since job {second}",
    )


def test_of_several_processes_that_open_the_same_note_at_once_one_does(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first)
    second = done(ledger, 4)
    commit(ledger, second)
    (one,) = ledger.owed_notes(["PACS"])
    with ThreadPoolExecutor(4) as pool:
        notes = list(pool.map(lambda _: open_note(ledger, one), range(4)))
    assert len([note for note in notes if note is not None]) == 1
    assert len(ledger.rejections_of(one.study_id)) == 1


def test_every_overtaking_of_several_in_a_row_rejects_what_it_overtook(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first)
    second = done(ledger, 4)
    commit(ledger, second)
    (one,) = ledger.owed_notes(["PACS"])
    note = open_note(ledger, one)
    third = done(ledger, 5)
    # The note of the second is about the first: it goes on, and the third does not wait for it.
    assert ledger.rejections_of(one.study_id)[0].note.state is DeliveryState.WAITING
    commit(ledger, third)

    assert owed(ledger) == [(third, "PACS", [(second, S), (second, R)])]
    send(ledger, note)
    ledger.confirm_delivery(note, "the peer answered 0x0000")
    (one,) = ledger.owed_notes(["PACS"])
    assert open_note(ledger, one) is not None
    assert owed(ledger) == []


def test_a_job_that_was_overtaken_before_it_arrived_needs_no_note(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first)
    done(ledger, 4)  # Never sent: withdrawn when the third is opened.
    third = done(ledger, 5)
    commit(ledger, third)
    assert owed(ledger) == [(third, "PACS", [(first, S), (first, R)])]


def test_of_a_result_that_arrived_in_part_that_part_is_rejected(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first, S)
    second = done(ledger, 4)
    assert delivery(ledger, first, R).state is DeliveryState.CANCELLED
    commit(ledger, second)
    assert owed(ledger) == [(second, "PACS", [(first, S)])]


def test_each_peer_is_told_of_what_it_has_itself(ledger: Ledger) -> None:
    first = done(ledger, 3, to=("PACS", "RESEARCH", "OTHER"))
    commit(ledger, first)
    commit(ledger, first, S, peer="RESEARCH")
    second = done(ledger, 4, to=("PACS", "RESEARCH", "OTHER"))
    for peer in ("PACS", "RESEARCH", "OTHER"):
        commit(ledger, second, peer=peer)

    assert owed(ledger, "PACS", "RESEARCH", "OTHER") == [
        (second, "PACS", [(first, S), (first, R)]),
        (second, "RESEARCH", [(first, S)]),
    ]
    assert owed(ledger, "OTHER") == []
    for one in ledger.owed_notes(["PACS", "RESEARCH"]):
        assert open_note(ledger, one) is not None
    assert owed(ledger, "PACS", "RESEARCH", "OTHER") == []


def test_the_same_note_to_two_peers_is_one_result_with_two_deliveries(ledger: Ledger) -> None:
    first = done(ledger, 3, to=("PACS", "RESEARCH"))
    second = opened(ledger, 4, to=("PACS", "RESEARCH"))
    assert {d.state for d in ledger.deliveries_of(first)} == {DeliveryState.CANCELLED}
    for one in ledger.deliveries_of(first):
        ledger.retry_delivery(one.id, "an operator wants it all the same", by=OPERATOR)
    for peer in ("PACS", "RESEARCH"):
        commit(ledger, first, peer=peer)
    finish(ledger, claim(ledger, second))
    for peer in ("PACS", "RESEARCH"):
        commit(ledger, second, peer=peer)

    made = result(Role.REJECTION_NOTE, 3, "2.25.99")
    notes = [ledger.open_note(one, made, "reject") for one in ledger.owed_notes(["PACS", "RESEARCH"])]

    assert len(set(notes)) == 2
    assert None not in notes
    assert [one.role for one in ledger.results_of(second)] == [S, R, Role.REJECTION_NOTE]
    named = [[one.peer for one in each.names] for each in ledger.rejections_of(ledger.studies()[0].id)]
    assert named == [["PACS", "PACS"], ["RESEARCH", "RESEARCH"]]


def test_a_destination_that_gets_no_newer_result_keeps_the_older_one(ledger: Ledger) -> None:
    first = done(ledger, 3, to=("OLD",))
    commit(ledger, first, peer="OLD")
    second = done(ledger, 4, to=("PACS",))
    commit(ledger, second)
    assert owed(ledger, "OLD", "PACS") == []


def test_what_was_on_its_way_while_it_was_overtaken_is_rejected_after_it_arrived(ledger: Ledger) -> None:
    first = done(ledger, 3)
    held = ledger.claim_delivery(delivery(ledger, first, S).id, owner="sender-1", lease_s=60)
    assert held is not None
    second = done(ledger, 4)
    # The newer result waits for it.
    assert ledger.claim_delivery(delivery(ledger, second, S).id, owner="sender-2", lease_s=60) is None
    ledger.record_delivery(held, DeliveryEvent.ACCEPTED, status=0, because="stored")
    commit(ledger, second)
    assert owed(ledger) == [(second, "PACS", [(first, S)])]


@pytest.mark.parametrize("how", ["no answer", "worker fell silent", "not found afterwards"])
def test_what_may_have_arrived_is_sent_to_the_end_and_then_rejected(ledger: Ledger, how: str) -> None:
    first = done(ledger, 3)
    doubtful = delivery(ledger, first, S).id
    if how == "no answer":
        send(ledger, doubtful, DeliveryEvent.POSTPONED, status=None, in_doubt=True)
        # A later attempt that surely did not arrive does not settle what the earlier one did.
        send(ledger, doubtful, DeliveryEvent.POSTPONED, status=0xA700)
    elif how == "worker fell silent":
        assert ledger.claim_delivery(doubtful, owner="sender-1", lease_s=-1) is not None
        ledger.sweep(republish_after_s=60, attempts_max=3, crash_backoff_s=0)
    else:
        send(ledger, doubtful)
        ledger.delivery_missing(doubtful, "not found", 0.0)

    second = opened(ledger, 4)

    assert delivery(ledger, first, S).state is DeliveryState.WAITING
    assert delivery(ledger, first, R).state is DeliveryState.CANCELLED
    finish(ledger, claim(ledger, second))
    assert ledger.claim_delivery(delivery(ledger, second, S).id, owner="sender-2", lease_s=60) is None
    send(ledger, doubtful)
    commit(ledger, second)
    assert owed(ledger) == [(second, "PACS", [(first, S)])]


def test_what_surely_did_not_arrive_is_withdrawn(ledger: Ledger) -> None:
    first = done(ledger, 3)
    send(ledger, delivery(ledger, first, S).id, DeliveryEvent.POSTPONED, status=0xA700)
    second = done(ledger, 4)
    assert {d.state for d in ledger.deliveries_of(first)} == {DeliveryState.CANCELLED}
    commit(ledger, second)
    assert owed(ledger) == []


def test_a_report_that_may_have_arrived_is_the_predecessor_of_the_next(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first, S)
    report = delivery(ledger, first, R)
    send(ledger, report.id, DeliveryEvent.POSTPONED, status=None, in_doubt=True)
    second = opened(ledger, 4)
    assert claim(ledger, second).predecessor == report.result


def test_an_older_result_that_an_operator_sends_after_all_is_rejected_as_well(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first, S)
    second = done(ledger, 4)
    commit(ledger, second)
    (one,) = ledger.owed_notes(["PACS"])
    open_note(ledger, one)

    ledger.retry_delivery(delivery(ledger, first, R).id, "somebody wants to see it", by=OPERATOR)
    assert owed(ledger) == []
    commit(ledger, first, R)
    assert owed(ledger) == [(second, "PACS", [(first, R)])]


def test_an_instance_that_still_counts_for_another_rule_is_not_rejected(ledger: Ledger) -> None:
    """Two rules ask one model about one series: both make the same instances, one takes the late slice."""
    study_id = receive(ledger, "1.2.3")
    jobs = [new_job(ledger, study_id, rule=rule) for rule in ("few", "all")]
    few, all_ = close(ledger, study_id, jobs)
    for job_id in (few, all_):
        finish(ledger, claim(ledger, job_id), of="2.25.500")
        commit(ledger, job_id)
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (newer,) = close(ledger, study_id, [new_job(ledger, study_id, rule="all")])
    finish(ledger, claim(ledger, newer))
    commit(ledger, newer)
    assert owed(ledger) == []

    ledger.record_arrivals([slice_of("1.2.3", 5)])
    jobs = [new_job(ledger, study_id, rule=rule) for rule in ("few", "all")]
    for job_id in close(ledger, study_id, jobs):
        finish(ledger, claim(ledger, job_id))
        commit(ledger, job_id)
    instances = {one.result.sop_instance for each in ledger.owed_notes(["PACS"]) for one in each.superseded}
    assert {str(uid) for uid in instances} >= {"2.25.500.1", "2.25.500.2"}


def test_a_purged_study_owes_nothing_any_more(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first)
    second = done(ledger, 4)
    commit(ledger, second)
    (one,) = ledger.owed_notes(["PACS"])
    ledger.purge_study(StudyId(one.study_id), "its time was over")
    assert owed(ledger) == []
    assert open_note(ledger, one) is None


def test_a_study_is_kept_until_its_rejection_note_has_arrived(ledger: Ledger) -> None:
    first = done(ledger, 3)
    commit(ledger, first)
    second = done(ledger, 4)
    commit(ledger, second)
    (one,) = ledger.owed_notes(["PACS"])
    note = open_note(ledger, one)
    assert ledger.purgeable_studies(older_than=ledger.now() + 1) == []
    send(ledger, note)
    ledger.confirm_delivery(note, "the peer answered 0x0000")
    assert [study.id for study in ledger.purgeable_studies(older_than=ledger.now() + 1)] == [one.study_id]


def test_a_study_whose_images_came_back_after_a_purge_still_rejects_what_lies_in_the_archive(
    ledger: Ledger,
) -> None:
    first = done(ledger, 3)
    commit(ledger, first)
    ledger.purge_study(ledger.studies()[0].id, "its time was over")
    second = done(ledger, 4)
    commit(ledger, second)
    assert owed(ledger) == [(second, "PACS", [(first, S), (first, R)])]


def test_what_an_earlier_version_delivered_is_rejected_by_this_one(
    settings: LedgerSettings, tmp_path: Path
) -> None:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/newest.sqlite")) as newest:
        first = done(newest, 3)
        commit(newest, first)
        second = done(newest, 4)
        commit(newest, second)
        at_revision(settings, "0003", like=newest)

    with Ledger.open(settings) as ledger:
        assert owed(ledger) == [(second, "PACS", [(first, S), (first, R)])]
        (one,) = ledger.owed_notes(["PACS"])
        assert open_note(ledger, one) is not None
        assert owed(ledger) == []

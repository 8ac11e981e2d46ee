"""What an archive says of what it has: matched to what was asked, and to nothing else."""

import pytest

from ledger.commitment import CommitmentRecord, CommitmentState
from ledger.delivery import DeliveryState
from ledger.identifiers import AETitle, DeliveryId, JobId, Uid
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import claim, finish, queued_job, send

WETREAD = AETitle("WETREAD")


def sent(ledger: Ledger, study: str = "1.2.3") -> tuple[JobId, list[DeliveryId]]:
    job_id = queued_job(ledger, study)
    deliveries = finish(ledger, claim(ledger, job_id))
    for one in deliveries:
        send(ledger, one)
    return job_id, deliveries


def asked(ledger: Ledger, job_id: JobId, deliveries: list[DeliveryId]) -> CommitmentRecord:
    made = ledger.open_commitment(job_id, "PACS", deliveries, calling=WETREAD)
    assert made is not None
    return made


def states(ledger: Ledger, job_id: JobId) -> list[DeliveryState]:
    return [one.state for one in ledger.deliveries_of(job_id)]


def test_a_request_names_every_result_that_was_sent_and_has_a_uid_of_its_own(ledger: Ledger) -> None:
    job_id, deliveries = sent(ledger)
    first, second = asked(ledger, job_id, deliveries), asked(ledger, job_id, deliveries)

    results = {result.sop_instance for result in ledger.results_of(job_id)}
    assert {item.sop_instance for item in first.items} == results
    assert first.transaction != second.transaction
    assert first.transaction.value.startswith("2.25.")
    assert Uid.parse(first.transaction.value) == first.transaction
    assert ledger.commitments_of(job_id) == [first, second]


def test_what_is_not_yet_sent_is_not_asked_about(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    leaf, root = finish(ledger, claim(ledger, job_id))
    assert ledger.open_commitment(job_id, "PACS", [leaf, root], calling=WETREAD) is None
    send(ledger, leaf)
    assert [item.delivery_id for item in asked(ledger, job_id, [leaf, root]).items] == [leaf]


def test_only_what_the_archive_answers_for_is_committed(ledger: Ledger) -> None:
    job_id, deliveries = sent(ledger)
    request = asked(ledger, job_id, deliveries)
    ledger.commitment_taken(request.id, "status 0x0000")
    kept, lost = (item.sop_instance for item in request.items)

    report = ledger.report_commitment(
        request.transaction, peer="PACS", committed=[kept], failed={lost: 0x0112}
    )

    because = f"storage commitment {request.transaction} succeeded for 1 of 2"
    assert (report.state, report.because) == (CommitmentState.REPORTED, because)
    assert [(item.committed, item.reason) for item in report.items] == [(True, None), (False, 0x0112)]
    assert states(ledger, job_id) == [DeliveryState.COMMITTED, DeliveryState.SENT]
    assert ledger.deliveries_of(job_id)[0].because == because
    assert because in [event.because for event in ledger.history(job_id=job_id)]


def test_an_instance_in_both_lists_has_failed(ledger: Ledger) -> None:
    job_id, deliveries = sent(ledger)
    request = asked(ledger, job_id, deliveries)
    both = [item.sop_instance for item in request.items]
    ledger.report_commitment(request.transaction, peer="PACS", committed=both, failed=dict.fromkeys(both, 1))
    assert states(ledger, job_id) == [DeliveryState.SENT] * 2


def test_a_report_of_instances_that_nobody_asked_about_proves_nothing(ledger: Ledger) -> None:
    job_id, deliveries = sent(ledger)
    request = asked(ledger, job_id, deliveries)
    report = ledger.report_commitment(request.transaction, peer="PACS", committed=[Uid("1.9")], failed={})
    assert "succeeded for 0 of 2, and says nothing of 2" in report.because
    assert states(ledger, job_id) == [DeliveryState.SENT] * 2


def test_a_stranger_cannot_answer_for_the_archive(ledger: Ledger) -> None:
    job_id, deliveries = sent(ledger)
    request = asked(ledger, job_id, deliveries)
    everything = [item.sop_instance for item in request.items]
    for transaction, peer in ((request.transaction, "OTHER"), (Uid("2.25.1"), "PACS")):
        with pytest.raises(NotInLedger, match="was not asked for storage commitment"):
            ledger.report_commitment(transaction, peer=peer, committed=everything, failed={})
    assert states(ledger, job_id) == [DeliveryState.SENT] * 2


def test_the_same_report_twice_is_one_report(ledger: Ledger) -> None:
    job_id, deliveries = sent(ledger)
    request = asked(ledger, job_id, deliveries)
    everything = [item.sop_instance for item in request.items]
    first = ledger.report_commitment(request.transaction, peer="PACS", committed=everything, failed={})
    before = ledger.history()
    again = ledger.report_commitment(
        request.transaction, peer="PACS", committed=[], failed=dict.fromkeys(everything, 0x0112)
    )
    assert again == first
    assert ledger.history() == before
    assert states(ledger, job_id) == [DeliveryState.COMMITTED] * 2


def test_a_report_that_overtakes_the_answer_counts(ledger: Ledger) -> None:
    job_id, deliveries = sent(ledger)
    request = asked(ledger, job_id, deliveries)
    everything = [item.sop_instance for item in request.items]
    ledger.report_commitment(request.transaction, peer="PACS", committed=everything, failed={})
    ledger.commitment_taken(request.id, "status 0x0000")
    assert ledger.commitment(request.id).state is CommitmentState.REPORTED


def test_a_late_report_still_counts_but_not_for_what_was_sent_since(ledger: Ledger) -> None:
    job_id, deliveries = sent(ledger)
    request = asked(ledger, job_id, deliveries)
    everything = [item.sop_instance for item in request.items]
    ledger.commitment_lapsed(request.id, "no report within 600 s")
    ledger.delivery_missing(deliveries[0], "not found", retry_in_s=0)
    send(ledger, deliveries[0])

    ledger.report_commitment(request.transaction, peer="PACS", committed=everything, failed={})

    assert states(ledger, job_id) == [DeliveryState.SENT, DeliveryState.COMMITTED]


def test_a_refused_request_cannot_be_reported(ledger: Ledger) -> None:
    job_id, deliveries = sent(ledger)
    request = asked(ledger, job_id, deliveries)
    ledger.commitment_declined(request.id, "it does not accept Storage Commitment")
    with pytest.raises(IllegalTransition, match="a refused commitment cannot be answered"):
        ledger.report_commitment(request.transaction, peer="PACS", committed=[], failed={})

import pytest

from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.identifiers import DeliveryId
from ledger.job import LeaseLost
from ledger.result import Role
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from tests.ledger.site import OPERATOR, claim, close, finish, new_job, pass_by, queued_job, send, slice_of

BLINK_S = 0.02


def leaf_and_root(ledger: Ledger) -> tuple[DeliveryId, DeliveryId]:
    leaf, root = finish(ledger, claim(ledger, queued_job(ledger)))
    return leaf, root


def state(ledger: Ledger, delivery_id: DeliveryId) -> DeliveryState:
    return next(d.state for d in ledger.deliveries() if d.id == delivery_id)


def claimable(ledger: Ledger, delivery_id: DeliveryId) -> bool:
    """Whether it could be claimed: it is, and given back at once."""
    held = ledger.claim_delivery(delivery_id, owner="probe", lease_s=60)
    if held is not None:
        ledger.record_delivery(held, DeliveryEvent.POSTPONED, status=None, because="only a probe")
    return held is not None


def test_a_claim_carries_the_result_and_the_peer(ledger: Ledger) -> None:
    leaf, _ = leaf_and_root(ledger)
    held = ledger.claim_delivery(leaf, owner="sender-1", lease_s=60)
    assert held is not None
    assert (held.peer, held.epoch, held.attempt, held.result.role) == ("PACS", 1, 1, Role.SEGMENTATION)
    assert ledger.claim_delivery(leaf, owner="sender-2", lease_s=60) is None


def test_the_root_waits_for_its_leaves(ledger: Ledger) -> None:
    leaf, root = leaf_and_root(ledger)
    assert [hint.subject_id for hint in ledger.unpublished()] == [leaf]
    assert not claimable(ledger, root)
    held = ledger.claim_delivery(leaf, owner="a", lease_s=60)
    assert not claimable(ledger, root)

    ledger.record_delivery(held, DeliveryEvent.ACCEPTED, status=0, because="Success")

    assert root in [hint.subject_id for hint in ledger.unpublished()]
    assert claimable(ledger, root)


@pytest.mark.parametrize("end", ["refused", "cancelled"])
def test_a_leaf_that_will_not_go_does_not_hold_the_root_for_ever(ledger: Ledger, end: str) -> None:
    leaf, root = leaf_and_root(ledger)
    if end == "refused":
        assert send(ledger, leaf, DeliveryEvent.REFUSED, status=0xA900) is DeliveryState.PARKED
    else:
        ledger.cancel_delivery(leaf, "the archive takes no SEG", by=OPERATOR)
    assert root in [hint.subject_id for hint in ledger.unpublished()]
    assert claimable(ledger, root)


def test_each_peer_has_an_order_of_its_own(ledger: Ledger) -> None:
    job_id = queued_job(ledger, to=("PACS", "RESEARCH"))
    finish(ledger, claim(ledger, job_id))
    by_name = {(d.peer, d.result.role): d.id for d in ledger.deliveries_of(job_id)}
    send(ledger, by_name["PACS", Role.SEGMENTATION])
    assert claimable(ledger, by_name["PACS", Role.REPORT])
    assert not claimable(ledger, by_name["RESEARCH", Role.REPORT])


def test_the_results_of_a_study_reach_a_peer_in_the_order_of_its_jobs(ledger: Ledger) -> None:
    first = queued_job(ledger)
    leaf, root = finish(ledger, claim(ledger, first))
    study_id = ledger.job(first).study_id
    ledger.record_arrivals([slice_of("1.2.3", 4)])
    (second,) = close(ledger, study_id, [new_job(ledger, study_id, rule="other")])
    later_leaf, _ = finish(ledger, claim(ledger, second))
    elsewhere, _ = finish(ledger, claim(ledger, queued_job(ledger, "1.2.4")))

    assert not claimable(ledger, later_leaf)
    assert claimable(ledger, elsewhere)
    send(ledger, leaf)
    assert not claimable(ledger, later_leaf)
    send(ledger, root)
    assert later_leaf in [hint.subject_id for hint in ledger.unpublished()]
    assert claimable(ledger, later_leaf)


def test_an_answer_decides_what_becomes_of_it(ledger: Ledger) -> None:
    leaf, _ = leaf_and_root(ledger)
    assert (
        send(ledger, leaf, DeliveryEvent.POSTPONED, status=0xA700, retry_in_s=3600) is DeliveryState.WAITING
    )
    (waiting,) = [d for d in ledger.deliveries() if d.id == leaf]
    assert (waiting.status, waiting.attempts, waiting.because) == (0xA700, 1, "as asked")
    assert waiting.next_attempt_at > ledger.now() + 3000
    assert not claimable(ledger, leaf)
    with pytest.raises(IllegalTransition, match="a peer's answer cannot be confirmed"):
        send(ledger, finish(ledger, claim(ledger, queued_job(ledger, "1.2.4")))[0], DeliveryEvent.CONFIRMED)


def test_sent_is_not_yet_committed(ledger: Ledger) -> None:
    leaf, _ = leaf_and_root(ledger)
    with pytest.raises(IllegalTransition, match="a waiting delivery cannot be confirmed"):
        ledger.confirm_delivery(leaf, "the archive lists it")
    assert send(ledger, leaf) is DeliveryState.SENT
    (record,) = ledger.sent_deliveries(10)
    assert (record.id, record.status) == (leaf, 0)
    assert record.sent_at is not None

    ledger.confirm_delivery(leaf, "the archive lists it")

    assert ledger.sent_deliveries(10) == []
    assert state(ledger, leaf) is DeliveryState.COMMITTED
    with pytest.raises(IllegalTransition):
        ledger.cancel_delivery(leaf, "too late", by=OPERATOR)


def test_a_peer_that_never_proves_anything_does_not_hide_the_others(ledger: Ledger) -> None:
    for number in range(3):
        study = f"1.2.{number + 3}"
        for one in finish(ledger, claim(ledger, queued_job(ledger, study, to=("SILENT",)))):
            send(ledger, one)
    mine = finish(ledger, claim(ledger, queued_job(ledger, "1.2.9", to=("PACS",))))
    for one in mine:
        send(ledger, one)

    sent = ledger.sent_deliveries(2)
    assert [one.peer for one in sent] == ["SILENT", "SILENT", "PACS", "PACS"]
    assert [one.id for one in sent][2:] == mine


def test_what_the_archive_lost_is_sent_again(ledger: Ledger) -> None:
    leaf, _ = leaf_and_root(ledger)
    send(ledger, leaf)
    ledger.delivery_missing(leaf, "the archive does not list it", retry_in_s=0)
    assert state(ledger, leaf) is DeliveryState.WAITING
    assert send(ledger, leaf) is DeliveryState.SENT


def test_a_sender_that_was_overtaken_can_change_nothing(ledger: Ledger) -> None:
    leaf, _ = leaf_and_root(ledger)
    stale = ledger.claim_delivery(leaf, owner="sender", lease_s=BLINK_S)
    pass_by(ledger, BLINK_S)
    assert ledger.sweep(republish_after_s=60, attempts_max=3, crash_backoff_s=0).expired_deliveries == (leaf,)
    fresh = ledger.claim_delivery(leaf, owner="sender", lease_s=60)
    before = ledger.history()

    assert not ledger.renew_delivery(stale, lease_s=60)
    for event in (DeliveryEvent.ACCEPTED, DeliveryEvent.POSTPONED, DeliveryEvent.REFUSED):
        with pytest.raises(LeaseLost):
            ledger.record_delivery(stale, event, status=0, because="late")
    assert ledger.history() == before
    assert ledger.renew_delivery(fresh, lease_s=60)
    assert ledger.record_delivery(fresh, DeliveryEvent.ACCEPTED, status=0, because="") is DeliveryState.SENT


def test_a_refused_delivery_goes_again_when_an_operator_asks(ledger: Ledger) -> None:
    leaf, root = leaf_and_root(ledger)
    send(ledger, leaf, DeliveryEvent.REFUSED, status=0xC000)
    ledger.retry_delivery(leaf, "the archive was mended", by=OPERATOR)
    assert not claimable(ledger, root)
    assert claimable(ledger, leaf)
    for act in (ledger.retry_delivery, ledger.cancel_delivery):
        with pytest.raises(NotInLedger, match="there is no delivery 99"):
            act(DeliveryId(99), "for a test", by=OPERATOR)
    with pytest.raises(NotInLedger, match="there is no delivery 99"):
        ledger.confirm_delivery(DeliveryId(99), "for a test")

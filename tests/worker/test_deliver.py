"""Every answer of a peer is one event, and only an answer that would repeat itself ends a delivery."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.peers import PeerSettings
from dicom_node.send import Answer, AnswerKind
from ledger.delivery import DeliveryEvent
from worker.deliver import backoff_s, entry
from worker.settings import DeliverySettings

PEER = PeerSettings(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=11112, confirm="answer")
PATIENCE = DeliverySettings()


def test_point_50_the_back_off_doubles_from_five_seconds_to_five_minutes():
    waits = [backoff_s(n, first_s=5, longest_s=300) for n in range(1, 9)]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]


@given(st.integers(1, 10**9))
def test_point_50_there_is_no_last_attempt(attempt):
    assert 5 <= backoff_s(attempt, first_s=5, longest_s=300) <= 300


@pytest.mark.parametrize("kind", [AnswerKind.ACCEPTED, AnswerKind.WARNING])
def test_a_yes_is_a_proof_where_the_site_takes_it_for_one(kind):
    made = entry(Answer(0x0000, kind, "stored"), attempt=1, peer=PEER, patience=PATIENCE)
    assert (made.event, made.proof) == (DeliveryEvent.ACCEPTED, "the peer answered 0x0000")


def test_a_yes_of_a_peer_that_is_to_be_asked_again_proves_nothing_yet():
    made = entry(
        Answer(0x0000, AnswerKind.ACCEPTED, "stored"),
        attempt=1,
        peer=PEER.model_copy(update={"confirm": "find"}),
        patience=PATIENCE,
    )
    assert (made.event, made.proof) == (DeliveryEvent.ACCEPTED, None)


@pytest.mark.parametrize("kind", [AnswerKind.RETRY, AnswerKind.UNKNOWN])
def test_a_peer_that_is_away_or_unclear_gets_the_same_bytes_later(kind):
    made = entry(Answer(None, kind, "no answer"), attempt=3, peer=PEER, patience=PATIENCE)
    assert (made.event, made.retry_in_s, made.proof) == (DeliveryEvent.POSTPONED, 20, None)


def test_a_no_for_good_waits_for_an_operator():
    made = entry(Answer(0xA900, AnswerKind.REFUSED, "no"), attempt=1, peer=PEER, patience=PATIENCE)
    assert (made.event, made.status) == (DeliveryEvent.REFUSED, 0xA900)


@pytest.mark.parametrize("kind", list(AnswerKind))
def test_every_kind_of_answer_has_an_event(kind):
    assert entry(Answer(None, kind, "x"), attempt=1, peer=PEER, patience=PATIENCE).event in DeliveryEvent

"""What went between this site and its peers, over both databases."""

import pytest

from ledger.delivery import DeliveryEvent, DeliveryState
from ledger.store.ledger import Ledger
from ledger.traffic import Received
from tests.ledger.site import claim, finish, queued_job, receive, send


def test_nothing_went_where_nothing_happened(ledger: Ledger) -> None:
    assert ledger.received_since(0.0) == {}
    assert ledger.sent_since(0.0) == {}


def test_what_came_is_counted_by_caller_and_only_of_the_span(ledger: Ledger) -> None:
    receive(ledger, "1.2.3", [1, 2, 3])
    receive(ledger, "1.2.4", [1])
    (title,) = found = ledger.received_since(0.0)
    assert title == "SCANNER"
    assert (found[title].instances, found[title].bytes) == (4, 4007)
    assert found[title].first_at <= found[title].last_at
    assert ledger.received_since(ledger.now() + 60) == {}


def test_what_went_is_counted_by_peer_and_what_waits_by_state(ledger: Ledger) -> None:
    first, second = finish(ledger, claim(ledger, queued_job(ledger, "1.2.3")))
    assert ledger.sent_since(0.0)["PACS"].unfinished == {DeliveryState.WAITING: 2}
    assert ledger.sent_since(0.0)["PACS"].oldest_waiting_at is not None
    assert ledger.sent_since(0.0)["PACS"].last_at is None
    send(ledger, first)
    send(ledger, second, DeliveryEvent.REFUSED, status=0xC000)
    found = ledger.sent_since(0.0)["PACS"]
    assert (found.results, found.bytes) == (1, 5000)
    assert found.unfinished[DeliveryState.PARKED] == 1
    assert found.last_at is not None
    assert found.oldest_waiting_at is None
    late = ledger.sent_since(ledger.now() + 60)["PACS"]
    assert (late.results, late.last_at) == (0, found.last_at)


@pytest.mark.parametrize(("span_s", "expected"), [(0.0, None), (0.5, None), (10.0, 100.0)])
def test_a_rate_needs_some_time(span_s: float, expected: float | None) -> None:
    one = Received(instances=2, bytes=1000, first_at=5.0, last_at=5.0 + span_s)
    assert one.bytes_per_s == expected

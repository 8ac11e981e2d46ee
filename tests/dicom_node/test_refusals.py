"""What was refused is history, and a flood of it a handful of rows."""

import socket
import threading
import time
from contextlib import suppress

import pytest

from dicom_node.refusals import Kind, Refusals
from ledger.errors import SiteError
from ledger.event import EventRecord
from ledger.store.ledger import Ledger
from tests.patience import patient
from tests.peers.loopback import until


def told(ledger: Ledger, event: str) -> list[EventRecord]:
    return [each for each in ledger.history() if each.event == event]


def test_the_first_of_its_kind_is_written_at_once_and_the_others_are_counted(ledger: Ledger) -> None:
    refusals = Refusals(ledger)
    refusals.start()
    refusals.note(Kind.ASSOCIATION, "not you", address="10.0.0.1", calling="A", reason="1.1.3")
    (first,) = until(lambda: told(ledger, "association_rejected"), within_s=5, what="it is written")
    for number in range(500):
        refusals.note(
            Kind.ASSOCIATION, f"not you, {number}", address="10.0.0.1", calling=f"A{number}", reason="1.1.3"
        )
    refusals.note(Kind.ASSOCIATION, "nor you", address="10.0.0.2", reason="1.1.3")
    refusals.stop(within_s=5)

    rows = told(ledger, "association_rejected")
    assert first.detail["count"] == 1
    assert first.detail["calling"] == "A"
    assert sorted((row.because, row.detail["count"], row.detail["address"]) for row in rows) == [
        ("nor you", 1, "10.0.0.2"),
        ("not you", 1, "10.0.0.1"),
        ("not you, 499", 500, "10.0.0.1"),
    ]
    counted = next(row for row in rows if row.detail["count"] == 500)
    assert counted.detail["first"] <= counted.detail["last"] <= time.time()


def test_a_flood_from_everywhere_makes_a_bounded_number_of_rows(ledger: Ledger) -> None:
    refusals = Refusals(ledger)
    refusals.start()
    for number in range(10_000):
        refusals.note(
            Kind.CONNECTION, "too many", address=f"10.0.{number // 250}.{number % 250}", reason="rate"
        )
    refusals.stop(within_s=20)

    rows = told(ledger, "connection_refused")
    assert sum(int(row.detail["count"]) for row in rows) == 10_000
    assert len(rows) <= 2 * 66
    together = max(rows, key=lambda row: int(row.detail["count"]))
    assert len(together.detail["addresses"]) == 16


def test_whoever_notes_never_waits_for_a_ledger_that_is_stuck(ledger: Ledger, monkeypatch) -> None:
    stuck, entered = threading.Event(), threading.Event()
    record = ledger.record_event

    def slow(*arguments: object, **named: object) -> None:
        entered.set()
        stuck.wait(patient(10))
        record(*arguments, **named)

    monkeypatch.setattr(ledger, "record_event", slow)
    refusals = Refusals(ledger)
    refusals.start()
    refusals.note(Kind.ABORTED, "silent", address="10.0.0.1")
    assert entered.wait(patient(5))
    began = time.monotonic()
    for _ in range(10_000):
        refusals.note(Kind.ABORTED, "silent", address="10.0.0.1")
    assert time.monotonic() - began < patient(2)
    stuck.set()
    refusals.stop(within_s=5)

    assert sorted(int(row.detail["count"]) for row in told(ledger, "association_aborted")) == [1, 10_000]


def test_a_ledger_that_is_away_costs_the_row_and_nothing_else(ledger: Ledger, monkeypatch) -> None:
    tried = threading.Event()

    def away(*_: object, **__: object) -> None:
        tried.set()
        raise SiteError("the ledger is away")

    refusals = Refusals(ledger, pauses_s=(0.0,))
    monkeypatch.setattr(ledger, "record_event", away)
    refusals.start()
    refusals.note(Kind.INSTANCE, "no", address="10.0.0.1")
    assert tried.wait(patient(5))
    monkeypatch.undo()
    refusals.note(Kind.INSTANCE, "no again", address="10.0.0.1")
    refusals.stop(within_s=5)

    assert [row.because for row in told(ledger, "refused")] == ["no again"]


@pytest.mark.fault
def test_a_flood_of_connections_too_many_are_a_handful_of_rows_and_a_good_peer_is_let_in(
    start_node,
) -> None:
    known = {"name": "near", "ae_title": "NEAR", "host": "127.0.0.1", "port": 104}
    node = start_node(peers=[known], node={"port": 0, "connections_per_address": 1, "give_way_s": 60.0})
    inside = [socket.create_connection(("127.0.0.1", node.port), source_address=("127.0.0.2", 0))]
    for _ in range(300):
        with (
            suppress(OSError),
            socket.create_connection(
                ("127.0.0.1", node.port), source_address=("127.0.0.2", 0), timeout=patient(5)
            ),
        ):
            pass
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", node.port), timeout=patient(5)) as good:
        good.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")
        good.settimeout(patient(5))
        with suppress(ConnectionResetError):
            good.recv(10)
    assert time.monotonic() - began < patient(1.0)
    inside[0].close()

    until(lambda: told(node.ledger, "connection_refused"), within_s=5, what="the refusals are told")
    node.node.refusals.stop(within_s=5)
    rows = told(node.ledger, "connection_refused")
    assert len(rows) <= 4
    assert sum(int(row.detail["count"]) for row in rows) == 300
    assert {tuple(row.detail["addresses"]) for row in rows} == {("127.0.0.2",)}

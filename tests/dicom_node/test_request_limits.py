"""An A-ASSOCIATE-RQ that is more or other than it may be, by itself and at the door of a node."""

import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import ALL_TRANSFER_SYNTAXES

from dicom_node.request_limits import check_associate_request
from dicom_node.upper_layer import PeerConfused, ProposedContext, associate_request
from ledger.identifiers import AETitle, Uid
from tests.patience import patient
from tests.peers.loopback import until

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def context(identifier: int, *, abstract: int = 1, syntaxes: tuple[str, ...] = (EXPLICIT,)) -> bytes:
    return item(
        0x20,
        bytes([identifier, 0, 0, 0])
        + item(0x30, CT.encode()) * abstract
        + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes),
    )


def request(*items: bytes) -> bytes:
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4"))
    body = (
        struct.pack(">HH16s16s32x", 1, 0, b"WETREAD".ljust(16), b"SCANNER".ljust(16))
        + item(0x10, b"1.2.840.10008.3.1.1.1")
        + b"".join(items)
        + user
    )
    return struct.pack(">BxI", 1, len(body)) + body


def test_the_largest_request_that_the_standard_knows_is_taken() -> None:
    syntaxes = tuple(str(uid) for uid in ALL_TRANSFER_SYNTAXES)
    assert len(syntaxes) <= 64
    everything = request(*(context(identifier, syntaxes=syntaxes) for identifier in range(1, 256, 2)))

    check_associate_request(everything)

    assert len(everything) <= 256 << 10


def test_what_our_own_requestor_writes_is_taken() -> None:
    contexts = [ProposedContext(Uid(CT), (Uid(EXPLICIT),), as_scp=True)] * 3
    check_associate_request(
        associate_request(calling=AETitle("A"), called=AETitle("B"), contexts=contexts, maximum_length=16384)
    )


@pytest.mark.parametrize(
    ("pdu", "because"),
    [
        (request(context(2)), "even identifier 2"),
        (request(context(0)), "even identifier 0"),
        (request(context(1), context(1)), "identifier 1 twice"),
        (request(*(context(n % 128 * 2 + 1) for n in range(129))), "more than 128 contexts"),
        (request(context(1, syntaxes=tuple(f"1.2.{n}" for n in range(65)))), "more than 64 transfer"),
        (request(context(1, abstract=2)), "one abstract syntax"),
        (request(context(1, abstract=0)), "one abstract syntax"),
        (request(context(1, syntaxes=())), "a transfer syntax"),
        (request(context(1, syntaxes=("1." + "2" * 70,))), "a UID of 72 bytes"),
        (request(item(0x20, b"\1")), "too short"),
        (request(struct.pack(">BxH", 0x20, 0xFFFF)), "longer than what it is in"),
        (request(item(0x50, bytes(40_000))), None),
        (request(item(0x50, bytes(40_000)), item(0x50, bytes(40_000))), "64 KiB of user information"),
        (request()[:-3], "longer than what it is in|ends inside an item"),
        (request()[:40], "too short"),
    ],
)
def test_a_request_beyond_the_limits_is_told_apart(pdu: bytes, because: str | None) -> None:
    if because is None:
        check_associate_request(pdu)
        return
    with pytest.raises(PeerConfused, match=because):
        check_associate_request(pdu)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_check_fail_otherwise_than_by_saying_so(data: bytes) -> None:
    with suppress(PeerConfused):
        check_associate_request(request(data))


@pytest.mark.parametrize("pdu", [request(context(2)), request(context(1), context(1))])
def test_such_a_request_is_aborted_and_the_reason_is_in_the_history(node, pdu: bytes) -> None:
    with socket.create_connection(("127.0.0.1", node.port)) as line:
        line.settimeout(patient(5))
        line.sendall(pdu)
        assert line.recv(10)[0] == 0x07  # A-ABORT

    aborted = until(
        lambda: [event for event in node.ledger.history() if event.event == "association_aborted"],
        within_s=5,
        what="the abort is in the history",
    )
    assert "presentation context" in aborted[0].because or "context identifier" in aborted[0].because
    assert aborted[0].detail["addresses"] == ["127.0.0.1"]

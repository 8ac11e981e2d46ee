"""P-DATA-TF cut in place, and what an established association may do to the node."""

import os
import resource
import socket
import struct
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.fragments import Fragments
from dicom_node.spool import INCOMING
from dicom_node.status import StoreStatus
from dicom_node.store_messages import StoreRequest, parse_store_request, store_response
from dicom_node.upper_layer import (
    ABORT,
    RELEASE_REQUEST,
    PeerConfused,
    ProposedContext,
    associate_request,
    command_set,
    data_header,
    fragments_of,
    parse_elements,
)
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.datasets import ROOT, ct_slice, digest_of, digest_of_file, encoded
from tests.patience import patient
from tests.peers.loopback import until

CT, EXPLICIT = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2.1")
VERIFICATION = Uid("1.2.840.10008.1.1")
CT_CONTEXT, ECHO_CONTEXT = 1, 3

values = st.lists(
    st.tuples(st.integers(0, 255), st.booleans(), st.booleans(), st.binary(max_size=40)),
    min_size=1,
    max_size=5,
)


def pdu_of(of: list[tuple[int, bool, bool, bytes]]) -> bytes:
    body = b"".join(
        struct.pack(">IBB", len(data) + 2, context, command | last << 1) + data
        for context, command, last, data in of
    )
    return struct.pack(">BxI", 4, len(body)) + body


@given(st.lists(values, min_size=1, max_size=5), st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_however_the_bytes_come_the_fragments_are_the_same(pdus, cuts) -> None:
    wire = b"".join(pdu_of(of) for of in pdus)
    expected = [fragment for of in pdus for fragment in fragments_of(pdu_of(of)[6:])]
    found: list[tuple[int, bool, bool, bytes]] = []
    fragments, held, begun = Fragments(1 << 16), b"", b""
    at = turn = 0
    while at < len(wire):
        size = cuts[turn % len(cuts)]
        held += wire[at : at + size]
        at, turn = at + size, turn + 1
        for piece in fragments.cut(memoryview(held)):
            begun += piece.data
            if fragments._value_left == 0:
                found.append((piece.context_id, piece.is_command, piece.ends, begun))
                begun = b""
        held = held[fragments.used :]

    assert found == expected
    assert held == b""
    assert not fragments.inside


@given(st.binary(max_size=200))
def test_no_bytes_make_the_cutter_fail_otherwise_than_by_saying_so(data: bytes) -> None:
    fragments = Fragments(64)
    try:
        pieces = list(fragments.cut(memoryview(data)))
    except PeerConfused:
        return
    assert fragments.used <= len(data)
    assert sum(len(piece.data) for piece in pieces) <= len(data)


@pytest.mark.parametrize(
    "wire",
    [
        struct.pack(">BxI", 4, 65),
        struct.pack(">BxIIBB", 4, 10, 0xFFFFFFFF, 1, 3),
        struct.pack(">BxIIBB", 4, 10, 7, 1, 3),
        struct.pack(">BxIIBB", 4, 10, 1, 1, 3),
        struct.pack(">BxIIBB", 4, 5, 3, 1, 3),
    ],
)
def test_lengths_that_cannot_be_are_not_followed(wire: bytes) -> None:
    with pytest.raises(PeerConfused):
        list(Fragments(64).cut(memoryview(wire)))


@given(st.integers(0, 0xFFFF), st.sampled_from([0, 0xA700, 0xC000]), st.integers(7, 300))
def test_a_response_says_what_the_request_said_in_pdus_that_the_peer_takes(message, status, maximum) -> None:
    request = parse_store_request(store_command(f"{ROOT}.1", message))
    assert request is not None
    wire, command = store_response(5, request, status, maximum_length=maximum), b""
    while wire:
        length = int.from_bytes(wire[2:6], "big")
        assert length <= maximum
        ((context, is_command, last, data),) = fragments_of(wire[6 : 6 + length])
        assert (context, is_command, last) == (5, True, len(wire) == 6 + length)
        command, wire = command + data, wire[6 + length :]

    elements = parse_elements(command)
    assert elements[0, 0x0120] == struct.pack("<H", message)
    assert elements[0, 0x0900] == struct.pack("<H", status)
    assert elements[0, 0x1000].rstrip(b"\0").decode() == f"{ROOT}.1"
    assert struct.unpack("<I", elements[0, 0]) == (len(command) - 12,)


def test_a_uid_that_is_too_long_is_not_repeated() -> None:
    response = store_response(1, StoreRequest(1, b"1" * 65, b"1.2"), 0xA900, maximum_length=0)
    assert b"1" * 65 not in response


def store_command(uid: str, message: int = 1) -> bytes:
    return command_set(
        {0x0002: CT, 0x0100: 0x0001, 0x0110: message, 0x0700: 0, 0x0800: 0x0000, 0x1000: Uid(uid)}
    )


def message(uid: str, data: bytes, *, size: int = 60_000) -> bytes:
    """A whole C-STORE-RQ as it goes over the line."""
    command = store_command(uid)
    wire = data_header(CT_CONTEXT, len(command), command=True, last=True) + command
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        wire += data_header(CT_CONTEXT, len(piece), command=False, last=at + size >= len(data)) + piece
    return wire


def echo_command() -> bytes:
    command = command_set({0x0002: VERIFICATION, 0x0100: 0x0030, 0x0110: 9, 0x0800: 0x0101})
    return data_header(ECHO_CONTEXT, len(command), command=True, last=True) + command


@contextmanager
def line_to(node):
    """A connection with an association, and nobody to keep it honest."""
    with socket.create_connection(("127.0.0.1", node.port)) as line:
        line.settimeout(patient(15))
        line.sendall(
            associate_request(
                calling=AETitle("RAW"),
                called=AETitle("WETREAD"),
                contexts=[ProposedContext(CT, (EXPLICIT,)), ProposedContext(VERIFICATION, (EXPLICIT,))],
                maximum_length=16384,
            )
        )
        assert read_pdu(line)[:1] == b"\2"
        yield line


def read_pdu(line: socket.socket) -> bytes:
    start = line.recv(6, socket.MSG_WAITALL)
    return start + line.recv(int.from_bytes(start[2:6], "big"), socket.MSG_WAITALL) if start else b""


def status_of(pdu: bytes) -> int:
    ((_, _, _, command),) = fragments_of(pdu[6:])
    return int.from_bytes(parse_elements(command)[0, 0x0900], "little")


def test_stores_and_echoes_take_turns_on_one_association_and_a_release_ends_it(node) -> None:
    data = encoded(ct_slice())
    with line_to(node) as line:
        for _ in range(3):
            line.sendall(message(f"{ROOT}.1.1.1", data, size=777))
            assert status_of(read_pdu(line)) == 0x0000
            line.sendall(echo_command())
            assert status_of(read_pdu(line)) == 0x0000
        line.sendall(RELEASE_REQUEST)
        assert read_pdu(line)[:1] == b"\6"
    assert node.instances() == {f"{ROOT}.1.1.1": digest_of(data)}


def test_a_request_in_single_bytes_is_the_same_request(node) -> None:
    data = encoded(ct_slice(rows=8))
    with line_to(node) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in message(f"{ROOT}.1.1.1", data, size=100):
            line.send(bytes([byte]))
        assert status_of(read_pdu(line)) == 0x0000
    assert node.instances() == {f"{ROOT}.1.1.1": digest_of(data)}


@pytest.mark.fault
@pytest.mark.parametrize(
    "wrong",
    [
        struct.pack(">BxI", 4, 1 << 20),
        struct.pack(">BxIIBB", 4, 6, 0xFFFF, CT_CONTEXT, 0),
        data_header(CT_CONTEXT, 4, command=True, last=True) + b"\0\0\0\0",
        data_header(ECHO_CONTEXT, 4, command=False, last=True) + b"\0\0\0\0",
        struct.pack(">BxI", 9, 4) + bytes(4),
    ],
    ids=["longer than agreed", "value longer than PDU", "command in data", "other context", "unknown type"],
)
def test_nonsense_in_the_middle_of_an_instance_ends_the_association_and_leaves_nothing(node, wrong) -> None:
    with line_to(node) as line:
        line.sendall(message(f"{ROOT}.1.1.1", encoded(ct_slice()))[:900] if wrong[:1] != b"\4" else begun())
        if wrong[:1] != b"\4":
            line.sendall(bytes(len(begun())))
        line.sendall(wrong)
        assert read_pdu(line)[:1] in (b"\7", b"")
    until(lambda: node.node.senders.associations() == 0, within_s=10, what="the association is over")
    assert node.instances() == {}
    assert not list(node.spool.files(INCOMING))


def begun() -> bytes:
    """A request whose data set has begun, up to the end of a PDU."""
    command, piece = store_command(f"{ROOT}.1.1.1"), encoded(ct_slice())[:600]
    return (
        data_header(CT_CONTEXT, len(command), command=True, last=True)
        + command
        + data_header(CT_CONTEXT, len(piece), command=False, last=False)
        + piece
    )


@pytest.mark.fault
@pytest.mark.parametrize("conflict", ["keep", "refuse"], ids=["quick way", "slow way"])
def test_an_abort_in_the_middle_of_an_instance_leaves_nothing(start_node, conflict: str) -> None:
    node = start_node(node={"port": 0, "conflict": conflict})
    with line_to(node) as line:
        line.sendall(begun())
        until(
            lambda: node.node.books.in_use() or list(node.spool.files(INCOMING)),
            within_s=5,
            what="the instance has begun",
        )
        line.sendall(ABORT)
        assert line.recv(1) == b""
    until(lambda: node.node.senders.associations() == 0, within_s=10, what="the association is over")
    assert not list(node.spool.files(INCOMING))
    assert not node.node.books.in_use()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("limits", "drip"),
    [
        ({"pdu_silence_s": 0.4}, False),
        ({"pdu_s": 0.8}, True),
        ({"idle_s": 0.5}, None),
        ({"instance_s": 0.8}, None),
    ],
    ids=["silent in a PDU", "one PDU takes for ever", "idle between PDUs", "one instance takes for ever"],
)
def test_a_sender_that_stops_or_trickles_is_put_out_in_time(start_node, limits, drip) -> None:
    node = start_node(node={"port": 0, **limits})
    with line_to(node) as line:
        line.sendall(begun())
        if drip is not None:
            line.sendall(struct.pack(">BxIIBB", 4, 50_006, 50_002, CT_CONTEXT, 0))
        line.settimeout(0.05)
        ends, over = time.monotonic() + patient(8), False
        while not over and time.monotonic() < ends:
            try:
                over = line.recv(10) in (ABORT, b"") or True
            except TimeoutError:
                if drip:
                    line.send(b"\0")
                elif "instance_s" in limits:
                    line.sendall(data_header(CT_CONTEXT, 1, command=False, last=False) + b"\0")
        assert over, "the association goes on"
    until(lambda: node.node.senders.associations() == 0, within_s=5, what="the association is over")
    assert not list(node.spool.files(INCOMING))


def test_headers_longer_than_the_kept_beginning_are_read_from_the_file(node) -> None:
    ds = ct_slice()
    ds.add_new(0x00091010, "UN", os.urandom(300_000))
    data = encoded(ds)
    with line_to(node) as line:
        line.sendall(message(f"{ROOT}.1.1.1", data))
        assert status_of(read_pdu(line)) == 0x0000
    assert node.instances() == {f"{ROOT}.1.1.1": digest_of(data)}


def test_long_headers_that_cannot_be_read_are_set_aside_like_short_ones(node) -> None:
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    sequence = struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF) + item * 100_001
    data = sequence
    with line_to(node) as line:
        line.sendall(message(f"{ROOT}.1.1.1", data))
        assert status_of(read_pdu(line)) == StoreStatus.SET_ASIDE
    (record,) = node.ledger.quarantined()
    assert "more than 100000 sequence items" in record.because
    assert digest_of_file(node.spool.absolute(record.path)) == digest_of(data)


def test_memory_does_not_grow_with_an_instance(node) -> None:
    data = encoded(ct_slice())
    head, frame, frames = data[: -2 * 32 * 32 - 4], os.urandom(1 << 20), 200
    start = head + (len(frame) * frames).to_bytes(4, "little")
    with line_to(node) as line:
        line.sendall(message(f"{ROOT}.1.1.9", encoded(ct_slice(9))))
        assert status_of(read_pdu(line)) == 0x0000
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        command = store_command(f"{ROOT}.1.1.1")
        line.sendall(data_header(CT_CONTEXT, len(command), command=True, last=True) + command)
        line.sendall(data_header(CT_CONTEXT, len(start), command=False, last=False) + start)
        for number in range(frames):
            for at in range(0, len(frame), 1 << 15):
                last = number == frames - 1 and at + (1 << 15) == len(frame)
                header = data_header(CT_CONTEXT, 1 << 15, command=False, last=last)
                line.sendall(header + frame[at : at + (1 << 15)])
        assert status_of(read_pdu(line)) == 0x0000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 32_000
    path = next(path for path in node.spooled() if node.spool.absolute(path).stat().st_size > 1 << 20)
    assert digest_of_file(node.spool.absolute(path)) in node.instances().values()

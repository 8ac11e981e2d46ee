"""A peer that stops, lies or babbles: the deadline ends it, and nobody claims to know more than he does."""

import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.reach import PeerSilent
from dicom_node.readback import find_instance
from dicom_node.send import AnswerKind, echo, send
from dicom_node.upper_layer import RELEASE_REPLY, command_set, data_header
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.objects import write_instance
from tests.dicom_node.raw_peer import Behaviour, acceptance, peer, raw_peer, read_message, read_pdu
from tests.patience import patient

WETREAD = AETitle("WETREAD")
DEADLINE_S = 1.0
ACCEPTANCE = acceptance(CTImageStorage, ExplicitVRLittleEndian)


def response(status: int = 0, *, message_id: int = 1, command_field: int = 0x8001) -> bytes:
    """A C-STORE-RSP in one PDU."""
    command = command_set({0x0100: command_field, 0x0120: message_id, 0x0800: 0x0101, 0x0900: status})
    return data_header(1, len(command), command=True, last=True) + command


def says_nothing(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)


def half_an_acceptance(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)
    connection.sendall(ACCEPTANCE[: len(ACCEPTANCE) // 2])


def half_a_header(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)
    connection.sendall(ACCEPTANCE[:3])


def half_a_response(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)
    connection.sendall(ACCEPTANCE)
    read_message(connection)
    connection.sendall(response()[:20])


def no_response(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)
    connection.sendall(ACCEPTANCE)
    read_message(connection)


def stops_reading(connection: socket.socket, over: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    read_pdu(connection)
    connection.sendall(ACCEPTANCE)


def drips(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)
    # Each byte would reset a timeout that only watches the silence.
    for byte in ACCEPTANCE:
        connection.sendall(bytes([byte]))
        if over.wait(0.1):
            return


@pytest.mark.fault
@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (says_nothing, AnswerKind.RETRY),
        (half_a_header, AnswerKind.RETRY),
        (half_an_acceptance, AnswerKind.RETRY),
        (drips, AnswerKind.RETRY),
        (stops_reading, AnswerKind.UNKNOWN),
        (no_response, AnswerKind.UNKNOWN),
        (half_a_response, AnswerKind.UNKNOWN),
    ],
)
def test_a_peer_that_stalls_is_given_up_at_the_deadline(
    tmp_path: Path, behave: Behaviour, kind: AnswerKind
) -> None:
    file = write_instance(tmp_path, pixel_bytes=16_000_000)
    threads = threading.active_count()
    with raw_peer(behave) as archive:
        began = time.monotonic()
        answer = send(file, archive, calling=WETREAD, deadline_s=DEADLINE_S)
        took_s = time.monotonic() - began

    assert answer.kind is kind
    assert answer.status is None
    assert f"within {DEADLINE_S:g} s" in answer.because
    assert DEADLINE_S <= took_s < patient(DEADLINE_S + 0.5)
    assert threading.active_count() == threads


@pytest.mark.fault
@pytest.mark.parametrize("behave", [says_nothing, half_a_header, half_an_acceptance, drips])
def test_an_echo_and_a_query_end_at_the_deadline_as_well(behave: Behaviour) -> None:
    with raw_peer(behave) as archive:
        began = time.monotonic()
        assert not echo(archive, WETREAD, DEADLINE_S).reached
        with pytest.raises(PeerSilent):
            find_instance(
                archive, calling=WETREAD, study=Uid("1.2"), series=Uid("1.3"), sop_instance=Uid("1.4"),
                deadline_s=DEADLINE_S,
            )  # fmt: skip
        assert time.monotonic() - began < patient(2 * DEADLINE_S + 0.8)


@pytest.mark.fault
def test_a_peer_that_never_takes_the_connection_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as full:
        # A listener whose backlog is full drops further connections without a word, as a firewall does.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        began = time.monotonic()
        answer = send(
            write_instance(tmp_path),
            peer(full.getsockname()[1], connect_s=0.4),
            calling=WETREAD,
            deadline_s=patient(5),
        )
        took_s = time.monotonic() - began
        for filler in fillers:
            filler.close()

    assert answer.kind is AnswerKind.RETRY
    assert "nothing answered within 0.4 s" in answer.because
    assert took_s < patient(1.0)


def test_an_answer_that_came_counts_even_if_the_release_is_never_answered(tmp_path: Path) -> None:
    def answers_and_closes(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        connection.sendall(ACCEPTANCE)
        read_message(connection)
        connection.sendall(response(0x0000))
        connection.close()

    with raw_peer(answers_and_closes) as archive:
        answer = send(write_instance(tmp_path), archive, calling=WETREAD, deadline_s=patient(5))

    assert answer.kind is AnswerKind.ACCEPTED


def test_an_answer_may_come_in_many_pieces(tmp_path: Path) -> None:
    def in_pieces(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        for byte in ACCEPTANCE:
            connection.sendall(bytes([byte]))
        read_message(connection)
        command = response()[12:]
        for index in range(len(command)):
            last = index == len(command) - 1
            connection.sendall(data_header(1, 1, command=True, last=last) + command[index : index + 1])
        read_pdu(connection)
        connection.sendall(RELEASE_REPLY)

    with raw_peer(in_pieces) as archive:
        answer = send(write_instance(tmp_path), archive, calling=WETREAD, deadline_s=patient(5))

    assert answer.kind is AnswerKind.ACCEPTED


def babbling(data: bytes, *, after_acceptance: bool = False) -> Behaviour:
    def behave(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        if after_acceptance:
            connection.sendall(ACCEPTANCE)
            read_message(connection)
        connection.sendall(data)

    return behave


@pytest.mark.fault
@pytest.mark.parametrize(
    ("behave", "kind", "words"),
    [
        (babbling(b"HTTP/1.1 400 Bad Request\r\n\r\n"), AnswerKind.RETRY, "begins no DICOM PDU"),
        (babbling(struct.pack(">BxI", 2, 0xFFFFFFFF)), AnswerKind.RETRY, "at most 65536 are taken"),
        (babbling(struct.pack(">BxI", 2, 4) + bytes(4)), AnswerKind.RETRY, "too short"),
        (babbling(response()), AnswerKind.RETRY, "answered a request for an association with DATA"),
        (babbling(acceptance(CTImageStorage, ImplicitVRLittleEndian)), AnswerKind.RETRY, "was not proposed"),
        (babbling(b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00"), AnswerKind.RETRY, "aborted the association"),
        (babbling(response(message_id=7), after_acceptance=True), AnswerKind.UNKNOWN, "was not asked"),
        (
            babbling(response(command_field=0x8030), after_acceptance=True),
            AnswerKind.UNKNOWN,
            "was not asked",
        ),
        (
            babbling(struct.pack(">BxI", 4, 0x7FFFFFFF), after_acceptance=True),
            AnswerKind.UNKNOWN,
            "at most 65536 are taken",
        ),
        (
            babbling(struct.pack(">BxIIBB", 4, 6, 0xFFFF, 1, 3), after_acceptance=True),
            AnswerKind.UNKNOWN,
            "longer than its PDU",
        ),
        (
            babbling(b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00", after_acceptance=True),
            AnswerKind.UNKNOWN,
            "released the association",
        ),
    ],
)
def test_nonsense_is_no_answer(tmp_path: Path, behave: Behaviour, kind: AnswerKind, words: str) -> None:
    with raw_peer(behave) as archive:
        answer = send(write_instance(tmp_path), archive, calling=WETREAD, deadline_s=patient(5))

    assert answer.kind is kind
    assert words in answer.because


@pytest.mark.fault
def test_an_endless_answer_is_cut_off(tmp_path: Path) -> None:
    def endless(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        connection.sendall(ACCEPTANCE)
        read_message(connection)
        while not over.is_set():
            connection.sendall(data_header(1, 60_000, command=True, last=False) + bytes(60_000))

    with raw_peer(endless) as archive:
        answer = send(write_instance(tmp_path), archive, calling=WETREAD, deadline_s=patient(10))

    assert answer.kind is AnswerKind.UNKNOWN
    assert "longer than 1048576 bytes" in answer.because


def test_an_abort_in_the_middle_of_the_sending_is_heard(tmp_path: Path) -> None:
    def aborts(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        connection.sendall(ACCEPTANCE)
        read_pdu(connection)
        connection.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")
        connection.shutdown(socket.SHUT_WR)

    with raw_peer(aborts) as archive:
        answer = send(write_instance(tmp_path), archive, calling=WETREAD, deadline_s=patient(5))

    assert answer.kind is AnswerKind.UNKNOWN
    assert "aborted the association" in answer.because

"""Each limit of one association, met by a peer of bytes: the peer is put out, and the history says why."""

import os
import socket
import struct
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from dicom_node.pace import Pace
from dicom_node.upper_layer import ProposedContext, associate_request, command_set, data_header
from ledger.event import EventRecord
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.datasets import ct_slice, encoded
from tests.dicom_node.node_process import node_process
from tests.dicom_node.scanner import CT, EXPLICIT, send_all
from tests.dicom_node.test_stream import (
    CT_CONTEXT,
    ECHO_CONTEXT,
    VERIFICATION,
    begun,
    line_to,
    message,
    read_pdu,
    status_of,
)
from tests.patience import patient
from tests.peers.loopback import until

REQUEST = associate_request(
    calling=AETitle("RAW"),
    called=AETitle("WETREAD"),
    contexts=[ProposedContext(CT, (EXPLICIT,))],
    maximum_length=16384,
)


def happened(node, event: str) -> list[EventRecord]:
    return [each for each in node.ledger.history() if each.event == event]


def told(node, event: str) -> EventRecord:
    return until(lambda: happened(node, event), within_s=10, what=f"{event} is in the history")[0]


def is_over(line: socket.socket) -> None:
    """Read until the node has ended the connection."""
    line.settimeout(patient(10))
    try:
        while line.recv(4096):
            pass
    except ConnectionResetError:
        pass


def connect(node) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), timeout=patient(10))


@pytest.mark.fault
def test_a_request_that_comes_a_byte_at_a_time_ends_with_artim_and_not_later(start_node) -> None:
    node = start_node(node={"port": 0, "artim_s": 0.8, "pdu_s": 60.0, "pdu_silence_s": patient(10.0)})
    began = time.monotonic()
    with connect(node) as line:
        line.settimeout(0.02)
        for byte in REQUEST:
            try:
                line.sendall(bytes([byte]))
                if line.recv(10):
                    break
            except TimeoutError:
                if time.monotonic() - began < patient(5):
                    continue
                raise
            except OSError:
                break
            else:
                break
        took_s = time.monotonic() - began
    assert 0.7 < took_s < patient(2.5)
    assert "within 0.8 s" in told(node, "association_aborted").because


@pytest.mark.fault
def test_who_asks_for_nothing_is_put_out_by_artim(start_node) -> None:
    node = start_node(node={"port": 0, "artim_s": 0.5})
    with connect(node) as line:
        is_over(line)
    assert told(node, "association_aborted").because == "asked for no association within 0.5 s"


@pytest.mark.fault
@pytest.mark.parametrize(
    ("sent", "because"),
    [
        (struct.pack(">BxI", 1, 300 << 10), "at most 262144 are taken"),
        (struct.pack(">BxI", 1, 0xFFFFFFFF), "at most 262144 are taken"),
        (b"GET / HTTP/1.1\r\n\r\n", "no PDU of DICOM"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "no PDU of DICOM"),
        (struct.pack(">BxI", 4, 6) + bytes(6), "before it asked for an association|no PDU of DICOM"),
        (b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00", "before it asked for an association"),
    ],
)
def test_what_is_no_request_ends_the_connection_and_is_told(node, sent: bytes, because: str) -> None:
    with connect(node) as line:
        line.sendall(sent)
        is_over(line)
    event = told(node, "association_aborted")
    assert any(words in event.because for words in because.split("|")), event.because
    assert event.detail["address"] == "127.0.0.1"


@pytest.mark.fault
@pytest.mark.parametrize(
    ("wire", "because"),
    [
        (struct.pack(">BxI", 4, 65_536 + 13), "at most 65548 are taken"),
        (
            b"".join(data_header(CT_CONTEXT, 8000, command=True, last=False) + bytes(8000) for _ in range(9)),
            "a command set has more than 65536 bytes",
        ),
    ],
    ids=["longer than advertised", "command set"],
)
def test_a_pdu_or_a_command_beyond_its_size_is_told(node, wire: bytes, because: str) -> None:
    with line_to(node) as line:
        line.sendall(wire)
        is_over(line)
    event = told(node, "association_aborted")
    assert because in event.because
    assert event.detail["calling"] == "RAW"


@pytest.mark.fault
def test_a_sender_that_always_says_a_little_is_put_out_for_its_pace(start_node) -> None:
    node = start_node(node={"port": 0, "throughput_min_bytes_s": 20_000, "throughput_s": 0.6})
    began = time.monotonic()
    with line_to(node) as line:
        line.sendall(begun())
        line.settimeout(0.05)
        while time.monotonic() - began < patient(8):
            try:
                line.sendall(data_header(CT_CONTEXT, 10, command=False, last=False) + bytes(10))
                if not line.recv(10):
                    break
                break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() - began < patient(4)
    assert "less than 20000 bytes per second for 0.6 s" in told(node, "association_aborted").because
    assert node.instances() == {}


def echo_that_brings_a_data_set() -> bytes:
    """The command of a C-ECHO that announces one, which no C-ECHO has."""
    command = command_set({0x0002: VERIFICATION, 0x0100: 0x0030, 0x0110: 9, 0x0800: 1})
    return data_header(ECHO_CONTEXT, len(command), command=True, last=True) + command


@pytest.mark.fault
@pytest.mark.parametrize(
    ("begins", "of_command"),
    [(b"", True), (echo_that_brings_a_data_set(), False)],
    ids=["a command set", "the data set of another message"],
)
@pytest.mark.parametrize(
    ("limits", "because"),
    [
        ({"instance_s": 0.8}, "one message takes longer than 0.8 s"),
        (
            {"throughput_min_bytes_s": 20_000, "throughput_s": 0.6},
            "one message comes in at less than 20000 bytes per second for 0.6 s",
        ),
    ],
    ids=["the wall", "the pace"],
)
def test_every_message_that_trickles_is_put_out_like_an_instance(
    start_node, begins: bytes, of_command: bool, limits: dict[str, object], because: str
) -> None:
    node = start_node(node={"port": 0, **limits})
    ends = time.monotonic() + patient(6)
    with line_to(node) as line:
        line.sendall(begins)
        line.settimeout(0.05)
        while time.monotonic() < ends:
            try:
                # One byte in each whole PDU: neither a PDU nor the association is ever silent.
                line.sendall(data_header(ECHO_CONTEXT, 1, command=of_command, last=False) + b"\0")
                line.recv(10)
                break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() < ends
    assert told(node, "association_aborted").because == because


def test_the_time_of_our_own_disk_is_not_the_senders() -> None:
    pace = Pace(bytes_per_s=1000, over_s=10)
    pace.begin(0.0)
    pace.came(3000)
    pace.was_ours(30.0)
    assert not pace.too_slow(33.0)  # three seconds of its own
    pace.came(7000)
    assert not pace.too_slow(40.0)
    pace.came(9999)
    assert pace.too_slow(50.0)


def test_each_stretch_counts_for_itself() -> None:
    pace = Pace(bytes_per_s=1000, over_s=10)
    pace.begin(0.0)
    pace.came(10_000_000)
    assert not pace.too_slow(10.0)
    assert pace.too_slow(20.0)
    assert not Pace(bytes_per_s=0, over_s=10).too_slow(1e9)


def test_a_peer_may_be_allowed_more_than_the_others_or_less(start_node) -> None:
    large = encoded(ct_slice(2, rows=800))  # 1.3 MB
    small = {"name": "near", "ae_title": "SCANNER", "host": "ct", "port": 104, "instance_bytes_max": 1 << 20}
    other = {**small, "name": "other", "ae_title": "OTHER", "instance_bytes_max": None}
    node = start_node(peers=[small, other])
    uid = str(ct_slice(2).SOPInstanceUID)

    assert send_all(node.port, {uid: large}) == {}
    assert "more than 1048576 bytes" in told(node, "association_aborted").because
    with line_to(node) as line:
        line.sendall(message(uid, large))
        assert status_of(read_pdu(line)) == 0x0000
    assert list(node.instances()) == [uid]


def asking(node, calling: str, stack: ExitStack, address: str = "127.0.0.1") -> bytes:
    """What an A-ASSOCIATE-RQ is answered with; an association stays open until the stack is left."""
    line = socket.create_connection(
        ("127.0.0.1", node.port), timeout=patient(10), source_address=(address, 0)
    )
    stack.enter_context(line)
    line.sendall(
        associate_request(
            calling=AETitle(calling),
            called=AETitle("WETREAD"),
            contexts=[ProposedContext(CT, (EXPLICIT,))],
            maximum_length=16384,
        )
    )
    return read_pdu(line)


LOCAL_LIMIT = b"\x03\x00\x00\x00\x00\x04\x00\x02\x03\x02"


def test_one_caller_gets_its_associations_and_the_others_theirs(start_node) -> None:
    router = {"name": "router", "ae_title": "ROUTER", "host": "r", "port": 104, "associations_max": 3}
    node = start_node(
        peers=[router], node={"port": 0, "associations_per_ae": 2, "connections_per_address": 32}
    )
    with ExitStack() as stack:
        answers = [asking(node, "CT1", stack) for _ in range(3)]
        assert [answer[0] for answer in answers[:2]] == [2, 2]
        assert answers[2] == LOCAL_LIMIT
        assert asking(node, "CT2", stack)[0] == 2
        assert [asking(node, "ROUTER", stack)[0] for _ in range(4)] == [2, 2, 2, 3]
        event = told(node, "association_rejected")
        assert event.because == "CT1 at 127.0.0.1 has 2 associations open, which is its limit"

    until(lambda: node.node.senders.associations() == 0, within_s=10, what="all are over")
    with ExitStack() as stack:
        assert asking(node, "CT1", stack)[0] == 2


def test_strangers_do_not_take_the_places_of_known_machines(start_node) -> None:
    scanner = {
        "name": "ct", "ae_title": "CT1", "host": "ct", "port": 104, "addresses": ["127.0.0.8/32"],
    }  # fmt: skip
    node = start_node(peers=[scanner], node={"port": 0, "maximum_associations": 4})
    with ExitStack() as stack:
        strangers = [asking(node, f"S{number}", stack) for number in range(4)]
        assert [answer[0] for answer in strangers] == [2, 2, 2, 3]
        assert strangers[3] == LOCAL_LIMIT
        # Its AE title alone does not make it known: anybody can call himself so.
        assert asking(node, "CT1", stack, "127.0.0.9")[0] == 3
        assert asking(node, "CT1", stack, "127.0.0.8")[0] == 2
        assert asking(node, "CT1", stack, "127.0.0.8")[0] == 3
        assert "kept for known" in told(node, "association_rejected").because


def test_two_that_ask_at_once_do_not_both_get_the_last_place(start_node) -> None:
    node = start_node(node={"port": 0, "maximum_associations": 5, "connections_per_address": 32})
    with ExitStack() as stack:
        lines = [stack.enter_context(connect(node)) for _ in range(12)]
        for line in lines:
            line.sendall(REQUEST)
        answers = [read_pdu(line)[0] for line in lines]
    assert sorted(answers) == [2] * 5 + [3] * 7


def test_an_idle_association_is_ended_and_is_no_alarm(start_node) -> None:
    node = start_node(node={"port": 0, "idle_s": 0.4})
    with line_to(node) as line:
        is_over(line)
    assert told(node, "association_idle").because == "said nothing for 0.4 s"
    assert node.ledger.refusals(since=0.0) == []


def test_an_instance_that_is_refused_a_thousand_times_is_a_few_rows(node) -> None:
    with line_to(node) as line:
        for _ in range(200):
            command = command_set(
                {0x0002: CT, 0x0100: 1, 0x0110: 1, 0x0700: 0, 0x0800: 0, 0x1000: Uid("1.2.3")}
            ).replace(b"1.2.3\0", b"../x/\0")
            line.sendall(
                data_header(CT_CONTEXT, len(command), command=True, last=True)
                + command
                + data_header(CT_CONTEXT, 4, command=False, last=True)
                + bytes(4)
            )
            assert status_of(read_pdu(line)) == 0xA900
    node.node.refusals.stop(within_s=5)
    rows = happened(node, "refused")
    assert sum(int(row.detail["count"]) for row in rows) == 200
    assert len(rows) <= 3
    assert {row.detail["calling"] for row in rows} == {"RAW"}


def test_peers_that_are_known_by_number_are_known_by_any_of_their_addresses() -> None:
    from dicom_node.peers import PeerSettings

    by_host = PeerSettings(name="a", ae_title="A", host="10.0.0.1", port=104)
    by_name = PeerSettings(name="b", ae_title="B", host="pacs.hospital", port=104)
    by_net = by_name.model_copy(update={"addresses": ("10.1.0.0/16", "fd00::/8")})
    assert [peer.has_addresses for peer in (by_host, by_name, by_net)] == [True, False, True]
    assert by_host.is_at("10.0.0.1")
    assert not by_host.is_at("10.0.0.2")
    assert by_host.calls_from("10.0.0.2")
    assert not by_name.is_at("10.0.0.1")
    assert by_net.is_at("::ffff:10.1.2.3")
    assert by_net.is_at("fd00::1")
    assert not by_net.calls_from("10.2.0.1")


@pytest.mark.fault
def test_fifty_idle_associations_cost_less_than_a_tenth_of_a_core(tmp_path) -> None:
    many = {"maximum_associations": 60, "associations_per_ae": 60, "connections_per_address": 60}
    with ExitStack() as stack:
        node = stack.enter_context(node_process(tmp_path, node={"port": 0, **many}))
        assert [asking(node, "IDLE", stack)[0] for _ in range(50)] == [2] * 50
        used_s = cpu_seconds(node.process.pid)
        over = threading.Event()
        over.wait(3)
        assert (cpu_seconds(node.process.pid) - used_s) / 3 < 0.1


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

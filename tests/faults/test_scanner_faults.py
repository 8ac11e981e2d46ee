"""Networks and scanners break off in the middle: what was promised is kept, the rest leaves nothing behind.

And whoever sends again what he is not sure of gets the same answer, and one row.
"""

import json
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dicom_node.settings import NodeSite
from ledger.store.ledger import Ledger
from tests.dicom_node.datasets import ROOT, ct_slice, digest_of, encoded, write
from tests.dicom_node.node_process import NodeProcess, node_process, site_json
from tests.hostile.victim import (
    MIB,
    calm_again,
    connect,
    echo,
    forget_peak,
    read_pdu,
    recorded,
    request,
    store,
    store_message,
    stumbles,
    vitals,
)
from tests.patience import patient
from tests.peers.bad_proxy import Way, bad_proxy
from tests.peers.loopback import until
from tests.peers.programs import find

pytestmark = [pytest.mark.fault, pytest.mark.peer]

QUICK = {"port": 0, "artim_s": 3.0, "pdu_silence_s": 2.0, "pdu_s": 4.0, "idle_s": 3.0}
UID = f"{ROOT}.55.1"
DATA = encoded(ct_slice(1, series=f"{ROOT}.55", sop_instance=UID, rows=128))
#: Bytes from the requestor until its instance has gone over the line, and the places in between.
REQUESTED = len(request())
STORED = REQUESTED + len(store_message(UID, DATA))
MID_COMMAND, MID_PDU, BETWEEN_PDUS = REQUESTED + 40, REQUESTED + 5000, STORED - len(DATA) % 16000 - 12


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    """One node for all that leaves nothing behind."""
    with node_process(tmp_path_factory.mktemp("site"), node={"port": 0}) as node:
        yield node


def held(node: NodeProcess) -> dict[str, str]:
    with Ledger.open(NodeSite.model_validate(json.loads(site_json(node.folder))).ledger) as ledger:
        return recorded(ledger)


def nothing_half_received(node: NodeProcess) -> None:
    until(
        lambda: not list((node.spool / "incoming").iterdir()),
        within_s=8,
        what="nothing half-received is left",
    )


@pytest.mark.parametrize("break_off", ["reset_after", "close_after"])
@pytest.mark.parametrize("place", [MID_COMMAND, MID_PDU, BETWEEN_PDUS, STORED - 1])
def test_a_connection_that_breaks_before_the_end_leaves_nothing_and_the_same_instance_can_come_again(
    running: NodeProcess, place: int, break_off: str
) -> None:
    uid = f"{UID}.{place}.{break_off == 'reset_after':d}"
    data = encoded(ct_slice(1, series=f"{ROOT}.55", sop_instance=uid, rows=128))
    with bad_proxy(running.port, there=Way(**{break_off: place})) as proxy:
        assert store(proxy.port, {uid: data}) == {}
        assert proxy.passed_there == place
    nothing_half_received(running)
    assert uid not in held(running)

    assert store(running.port, {uid: data}) == {uid: 0x0000}
    assert held(running)[uid] == digest_of(data)


@pytest.mark.parametrize("resets", [False, True], ids=["falls into a hole", "meets a reset"])
def test_an_answer_that_is_lost_is_given_again_to_whoever_sends_again(
    running: NodeProcess, resets: bool
) -> None:
    """The sender does not know, so it sends the same bytes: one row, and Success (row 9)."""
    uid = f"{UID}.9.{resets:d}"
    data = encoded(ct_slice(1, series=f"{ROOT}.55", sop_instance=uid, rows=64))
    length = _acceptance_length(running.port)
    back = Way(reset_after=length + 1) if resets else Way(hole_after=length)
    with bad_proxy(running.port, back=back) as proxy:
        with connect(proxy.port, timeout_s=patient(1.0)) as line:
            line.sendall(request())
            assert read_pdu(line)[:1] == b"\2"
            line.sendall(store_message(uid, data))
            until(lambda: uid in held(running), within_s=5, what="the instance is recorded")
            assert (proxy.broken if resets else proxy.swallowed).wait(patient(5))
            line.settimeout(0.2)
            with suppress(TimeoutError):
                assert read_pdu(line) == b"", "nothing of the answer comes through"

    assert store(running.port, {uid: data}) == {uid: 0x0000}
    assert held(running)[uid] == digest_of(data)
    with Ledger.open(NodeSite.model_validate(json.loads(site_json(running.folder))).ledger) as ledger:
        instances = [
            instance
            for study in ledger.studies()
            for series in ledger.series_of(study.id)
            for instance in series.instances
            if str(instance.sop_instance) == uid
        ]
        assert len(instances) == 1
        assert not [each for each in ledger.quarantined() if str(each.sop_instance) == uid]


@pytest.mark.parametrize(
    "value",
    [
        b"\x07\x00\x00\x00\x00\x04\x00\x00\x80\x00",  # an A-ABORT from nobody that PS3.8 §9.3.8 knows
        b"\x03\x00\x00\x00\x00\x04\x00\x09\x09\x09",  # an A-ASSOCIATE-RJ, and what it says is nothing
    ],
)
def test_a_pdu_whose_values_mean_nothing_ends_the_association_and_no_thread_of_ours(
    running: NodeProcess, value: bytes
) -> None:
    with connect(running.port) as line:
        line.sendall(request("NOBODY"))
        assert read_pdu(line)[:1] == b"\2"
        line.sendall(value)
        assert read_pdu(line)[:1] in (b"\7", b"")
    echo(running.port)
    assert stumbles(running) == []


def test_a_slow_line_in_small_pieces_changes_nothing(running: NodeProcess) -> None:
    uid = f"{UID}.8"
    data = encoded(ct_slice(1, series=f"{ROOT}.55", sop_instance=uid, rows=32))
    with bad_proxy(
        running.port, there=Way(pieces=97, dribble_s=0.001), back=Way(pieces=5, latency_s=0.001)
    ) as proxy:
        assert store(proxy.port, {uid: data}) == {uid: 0x0000}
    assert held(running)[uid] == digest_of(data)


def test_a_scanner_whose_clock_stops_is_let_go_and_what_it_was_promised_is_kept(tmp_path: Path) -> None:
    """A machine that hangs sends no FIN: only a timer can tell (row 17)."""
    slices = [
        ct_slice(n, series=f"{ROOT}.56", sop_instance=f"{ROOT}.56.{n}", rows=256) for n in range(1, 201)
    ]
    write(tmp_path / "out", *slices)
    # At 1 MiB/s there is time to stop it in the middle.
    with (
        node_process(tmp_path, node=QUICK) as node,
        bad_proxy(node.port, there=Way(dribble_s=0.06)) as line,
    ):
        before = vitals(node.process.pid)
        scanner = subprocess.Popen(
            [find("storescu"), "-aec", "WETREAD", "+sd", "127.0.0.1", str(line.port), tmp_path / "out"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until(lambda: len(held(node)) >= 3, within_s=10, what="it has sent some")
            scanner.send_signal(signal.SIGSTOP)
            # Whatever arrived whole before the stop is recorded; nothing else comes.
            echo(node.port)
            took_s, _ = calm_again(node.process.pid, before, within_s=patient(15))
            kept = held(node)
        finally:
            scanner.kill()
            scanner.wait(patient(5))
        assert took_s < patient(8)
        nothing_half_received(node)
        assert 3 <= len(kept) < len(slices)
        assert kept == held(node)
        assert kept.items() <= {str(ds.SOPInstanceUID): digest_of(encoded(ds)) for ds in slices}.items()


def test_fifty_associations_that_stop_in_the_middle_of_a_pdu_are_let_go(tmp_path: Path) -> None:
    """Row 12. As many as are let in; a good peer is heard all the while."""
    limits = {**QUICK, "maximum_associations": 60, "maximum_connections": 80}
    with node_process(tmp_path, node=limits) as node:
        echo(node.port)
        before = vitals(node.process.pid)
        lines = []
        try:
            for number in range(50):
                line = connect(node.port, f"127.0.6.{number + 1}")
                lines.append(line)
                line.sendall(request(f"STOPS{number}"))
                assert read_pdu(line)[:1] == b"\2"
                line.sendall(store_message(f"{UID}.{number}", DATA)[:9000])
            began = time.monotonic()
            echo(node.port)
            assert time.monotonic() - began < patient(1.0)
            took_s, after = calm_again(node.process.pid, before, within_s=patient(15))
        finally:
            for line in lines:
                line.close()
        assert took_s < patient(10), f"{before} became {after}"
        nothing_half_received(node)
        assert held(node) == {}


def test_a_peer_that_does_not_wait_for_answers_fills_its_own_socket_and_not_our_memory(
    tmp_path: Path,
) -> None:
    """Row 16: 60 MiB in C-STORE requests, and nobody reads the answers."""
    wire = store_message(UID, DATA)
    with node_process(tmp_path, node={"port": 0}) as node:
        echo(node.port)
        pid = node.process.pid
        before = vitals(pid)
        forget_peak(pid)
        with connect(node.port) as line:
            line.sendall(request())
            assert read_pdu(line)[:1] == b"\2"
            line.settimeout(5)
            # Reset, broken pipe or time-out: whichever comes first ends it.
            with suppress(OSError):
                for _ in range((60 * MIB) // len(wire)):
                    line.sendall(wire)
                pytest.fail("60 MiB of requests were taken although nobody waited for an answer")
        assert vitals(pid).peak - before.rss < 24 * MIB
        took_s, _ = calm_again(pid, before, within_s=patient(10))
        assert took_s < patient(10)


def test_five_hundred_connections_at_once_are_refused_at_the_door_and_cost_nothing(tmp_path: Path) -> None:
    """Row 14."""
    with node_process(tmp_path, node={"port": 0}) as node:
        echo(node.port)
        pid, lines = node.process.pid, []
        before = vitals(pid)
        try:
            for _ in range(500):
                line = socket.socket()
                line.bind(("127.0.7.1", 0))
                line.settimeout(2)
                lines.append(line)
                line.connect(("127.0.0.1", node.port))
            echo(node.port)
            most = vitals(pid)
        finally:
            for line in lines:
                line.close()
        assert most.threads - before.threads < 200
        assert most.rss - before.rss < 64 * MIB
        assert calm_again(pid, before, within_s=patient(10))[0] < patient(10)


def _acceptance_length(port: int) -> int:
    with connect(port) as line:
        line.sendall(request())
        return len(read_pdu(line))

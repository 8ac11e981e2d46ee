"""Archives that break off, refuse, put off and stall, one after the other on the same port: rows 34 and 35.

A real delivering worker against DCMTK's fault injectors, and against bytes of our own where DCMTK has none.
However it goes, the archive ends with one copy of each result, the leaf before the report.
"""

import socket
import threading
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from dicom_node.upper_layer import command_set, data_header
from ledger.delivery import DeliveryState
from ledger.identifiers import JobId
from tests.dicom_node.raw_peer import acceptance, raw_peer, read_message, read_pdu
from tests.faults.test_worker_deliveries import archive, committed, done, states
from tests.ledger.site import OPERATOR
from tests.peers.dcmtk import storescp
from tests.peers.loopback import free_port, until
from tests.worker.site import WorkerBench, worker_bench

pytestmark = [pytest.mark.fault, pytest.mark.peer]

ACCEPTANCE = acceptance(SegmentationStorage, ExplicitVRLittleEndian)
#: What DCMTK can be told to do wrong, and our word for it.
FAILURES = {
    "--refuse": "rejected the association",
    "--abort-during": "aborted the association",
    "--abort-after": "while we were waiting for its answer",
    "--sleep-during 20": "within 1 s",
}


def said(bench: WorkerBench, job_id: JobId) -> list[str]:
    return [one.because for one in bench.ledger.history(job_id=job_id) if one.thing == "delivery"]


def answering(status: int) -> Callable[[socket.socket, threading.Event], None]:
    def behave(connection: socket.socket, over: threading.Event) -> None:
        read_pdu(connection)
        connection.sendall(ACCEPTANCE)
        read_message(connection)
        command = command_set({0x0100: 0x8001, 0x0120: 1, 0x0800: 0x0101, 0x0900: status})
        connection.sendall(data_header(1, len(command), command=True, last=True) + command)

    return behave


def stalls_in_its_answer(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)
    connection.sendall(ACCEPTANCE)
    read_message(connection)
    connection.sendall(b"\x04\x00\x00\x00\x00\x5a\x00")


def stalls_in_its_acceptance(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)
    connection.sendall(ACCEPTANCE[: len(ACCEPTANCE) // 2])


def test_an_archive_that_fails_in_every_way_has_each_result_once_in_the_end(tmp_path: Path) -> None:
    port = free_port()
    quick = archive(port).model_copy(update={"deadline_s": 1.0})
    with worker_bench(tmp_path, peers=(quick,)) as bench:
        job_id = done(bench)
        bench.start("deliver")
        for option, words in FAILURES.items():
            heard = len(said(bench, job_id))

            def met(words: str = words, heard: int = heard) -> bool:
                return any(words in because for because in said(bench, job_id)[heard:])

            with storescp(tmp_path / f"failing{option.split()[0]}", *option.split(), port=port):
                until(met, within_s=15, what=f"it met {option}")
                # Whatever the answer meant, nobody claims to know more than is known.
                assert not {DeliveryState.PARKED, DeliveryState.COMMITTED} & set(states(bench, job_id))

        with storescp(tmp_path / "mended", port=port) as mended:
            committed(bench, job_id)
            wanted = {str(one.sop_instance) for one in bench.ledger.results_of(job_id)}
            assert len(mended.received()) <= len(wanted) == 2
        sent = {one.result.role: one.sent_at for one in bench.ledger.deliveries_of(job_id)}
        assert sent["segmentation"] <= sent["report"]


def test_a_status_that_would_repeat_itself_waits_for_an_operator_and_another_is_tried_again(
    tmp_path: Path,
) -> None:
    port = free_port()
    with worker_bench(tmp_path, peers=(archive(port),)) as bench:
        job_id = done(bench)
        for status, parks in ((0xA700, False), (0xC000, True)):
            with raw_peer(answering(status)) as refusing:
                site = bench.site.model_copy(update={"peers": (archive(refusing.port),)})
                poster = bench.start("deliver", site=site)
                until(
                    lambda number=status: any(f"0x{number:04X}" in each for each in said(bench, job_id)),
                    within_s=15,
                    what=f"the archive has said 0x{status:04X}",
                )
                assert (DeliveryState.PARKED in states(bench, job_id)) == parks
                poster.kill()
        with storescp(tmp_path / "mended", port=port) as mended:
            for one in bench.ledger.deliveries_of(job_id):
                if one.state is DeliveryState.PARKED:
                    bench.ledger.retry_delivery(one.id, "by the operator", by=OPERATOR)
            bench.start("deliver")
            committed(bench, job_id)
            assert len(mended.received()) == 2


def test_an_archive_that_stalls_in_the_middle_of_a_pdu_holds_nobody_else_up(tmp_path: Path) -> None:
    port, stalls = free_port(), cycle([stalls_in_its_acceptance, stalls_in_its_answer])
    met: list[str] = []

    def stall(connection: socket.socket, over: threading.Event) -> None:
        behave = next(stalls)
        met.append(behave.__name__)
        behave(connection, over)

    with raw_peer(stall) as stalling, storescp(tmp_path / "good", port=port) as good:
        stuck = archive(stalling.port).model_copy(update={"deadline_s": 1.0})
        other = archive(port).model_copy(update={"name": "other"})
        with worker_bench(tmp_path, peers=(stuck, other)) as bench:
            job_id = done(bench, "archive", "other")
            bench.start("deliver")
            until(lambda: len(good.received()) == 2, within_s=15, what="the other archive has both")
            until(
                lambda: len(said_of_stalls(bench, job_id)) >= 2 and len(set(met)) == 2,
                within_s=15,
                what="the stalling one was given up in both ways",
            )
            by_peer = {one.peer: one for one in bench.ledger.deliveries_of(job_id)}
            assert by_peer["other"].state is DeliveryState.COMMITTED
            assert by_peer["archive"].state in (DeliveryState.WAITING, DeliveryState.SENDING)


def said_of_stalls(bench: WorkerBench, job_id: JobId) -> list[str]:
    return [because for because in said(bench, job_id) if "within 1 s" in because]

"""
How fast results are sent: our sender and DCMTK's storescu, to the same receivers, in one run.

    python -m benchmarks.send [--rounds 5] [--scale 1.0]

`storescp` is DCMTK's and throws away what it takes, so that no disk is measured. `sink` is a bare socket that
reads and forgets, and answers: the sender is the limit there. The time in which storescu starts is taken off
its times, for our sender runs already. Compare within one run: a neighbour on the machine changes everything.
"""

import argparse
import multiprocessing
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.receive import instance, template
from dicom_node.part10 import FileMeta
from dicom_node.peers import PeerSettings
from dicom_node.send import send_many
from dicom_node.store_messages import parse_store_request, store_response
from dicom_node.upper_layer import RELEASE_REPLY, PDUType
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.raw_peer import acceptance
from tests.peers.dcmtk import storescp
from tests.peers.programs import find

SCRAP = bytearray(1 << 18)
CT, EXPLICIT = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2.1")
MAXIMUM_LENGTH = 131_072
#: label → pixels on a side, how many files
SIZES = {"10 MB": (2236, 30), "0.5 MB": (512, 400), "64 KB": (176, 2000)}


@dataclass(frozen=True)
class Target:
    """One that takes everything."""

    name: str
    port: int


def main() -> None:
    """Measure everything and print one table."""
    options = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--scale", type=float, default=1.0, help="of the numbers of files")
    given = options.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        dcmtk = stack.enter_context(
            storescp(
                Path(folder) / "in", "--fork", "--ignore", "--max-pdu", str(MAXIMUM_LENGTH), verbose=False
            )
        )
        targets = [Target("storescp", dcmtk.port), Target("sink", stack.enter_context(sink()))]
        names = f"{'wetread':>10}{'storescu':>10}{'ratio':>8}"
        print(
            f"MB/s: medians of {given.rounds} rounds, then the best of them\n{'':10}{'to':10}{names}{names}"
        )
        for number, (label, (side, count)) in enumerate(SIZES.items()):
            files = write(Path(folder) / label, side, max(2, round(count * given.scale)), number)
            megabytes = sum(path.stat().st_size for path in files) / 1e6
            for target in targets:
                ours, theirs, starts = [], [], []
                for _ in range(given.rounds):
                    ours.append(by_us(target, files))
                    theirs.append(by_storescu(target, files))
                    starts.append(by_storescu(target, files[:1]))
                # What one file takes but for its own share is what starting the program takes.
                share = statistics.median(ours) / len(files)
                start, quickest = statistics.median(starts) - share, min(starts) - share
                print_row(
                    label,
                    target,
                    [megabytes / statistics.median(ours), megabytes / min(ours)],
                    [megabytes / (statistics.median(theirs) - start), megabytes / (min(theirs) - quickest)],
                )
    print(f"all in {time.monotonic() - began:.0f} s")


def print_row(label: str, target: Target, ours: Sequence[float], theirs: Sequence[float]) -> None:
    pairs = zip(ours, theirs, strict=True)
    columns = [f"{mine:10.0f}{other:10.0f}{mine / other:8.2f}" for mine, other in pairs]
    print(f"{label:10}{target.name:10}{''.join(columns)}", flush=True)


def write(folder: Path, side: int, count: int, study: int) -> list[Path]:
    """Part 10 files as results lie in the spool."""
    folder.mkdir()
    data = template(side)
    paths = []
    for number in range(count):
        uid, body = instance(data, study, number)
        meta = FileMeta(
            sop_class=CT,
            sop_instance=uid,
            transfer_syntax=EXPLICIT,
            sending=AETitle("A"),
            receiving=AETitle("B"),
        )
        paths.append(folder / f"{number:05d}.dcm")
        paths[-1].write_bytes(meta.encode() + body)
    return paths


# Senders


def by_us(target: Target, files: Sequence[Path]) -> float:
    """Seconds for all files on one association."""
    peer = PeerSettings(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=target.port)
    began = time.perf_counter()
    answers = send_many(files, peer, calling=AETitle("WETREAD"), deadline_s=120)
    seconds = time.perf_counter() - began
    assert all(answer.status == 0 for answer in answers), answers[0]
    return seconds


def by_storescu(target: Target, files: Sequence[Path]) -> float:
    """Seconds for all files on one association, and for starting the program."""
    began = time.perf_counter()
    subprocess.run(
        [find("storescu"), "-R", "-aec", "ARCHIVE", "--max-send-pdu", str(MAXIMUM_LENGTH), "127.0.0.1",
         str(target.port), *files],
        check=True, timeout=120, env={"TCP_NODELAY": "1"}, capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - began


# The bare receiver


@contextmanager
def sink() -> Iterator[int]:
    """Its port; it is a process of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    process = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
    process.start()
    try:
        yield listener.getsockname()[1]
    finally:
        process.kill()
        process.join(5)
        listener.close()


def serve(listener: socket.socket) -> None:
    """Take associations for ever."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=take, args=(connection,), daemon=True).start()


def take(connection: socket.socket) -> None:
    """Accept, answer every data set with Success, release."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    command = b""
    while len(start := connection.recv(6, socket.MSG_WAITALL)) == 6:
        kind, length = struct.unpack(">BxI", start)
        if kind == PDUType.ASSOCIATE_REQUEST:
            connection.recv(length, socket.MSG_WAITALL)
            connection.sendall(acceptance(str(CT), str(EXPLICIT), maximum_length=MAXIMUM_LENGTH))
        elif kind == PDUType.DATA:
            control = connection.recv(6, socket.MSG_WAITALL)[5]
            if control & 1:
                command = connection.recv(length - 6, socket.MSG_WAITALL)
                continue
            drop(connection, length - 6)
            if control & 2:
                asked = parse_store_request(command)
                assert asked is not None
                connection.sendall(store_response(1, asked, 0x0000, maximum_length=0))
        else:
            connection.sendall(RELEASE_REPLY)


def drop(connection: socket.socket, length: int) -> None:
    """Read so many bytes, and forget them."""
    while length:
        length -= connection.recv_into(SCRAP, min(length, len(SCRAP)))


if __name__ == "__main__":
    main()

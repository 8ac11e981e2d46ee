"""
How fast instances are received: our node, DCMTK's storescp, Orthanc and a bare socket, in one run.

    python -m benchmarks.receive [--rounds 3] [--instances 300] [--small 2000] [--big-mb 2000]

The floor is a socket whose bytes go into one file per instance, with an fsync each: no DICOM, no digest, no
ledger. Our node promises the same and more before it answers; storescp and Orthanc answer without an fsync.
`blast` replays prepared PDUs, so that the receiver is the limit; `storescu` is DCMTK's. Every receiver has
its turn in every round, and every round has UIDs of its own. Compare within one run: disk and neighbours
change from minute to minute.
"""

import argparse
import multiprocessing
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.uid import CTImageStorage

from dicom_node.upper_layer import (
    RELEASE_REQUEST,
    ProposedContext,
    associate_request,
    command_set,
    data_header,
    parse_associate_accept,
)
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.datasets import ct_slice, encoded
from tests.dicom_node.node_process import node_process
from tests.peers.dcmtk import storescp
from tests.peers.orthanc import orthanc
from tests.peers.programs import find

GIVE_UP_S = 210.0  # No further measurement begins after this.
CT, EXPLICIT = Uid(str(CTImageStorage)), Uid("1.2.840.10008.1.2.1")
MARK = b"2.25.1000000000001"  # the UIDs of the template; as long as those that are put in their places
STUDY_MARK = b"2.25.2000000000001"
SIDE, SMALL_SIDE = 512, 176  # pixels: 0.5 MB and 64 KB


@dataclass
class Receiver:
    """One that is measured."""

    name: str
    port: int
    called: str
    pids: Callable[[], list[int]]
    bare: bool = False


@dataclass(frozen=True)
class Figures:
    """What one measurement gave."""

    megabytes: float
    instances: int
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.megabytes / self.seconds


def main() -> None:
    """Measure everything and print one table."""
    options = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--instances", type=int, default=300, help="of 0.5 MB: a CT of so many slices")
    options.add_argument("--small", type=int, default=2000, help="instances of 64 KB")
    options.add_argument("--big-mb", type=int, default=2000, help="size of the one large instance")
    options.add_argument("--only", default="", help="names of receivers, with commas")
    given = options.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        receivers = [
            each
            for each in start(Path(folder), stack)
            if not given.only or each.name in given.only.split(",")
        ]
        found: dict[str, dict[str, list[Figures]]] = {}
        large, small = template(SIDE), template(SMALL_SIDE)
        number = 0
        plan: list[tuple[str, bytes, int, int]] = [
            ("0.5 MB x 1", large, 1, given.instances),
            ("0.5 MB x 4", large, 4, given.instances // 2),
            ("64 KB x 1", small, 1, given.small),
            ("64 KB x 4", small, 4, given.small // 4),
        ]
        for _ in range(given.rounds):
            for label, data, associations, count in plan:
                for receiver in receivers:
                    if time.monotonic() - began > GIVE_UP_S:
                        break
                    number += 1
                    figures = measured(receiver, lambda: blast(receiver, data, associations, count, number))  # noqa: B023
                    found.setdefault(label, {}).setdefault(receiver.name, []).append(figures)
        for receiver in receivers:
            if receiver.bare or time.monotonic() - began > GIVE_UP_S:
                continue
            number += 1
            files = Path(folder) / f"files-{number}"
            write_files(files, large, given.instances, number)
            figures = measured(receiver, lambda: storescu(receiver, files, large, given.instances))  # noqa: B023
            found.setdefault("0.5 MB storescu", {}).setdefault(receiver.name, []).append(figures)
        print_rates(found)
        if given.big_mb:
            print_memory([each for each in receivers if each.name in ("wetread", "storescp")], given.big_mb)
    print(f"all in {time.monotonic() - began:.0f} s")


# Receivers


def start(folder: Path, stack: ExitStack) -> Iterator[Receiver]:
    """All receivers, started."""
    for name, sync in (("floor", True), ("no fsync", False)):
        port, pid = stack.enter_context(bare_receiver(folder / name.replace(" ", "-"), sync=sync))
        yield Receiver(name, port, "", lambda pid=pid: [pid], bare=True)  # type: ignore[misc]
    ours = folder / "ours"
    ours.mkdir()
    node = stack.enter_context(node_process(ours))
    yield Receiver("wetread", node.port, "WETREAD", lambda: [node.process.pid])
    dcmtk = stack.enter_context(
        storescp(folder / "storescp", "--fork", "--max-pdu", "131072", "-q", verbose=False)
    )
    yield Receiver("storescp", dcmtk.port, "ARCHIVE", lambda: family(dcmtk.process.pid))
    archive = stack.enter_context(orthanc(folder / "orthanc"))
    assert archive.process is not None
    pid = archive.process.pid
    yield Receiver("orthanc", archive.dicom_port, archive.ae_title, lambda: [pid])


@contextmanager
def bare_receiver(folder: Path, *, sync: bool) -> Iterator[tuple[int, int]]:
    """The floor, in a process of its own: its port and its process."""
    folder.mkdir()
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    process = multiprocessing.get_context("fork").Process(
        target=serve_bare, args=(listener, folder, sync), daemon=True
    )
    process.start()
    try:
        assert process.pid is not None
        yield listener.getsockname()[1], process.pid
    finally:
        process.kill()
        process.join(5)
        listener.close()


def serve_bare(listener: socket.socket, folder: Path, sync: bool) -> None:
    """Take connections for ever: a length, that many bytes into a file, one byte back."""
    for number in range(1 << 30):
        connection, _ = listener.accept()
        threading.Thread(target=take_bare, args=(connection, folder, number, sync), daemon=True).start()


def take_bare(connection: socket.socket, folder: Path, number: int, sync: bool) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    view = memoryview(bytearray(1 << 20))
    for count in range(1 << 30):
        start = connection.recv(8, socket.MSG_WAITALL)
        if len(start) < 8:
            return
        left = int.from_bytes(start, "big")
        descriptor = os.open(folder / f"{number}-{count}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        while left:
            size = connection.recv_into(view[: min(left, len(view))])
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            os.write(descriptor, view[:size])
            left -= size
        if sync:
            os.fsync(descriptor)
        os.close(descriptor)
        connection.sendall(b"\1")


# Senders


def template(side: int) -> bytes:
    """A data set with noise for pixels and UIDs that can be replaced."""
    ds = ct_slice(
        rows=side,
        study=STUDY_MARK.decode(),
        series=STUDY_MARK.decode()[:-1] + "2",
        sop_instance=MARK.decode(),
    )
    pixels = np.random.default_rng(0).normal(40, 200, (side, side)).astype(np.int16)
    ds.PixelData = pixels.tobytes()
    return encoded(ds)


def instance(data: bytes, study: int, number: int) -> tuple[Uid, bytes]:
    """One of its kind: SOP Instance UID and data set."""
    uid = f"2.25.1{study:05d}{number:07d}"
    return Uid(uid), data.replace(MARK, uid.encode()).replace(
        STUDY_MARK, f"2.25.2{study:05d}0000000".encode()
    )


def blast(receiver: Receiver, data: bytes, associations: int, count: int, study: int) -> Figures:
    """Send `count` instances on each of `associations` connections, from a process of its own."""
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=send_all, args=(receiver.port, receiver.called, data, associations, count, study, theirs)
    )
    process.start()
    assert ours.poll(120), f"{receiver.name} did not take everything within two minutes"
    seconds = ours.recv()
    process.join(5)
    total = associations * count
    return Figures(total * len(data) / 1e6, total, seconds, 0.0)


def send_all(  # noqa: PLR0917 (the target of a process)
    port: int, called: str, data: bytes, associations: int, count: int, study: int, result
) -> None:
    lines = []
    for index in range(associations):
        line = socket.create_connection(("127.0.0.1", port))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        maximum = associate(line, called) if called else 0
        lines.append((line, [message(data, study, index * count + n, maximum) for n in range(count)]))
    go = threading.Barrier(associations + 1)
    threads = [threading.Thread(target=replay, args=(line, sent, bool(called), go)) for line, sent in lines]
    for thread in threads:
        thread.start()
    go.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    result.send(time.perf_counter() - began)


def associate(line: socket.socket, called: str) -> int:
    line.sendall(
        associate_request(
            calling=AETitle("BLAST"),
            called=AETitle(called),
            contexts=[ProposedContext(CT, (EXPLICIT,))],
            maximum_length=16384,
        )
    )
    return min(131072, parse_associate_accept(read_pdu(line)).maximum_length or 131072)


def message(data: bytes, study: int, number: int, maximum: int) -> list[bytes]:
    """What goes over the line for one instance; for the floor, which has no `maximum`, length and bytes."""
    uid, body = instance(data, study, number)
    if not maximum:
        return [len(body).to_bytes(8, "big"), body]
    command = command_set({0x0002: CT, 0x0100: 1, 0x0110: number % 65536, 0x0700: 0, 0x0800: 0, 0x1000: uid})
    parts = [data_header(1, len(command), command=True, last=True), command]
    size = maximum - 6
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        parts += [data_header(1, len(piece), command=False, last=at + size >= len(body)), piece]
    return [b"".join(parts)]


def replay(line: socket.socket, messages: Sequence[Sequence[bytes]], dicom: bool, go) -> None:
    go.wait()
    for parts in messages:
        for part in parts:
            line.sendall(part)
        if dicom:
            answer = read_pdu(line)
            assert struct.pack("<HHIH", 0, 0x0900, 2, 0) in answer, "an instance was not stored"
        else:
            assert line.recv(1) == b"\1"
    if dicom:
        line.sendall(RELEASE_REQUEST)
        read_pdu(line)
    line.close()


def read_pdu(line: socket.socket) -> bytes:
    # Without this the receiver's second segment may wait 40 ms for our acknowledgement of the first.
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    start = exactly(line, 6)
    return exactly(line, int.from_bytes(start[2:], "big"))


def exactly(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = line.recv(size - len(data))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        assert part, "the receiver closed the connection"
        data += part
    return data


def write_files(folder: Path, data: bytes, count: int, study: int) -> None:
    """Part 10 files for storescu."""
    from dicom_node.part10 import FileMeta  # noqa: PLC0415 (only this sender needs files)

    folder.mkdir()
    for number in range(count):
        uid, body = instance(data, study, number)
        meta = FileMeta(
            sop_class=CT,
            sop_instance=uid,
            transfer_syntax=EXPLICIT,
            sending=AETitle("A"),
            receiving=AETitle("B"),
        )
        (folder / f"{number:05d}.dcm").write_bytes(meta.encode() + body)


def storescu(receiver: Receiver, files: Path, data: bytes, count: int) -> Figures:
    command = [find("storescu"), "-aec", receiver.called, "--max-send-pdu", "131072", "+sd", "127.0.0.1"]
    began = time.perf_counter()
    subprocess.run(
        [*command, str(receiver.port), files],
        check=True,
        timeout=120,
        env={"TCP_NODELAY": "1"},
        capture_output=True,
    )
    return Figures(count * len(data) / 1e6, count, time.perf_counter() - began, 0.0)


# Processors and memory


def measured(receiver: Receiver, work: Callable[[], Figures]) -> Figures:
    """`work`, with the processor time that the receiver spent on it."""
    os.sync()  # What the one before left unsynced is not this one's to pay.
    before = cpu_s(receiver.pids())
    figures = work()
    after = cpu_s(receiver.pids())
    return Figures(figures.megabytes, figures.instances, figures.seconds, after - before)


def cpu_s(pids: Sequence[int]) -> float:
    """Processor time of processes and of their children that have ended."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def memory_mb(pids: Sequence[int], field: str = "VmHWM") -> float:
    """The largest resident size that any of the processes ever had."""
    sizes = [0]
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        sizes += [int(line.split()[1]) for line in lines if line.startswith(field)]
    return max(sizes) / 1024


def send_large(receiver: Receiver, megabytes: int) -> tuple[float, float]:
    """One instance of so many megabytes: MB per second, and the receiver's largest memory meanwhile in MB."""
    frames = max(1, megabytes * 1_000_000 // (2 * SIDE * SIDE))
    ds = ct_slice(rows=SIDE, sop_instance=MARK.decode())
    head = encoded(ds)[: -2 * SIDE * SIDE - 4]  # up to the length of the pixel data
    frame = np.random.default_rng(1).integers(0, 2000, SIDE * SIDE, np.int16).tobytes()
    peak = 0.0
    with socket.create_connection(("127.0.0.1", receiver.port)) as line:
        size = associate(line, receiver.called) - 6
        command = command_set(
            {0x0002: CT, 0x0100: 1, 0x0110: 1, 0x0700: 0, 0x0800: 0, 0x1000: Uid(MARK.decode())}
        )
        began = time.perf_counter()
        line.sendall(data_header(1, len(command), command=True, last=True) + command)
        start = head + (len(frame) * frames).to_bytes(4, "little")
        line.sendall(data_header(1, len(start), command=False, last=False) + start)
        for number in range(frames):
            parts = [frame[at : at + size] for at in range(0, len(frame), size)]
            for index, part in enumerate(parts):
                last = number == frames - 1 and index == len(parts) - 1
                line.sendall(data_header(1, len(part), command=False, last=last) + part)
            if number % 64 == 0:
                peak = max(peak, memory_mb(receiver.pids(), "VmRSS"))
        line.settimeout(120)
        answer = read_pdu(line)
        seconds = time.perf_counter() - began
        assert struct.pack("<HHIH", 0, 0x0900, 2, 0) in answer, "the large instance was not stored"
        peak = max(peak, memory_mb(receiver.pids(), "VmRSS"))
        line.sendall(RELEASE_REQUEST)
        read_pdu(line)
    return frames * len(frame) / 1e6 / seconds, peak


# The table


def print_rates(found: dict[str, dict[str, list[Figures]]]) -> None:
    columns = (("receiver", -10), ("MB/s", 8), ("inst/s", 8), ("CPU s/GB", 10))
    ratios_of = (("of floor", 10), ("of storescp", 12), ("of Orthanc", 12))
    header = f"{'':18}" + "".join(
        f"{name:<{-width}}" if width < 0 else f"{name:>{width}}" for name, width in columns + ratios_of
    )
    print(header)
    for label, by_name in found.items():
        rates = {name: statistics.median(f.rate for f in figures) for name, figures in by_name.items()}
        for name, figures in by_name.items():
            per_gb = statistics.median(f.cpu_s / (f.megabytes / 1000) for f in figures)
            each = statistics.median(f.instances / f.seconds for f in figures)
            ratios = "".join(
                f"{rates[name] / rates[other]:>{width}.2f}" if other in rates else f"{'':>{width}}"
                for other, width in (("floor", 10), ("storescp", 12), ("orthanc", 12))
            )
            print(f"{label:18}{name:10}{rates[name]:8.0f}{each:8.0f}{per_gb:10.1f}{ratios}")


def print_memory(receivers: Sequence[Receiver], megabytes: int) -> None:
    for receiver in receivers:
        before = memory_mb(receiver.pids(), "VmRSS")
        rate, peak = send_large(receiver, megabytes)
        print(
            f"one of {megabytes} MB   {receiver.name:10}{rate:8.0f} MB/s, resident {before:.0f} MB before,"
            f" {peak:.0f} MB at most"
        )


if __name__ == "__main__":
    sys.exit(main())

"""The node under attack: a process of its own, looked at from outside as an administrator's monitor would."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.settings import NodeSite
from dicom_node.upper_layer import (
    RELEASE_REQUEST,
    ProposedContext,
    associate_request,
    command_set,
    data_header,
    fragments_of,
    parse_elements,
)
from ledger.identifiers import AETitle, Uid
from ledger.store.ledger import Ledger
from tests.dicom_node.node_process import NodeProcess, site_json

CT, EXPLICIT = Uid("1.2.840.10008.5.1.4.1.1.2"), Uid("1.2.840.10008.1.2.1")
VERIFICATION = Uid("1.2.840.10008.1.1")
CT_CONTEXT, ECHO_CONTEXT = 1, 3
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a process holds now."""

    rss: int  #: bytes
    peak: int  #: bytes, the largest since `forget_peak`
    threads: int
    descriptors: int  #: without those of the ledger, whose connections are kept in a pool


def vitals(pid: int) -> Vitals:
    """What the kernel says of the process `pid`."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return Vitals(
        rss=int(status["VmRSS"].split()[0]) << 10,
        peak=int(status["VmHWM"].split()[0]) << 10,
        threads=int(status["Threads"]),
        descriptors=sum("ledger.sqlite" not in each for each in _links(Path(f"/proc/{pid}/fd"))),
    )


def _links(folder: Path) -> Iterator[str]:
    for each in folder.iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            yield str(each.readlink())


#: A good peer whose echo takes longer was not answered.
ECHO_S = 10.0


def forget_peak(pid: int) -> None:
    """Count the peak of the process `pid` from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def connect(port: int, address: str = "127.0.0.1", timeout_s: float = 10.0) -> socket.socket:
    """A connection to the node that comes from `address`, which is one of the many of loopback."""
    line = socket.create_connection(("127.0.0.1", port), timeout=timeout_s, source_address=(address, 0))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def request(
    calling: str = "SCANNER", called: str = "WETREAD", contexts: tuple[ProposedContext, ...] = ()
) -> bytes:
    """An A-ASSOCIATE-RQ for CT images and verification."""
    return associate_request(
        calling=AETitle(calling),
        called=AETitle(called),
        contexts=contexts or (ProposedContext(CT, (EXPLICIT,)), ProposedContext(VERIFICATION, (EXPLICIT,))),
        maximum_length=16384,
    )


def read_pdu(line: socket.socket) -> bytes:
    """One PDU; empty where the other side closed, in whichever way."""
    try:
        start = _exactly(line, 6)
        return start + _exactly(line, int.from_bytes(start[2:6], "big"))
    except (EOFError, ConnectionError):
        return b""


def status_of(pdu: bytes) -> int | None:
    """The status that a P-DATA-TF answers; None where it is none."""
    if pdu[:1] != b"\4":
        return None
    command = b"".join(data for _, is_command, _, data in fragments_of(pdu[6:]) if is_command)
    status = parse_elements(command).get((0, 0x0900))
    return int.from_bytes(status, "little") if status else None


def echo_message(number: int = 1) -> bytes:
    """A C-ECHO-RQ as it goes over the line."""
    command = command_set({0x0002: VERIFICATION, 0x0100: 0x0030, 0x0110: number, 0x0800: 0x0101})
    return data_header(ECHO_CONTEXT, len(command), command=True, last=True) + command


def store_message(
    uid: str,
    data: bytes,
    *,
    number: int = 1,
    sop_class: Uid = CT,
    context: int = CT_CONTEXT,
    size: int = 16000,
) -> bytes:
    """A C-STORE-RQ with its data set; the UID goes over the line as it is, whatever it is."""
    command = command_set(
        {0x0002: sop_class, 0x0100: 1, 0x0110: number, 0x0700: 0, 0x0800: 0, 0x1000: Uid(uid)}
    )
    wire = [data_header(context, len(command), command=True, last=True), command]
    for at in range(0, max(len(data), 1), size):
        piece = data[at : at + size]
        wire += [data_header(context, len(piece), command=False, last=at + size >= len(data)), piece]
    return b"".join(wire)


class GoodPeer:
    """A scanner that asks for an echo on a fresh association, again and again, and notes how long it took."""

    def __init__(self, port: int, *, every_s: float = 0.1) -> None:
        self._port, self._every_s, self._patience_s = port, every_s, ECHO_S
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="good-peer", daemon=True)
        self.took_s: list[float] = []
        self.failures: list[str] = []

    def p99_s(self) -> float:
        """Of the answered and unanswered alike: an echo that failed took for ever."""
        ordered = sorted([*self.took_s, *(float("inf") for _ in self.failures)])
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else float("inf")

    def __enter__(self) -> "GoodPeer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(self._patience_s + 5)

    def _run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                echo(self._port, timeout_s=self._patience_s)
            except (OSError, AssertionError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            else:
                self.took_s.append(time.monotonic() - began)
            self._over.wait(self._every_s)


def echo(port: int, *, address: str = "127.0.0.1", timeout_s: float = 10.0) -> None:
    """One C-ECHO from connection to release. Raises `AssertionError` or `OSError` where it fails."""
    with connect(port, address, timeout_s) as line:
        line.sendall(request("GOODPEER"))
        assert read_pdu(line)[:1] == b"\2", "the association was not accepted"
        line.sendall(echo_message())
        assert status_of(read_pdu(line)) == 0, "the echo was not answered with Success"
        line.sendall(RELEASE_REQUEST)
        assert read_pdu(line)[:1] == b"\6", "the release was not answered"


def store(
    port: int, instances: dict[str, bytes], *, address: str = "127.0.0.1", calling: str = "SCANNER"
) -> dict[str, int]:
    """The statuses of C-STOREs on one association; those that got no answer are absent."""
    answers: dict[str, int] = {}
    with suppress(OSError), connect(port, address) as line:
        line.sendall(request(calling))
        if read_pdu(line)[:1] != b"\2":
            return answers
        for number, (uid, data) in enumerate(instances.items(), start=1):
            line.sendall(store_message(uid, data, number=number % 0xFFFF))
            status = status_of(read_pdu(line))
            if status is None:
                return answers
            answers[uid] = status
        line.sendall(RELEASE_REQUEST)
        read_pdu(line)
    return answers


@contextmanager
def ledger_of(folder: Path, **changes: object) -> Iterator[Ledger]:
    """The ledger of a node process in `folder`."""
    opened = Ledger.open(NodeSite.model_validate(json.loads(site_json(folder, **changes))).ledger)
    try:
        yield opened
    finally:
        opened.close()


def recorded(ledger: Ledger) -> dict[str, str]:
    """SOP Instance UID → digest of all that the ledger answers for."""
    return {
        str(instance.sop_instance): str(instance.digest)
        for study in ledger.studies(limit=100_000)
        for series in ledger.series_of(study.id)
        for instance in series.instances
    }


def stumbles(node: NodeProcess) -> list[str]:
    """What the node itself did not foresee, as its log says: a defect of ours, whoever provoked it."""
    lines = [line.rstrip() for line in list(node.log)]
    found = [line[:400] for line in lines if "unforeseen" in line]
    for number, line in enumerate(lines):
        if "Traceback" in line:
            rest = [each.strip() for each in lines[number + 1 : number + 60]]
            # The last place and the error, which is the first line that is not indented.
            end = next((n for n, each in enumerate(lines[number + 1 :]) if not each.startswith(" ")), 0)
            found.append(" | ".join(rest[max(0, end - 2) : end + 1])[:400])
    return found


def calm_again(pid: int, baseline: Vitals, *, within_s: float) -> tuple[float, Vitals]:
    """Seconds until threads and descriptors are back where they were, and what is held then.

    Infinity where that takes longer than `within_s`.
    """
    began = time.monotonic()
    while True:
        now, took_s = vitals(pid), time.monotonic() - began
        if now.threads <= baseline.threads and now.descriptors <= baseline.descriptors:
            return took_s, now
        if took_s > within_s:
            return float("inf"), now
        time.sleep(0.1)


def _exactly(line: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = line.recv(min(65536, length - len(data)))
        if not part:
            raise EOFError
        data += part
    return bytes(data)

"""Peers that take their time: hundreds of connections that stop, trickle or listen to nothing.

One thread holds them all, and opens another whenever the node ends one, as a machine does that tries again.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress

from dicom_node.upper_layer import RELEASE_REQUEST, data_header
from tests.dicom_node.datasets import ROOT, ct_slice, encoded
from tests.hostile.pdus import PREFIXES, Moment
from tests.hostile.victim import CT_CONTEXT, echo_message, request, store_message

#: What is sent next, and the seconds until the step after it.
Steps = Generator[tuple[bytes, float], None, None]

_REQUEST = request("SLOW")
_SLICE = encoded(ct_slice(1, series=f"{ROOT}.67", rows=64))


def says_nothing(peer: "SlowPeer") -> Steps:
    yield b"", 0


def three_bytes(peer: "SlowPeer") -> Steps:
    yield _REQUEST[:3], 0


def half_a_request(peer: "SlowPeer") -> Steps:
    yield _REQUEST[: len(_REQUEST) // 2], 0


def dribbles_a_request(peer: "SlowPeer") -> Steps:
    for byte in _REQUEST:
        yield bytes([byte]), 1.0


def associated(peer: "SlowPeer") -> Steps:
    yield _REQUEST, 0.05
    while not peer.heard:
        yield b"", 0.05


def idle(peer: "SlowPeer") -> Steps:
    yield from associated(peer)


def three_bytes_of_data(peer: "SlowPeer") -> Steps:
    yield from associated(peer)
    yield b"\x04\x00\x00", 0


def part_of_a_pdu(peer: "SlowPeer") -> Steps:
    yield from associated(peer)
    yield PREFIXES[Moment.VALUE], 0


def stops_between_two_pdus(peer: "SlowPeer") -> Steps:
    yield from associated(peer)
    yield PREFIXES[Moment.DATA_SET], 0


def dribbles_an_instance(peer: "SlowPeer") -> Steps:
    yield from associated(peer)
    for byte in store_message(f"{ROOT}.67.1", _SLICE):
        yield bytes([byte]), 1.0


def small_pdus_for_ever(peer: "SlowPeer") -> Steps:
    """Each is whole and in time: only the instance never ends."""
    yield from associated(peer)
    yield PREFIXES[Moment.DATA_SET], 0.5
    while True:
        yield data_header(CT_CONTEXT, 1, command=False, last=False) + b"\0", 0.5


def never_reads(peer: "SlowPeer") -> Steps:
    yield from associated(peer)
    peer.deaf = True
    while True:
        yield echo_message() * 20, 0.2


def half_a_release(peer: "SlowPeer") -> Steps:
    yield from associated(peer)
    yield RELEASE_REQUEST[:7], 0


def greedy_length(peer: "SlowPeer") -> Steps:
    yield struct.pack(">BxI", 1, 0xFFFFFFFF) + bytes(1000), 0.2
    while True:
        yield bytes(20_000), 0.2


BEHAVIOURS: tuple[Callable[["SlowPeer"], Steps], ...] = (
    says_nothing,
    three_bytes,
    half_a_request,
    dribbles_a_request,
    idle,
    three_bytes_of_data,
    part_of_a_pdu,
    stops_between_two_pdus,
    dribbles_an_instance,
    small_pdus_for_ever,
    never_reads,
    half_a_release,
    greedy_length,
)


class SlowPeer:
    """One of them, one connection after the other."""

    def __init__(self, port: int, address: str, behave: Callable[["SlowPeer"], Steps]) -> None:
        self._port, self._address, self._behave = port, address, behave
        self._line: socket.socket | None = None
        self._steps: Steps | None = None
        self._next_at = 0.0
        self._open_again_at = 0.0
        self.deaf = False
        self.heard = b""  #: the beginning of what the node said
        self.opened = 0

    @property
    def is_open(self) -> bool:
        return self._line is not None

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._line is None:
            if now >= self._open_again_at:
                self._open(now)
            return
        try:
            if not self.deaf:
                self._listen(self._line)
            if self._steps is not None and now >= self._next_at:
                data, pause_s = next(self._steps)
                self._next_at = now + pause_s
                if data:
                    self._line.send(data)  # What does not fit is lost: nobody here wants to be understood.
        except BlockingIOError:
            pass
        except StopIteration:
            self._steps = None  # and silent from now on
        except OSError:
            self.close()
            self._open_again_at = now + 0.5

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _open(self, now: float) -> None:
        line = socket.socket()
        try:
            line.settimeout(0.5)
            line.bind((self._address, 0))
            if self._behave is never_reads:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect(("127.0.0.1", self._port))
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.setblocking(False)
        except OSError:
            line.close()
            self._open_again_at = now + 0.5
            return
        self._line, self.heard, self.deaf, self._next_at = line, b"", False, now
        self._steps = self._behave(self)
        self.opened += 1

    def _listen(self, line: socket.socket) -> None:
        with suppress(BlockingIOError):
            data = line.recv(65_536)
            if not data:
                raise ConnectionResetError
            self.heard = (self.heard + data)[:64]


class SlowPeers:
    """Many of them at once, from as many addresses of loopback as are named."""

    def __init__(self, port: int, count: int, addresses: list[str]) -> None:
        self._peers = [
            SlowPeer(port, addresses[index % len(addresses)], BEHAVIOURS[index % len(BEHAVIOURS)])
            for index in range(count)
        ]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slow-peers", daemon=True)

    def __enter__(self) -> "SlowPeers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        for peer in self._peers:
            peer.close()

    def fall_silent(self) -> None:
        """Open none, send nothing, close none: as if the cable had been pulled."""
        self._over.set()
        self._thread.join(10)

    def held(self) -> int:
        """Connections that are open on our side now."""
        return sum(peer.is_open for peer in self._peers)

    def opened(self) -> int:
        """Connections so far."""
        return sum(peer.opened for peer in self._peers)

    def _run(self) -> None:
        while not self._over.wait(0.02):
            now = time.monotonic()
            for peer in self._peers:
                peer.tick(now)

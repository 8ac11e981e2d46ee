"""The node's back door: other processes of this product hand in instances that came some other way.

STOW-RS ends in another process, so that slow web clients and long uploads cost the receiving node nothing.
But there is one way into spool and ledger, and it is the node's: `Receiver.begin`, with its locks, its
group commit and its knowledge of who is still sending. So that process opens the socket `node.sock` in the
spool, which only our own user can reach, and for each instance sends one line of JSON with an open file.

One connection is one sender of the closing rules, like an association.
"""

import json
import mmap
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from dicom_node.receive import Offer, Receiver
from dicom_node.senders import Senders
from dicom_node.status import StoreStatus
from ledger.errors import SiteError
from ledger.identifiers import AETitle, Uid

log = structlog.get_logger()

SOCKET = "node.sock"
_CONNECTIONS_MAXIMUM = 16
_LINE_MAXIMUM = 4096
_PIECE_BYTES = 1 << 20
_ANSWER = struct.Struct("<H")
_ANSWER_S = 120.0  # One instance of gigabytes has to be synced in this time.


class NodeAway(SiteError):
    """The node does not take instances in at the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandIn:
    """One instance of Part 10: what its File Meta Information says, and where its data set begins."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    offset: int
    calling: str
    called: str
    address: str


class BackDoor:
    """Takes what is handed in, between `open` and `close`."""

    def __init__(self, receiver: Receiver, senders: Senders, folder: Path) -> None:
        self._receiver, self._senders, self._folder = receiver, senders, folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        """Begin to listen. The caller holds the spool."""
        with _short(self._folder) as path:
            # Whoever holds the spool's lock is the only node; a socket that lies here belonged to a dead one.
            Path(path).unlink(missing_ok=True)
            self._socket.bind(path)
            Path(path).chmod(0o600)
        self._socket.listen(_CONNECTIONS_MAXIMUM)
        threading.Thread(target=self._accept, name="back-door", daemon=True).start()

    def close(self) -> None:
        """Take nothing more in. What is being filed gets its answer, if it still can."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            (self._folder / SOCKET).unlink()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                full = len(self._connections) >= _CONNECTIONS_MAXIMUM
                if not full:
                    self._connections.add(connection)
            if full:
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="hand-in", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._senders.opened(connection)
        try:
            with closing(connection):
                while (asked := _receive(connection)) is not None:
                    line, descriptor = asked
                    try:
                        status = self._take(connection, json.loads(line), descriptor)
                    finally:
                        os.close(descriptor)
                    connection.sendall(_ANSWER.pack(status))
        except OSError:
            pass  # Whoever handed in has gone; what it was not told, it will hand in again.
        except Exception as error:  # The outermost frame of this thread.
            log.error("hand_in.failed", because=type(error).__name__, exc_info=True)
        finally:
            self._senders.closed(connection)
            with self._lock:
                self._connections.discard(connection)

    def _take(self, connection: socket.socket, told: dict[str, Any], descriptor: int) -> StoreStatus:
        given = HandIn(**told)
        # Not closed by hand: it is unmapped with the last view of it, wherever that is.
        view = memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))
        reception = self._receiver.begin(
            Offer(
                sop_class=given.sop_class,
                sop_instance=given.sop_instance,
                abstract_syntax=given.sop_class,
                transfer_syntax=Uid.parse(given.transfer_syntax),
                calling=AETitle.parse(given.calling),
                called=AETitle.parse(given.called),
                address=given.address,
            )
        )
        try:
            for start in range(given.offset, len(view), _PIECE_BYTES):
                reception.append([view[start : start + _PIECE_BYTES]])
            status, study_id = reception.finish()
        finally:
            reception.drop()
        if study_id is not None:
            self._senders.sent(connection, study_id)
        return status


class Handing:
    """The other end: one connection to the node of a spool. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        """Raise `NodeAway` where no node listens."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_ANSWER_S)
        try:
            with _short(folder) as path:
                self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise NodeAway("the node is not running: nothing can be stored at the moment") from error

    def hand_in(self, given: HandIn, descriptor: int) -> StoreStatus:
        """The node's answer for the file behind `descriptor`. Raises `NodeAway` where none comes."""
        line = json.dumps(asdict(given)).encode() + b"\n"
        assert len(line) <= _LINE_MAXIMUM
        try:
            socket.send_fds(self._socket, [line], [descriptor])
            answer = self._socket.recv(_ANSWER.size, socket.MSG_WAITALL)
            return StoreStatus(_ANSWER.unpack(answer)[0])
        except (OSError, struct.error) as error:
            raise NodeAway("the node went away before it answered") from error

    def close(self) -> None:
        """End the connection: the node may now judge the studies complete."""
        self._socket.close()


def _receive(connection: socket.socket) -> tuple[bytes, int] | None:
    """One line and the file that came with it; None at the end."""
    line, descriptors, _, _ = socket.recv_fds(connection, _LINE_MAXIMUM, 1)
    try:
        while line and not line.endswith(b"\n"):
            more = connection.recv(_LINE_MAXIMUM)
            if not more or len(line) + len(more) > _LINE_MAXIMUM:
                line = b""
            line += more if line else b""
    finally:
        if descriptors and not line:
            os.close(descriptors[0])
    return (line, descriptors[0]) if line and descriptors else None


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The socket's address. One may have about 100 characters, and a spool may lie deeper than that."""
    plain = folder / SOCKET
    if len(os.fsencode(plain)) < 100:
        yield str(plain)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)

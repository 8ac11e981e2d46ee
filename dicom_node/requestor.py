"""An association that we ask for, under one deadline that covers everything from connect to release.

Why not pynetdicom, which serves the other direction? Its timeouts do not cover a peer that stops in the
middle of a PDU, in any phase, so a stalled archive would hold a worker for ever (pynetdicom #569, #1004;
measured with 3.0.4). Here there is one socket, no thread, and every wait ends at the deadline. A result is
also sent from its file as it lies there, never decoded and encoded again.
"""

import select
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import BinaryIO, TypeVar

from dicom_node.blocks import blocks
from dicom_node.peers import PeerSettings
from dicom_node.reach import Deadline, PeerSilent, reach, words
from dicom_node.upper_layer import (
    ABORT,
    RELEASE_REPLY,
    RELEASE_REQUEST,
    Accepted,
    AnsweredContext,
    ContextResult,
    PDUType,
    PeerConfused,
    ProposedContext,
    Value,
    associate_request,
    command_set,
    fragments_of,
    parse_associate_accept,
    parse_elements,
)
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid

T = TypeVar("T")

_MAXIMUM_LENGTH = 65_536  # of a P-DATA-TF that we take; answers are a few hundred bytes
_ASSOCIATE_BYTES_MAX = 65_536  # 128 contexts answered with long UIDs are 12 KiB
_ANSWER_BYTES_MAX = 1 << 20  # of one command with its identifier
_FRAGMENT_BYTES_MAX = 131_072  # where the peer sets no limit: a compromise of memory and system calls
_CANCEL_S = 0.5  # A peer that was asked to stop may say so.
_RELEASE_S = 2.0  # A peer that has answered everything but does not release is not waited for.

#: (source, reason) of an A-ASSOCIATE-RJ → words (PS3.8 §9.3.4)
REJECTIONS: dict[tuple[int, int], str] = {
    (1, 1): "it gave no reason",
    (1, 2): "it does not know the DICOM application context",
    (1, 3): "it does not know our AE title {calling}: it has to be registered there",
    (1, 7): "it does not answer to the AE title {called}: compare it with the archive's own settings",
    (2, 1): "it gave no reason",
    (2, 2): "it speaks another version of the DICOM upper layer",
    (3, 1): "it is busy",
    (3, 2): "it has too many associations",
}


class PeerGone(PeerError):
    """The connection ended in the middle of an association."""


class AssociationRejected(PeerError):
    """The peer answered A-ASSOCIATE-RJ."""


class AssociationAborted(PeerError):
    """The peer answered A-ABORT."""


class RequestedAssociation:
    """An established association. Its methods raise a `PeerError` of this module, and nothing else."""

    def __init__(
        self, wire: "_Wire", accepted: Accepted, contexts: Sequence[ProposedContext], deadline: Deadline
    ) -> None:
        """Use `associate`."""
        self._wire = wire
        self._deadline = deadline
        self._accepted = accepted
        self._contexts = contexts
        self._fragment = (accepted.maximum_length or _FRAGMENT_BYTES_MAX) - 6
        self._fragment = min(self._fragment, _FRAGMENT_BYTES_MAX)

    def answered(self, context: ProposedContext) -> tuple[int, AnsweredContext]:
        """The identifier of a context that was proposed, and what the peer said of it."""
        context_id = 2 * list(self._contexts).index(context) + 1
        # A context without an answer counts as refused: "each proposed" has to be answered (PS3.8 §9.3.3.2).
        answer = self._accepted.contexts.get(context_id, AnsweredContext(ContextResult.NO_REASON, None))
        if answer.transfer_syntax is not None and answer.transfer_syntax not in context.transfer_syntaxes:
            raise PeerConfused(f"it accepted {answer.transfer_syntax}, which was not proposed")
        return context_id, answer

    def may_be_scp(self, context: ProposedContext) -> bool:
        """Whether the peer did not refuse us the role of SCP: many say nothing of roles and take it."""
        return str(context.abstract_syntax) not in self._accepted.not_as_scp

    def send(self, context_id: int, command: bytes, data_set: bytes = b"") -> None:
        """One DIMSE message: a command set and, unless it is empty, a data set (PS3.8 §E.1)."""
        self.send_from(context_id, command, BytesIO(data_set), len(data_set))

    def send_from(self, context_id: int, command: bytes, data: BinaryIO, size: int) -> None:
        """The same with a data set of `size` bytes that are read as they are sent.

        Raises `OSError` where they cannot be read.
        """
        gone = 0
        for block in blocks(context_id, command, data, size, fragment_bytes=self._fragment):
            gone = min(size, gone + len(block))
            self._wire.send(block, doing=f"sending it, {gone} of {size} bytes are gone")

    def receive(self, doing: str) -> tuple[dict[tuple[int, int], bytes], bytes]:
        """The next DIMSE message: its command elements and the bytes of its data set, if it has one."""
        command = bytearray()
        data = bytearray()
        elements: dict[tuple[int, int], bytes] | None = None
        while True:
            kind, body = self._wire.receive(_MAXIMUM_LENGTH, doing)
            if kind is not PDUType.DATA:
                raise PeerConfused(f"it sent a {kind.name} where the answer was due")
            for _, of_command, last, fragment in fragments_of(body):
                (command if of_command else data).extend(fragment)
                if len(command) + len(data) > _ANSWER_BYTES_MAX:
                    raise PeerConfused(f"its answer is longer than {_ANSWER_BYTES_MAX} bytes")
                if of_command and last:
                    elements = parse_elements(bytes(command))
                    # Command Data Set Type 0101: no data set follows (PS3.7 §E.1).
                    if elements.get((0x0000, 0x0800)) == b"\x01\x01":
                        return elements, b""
                elif last and elements is not None:
                    return elements, bytes(data)

    def speaks(self, within_s: float) -> bool:
        """Whether the peer says something, or ends the connection, within that time."""
        return self._wire.readable(within_s)

    @property
    def accepted(self) -> dict[int, tuple[ProposedContext, Uid]]:
        """The contexts that the peer accepted: identifier → what was proposed, and its transfer syntax."""
        found = {}
        for context in self._contexts:
            context_id, answer = self.answered(context)
            if answer.result is ContextResult.ACCEPTED and answer.transfer_syntax is not None:
                found[context_id] = (context, answer.transfer_syntax)
        return found

    @property
    def ends(self) -> tuple[str, str]:
        """The network addresses of the two ends: ours, as the peer sees it, and the peer's."""
        return self._wire.ends

    @property
    def maximum_length(self) -> int:
        """Of the P-DATA-TF that the peer takes, in bytes; 0 for any."""
        return self._accepted.maximum_length

    def send_raw(self, data: bytes) -> None:
        """Bytes of PDUs that were made elsewhere."""
        self._wire.send(data)

    def receive_by(self, take: Callable[[socket.socket, bytearray], T], doing: str) -> T:
        """Have `take` read once from the socket, and say what it found.

        It is given the socket, not blocking, and bytes that were read before; what it leaves of those is read
        by `receive`. Raises `PeerSilent` where the deadline has passed.
        """
        self._deadline.left(doing)
        return self._wire.take(take)

    def cancel(self, context_id: int, message_id: int) -> None:
        """Ask the peer to stop what `message_id` asked for (PS3.7 §9.3.2.3), also after the deadline.

        Its last answer is waited for a moment, so that it hears us; what it says does not matter any more.
        """
        request: dict[int, Value] = {0x0100: 0x0FFF, 0x0120: message_id, 0x0800: 0x0101}
        with suppress(PeerError):
            self._wire.deadline = Deadline(_RELEASE_S)
            self.send(context_id, command_set(request))
            self._wire.readable(_CANCEL_S)

    def release(self) -> None:
        """End it in order, or not: what was answered before stands either way."""
        with suppress(PeerError):
            self._wire.deadline = Deadline(min(_RELEASE_S, self._deadline.left("releasing it")))
            self._wire.send(RELEASE_REQUEST)
            while True:
                kind, _ = self._wire.receive(_MAXIMUM_LENGTH, "releasing the association")
                if kind is PDUType.RELEASE_REPLY:
                    return


@contextmanager
def associate(
    peer: PeerSettings, *, calling: AETitle, contexts: Sequence[ProposedContext], deadline: Deadline
) -> Iterator[RequestedAssociation]:
    """An association with `peer`: released at the end, aborted where the block fails, closed in any case."""
    wire = _Wire(reach(peer, deadline), peer, calling, deadline)
    try:
        wire.send(
            associate_request(
                calling=calling,
                called=AETitle.parse(peer.ae_title),
                contexts=contexts,
                maximum_length=_MAXIMUM_LENGTH,
            )
        )
        association = RequestedAssociation(wire, wire.receive_acceptance(), contexts, deadline)
        yield association
        association.release()
    except BaseException:
        wire.abort()
        raise
    finally:
        wire.close()


class _Wire:
    """A connected socket that gives whole PDUs, and up at the deadline."""

    def __init__(
        self, connection: socket.socket, peer: PeerSettings, calling: AETitle, deadline: Deadline
    ) -> None:
        self._socket = connection
        self._peer = peer
        self._calling = calling
        self._ahead = bytearray()  # read, and not dealt with
        self.deadline = deadline

    @property
    def ends(self) -> tuple[str, str]:
        try:
            return str(self._socket.getsockname()[0]), str(self._socket.getpeername()[0])
        except OSError as error:
            raise PeerGone(f"it closed the connection: {words(error)}") from error

    def take(self, take: Callable[[socket.socket, bytearray], T]) -> T:
        return take(self._socket, self._ahead)

    def send(self, data: bytes | memoryview, doing: str = "sending to it") -> None:
        try:
            if isinstance(self._socket, ssl.SSLSocket):
                self._send_secure(self._socket, data, doing)
            else:
                self._socket.settimeout(self.deadline.left(doing))
                self._socket.sendall(data)
        except TimeoutError:
            self.deadline.left(doing)
            raise PeerSilent(f"it took nothing more while we were {doing}") from None
        except OSError as error:
            # It may have said why before it closed: an abort that lies in the buffer says more than EPIPE.
            self._hear_last_words()
            raise PeerGone(f"it closed the connection while we were {doing}: {words(error)}") from error

    def _send_secure(self, connection: ssl.SSLSocket, data: bytes | memoryview, doing: str) -> None:
        """`sendall` of TLS would grant the time that is left to each record anew."""
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                connection.settimeout(self.deadline.left(doing))
                sent += connection.send(view[sent:])

    def receive(self, limit: int, doing: str) -> tuple[PDUType, bytes]:
        """One PDU. What ends an association is raised, not given back."""
        header = self._exactly(6, doing)
        kind_byte, length = struct.unpack(">BxI", header)
        try:
            kind = PDUType(kind_byte)
        except ValueError:
            raise PeerConfused(f"it sent 0x{kind_byte:02x}, which begins no DICOM PDU") from None
        if length > limit:
            raise PeerConfused(f"it sent a {kind.name} of {length} bytes; at most {limit} are taken")
        body = self._exactly(length, doing)
        match kind:
            case PDUType.ABORT:
                by = "its user" if len(body) > 2 and body[2] == 0 else "its provider"
                raise AssociationAborted(f"it aborted the association ({by}) while we were {doing}")
            case PDUType.ASSOCIATE_REJECT:
                raise AssociationRejected(self._rejection(body))
            case PDUType.RELEASE_REQUEST:
                with suppress(PeerError):
                    self.send(RELEASE_REPLY)
                raise PeerGone(f"it released the association while we were {doing}")
            case _:
                return kind, body

    def readable(self, within_s: float) -> bool:
        # What TLS has decrypted and not given out is seen by no poll.
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(max(0.0, within_s) * 1000))

    def receive_acceptance(self) -> Accepted:
        kind, body = self.receive(_ASSOCIATE_BYTES_MAX, "asking for an association")
        if kind is not PDUType.ASSOCIATE_ACCEPT:
            raise PeerConfused(f"it answered a request for an association with {kind.name}")
        return parse_associate_accept(body)

    def abort(self) -> None:
        """Say goodbye where that costs nothing; the peer may be what is broken."""
        with suppress(OSError):
            self._socket.settimeout(0.2)
            self._socket.send(ABORT)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _exactly(self, length: int, doing: str) -> bytes:
        received = self._ahead[:length]
        del self._ahead[:length]
        while len(received) < length:
            try:
                self._socket.settimeout(self.deadline.left(doing))
                # The peer's next segment may wait for our acknowledgement (Nagle); the kernel forgets this.
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                part = self._socket.recv(length - len(received))
            except TimeoutError:
                self.deadline.left(doing)
                raise PeerSilent(f"it said nothing more while we were {doing}") from None
            except OSError as error:
                raise PeerGone(f"the connection broke while we were {doing}: {words(error)}") from error
            if not part:
                raise PeerGone(f"it closed the connection while we were {doing}")
            received += part
        return bytes(received)

    def _hear_last_words(self) -> None:
        """Raise what the peer said before it closed; nothing where it said nothing."""
        with suppress(PeerGone, PeerSilent, PeerConfused):
            self.deadline = Deadline(0.2)
            self.receive(_MAXIMUM_LENGTH, "sending to it")

    def _rejection(self, body: bytes) -> str:
        result, source, reason = (*body, 0, 0, 0, 0)[1:4]
        words = REJECTIONS.get((source, reason), f"source {source}, reason {reason}").format(
            calling=self._calling, called=self._peer.ae_title
        )
        how = "for now" if result == 2 else "permanently"
        return f"it rejected the association {how} ({result}/{source}/{reason}): {words}"

"""The way of an instance from the socket to the spool.

pynetdicom makes an object of every PDU, gathers a data set in memory, and hands it from thread to thread.
While an association is established, this takes its place at the socket: P-DATA-TF is cut in place, data sets
go to the spool as they come, and a C-STORE is answered by the thread that read it. Everything else goes back
to pynetdicom: other PDUs, so that release and abort are its business, and other messages, such as C-ECHO.

A peer has one request outstanding at a time (PS3.7 §D.3.3.3), so an association never has more of an instance
in memory than the buffer; a peer that sends on without waiting for answers fills its own socket.
"""

import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from socket import IPPROTO_TCP, TCP_QUICKACK, socket

from pynetdicom.association import Association

from dicom_node.contexts import storage_sop_classes
from dicom_node.fragments import Fragments, Piece
from dicom_node.pace import Pace
from dicom_node.peers import PeerSettings, calling_as
from dicom_node.receive import Offer, Receiver, Reception
from dicom_node.senders import Senders
from dicom_node.settings import NodeSettings
from dicom_node.store_messages import (
    StoreRequest,
    announces_data_set,
    parse_store_request,
    store_response,
)
from dicom_node.upper_layer import PeerConfused
from ledger.identifiers import AETitle, StudyId, Uid

_BUFFER_BYTES = 256 << 10
_COMMAND_BYTES_MAXIMUM = 64 << 10
_PDU_ALLOWANCE = 12  # Some senders count the PDU header into the maximum length.
_EARLY_MAXIMUM = 8  # requests in a row that did not wait for the answer to the one before
_STORAGE = frozenset(storage_sop_classes())


class Taken(Enum):
    """What there was to read."""

    NOTHING = auto()
    SOME = auto()
    OTHER = auto()  #: A PDU that is no P-DATA-TF comes next: it is in `left`.
    CLOSED = auto()  #: The connection is gone.


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whom an association is with, and what was agreed."""

    calling: AETitle
    called: AETitle
    address: str
    contexts: dict[int, tuple[str, Uid]]  #: identifier → abstract syntax and transfer syntax
    maximum_length: int  #: of the PDUs that it takes, 0 for any
    instance_bytes_max: int  #: that it may send as one instance


class Stream:
    """What an established association sends. Used by the thread that reads its socket, and by no other."""

    def __init__(
        self,
        peer: Peer,
        *,
        receiver: Receiver,
        limits: NodeSettings,
        forward: Callable[[Piece], bool],
        answer: Callable[[bytes], None],
        stored: Callable[[StudyId], None],
    ) -> None:
        """`forward` gives a piece of any other message to pynetdicom, and says whether to go on; `answer`
        sends bytes; `stored` is told the study of every instance that was promised.
        """
        self._peer, self._receiver, self._limits = peer, receiver, limits
        self._forward, self._answer, self._stored = forward, answer, stored
        self._fragments = Fragments(limits.max_pdu_bytes + _PDU_ALLOWANCE)
        self._buffer = bytearray(_BUFFER_BYTES)
        self._held = 0  # bytes of the buffer that could not be dealt with yet
        self._command = bytearray()
        self._context_id = 0  # of the message that is coming in
        self._inside = False  # a message has begun and not ended
        self._forwarding = False  # a data set that is not of a C-STORE
        self._request: StoreRequest | None = None
        self._reception: Reception | None = None
        self._gathered: list[memoryview] = []
        self._early = 0
        self._pace = Pace(limits.throughput_min_bytes_s, limits.throughput_s)
        self._pdus = 0
        self._heard_at = self._pdu_at = self._message_at = time.monotonic()
        self.answering = False  #: The peer waits for us, and not we for it.

    def take(self, connection: socket, left: bytearray) -> Taken:
        """Read once, and deal with it. `left` are bytes that were read before, which come first.

        Raises `PeerConfused` where the association has to be aborted.
        """
        view = memoryview(self._buffer)
        if left:
            size = min(len(left), len(view) - self._held)
            view[self._held : self._held + size] = left[:size]
            del left[:size]
        else:
            try:
                if connection.gettimeout() != 0.0:
                    connection.settimeout(0.0)
                size = connection.recv_into(view[self._held :])
            except (BlockingIOError, ssl.SSLWantReadError):
                self._check_patience()
                return Taken.NOTHING
            except OSError:
                size = 0
            if not size:
                return Taken.CLOSED
            # The peer's next segment may wait for our acknowledgement (Nagle); the kernel forgets this.
            connection.setsockopt(IPPROTO_TCP, TCP_QUICKACK, 1)
        self._heard_at = time.monotonic()
        self._pace.came(size)
        end = self._held + size
        for piece in self._fragments.cut(view[:end]):
            if not self._take(piece, connection):
                return Taken.SOME
        self._flush()
        if self._fragments.pdus != self._pdus:
            self._pdus, self._pdu_at = self._fragments.pdus, self._heard_at
        used = self._fragments.used
        self._held = end - used
        if self._fragments.other:
            left[:0] = view[used:end]
            self._held = 0
            return Taken.OTHER
        self._buffer[: self._held] = self._buffer[used:end]
        self._check_patience()
        return Taken.SOME

    def drop(self) -> None:
        """The association is over: leave nothing behind of what was not finished, or not in the ledger."""
        self._receiver.books.settle()
        self._gathered.clear()
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.drop()

    def _take(self, piece: Piece, connection: socket) -> bool:
        """Deal with one piece; whether to go on."""
        if self._inside:
            if piece.context_id != self._context_id:
                raise PeerConfused("a message changes its presentation context in the middle")
        else:
            self._inside = True
            self._context_id, self._message_at = piece.context_id, self._heard_at
            self._pace.begin(self._heard_at)
        if self._forwarding:
            self._forwarding = self._inside = not piece.ends
            return self._forward(piece)
        if piece.is_command:
            return self._take_command(piece)
        if self._reception is None:
            raise PeerConfused("a data set comes without a command")
        self._gathered.append(piece.data)
        if piece.ends:
            self._finish(connection)
        return True

    def _take_command(self, piece: Piece) -> bool:
        if self._reception is not None:
            raise PeerConfused("a command comes in the middle of a data set")
        self._command += piece.data
        if len(self._command) > _COMMAND_BYTES_MAXIMUM:
            raise PeerConfused(f"a command set has more than {_COMMAND_BYTES_MAXIMUM} bytes")
        if not piece.ends:
            return True
        command = bytes(self._command)
        self._command.clear()
        abstract_syntax, transfer_syntax = self._peer.contexts.get(self._context_id, ("", None))
        request = parse_store_request(command)
        if request is None or transfer_syntax is None or abstract_syntax not in _STORAGE:
            began = time.monotonic()
            self._receiver.books.settle()  # Whatever it asks, it may ask about what it sent.
            self._pace.was_ours(time.monotonic() - began)
            self._forwarding = self._inside = announces_data_set(command)
            return self._forward(Piece(self._context_id, True, True, memoryview(command)))
        self._request = request
        self._reception = self._receiver.begin(
            Offer(
                sop_class=_text(request.sop_class),
                sop_instance=_text(request.sop_instance),
                abstract_syntax=abstract_syntax,
                transfer_syntax=transfer_syntax,
                calling=self._peer.calling,
                called=self._peer.called,
                address=self._peer.address,
            ),
            self._stored,
        )
        return True

    def _flush(self) -> None:
        """Give the spool what has gathered, for the buffer will be used again."""
        if self._reception is None or not self._gathered:
            return
        began = time.monotonic()
        self._reception.append(self._gathered)
        self._pace.was_ours(time.monotonic() - began)
        self._gathered = []
        if self._reception.size > self._peer.instance_bytes_max:
            raise PeerConfused(
                f"an instance has more than {self._peer.instance_bytes_max} bytes (instance_bytes_max)"
            )

    def _finish(self, connection: socket) -> None:
        self._flush()
        reception, request = self._reception, self._request
        assert reception is not None
        assert request is not None
        self.answering = True
        try:
            status, study_id = reception.finish()
            self._reception, self._inside = None, False
            if study_id is not None:
                self._stored(study_id)
            self._notice_early()
            self._send(
                connection,
                store_response(self._context_id, request, status, maximum_length=self._peer.maximum_length),
            )
        finally:
            self.answering = False
        self._heard_at = self._pdu_at = time.monotonic()  # The time that passed was ours.

    def _notice_early(self) -> None:
        """Count the requests that come before the answer to the one before."""
        self._early = self._early + 1 if self._fragments.more else 0
        if self._early > _EARLY_MAXIMUM:
            raise PeerConfused("requests are sent without waiting for the answers to those before")

    def _send(self, connection: socket, answer: bytes) -> None:
        sent = 0
        with suppress(BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = connection.send(answer)  # It is small and waited for: there is room for it.
        if sent < len(answer):
            self._answer(answer[sent:])

    def _check_patience(self) -> None:
        """Raise `PeerConfused` where the peer is silent or slow beyond the limits."""
        now, limits = time.monotonic(), self._limits
        if self._fragments.inside or self._held:
            if now - self._heard_at > limits.pdu_silence_s:
                raise PeerConfused(f"silent for {limits.pdu_silence_s:g} s in the middle of a PDU")
            if now - self._pdu_at > limits.pdu_s:
                raise PeerConfused(f"one PDU takes longer than {limits.pdu_s:g} s")
        if not self._inside:
            return
        what = "message" if self._reception is None else "instance"
        if now - self._message_at > limits.instance_s:
            raise PeerConfused(f"one {what} takes longer than {limits.instance_s:g} s")
        if self._pace.too_slow(now):
            raise PeerConfused(
                f"one {what} comes in at less than {limits.throughput_min_bytes_s} bytes per second for "
                f"{limits.throughput_s:g} s"
            )


def opener(
    receiver: Receiver, senders: Senders, limits: NodeSettings, peers: Iterable[PeerSettings]
) -> Callable[[Association, Callable[[Piece], bool]], Stream]:
    """What makes the stream of an association that has just been established."""

    def open_stream(association: Association, forward: Callable[[Piece], bool]) -> Stream:
        asked, connection = association.requestor.primitive, association.dul.socket
        assert asked is not None
        assert connection is not None
        calling, address = AETitle.parse(asked.calling_ae_title or ""), str(association.requestor.address)
        known = calling_as(peers, str(calling), address)
        return Stream(
            Peer(
                calling=calling,
                called=AETitle.parse(asked.called_ae_title or ""),
                address=address,
                contexts={
                    identifier: (str(context.abstract_syntax), Uid.parse(str(context.transfer_syntax[0])))
                    for identifier, context in association._accepted_cx.items()
                },
                maximum_length=association.requestor.maximum_length or 0,
                instance_bytes_max=(known and known.instance_bytes_max) or limits.instance_bytes_max,
            ),
            receiver=receiver,
            limits=limits,
            forward=forward,
            answer=connection.send,
            stored=lambda study_id: senders.sent(association, study_id),
        )

    return open_stream


def _text(uid: bytes) -> str:
    # Whatever the bytes are, they become a text: whether that is a UID is judged elsewhere.
    return uid.decode("latin-1").rstrip("\0 ")

"""pynetdicom's acceptor, without the places where a silent or lying peer could hold it for ever.

pynetdicom 3.0.4 reads a PDU with a blocking `recv`, believes any length, queues whatever is pipelined, and
polls every millisecond in two threads per association. The subclasses here change just that: every wait ends,
every length and every queue has a limit, and an idle association costs nothing to speak of. What a limit
answers is A-ABORT or a closed connection; nothing that was acknowledged is touched by it.
"""

import os
import queue
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from copy import deepcopy
from typing import Any, NamedTuple

import structlog
from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_node.fragments import Piece
from dicom_node.settings import NodeSettings
from dicom_node.stream import Stream, Taken
from dicom_node.upper_layer import PeerConfused

_ASSOCIATE_BYTES_MAXIMUM = (
    256 << 10
)  # An A-ASSOCIATE-RQ with 128 contexts of 14 transfer syntaxes has 60 KiB.
_COMMAND_BYTES_MAXIMUM = 64 << 10
# A data set of any message but C-STORE is held in memory: a commitment request for 100 000 instances.
_IDENTIFIER_BYTES_MAXIMUM = 32 << 20
_PDU_ALLOWANCE = 12  # Some senders count the PDU header into the maximum length.
# One request at a time was negotiated (PS3.7 §D.3.3.3); the rest is room for our own wake-up calls.
_OUTSTANDING_MAXIMUM = 8
# What a peer may still send after it was told that the association is aborted.
_DRAIN_BYTES, _DRAIN_BYTES_MAXIMUM = 256 << 10, 16 << 20
_WAKE_S = 0.25  # How late a timer may be noticed.
log = structlog.get_logger()

_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}

#: Makes the stream of an established association; its second argument gives pieces to pynetdicom.
OpenStream = Callable[[Association, Callable[[Piece], bool]], Stream]


class BoundedSocket(AssociationSocket):
    """Reads a PDU within a time and a length, or closes."""

    limits: NodeSettings

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.left = bytearray()  #: read by `Stream`, and not for it
        self._drained = 0

    @property
    def ready(self) -> bool:
        """Whether there is something to read. `poll`, for `select` fails beyond 1023 descriptors."""
        return self.wait(0.0, None)

    def wait(self, timeout_s: float, wake: int | None) -> bool:
        """Whether there is something to read within `timeout_s`; False as soon as `wake` is readable."""
        if self.socket is None or not self._is_connected:
            return False
        if self.left:
            return True
        try:
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            if wake is not None:
                poll.register(wake, select.POLLIN)
            events = dict(poll.poll(timeout_s * 1000))
            return self.socket.fileno() in events
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed (PS3.8 §9.2)
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes` of one PDU; fewer where the peer closed. Raises `OSError` beyond a limit."""
        peer = self.socket
        if peer is None:
            raise OSError("the connection is closed")
        limit = _ASSOCIATE_BYTES_MAXIMUM
        if self.assoc.is_established:
            limit = self.limits.max_pdu_bytes + _PDU_ALLOWANCE
        if nr_bytes > limit:
            self._shutdown_socket()
            raise OSError(f"a PDU says that it has {nr_bytes} bytes; at most {limit} are taken")
        received = bytearray(nr_bytes)
        count, ends = min(nr_bytes, len(self.left)), time.monotonic() + self.limits.pdu_s
        received[:count] = self.left[:count]
        del self.left[:count]
        try:
            with memoryview(received) as view:
                while count < nr_bytes:
                    peer.settimeout(max(0.001, min(self.limits.pdu_silence_s, ends - time.monotonic())))
                    part = peer.recv_into(view[count:])
                    if not part:
                        break
                    count += part
        except OSError:
            self._shutdown_socket()
            raise
        del received[count:]
        return received

    def send(self, bytestream: bytes) -> None:
        """Send all, or count the connection as lost once the peer reads nothing for a while."""
        if self.socket is not None:
            self.socket.settimeout(self.limits.pdu_silence_s)
            super().send(bytestream)

    def drain(self) -> bool:
        """Read and forget what still comes; whether there was something. Raises `OSError` at its end."""
        peer = self.socket
        if peer is None or self._drained > _DRAIN_BYTES_MAXIMUM:
            raise OSError("nothing more is taken")
        self.left.clear()
        peer.settimeout(0.0)
        size = len(peer.recv(_DRAIN_BYTES))
        self._drained += size
        return size > 0


class BoundedUpperLayer(DULServiceProvider):
    """Sleeps until there is something to do."""

    def __init__(self, assoc: Association, open_stream: "OpenStream") -> None:
        super().__init__(assoc)
        self._open_stream = open_stream
        self._stream: Stream | None = None
        self.daemon = True  # A peer must not keep the process alive.
        self._run_loop_delay = 0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_lock = threading.Lock()
        self.to_user_queue = _Telling(self._tell_the_reactor)

    def _tell_the_reactor(self) -> None:
        self.assoc.dimse.msg_queue.put((None, None))

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except InvalidEventError:
            # What PS3.8 Table 9-10 has no row for, such as a C-ECHO behind our own A-ABORT. The association
            # has ended and nothing is owed; pynetdicom would leave the connection to the garbage collector.
            if self.socket is not None:
                self.socket.close()
        finally:
            self._drop()
            # Whoever still waits for a request gets None instead of waiting for the end of ARTIM.
            self.to_user_queue.put(None)  # type: ignore[arg-type]  # pynetdicom hands it on as it is
            with self._wake_lock:
                os.close(self._wake)
                self._wake = -1

    def wake(self) -> None:
        """Have the loop look around now."""
        # A wake-up call that fails is made up for by the next look at the timers.
        with self._wake_lock, suppress(OSError):
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        self.wake()

    def kill_dul(self) -> None:
        super().kill_dul()
        self.wake()

    def stop_dul(self) -> bool:
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join(2 * _WAKE_S)
        return not self.is_alive()

    def idle_timer_expired(self) -> bool:
        # While the peer waits for an answer of ours, it is not the one that is idle.
        answering = self._stream is not None and self._stream.answering
        return not answering and super().idle_timer_expired()

    def _is_transport_event(self) -> bool:
        connection, state = self.socket, self.state_machine.current_state
        if not isinstance(connection, BoundedSocket):
            return super()._is_transport_event()
        if state == "Sta13":  # The connection is about to be closed.
            return self._drain(connection)
        if not self.event_queue.empty():
            return False
        if connection.socket is None or state == "Sta1":
            self._sleep()  # The connection is gone.
        elif state == "Sta6":
            if self._take(connection):
                return True
        elif connection.wait(_WAKE_S, self._wake):
            self._read_pdu_data()
            return True
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        return False

    def _take(self, connection: "BoundedSocket") -> bool:
        """Read what an established association sends; whether there was something."""
        if self._stream is None:
            self._stream = self._open_stream(self.assoc, self._forward)
        something = False
        try:
            # Every turn of the loop that calls us costs a sleep, so we stay here as long as there is no other
            # business.
            while self.event_queue.empty() and self.to_provider_queue.empty() and not self._kill_thread:
                assert connection.socket is not None
                match self._stream.take(connection.socket, connection.left):
                    case Taken.SOME:
                        self._idle_timer.restart()
                        something = True
                    case Taken.NOTHING:
                        if not connection.wait(_WAKE_S, self._wake):
                            break
                    case Taken.OTHER:
                        self._drop()  # Whatever it is, it does not belong into an instance.
                        self._read_pdu_data()
                        return True
                    case Taken.CLOSED:
                        self._drop()
                        self.event_queue.put("Evt17")
        except PeerConfused as error:
            self._drop()
            log.warning("association.aborting", because=str(error), calling=self.assoc.requestor.ae_title)
            self.event_queue.put("Evt19")  # treated as an invalid PDU: A-ABORT (PS3.8 §9.2)
        return something

    def _forward(self, piece: Piece) -> bool:
        """Give a piece of a message to pynetdicom; whether the association goes on."""
        primitive = P_DATA()
        value: Any = [piece.context_id, bytes([piece.is_command | piece.ends << 1]) + bytes(piece.data)]
        primitive.presentation_data_value_list = [value]  # a list: a tuple, as its type says, is refused
        self.assoc.dimse.receive_primitive(primitive)
        return self.event_queue.empty()

    def _drain(self, connection: "BoundedSocket") -> bool:
        try:
            if connection.drain():
                return True
        except OSError:
            pass
        connection.close()
        return True

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.drop()

    def _sleep(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.poll(_WAKE_S * 1000)


class _Telling(queue.Queue):  # type: ignore[type-arg]
    """A queue that tells somebody of every new item."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._tell()


class BoundedMessages(DIMSEServiceProvider):
    """Takes one message after another, each of a bounded size."""

    def get_msg(self, block: bool = False) -> Any:
        """The next message, or (None, None) once there is something else to look at."""
        try:
            return self.msg_queue.get(timeout=_WAKE_S)
        except queue.Empty:
            return None, None

    def receive_primitive(self, primitive: P_DATA) -> None:
        if self.msg_queue.qsize() > _OUTSTANDING_MAXIMUM:
            self.dul.event_queue.put("Evt19")  # treated as an invalid PDU: A-ABORT (PS3.8 §9.2)
            return
        super().receive_primitive(primitive)
        message = self.message
        if message is not None and (
            message.encoded_command_set.tell() > _COMMAND_BYTES_MAXIMUM
            or (message.data_set is not None and message.data_set.tell() > _IDENTIFIER_BYTES_MAXIMUM)
        ):
            self.message = None
            self.dul.event_queue.put("Evt19")


class _Outgoing(NamedTuple):
    """A message of ours that waits for its turn among those of the peer."""

    report: N_EVENT_REPORT


class BoundedAssociation(Association):
    """An association as acceptor, with the parts above."""

    def __init__(
        self,
        ae: ApplicationEntity,
        limits: NodeSettings,
        over: Callable[[Association], None],
        open_stream: OpenStream,
    ) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self._over = over
        self.over = threading.Event()
        self._reports: dict[int, Future[int]] = {}
        self.dul = BoundedUpperLayer(self, open_stream)
        self.dimse = BoundedMessages(self)
        # The timers belong to the upper layer that has just been replaced.
        self.acse_timeout = limits.artim_s
        self.network_timeout = limits.idle_s
        self.dimse_timeout = limits.idle_s

    def run(self) -> None:
        """Until the association is over, however it ends."""
        try:
            super().run()
        finally:
            self.over.set()
            for answer in list(self._reports.values()):
                answer.cancel()
            self._over(self)

    def report(self, context_id: int, report: N_EVENT_REPORT) -> "Future[int]":
        """Send an N-EVENT-REPORT of our own accord; the status that it is answered with, cancelled where the
        association ends before.

        The thread of the association sends it, between two messages: what two threads send could mix.
        """
        answer: Future[int] = Future()
        self._reports[int(report.MessageID or 0)] = answer
        self.dimse.msg_queue.put((context_id, _Outgoing(report)))  # type: ignore[arg-type]
        if self.over.is_set():  # Nobody is left who would send it.
            answer.cancel()
        return answer

    def _serve_request(self, msg: Any, context_id: int) -> None:
        if isinstance(msg, _Outgoing):
            self.dimse.send_msg(msg.report, context_id)
        elif isinstance(msg, N_EVENT_REPORT) and not msg.is_valid_request:
            answer = self._reports.pop(int(msg.MessageIDBeingRespondedTo or 0), None)
            if answer is not None and msg.Status is not None and answer.set_running_or_notify_cancel():
                answer.set_result(int(msg.Status))
        else:
            super()._serve_request(msg, context_id)


class BoundedHandler(RequestHandler):
    """Makes the association for a connection."""

    server: "BoundedServer"

    def _create_association(self) -> Association:
        server = self.server
        association = BoundedAssociation(self.ae, server.limits, server.association_over, server.open_stream)
        association._server = server
        association.name = f"AcceptorThread-{self.client_address[0]}"  # pynetdicom finds them by the word
        connection = BoundedSocket(association, client_socket=self.request)
        connection.limits = server.limits
        association.set_socket(connection)

        association.acceptor.maximum_length = self.ae.maximum_pdu_size
        association.acceptor.ae_title = server.ae_title
        association.acceptor.address_info = self.local
        association.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        association.acceptor.implementation_version_name = self.ae.implementation_version_name
        association.acceptor.supported_contexts = deepcopy(server.contexts)
        association.requestor.address_info = self.remote

        for event, bound in server._handlers.items():
            if not bound:
                continue
            if isinstance(event, evt.NotificationEvent):
                for handler, arguments in bound:  # type: ignore[misc]
                    association.bind(event, handler, arguments)
            else:
                association.bind(event, *bound)
        return association


class BoundedServer(ThreadedAssociationServer):
    """Listens, and lets in as many connections as there may be."""

    daemon_threads = True
    request_queue_size = 128
    limits = NodeSettings()
    on_over: Callable[[Association], None] = staticmethod(lambda association: None)
    open_stream: OpenStream

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._counting = threading.Lock()
        self._by_address: Counter[str] = Counter()
        super().__init__(*arguments, **named)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection, set up so that a dead peer is noticed."""
        connection, address = self.socket.accept()  # type: ignore[union-attr]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Answers are small and waited for.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)  # milliseconds
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the connection may stay; decided before it costs a thread."""
        address = client_address[0]
        with self._counting:
            if (
                self._by_address.total() >= self.limits.maximum_connections
                or self._by_address[address] >= self.limits.connections_per_address
            ):
                return False
            self._by_address[address] += 1
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Start the association; a connection that never becomes one is given back."""
        try:
            self.finish_request(request, client_address)
        except Exception:  # The outermost frame of this thread: whatever it was, the connection is over.
            self._leave(client_address[0])
            self.shutdown_request(request)

    def association_over(self, association: Association) -> None:
        """The thread of an association ends."""
        self._leave(association.requestor.address)
        self.on_over(association)

    def _leave(self, address: str | None) -> None:
        with self._counting:
            self._by_address[address or ""] -= 1

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

from dicom_node.settings import NodeSettings

_ASSOCIATE_BYTES_MAXIMUM = (
    256 << 10
)  # An A-ASSOCIATE-RQ with 128 contexts of 14 transfer syntaxes has 60 KiB.
_COMMAND_BYTES_MAXIMUM = 64 << 10
_PDU_ALLOWANCE = 12  # Some senders count the PDU header into the maximum length.
# One request at a time was negotiated (PS3.7 §D.3.3.3); the rest is room for our own wake-up calls.
_OUTSTANDING_MAXIMUM = 8
_WAKE_S = 0.25  # How late a timer may be noticed.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


class BoundedSocket(AssociationSocket):
    """Reads a PDU within a time and a length, or closes."""

    limits: NodeSettings

    @property
    def ready(self) -> bool:
        """Whether there is something to read. `poll`, for `select` fails beyond 1023 descriptors."""
        return self.wait(0.0, None)

    def wait(self, timeout_s: float, wake: int | None) -> bool:
        """Whether there is something to read within `timeout_s`; False as soon as `wake` is readable."""
        if self.socket is None or not self._is_connected:
            return False
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
        count, ends = 0, time.monotonic() + self.limits.pdu_s
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


class BoundedUpperLayer(DULServiceProvider):
    """Sleeps until there is something to do."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
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
            # What PS3.8 Table 9-10 has no row for, such as a C-ECHO behind our own A-ABORT. The association has
            # ended and nothing is owed; pynetdicom would leave the connection to the garbage collector.
            if self.socket is not None:
                self.socket.close()
        finally:
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

    def _is_transport_event(self) -> bool:
        # Sta13: the connection is about to be closed, which the original does without waiting.
        connection = self.socket
        if not isinstance(connection, BoundedSocket) or self.state_machine.current_state == "Sta13":
            return super()._is_transport_event()
        if not self.event_queue.empty():
            return False
        if connection.socket is None or self.state_machine.current_state == "Sta1":
            self._sleep()  # The connection is gone.
        elif connection.wait(_WAKE_S, self._wake):
            self._read_pdu_data()
            return True
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        return False

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

    def __init__(self, assoc: Association, instance_bytes_max: int) -> None:
        super().__init__(assoc)
        self._instance_bytes_max = instance_bytes_max

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
            or (message.data_set is not None and message.data_set.tell() > self._instance_bytes_max)
        ):
            self.message = None
            self.dul.event_queue.put("Evt19")


class _Outgoing(NamedTuple):
    """A message of ours that waits for its turn among those of the peer."""

    report: N_EVENT_REPORT


class BoundedAssociation(Association):
    """An association as acceptor, with the parts above."""

    def __init__(
        self, ae: ApplicationEntity, limits: NodeSettings, over: Callable[[Association], None]
    ) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self._over = over
        self.over = threading.Event()
        self._reports: dict[int, Future[int]] = {}
        self.dul = BoundedUpperLayer(self)
        self.dimse = BoundedMessages(self, limits.instance_bytes_max)
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
        association = BoundedAssociation(self.ae, server.limits, server.association_over)
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

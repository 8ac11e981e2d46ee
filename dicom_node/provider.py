"""The upper layer of an association that we accept (PS3.8 §9): asleep until there is something to do.

pynetdicom 3.0.4 polls every millisecond. Its state machine stays; while the association is established,
`Stream` takes what comes in.
"""

import os
import queue
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.connection import BoundedSocket
from dicom_node.fragments import Piece
from dicom_node.request_limits import check_associate_request
from dicom_node.stream import Stream, Taken
from dicom_node.upper_layer import PDUType, PeerConfused

if TYPE_CHECKING:
    from dicom_node.acceptor import BoundedAssociation

#: A-ABORT by the service provider: invalid PDU parameter value (PS3.8 §9.3.8).
_INVALID_VALUE = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x06"
WAKE_S = 0.25  #: How late a timer may be noticed.

#: Makes the stream of an established association; its second argument gives pieces to pynetdicom.
OpenStream = Callable[[Association, Callable[[Piece], bool]], Stream]


class BoundedUpperLayer(DULServiceProvider):
    """Sleeps until there is something to do."""

    def __init__(self, assoc: Association, open_stream: OpenStream) -> None:
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
        except Exception as error:
            # pynetdicom's state machine makes objects of what was sent, and some of what is well-formed is
            # no value of theirs: a blank AE title, an A-ABORT from nobody. Whatever it was, it ends here.
            self._cut_off(f"sent a value that may not be where it is ({type(error).__name__})")
            self.assoc.is_aborted, self.assoc.is_established = True, False
            if self.socket is not None:
                self.socket.send(_INVALID_VALUE)
                self.socket.close()
        finally:
            self._drop()
            # Whoever still waits for a request gets None instead of waiting for the end of ARTIM.
            nothing: Any = None  # pynetdicom hands it on as it is
            self.to_user_queue.put(nothing)
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
        self.join(2 * WAKE_S)
        return not self.is_alive()

    def idle_timer_expired(self) -> bool:
        # While the peer waits for an answer of ours, it is not the one that is idle.
        answering = self._stream is not None and self._stream.answering
        idle = not answering and super().idle_timer_expired()
        if idle:
            cast("BoundedAssociation", self.assoc).idled = True
            self._cut_off(f"said nothing for {self.assoc.network_timeout:g} s")
        return idle

    def _read_pdu_data(self) -> None:
        waits_for_request = self.state_machine.current_state == "Sta2"
        super()._read_pdu_data()
        events = list(self.event_queue.queue)
        if "Evt19" in events:
            self._cut_off("what was sent is no PDU of DICOM, or none that it may be")
        elif waits_for_request and not {"Evt6", "Evt16", "Evt17"}.intersection(events):
            self._cut_off("sent something else before it asked for an association")

    def _decode_pdu(self, bytestream: bytearray) -> Any:
        if bytestream[0] == PDUType.ASSOCIATE_REQUEST:
            try:
                check_associate_request(bytestream)
            except PeerConfused as error:
                self._cut_off(str(error))
                raise
        return super()._decode_pdu(bytestream)

    def _cut_off(self, because: str) -> None:
        """Put down why the peer is being put out."""
        cast("BoundedAssociation", self.assoc).cut_off(because)

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
        elif connection.wait(WAKE_S, self._wake):
            self._read_pdu_data()
            return True
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        return False

    def _take(self, connection: BoundedSocket) -> bool:
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
                        if not connection.wait(WAKE_S, self._wake):
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
            self._cut_off(str(error))
            self.event_queue.put("Evt19")  # treated as an invalid PDU: A-ABORT (PS3.8 §9.2)
        return something

    def _forward(self, piece: Piece) -> bool:
        """Give a piece of a message to pynetdicom; whether the association goes on."""
        primitive = P_DATA()
        value: Any = [piece.context_id, bytes([piece.is_command | piece.ends << 1]) + bytes(piece.data)]
        primitive.presentation_data_value_list = [value]  # a list: a tuple, as its type says, is refused
        self.assoc.dimse.receive_primitive(primitive)
        return self.event_queue.empty()

    def _drain(self, connection: BoundedSocket) -> bool:
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
        poll.poll(WAKE_S * 1000)


class _Telling(queue.Queue):  # type: ignore[type-arg]
    """A queue that tells somebody of every new item."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._tell()

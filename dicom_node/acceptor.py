"""An association that we accept, without the places where a silent or lying peer could hold it for ever.

pynetdicom 3.0.4 reads a PDU with a blocking `recv`, believes any length, queues whatever is pipelined, and
polls every millisecond in two threads per association. The subclasses here and in `connection`, `provider`
and `server` change just that: every wait ends, every length and every queue has a limit, and an idle
association costs nothing to speak of. What a limit answers is A-ABORT or a closed connection; nothing that
was acknowledged is touched by it.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, cast

from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.provider import WAKE_S, BoundedUpperLayer, OpenStream
from dicom_node.settings import NodeSettings
from dicom_node.turnstile import Remote

_COMMAND_BYTES_MAXIMUM = 64 << 10
# A data set of any message but C-STORE is held in memory: a commitment request for 100 000 instances.
_IDENTIFIER_BYTES_MAXIMUM = 32 << 20
# One request at a time was negotiated (PS3.7 §D.3.3.3); the rest is room for our own wake-up calls.
_OUTSTANDING_MAXIMUM = 8


class BoundedMessages(DIMSEServiceProvider):
    """Takes one message after another, each of a bounded size."""

    def get_msg(self, block: bool = False) -> Any:
        """The next message, or (None, None) once there is something else to look at."""
        try:
            return self.msg_queue.get(timeout=WAKE_S)
        except queue.Empty:
            return None, None

    def receive_primitive(self, primitive: P_DATA) -> None:
        if self.msg_queue.qsize() > _OUTSTANDING_MAXIMUM:
            self._abort("requests are sent without waiting for the answers to those before")
            return
        super().receive_primitive(primitive)
        message = self.message
        if message is not None and (
            message.encoded_command_set.tell() > _COMMAND_BYTES_MAXIMUM
            or (message.data_set is not None and message.data_set.tell() > _IDENTIFIER_BYTES_MAXIMUM)
        ):
            self.message = None
            self._abort("a message is larger than any may be")

    def _abort(self, because: str) -> None:
        cast(BoundedAssociation, self.assoc).cut_off(because)
        self.dul.event_queue.put("Evt19")  # treated as an invalid PDU: A-ABORT (PS3.8 §9.2)


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
        self._limits, self._over = limits, over
        self._began = time.monotonic()
        self.cut_off_because = ""  #: why we ended it; empty where we did not
        self.idled = False  #: It ended because nothing was said for too long.
        self.came_from: Remote = ("", 0)  #: who is at the other end
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
            if self.requestor.primitive is None and time.monotonic() - self._began >= self._limits.artim_s:
                self.cut_off(f"asked for no association within {self._limits.artim_s:g} s")
            self.over.set()
            for answer in list(self._reports.values()):
                answer.cancel()
            self._over(self)

    def cut_off(self, because: str) -> None:
        """We end the association, and this is why. The first reason is the one that counts."""
        self.cut_off_because = self.cut_off_because or because

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

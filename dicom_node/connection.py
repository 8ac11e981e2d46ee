"""The connection of an association that we accept: a PDU is read within a time and a length, or not at all.

pynetdicom 3.0.4 reads a PDU with a blocking `recv` and believes any length that it announces.
"""

import select
import ssl
import time
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.transport import AssociationSocket

from dicom_node.handshake import Proof
from dicom_node.settings import NodeSettings

if TYPE_CHECKING:
    from dicom_node.acceptor import BoundedAssociation

# An A-ASSOCIATE-RQ with 128 contexts of 14 transfer syntaxes has 60 KiB.
_ASSOCIATE_BYTES_MAXIMUM = 256 << 10
_PDU_ALLOWANCE = 12  # Some senders count the PDU header into the maximum length.
# What a peer may still send after it was told that the association is aborted.
_DRAIN_BYTES, _DRAIN_BYTES_MAXIMUM = 256 << 10, 16 << 20


class BoundedSocket(AssociationSocket):
    """Reads a PDU within a time and a length, or closes."""

    limits: NodeSettings
    proof: Proof | None = None  #: what TLS proved of the peer; None without TLS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.left = bytearray()  #: read by `Stream`, and not for it
        self._drained = 0
        self._opened = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether there is something to read. `poll`, for `select` fails beyond 1023 descriptors."""
        return self.wait(0.0, None)

    def wait(self, timeout_s: float, wake: int | None) -> bool:
        """Whether there is something to read within `timeout_s`; False as soon as `wake` is readable."""
        if self.socket is None or not self._is_connected:
            return False
        # What TLS has decrypted and not given out is seen by no poll.
        if self.left or (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()):
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
            raise self._cut_off(
                OSError(f"a PDU says that it has {nr_bytes} bytes; at most {limit} are taken")
            )
        received = bytearray(nr_bytes)
        count, ends, within_s = min(nr_bytes, len(self.left)), *self._deadline()
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
        except TimeoutError:
            silent = f"silent for {self.limits.pdu_silence_s:g} s in the middle of a PDU"
            slow = f"a PDU was not there within {within_s:g} s"
            raise self._cut_off(OSError(slow if time.monotonic() >= ends else silent)) from None
        except OSError:
            self._shutdown_socket()
            raise
        del received[count:]
        return received

    def _deadline(self) -> tuple[float, float]:
        """When what is being read has to be there (monotonic), and how many seconds that is in all."""
        by, within_s = time.monotonic() + self.limits.pdu_s, self.limits.pdu_s
        if self.assoc.requestor.primitive is None:  # ARTIM runs since the connection came (PS3.8 §9.1.5).
            by = min(by, self._opened + self.limits.artim_s)
            within_s = min(within_s, self.limits.artim_s)
        return by, within_s

    def _cut_off(self, error: OSError) -> OSError:
        cast("BoundedAssociation", self.assoc).cut_off(str(error))
        self._shutdown_socket()
        return error

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

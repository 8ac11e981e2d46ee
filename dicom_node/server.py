"""The servers that listen: which connections may stay, decided before any of them costs a thread.

A TLS handshake is done in the thread of its connection: nobody else waits for a peer that is silent in it.
"""

import gc
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node.acceptor import BoundedAssociation
from dicom_node.connection import BoundedSocket
from dicom_node.gate import Gate
from dicom_node.handshake import proof_of
from dicom_node.provider import OpenStream
from dicom_node.settings import NodeSettings
from dicom_node.turnstile import Remote, Turnstile

_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}

_COLLECT_S = 60.0


class BoundedHandler(RequestHandler):
    """Makes the association for a connection."""

    server: "BoundedServer"

    def _create_association(self) -> Association:
        server = self.server
        association = BoundedAssociation(self.ae, server.limits, server.association_over, server.open_stream)
        association._server = server
        association.came_from = server.remote(self.client_address)
        association.name = f"AcceptorThread-{self.client_address[0]}"  # pynetdicom finds them by the word
        connection = BoundedSocket(association, client_socket=self.request)
        connection.limits = server.limits
        if isinstance(self.request, ssl.SSLSocket):
            connection.proof = proof_of(self.request)
        association.set_socket(connection)

        association.acceptor.maximum_length = self.ae.maximum_pdu_size
        association.acceptor.ae_title = server.ae_title
        association.acceptor.address_info = self.local
        association.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        association.acceptor.implementation_version_name = self.ae.implementation_version_name
        # The same for all: nothing changes a supported context, and copying them took 12 ms of every caller.
        association.acceptor.supported_contexts = list(server.contexts)
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
    gate: Gate | None = None  #: Makes every connection one over TLS.
    on_insecure: Callable[[OSError, str], None] = staticmethod(lambda error, address: None)
    turnstile = Turnstile(limits)
    _ended, _collected_at = False, 0.0

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection, set up so that a dead peer is noticed."""
        connection, address = self.socket.accept()  # type: ignore[union-attr]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Answers are small and waited for.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)  # milliseconds
        return connection, address

    def service_actions(self) -> None:
        """Collect what ended associations leave behind, now and then.

        pynetdicom does so with every sixtieth look around, which halts all threads for a tenth of a second.
        """
        if self._ended and time.monotonic() - self._collected_at > _COLLECT_S:
            self._ended, self._collected_at = False, time.monotonic()
            gc.collect()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the connection may stay; decided before it costs a thread."""
        return self.turnstile.enter(request, self.remote(client_address))

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; None is one that its own thread closed a moment before."""
        if request is not None:
            super().shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Start the association; a connection that never becomes one is given back."""
        try:
            if self.gate is not None:
                request = self._secured(self.gate, request, client_address[0])
            self.finish_request(request, client_address)
        except Exception:  # The outermost frame of this thread: whatever it was, the connection is over.
            self.turnstile.leave(self.remote(client_address))
            self.shutdown_request(request)

    def _secured(self, gate: Gate, request: Any, address: str) -> ssl.SSLSocket:
        """The same connection over TLS. Raises `OSError` where that cannot be, after it was told."""
        try:
            return gate.secure(request)
        except OSError as error:
            if not gate.stopping:
                self.on_insecure(error, address)
            raise

    def remote(self, client_address: Any) -> Remote:
        """What tells the connection from all others, also from those of the same peer to another server."""
        return (*client_address[:2], int(self.server_address[1]))

    def association_over(self, association: Association) -> None:
        """The thread of an association ends."""
        assert isinstance(association, BoundedAssociation)
        self._ended = True
        self.turnstile.leave(association.came_from)
        self.on_over(association)

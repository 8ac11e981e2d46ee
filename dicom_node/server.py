"""The server that listens: which connections may stay, decided before any of them costs a thread."""

import socket
import threading
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node.acceptor import BoundedAssociation
from dicom_node.connection import BoundedSocket
from dicom_node.provider import OpenStream
from dicom_node.settings import NodeSettings

_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


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

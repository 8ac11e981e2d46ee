"""The node in operation: it listens, receives, and stops without losing anything."""

import threading
import time
from types import TracebackType
from typing import Self

import structlog
from pynetdicom import AE, evt
from pynetdicom.association import Association

from dicom_node.acceptor import BoundedAssociation
from dicom_node.association import Doorkeeper
from dicom_node.ballast import Ballast
from dicom_node.carry_forward import open_books
from dicom_node.contexts import supported_contexts
from dicom_node.gate import Gate
from dicom_node.group import GroupCommit
from dicom_node.hand_in import BackDoor
from dicom_node.long_headers import LongHeaders
from dicom_node.promises import Promises
from dicom_node.quotas import Quotas
from dicom_node.receive import Receiver
from dicom_node.refusals import Kind, Refusals
from dicom_node.senders import Senders
from dicom_node.server import BoundedHandler, BoundedServer
from dicom_node.settings import NodeSite
from dicom_node.spool import Spool
from dicom_node.stream import opener
from dicom_node.turnstile import Turnstile
from ledger.errors import SiteError
from ledger.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ledger.store.ledger import Ledger

log = structlog.get_logger()


class PortTaken(SiteError):
    """Nothing can listen at the node's address."""


class Node:
    """A C-ECHO, C-STORE and storage commitment SCP on one port, and on one more for TLS.

    A context manager: it serves between enter and exit.
    """

    def __init__(self, site: NodeSite, ledger: Ledger, spool: Spool) -> None:
        """Raise `PortTaken` where an address cannot be listened at, `TlsUnusable` where certificates
        cannot be used. Nothing is accepted yet.
        """
        self._site = site
        self.senders = Senders()
        self.group, self.books = GroupCommit(spool, ledger), open_books(spool, ledger)
        self.refusals = Refusals(ledger)
        quotas = Quotas(site.quota, site.peers, ledger)
        self._long_headers = LongHeaders(site.data_set)
        self.ballast = Ballast(site.ledger.file, site.spool.ballast_bytes, told=self.refusals.tell)
        spool.ballast = self.ballast
        self.receiver = Receiver(
            spool=spool,
            ledger=ledger,
            group=self.group,
            books=self.books,
            settings=site.node,
            quotas=quotas,
            refusals=self.refusals,
            long_headers=self._long_headers,
        )
        self._back_door = BackDoor(self.receiver, self.senders, spool.path)
        door = Doorkeeper(
            site.node,
            site.peers,
            senders=self.senders,
            spool=spool,
            quotas=quotas,
            refusals=self.refusals,
        )
        self.turnstile = Turnstile(
            site.node,
            site.peers,
            told=lambda reason, because, address: self.refusals.note(
                Kind.CONNECTION, because, reason=reason, address=address
            ),
        )

        def requested(association: Association) -> None:
            door.requested(association)
            if not association.is_rejected and isinstance(association, BoundedAssociation):
                self.turnstile.associated(association.came_from)

        self.promises = Promises(
            ledger, spool, site.peers, site.node, shape=site.data_set, refusals=self.refusals
        )
        ae = AE(site.node.ae_title)
        ae.implementation_class_uid = str(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = site.node.max_pdu_bytes
        ae.maximum_associations = site.node.maximum_connections  # The doorkeeper counts them.
        ae.network_timeout = site.node.idle_s
        ae.acse_timeout = site.node.artim_s
        ae.supported_contexts = supported_contexts()

        def server_at(host: str, port: int) -> BoundedServer:
            try:
                server = ae.make_server(
                    (host, port),
                    evt_handlers=[
                        (evt.EVT_REQUESTED, lambda event: requested(event.assoc)),
                        # The doorkeeper has judged the user before; pynetdicom wants to be told again.
                        (evt.EVT_USER_ID, lambda event: (True, None)),
                        (evt.EVT_N_ACTION, self.promises.on_action),
                        (evt.EVT_N_EVENT_REPORT, self.promises.on_report),
                    ],
                    server_class=BoundedServer,
                    request_handler=BoundedHandler,
                )
            except OSError as error:
                raise PortTaken(
                    f"the node cannot listen at {host} port {port}: {error.strerror or error}"
                ) from error
            assert isinstance(server, BoundedServer)
            server.limits = site.node
            server.on_over = door.over
            server.turnstile = self.turnstile
            server.open_stream = opener(self.receiver, self.senders, site.node, site.peers)
            ae._servers.append(server)
            return server

        tls = site.node.tls
        self._gate = Gate(tls, told=self.refusals.tell) if tls is not None else None
        self._servers = [server_at(site.node.plain_host, site.node.port)]
        if tls is not None:
            try:
                secure = server_at(site.node.host, tls.port)
            except PortTaken:
                self._servers[0].server_close()
                raise
            secure.gate, secure.on_insecure = self._gate, door.insecure
            self._servers.append(secure)
        self._threads = [
            threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="listener", daemon=True
            )
            for server in self._servers
        ]

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        return int(self._servers[0].server_address[1])

    @property
    def tls_port(self) -> int | None:
        """The TCP port that it listens on for TLS; None where it does not."""
        return int(self._servers[-1].server_address[1]) if self._gate is not None else None

    def start(self) -> None:
        """Begin to serve."""
        self.refusals.start()
        self.ballast.start()
        self.group.start()
        self.books.start()
        self.promises.start()
        for thread in self._threads:
            thread.start()
        self._back_door.open()

    def stop(self) -> None:
        """Stop within the setting `stop_s`: abort what is open, and record what already has its file.

        An instance whose answer does not leave was not acknowledged: its sender keeps it and sends it again.
        """
        ends = time.monotonic() + self._site.node.stop_s
        self._back_door.close()
        if self._gate is not None:
            self._gate.stop()
        for server in self._servers:
            server.shutdown()  # No new connections from here on.
        associations = [one for server in self._servers for one in server.active_associations]
        # Aborting waits for the peer's side of it; a peer that takes no part must not hold the others up.
        threads = [threading.Thread(target=each.abort, daemon=True) for each in associations]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends - 1.0 - time.monotonic()))
        self.promises.stop(within_s=0.5)
        self.books.stop(within_s=max(0.5, ends - time.monotonic()))
        self.group.stop(within_s=max(0.5, ends - time.monotonic()))
        self.ballast.stop()
        self._long_headers.close()
        self.refusals.stop(within_s=max(0.5, ends - time.monotonic()))
        log.info("node.stopped", aborted=len(associations))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

"""A connection to a peer, over TLS where its settings say so, within one deadline.

Looking up a host name is the one wait that the deadline does not cover; the system's resolver has its own.
"""

import os
import socket
import ssl
import time

from dicom_node import handshake
from dicom_node.handshake import proof_of, shake_hands
from dicom_node.peers import PeerSettings
from dicom_node.tls import TlsUnusable, client_context
from dicom_node.tls_settings import PeerTlsSettings
from ledger.errors import PeerError


class PeerAway(PeerError):
    """No connection to the peer could be made."""


class PeerSilent(PeerError):
    """The peer did not do its part before the deadline."""


class PeerUntrusted(PeerError):
    """No TLS with the peer: it is not who it should be, or one side does not take the other's word."""


class Deadline:
    """A point on the monotonic clock after which nothing is waited for."""

    def __init__(self, seconds: float) -> None:
        """Start now."""
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    def left(self, doing: str) -> float:
        """The seconds that are left. Raises `PeerSilent` where none are."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise PeerSilent(f"it did not finish within {self.seconds:g} s while we were {doing}")
        return left


def reach(peer: PeerSettings, deadline: Deadline) -> socket.socket:
    """A connection that is ready for DICOM. Raises `PeerAway`, `PeerSilent` or `PeerUntrusted`."""
    if peer.tls is None or not peer.tls.send:
        return _connected(peer, deadline)
    try:
        context = client_context(peer.tls)
    except TlsUnusable as error:
        # Ours to mend, but no reason to stop what goes to others: tried again like any other obstacle.
        raise PeerUntrusted(f"TLS with it cannot begin: {error}") from error
    return _secured(_connected(peer, deadline), context, peer, peer.tls, deadline)


def _connected(peer: PeerSettings, deadline: Deadline) -> socket.socket:
    """A TCP connection to the first of the peer's addresses that takes one."""
    if not peer.speaks_dicom:
        raise PeerAway(f"{peer.name} has no host and port in the settings: it is reached over the web only")
    try:
        addresses = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise PeerAway(f"the host name {peer.host} is not known here: {words(error)}") from error
    failure = "it has no address"
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(min(peer.connect_s, deadline.left("connecting to it")))
            connection.connect(address)
            # An answer is small and waited for: Nagle's algorithm would hold it back.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except TimeoutError:
            connection.close()
            failure = f"nothing answered within {peer.connect_s:g} s"
        except OSError as error:
            connection.close()
            failure = words(error)
        except PeerSilent:
            connection.close()
            raise
        else:
            return connection
    raise PeerAway(f"no connection to {peer.host} port {peer.port}: {failure}")


def _secured(
    connection: socket.socket,
    context: ssl.SSLContext,
    peer: PeerSettings,
    settings: PeerTlsSettings,
    deadline: Deadline,
) -> ssl.SSLSocket:
    name = settings.server_name or peer.host
    secured = context.wrap_socket(connection, server_hostname=name, do_handshake_on_connect=False)
    try:
        shake_hands(secured, lambda: deadline.left("agreeing on TLS with it"))
    except OSError as error:
        secured.close()
        raise PeerUntrusted(f"no TLS with {peer.host} port {peer.port}: {words(error)}") from error
    except PeerSilent:
        secured.close()
        raise
    shown = proof_of(secured).fingerprint or ""
    if settings.fingerprints and shown not in settings.fingerprints:
        secured.close()
        raise PeerUntrusted(
            f"{peer.host} port {peer.port} shows a certificate (SHA-256 {shown[:16]}…) that is not among the"
            " fingerprints of its [peer.tls]: somebody else answers there, or it was renewed"
        )
    return secured


def words(error: OSError) -> str:
    """What the operating system, or TLS, says of a connection that failed."""
    if isinstance(error, ssl.SSLError):
        return handshake.words(error)
    return (os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)).lower()

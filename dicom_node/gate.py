"""The door for TLS: a plain connection becomes a secure one within a wall-clock limit, or none at all."""

import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from dicom_node.handshake import HandshakeTimeout, shake_hands
from dicom_node.renewal import Renewal
from dicom_node.tls import server_context
from dicom_node.tls_settings import NodeTlsSettings


class Gate:
    """Makes TLS connections of plain ones. Thread-safe."""

    def __init__(
        self,
        settings: NodeTlsSettings,
        *,
        told: Callable[[str, str], None] = lambda event, because: None,
    ) -> None:
        """`told` hears of certificates that were loaded or refused. Raises `TlsUnusable`."""
        self._settings = settings
        self._renewal = Renewal(settings, lambda: server_context(settings), told=told)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Wait for no handshake any more."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether a handshake may have ended because we stop."""
        return self._stopping.is_set()

    def secure(self, connection: Any) -> ssl.SSLSocket:
        """Do the handshake, in the thread of the connection. Raises `OSError`, and has closed it then."""
        ends = time.monotonic() + self._settings.handshake_s

        def left() -> float:
            seconds = ends - time.monotonic()
            if seconds <= 0 or self._stopping.is_set():
                raise HandshakeTimeout(f"it does not finish within {self._settings.handshake_s:g} s")
            return min(seconds, 0.25)  # How late it is noticed that we stop.

        secured = self._renewal.context().wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        try:
            shake_hands(secured, left)
        except OSError:
            secured.close()
            raise
        return secured

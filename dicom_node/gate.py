"""The door for TLS: every connection gets the certificates that lie there now.

The files are looked at when somebody comes, and at most every two seconds. Where they changed, the next
handshake uses the new ones; associations that are open stay as they are. Files that cannot be used change
nothing: the old ones go on, and it is said once, until they change again. (Not SIGHUP: what renews
certificates on a schedule would have to know our processes.)
"""

import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from dicom_node.handshake import HandshakeTimeout, shake_hands
from dicom_node.tls import TlsUnusable, server_context
from dicom_node.tls_settings import NodeTlsSettings

_LOOK_S = 2.0
log = structlog.get_logger()

#: What there is to know of a version of a file: device, inode, size, time in ns; None where there is none.
_Stamp = tuple[int, int, int, int] | None


class Gate:
    """Makes TLS connections of plain ones. Thread-safe."""

    def __init__(
        self,
        settings: NodeTlsSettings,
        *,
        told: Callable[[str, str], None] = lambda event, because: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`told` hears of certificates that were loaded or refused. Raises `TlsUnusable`."""
        self._settings, self._told, self._clock = settings, told, clock
        self._lock = threading.Lock()
        self._stamps = self._look()
        self._context = server_context(settings)
        self._looked_at = clock()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Wait for no handshake any more."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether a handshake may have ended because we stop."""
        return self._stopping.is_set()

    def context(self) -> ssl.SSLContext:
        """What counts now."""
        with self._lock:
            if self._clock() - self._looked_at < _LOOK_S:
                return self._context
            self._looked_at = self._clock()
            stamps = self._look()
            if stamps == self._stamps:
                return self._context
            self._stamps = stamps
            try:
                self._context = server_context(self._settings)
            except TlsUnusable as error:
                event, because = "certificate_refused", f"the certificates of before go on: {error}"
                log.warning("tls.certificate_refused", because=because)
            else:
                event, because = (
                    "certificate_loaded",
                    f"{self._settings.certificate_file.name} was loaded anew",
                )
                log.info("tls.certificate_loaded", because=because)
            context = self._context
        self._told(event, because)
        return context

    def secure(self, connection: Any) -> ssl.SSLSocket:
        """Do the handshake, in the thread of the connection. Raises `OSError`, and has closed it then."""
        ends = time.monotonic() + self._settings.handshake_s

        def left() -> float:
            seconds = ends - time.monotonic()
            if seconds <= 0 or self._stopping.is_set():
                raise HandshakeTimeout(f"it does not finish within {self._settings.handshake_s:g} s")
            return min(seconds, 0.25)

        secured = self.context().wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        try:
            shake_hands(secured, left)
        except OSError:
            secured.close()
            raise
        return secured

    def _look(self) -> tuple[_Stamp, ...]:
        names = ("certificate_file", "key_file", "key_password_file", "ca_file")
        return tuple(_stamp(getattr(self._settings, name)) for name in names)


def _stamp(path: Path | None) -> _Stamp:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) if found is not None else None

"""The certificates that lie there now.

The files are looked at when somebody comes, and at most every two seconds. Where they changed, the next
handshake uses the new ones; connections that are open stay as they are. Files that cannot be used change
nothing: the old ones go on, and it is said once, until they change again. (Not SIGHUP: what renews
certificates on a schedule would have to know our processes.)
"""

import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from dicom_node.tls import TlsUnusable

_LOOK_S = 2.0
log = structlog.get_logger()

#: What there is to know of a version of a file: device, inode, size, time in ns; None where there is none.
_Stamp = tuple[int, int, int, int] | None


class Files(Protocol):
    """Settings that name files."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Those whose change counts."""


class Renewal:
    """Makes a context of files, and a new one when they change. Thread-safe."""

    def __init__(
        self,
        settings: Files,
        make: Callable[[], ssl.SSLContext],
        *,
        told: Callable[[str, str], None] = lambda event, because: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`told` hears of certificates that were loaded or refused. Raises what `make` raises."""
        self._files, self._make, self._told, self._clock = settings.files, make, told, clock
        self._lock = threading.Lock()
        self._stamps = self._look()
        self._context = make()
        self._looked_at = clock()

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
                self._context = self._make()
            except TlsUnusable as error:
                event, because = "certificate_refused", f"the certificates of before go on: {error}"
                log.warning("tls.certificate_refused", because=because)
            else:
                event, because = "certificate_loaded", f"{self._files[0].name} was loaded anew"
                log.info("tls.certificate_loaded", because=because)
            context = self._context
        self._told(event, because)
        return context

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(map(_stamp, self._files))


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

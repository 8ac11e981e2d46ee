"""
Are these the bytes that arrived? Disks forget.

The digest of an instance was taken of the data set as it was sent. A file of the spool has a preamble and
file meta information in front of it (PS3.10 §7.1), so the digest is taken from behind those. This runs beside
the child, which reads the same pages at the same time, and no result is kept before it has agreed.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ledger.identifiers import Digest
from ledger.job import JobInput
from worker.elements import HeaderUnreadable
from worker.files import digest_of

_AT_ONCE = 2  # hashlib lets go of the interpreter lock


class Verification:
    """Reads the inputs of a job from other threads; `result` waits for them."""

    def __init__(self, inputs: Sequence[tuple[JobInput, Path]], broken: Callable[[], None]) -> None:
        """`broken` is called once, early, when a file is not what it should be."""
        self._enough = threading.Event()
        self._broken = broken
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="verify")
        self._checks = [self._pool.submit(self._check, *one) for one in inputs]

    def _check(self, one: JobInput, path: Path) -> str | None:
        if self._enough.is_set():
            return None
        because = fault(one, path)
        if because is not None and not self._enough.is_set():
            self._enough.set()
            self._broken()
        return because

    def result(self) -> str | None:
        """Why the inputs cannot be trusted; None: they can."""
        try:
            return next((found for check in self._checks if (found := check.result()) is not None), None)
        finally:
            self._pool.shutdown()

    def abandon(self) -> None:
        """Nobody wants to know any more."""
        self._enough.set()
        self._pool.shutdown(cancel_futures=True)


def fault(one: JobInput, path: Path) -> str | None:
    """What is wrong with the file of `one`, as a sentence; None: nothing."""
    try:
        found = digest_of(path)
    except FileNotFoundError:
        return f"input_corrupt: the file of instance {one.sop_instance} is missing from the spool"
    except (OSError, HeaderUnreadable):
        return f"input_corrupt: the file of instance {one.sop_instance} cannot be read"
    if found != one.digest:
        return f"input_corrupt: the file of instance {one.sop_instance} does not hold what was received"
    return None


def digest_of_file(path: Path) -> Digest:
    """The SHA-256 of a whole file. Raises `OSError`."""
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())

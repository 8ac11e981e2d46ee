"""
Where runs put their files until the spool has them: a folder per run, in a folder per process.

A process holds a lock on its own folder for as long as it lives, however it ends. So whoever starts next can
tell what the dead left behind from what the living are using, and clears it away.
"""

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

from ledger.job import Claim


class Workplace:
    """A folder of one's own below `root`, which may be shared with workers on other hosts."""

    def __init__(self, root: Path, name: str) -> None:
        """Clear away what dead processes left, and take a folder of one's own called `name`."""
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for other in root.iterdir():
            _clear_if_dead(other)
        self._own, self._lock = _take(root / name)

    def folder(self, claim: Claim) -> Path:
        """An empty folder for this claim; what earlier holders of the job left goes away."""
        for left in self._root.glob(f"*/{claim.job_id}-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = self._own / f"{claim.job_id}-{claim.epoch}"
        folder.mkdir(parents=True, mode=0o700)
        return folder

    def file(self, name: str) -> Path:
        """Where this process may write a file called `name` until the spool has it, and delete it then."""
        return self._own / name

    def close(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self._own, ignore_errors=True)
        os.close(self._lock)


def _take(own: Path) -> tuple[Path, int]:
    while True:
        own.mkdir(exist_ok=True, mode=0o700)
        # Another process that starts now may find the folder before it is locked, and clear it away.
        with suppress(FileNotFoundError):
            lock = os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if own.exists() and os.fstat(lock).st_ino == own.stat().st_ino:
                return own, lock
            os.close(lock)


def _clear_if_dead(other: Path) -> None:
    # A file system that cannot lock says so by an error, and then nothing is cleared.
    with suppress(OSError):
        lock = os.open(other, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other, ignore_errors=True)
        finally:
            os.close(lock)

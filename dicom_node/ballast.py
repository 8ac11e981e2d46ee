"""A file of no use beside the ledger, which is given up when the disk is full.

A ledger that cannot write can neither record what is done nor say what is wrong. The marks of the spool keep
a disk from filling up by what we take in, but others write to disks as well. So room is held by a file;
when the disk under the ledger is really full the file goes, and what it leaves is enough for the states of
the work that runs. Nothing is taken in until there is room for the file again.

SQLite only: where the ledger is a server's, the room on that server's disk is its administrator's.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

_LOOK_S = 1.0

#: Is told what happened: an event's name and a sentence.
Told = Callable[[str, str], None]


def ballast_beside(ledger: Path) -> Path:
    """The file that holds room for the ledger at `ledger`."""
    return ledger.with_name(f"{ledger.name}.ballast")


class Ballast:
    """Holds room, gives it up, and takes it back; see `look`. One node at a time has one."""

    def __init__(self, beside: Path | None, size: int, *, told: Told, look_s: float = _LOOK_S) -> None:
        """`beside` is the ledger's file, None where it is none of ours; of `size` 0 there is no ballast."""
        self._path = ballast_beside(beside) if beside is not None and size else None
        self._size, self._told, self._look_s = size, told, look_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ballast", daemon=True)
        #: The disk is full, or has not enough room yet to hold the file: nothing may be taken in.
        self.given_up = False

    def start(self) -> None:
        """Hold the room, and look after it from now on."""
        if self._path is not None:
            self.look()
            self._thread.start()

    def stop(self) -> None:
        """Look no more. The file stays: the next start is as likely to need it."""
        self._over.set()

    def look(self) -> None:
        """Compare the file with the room that is left.

        It is given up where less than a quarter of its size is free, and taken back where twice its size is:
        what it takes then leaves more than what would have it given up again.
        """
        path = self._path
        if path is None:
            return
        try:
            disk = os.statvfs(path.parent)
            held = path.stat().st_blocks * 512 if path.exists() else 0
        except OSError:
            return  # A disk that has gone away: the ledger says so itself.
        free = disk.f_bavail * disk.f_frsize
        if held and free < self._size // 4:
            self._give_up(path)
        elif held < self._size and free + held >= 2 * self._size:
            self._take(path)
        elif not held and not self.given_up:
            self.given_up = True
            self._say("ballast_missing", "too full to begin with: nothing is received until there is room")
        elif held >= self._size and self.given_up:
            self.given_up = False

    def _give_up(self, path: Path) -> None:
        self.given_up = True  # Before the room is there, so that no instance takes it.
        with suppress(OSError):
            path.unlink()
        self._say("ballast_given_up", "full: nothing is received until there is room; what runs is recorded")

    def _take(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
        except OSError:  # Somebody else was faster. The next look may be luckier.
            with suppress(OSError):
                path.unlink()
            self.given_up = True
            return
        if self.given_up:
            self.given_up = False
            self._say("ballast_taken_back", "no longer full: instances are received again")

    def _say(self, event: str, how: str) -> None:
        assert self._path is not None
        because = f"the disk of the ledger ({self._path.parent}) is {how}"
        log.warning(f"node.{event}", because=because)
        self._told(event, because)

    def _run(self) -> None:
        while not self._over.wait(self._look_s):
            self.look()

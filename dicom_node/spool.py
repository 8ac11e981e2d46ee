"""The folder of files that we answer for.

    incoming/      being written; nothing here was ever promised to anybody
    instances/ab/  instances, named by the SHA-256 of their data set
    quarantine/    bytes that cannot be filed, or contradict what is filed; named likewise
    results/       what the models made, named by the SHA-256 of the file

    daybook        instances that were answered with Success and are not yet among the files

Rule 1: a file appears under its name whole and synced, or not at all: write, fsync, rename. One of which the
daybook has the bytes may be synced later, for after a crash it is made again from there.
Rule 2: no name comes from the wire. A UID is a value in the ledger, never a path.
Rule 3: after a failed fsync the file is thrown away. The kernel may have dropped the pages and forgotten the
error, so a second fsync that succeeds proves nothing.
"""

import errno
import fcntl
import hashlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.ballast import Ballast
from dicom_node.part import (
    BLOCK,
    INCOMING,
    INSTANCES,
    QUARANTINE,
    RESULTS,
    Part,
    SpoolBroken,
    SpoolFull,
    Staged,
    site_error,
)
from dicom_node.settings import SpoolSettings
from ledger.identifiers import Digest

if TYPE_CHECKING:
    from dicom_node.reconcile import Reconciliation
    from ledger.store.ledger import Ledger

__all__ = (
    "INCOMING",
    "INSTANCES",
    "QUARANTINE",
    "RESULTS",
    "Part",
    "Room",
    "Spool",
    "SpoolBroken",
    "SpoolFull",
    "Staged",
    "occupant",
)

_LOCK = "node.lock"
_LOCK_TRIES = 10  # Whoever looks at it (`occupant`) holds it for an instant.


class Room(StrEnum):
    """How much room the spool has left."""

    OK = "ok"
    SOFT = "soft"  #: An operator should look.
    HARD = "hard"  #: Nothing more is taken in until there is room again.


class Spool:
    """One spool. Safe to use from many threads; one node at a time takes instances in."""

    def __init__(self, settings: SpoolSettings) -> None:
        """Make the folders where they are missing. Raises `SpoolBroken` where that is not possible."""
        self._settings = settings
        self.path = settings.path.absolute()
        self._root = str(self.path)
        self._incoming = f"{self._root}/{INCOMING}/{os.getpid()}-"
        self.ballast: Ballast | None = None  #: of the ledger's disk, which may be another one
        self._count = itertools.count()
        self._room, self._measured_at = Room.OK, float("-inf")
        self._door = threading.Condition()
        self._inside = 0  # arrivals between `stage` and the ledger's answer
        self._closed = False  # a deletion is going on
        try:
            # Images are patient data: nobody else on this machine reads them.
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in (INCOMING, INSTANCES, QUARANTINE, RESULTS):
                (self.path / name).mkdir(exist_ok=True, mode=0o700)
            for number in range(256):
                (self.path / INSTANCES / f"{number:02x}").mkdir(exist_ok=True, mode=0o700)
            self.sync_folders([INSTANCES, "."])
        except OSError as error:
            raise site_error(error, self.path) from error

    # Taking in

    def begin(self, header: bytes) -> Part:
        """A file for an instance that is coming in. Raises `SpoolFull` or `SpoolBroken`."""
        return Part(self, self._temporary(), header)

    def stage(self, header: bytes, data_set: bytes | memoryview) -> Staged:
        """Give `header` and `data_set` a synced file named by the digest of the data set.

        The folder is not synced yet: call `sync_folders` with `path` before promising anything. Raises
        `SpoolFull` or `SpoolBroken` and leaves no trace.
        """
        with self.begin(header) as part:
            part.append([memoryview(data_set).cast("B")])
            return part.stage()

    def write_unsynced(self, blocks: memoryview, size: int, path: str) -> int:
        """Give the first `size` bytes of `blocks` the name `path`: whole, but to survive a loss of power the
        descriptor that is returned has to be synced, and the folder. Only for what is durable elsewhere
        (`dicom_node.daybook`).

        Raises `SpoolFull` or `SpoolBroken` and leaves no trace.
        """
        # Text, for `Path` takes longer than the kernel here, and this is done for every instance.
        temporary, target = f"{self._incoming}{next(self._count)}.part", self._inside_spool(path)
        try:
            descriptor = _written_past_the_cache(temporary, blocks, size)
            try:
                # What was received once was received then: results are dated by it.
                with suppress(FileNotFoundError):
                    came = os.stat(target)  # noqa: PTH116
                    os.utime(descriptor, ns=(came.st_atime_ns, came.st_mtime_ns))
                os.rename(temporary, target)  # noqa: PTH104
            except BaseException:
                os.close(descriptor)
                raise
        except BaseException as error:
            Path(temporary).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise site_error(error, self.path) from error
            raise
        return descriptor

    def write_new(self, blocks: memoryview, size: int, path: str) -> int:
        """As `write_unsynced`, but only where nothing has the name: then no other name is needed on the way,
        and the file costs half. A crash may leave it torn, for `dicom_node.carry_forward` to heal.

        Raises `FileExistsError`, and nothing is done; `SpoolFull` or `SpoolBroken`, and leaves no trace.
        """
        target = self._inside_spool(path)
        try:
            return _written_past_the_cache(target, blocks, size)
        except FileExistsError:
            raise
        except BaseException as error:
            Path(target).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise site_error(error, self.path) from error
            raise

    def write_synced(self, blocks: memoryview, size: int, path: str) -> None:
        """As `write_unsynced`, but durable when this returns. The name is there a moment before the bytes are
        safe: what a crash leaves torn under it was promised to nobody, and is set aside at the next start.
        """
        descriptor = self.write_unsynced(blocks, size, path)
        try:
            os.fsync(descriptor)
        except OSError as error:
            self.remove([path])  # Rule 3
            raise site_error(error, self.path) from error
        finally:
            os.close(descriptor)
        self.sync_folders([path.rpartition("/")[0]])

    def holds(self, path: str) -> bool:
        """Whether there is a file with the spool path `path`."""
        return os.access(self._inside_spool(path), os.F_OK)

    def quarantine(self, header: bytes, data_set: bytes | memoryview) -> Staged:
        """Keep bytes that cannot be filed: durable when this returns."""
        with self.begin(header) as part:
            part.append([memoryview(data_set).cast("B")])
            return part.quarantine()

    def move_to_quarantine(self, staged: Staged) -> Staged:
        """Take a staged file out of the instances: durable when this returns."""
        path = f"{QUARANTINE}/{staged.digest}.dcm"
        try:
            self.absolute(staged.path).replace(self.absolute(path))
        except FileNotFoundError as error:
            # The same bytes arrived twice at once, and the other of the two was faster.
            if not self.absolute(path).exists():
                raise site_error(error, self.path) from error
        except OSError as error:
            raise site_error(error, self.path) from error
        self.sync_folders([QUARANTINE, str(Path(staged.path).parent)])
        return Staged(staged.digest, staged.size, path)

    def keep_result(self, file: Path) -> tuple[Digest, int, str]:
        """Keep a copy of a finished result: its digest, its size and its path in the spool. Durable."""
        contents = file.read_bytes()
        digest = Digest(hashlib.sha256(contents).hexdigest())
        path = f"{RESULTS}/{digest}.dcm"
        self._place(contents, path)
        self.sync_folders([RESULTS])
        return digest, len(contents), path

    def sync_folders(self, paths: Iterable[str]) -> None:
        """Make the names in the folders `paths` (relative, each once) survive a loss of power."""
        for folder in sorted(set(paths)):
            try:
                descriptor = os.open(self.path / folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise site_error(error, self.path) from error

    # Giving out and away

    def absolute(self, relative: str) -> Path:
        """Where the file with the spool path `relative` is. Raises `SpoolBroken` for a path that leaves."""
        return Path(self._inside_spool(relative))

    def _inside_spool(self, relative: str) -> str:
        if relative.startswith("/") or ".." in relative.split("/") or "\0" in relative:
            raise SpoolBroken(f"the ledger names a file outside the spool: {relative!r}")
        return f"{self._root}/{relative}"

    def remove(self, paths: Iterable[str]) -> int:
        """Delete files by their spool paths; how many there were. Missing ones are no error."""
        removed = 0
        for relative in paths:
            try:
                self.absolute(relative).unlink()
                removed += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                raise site_error(error, self.path) from error
        return removed

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Around `stage` and the ledger's answer: nothing is deleted meanwhile."""
        with self._door:
            self._door.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._door:
                self._inside -= 1
                self._door.notify_all()

    @contextmanager
    def deleting(self) -> Iterator[None]:
        """Around the ledger's purge and `remove`: nothing is taken in meanwhile.

        Files are named by content, so an instance that arrives again while its old rows are being purged has
        the very path that the purge is about to delete.
        """
        with self._door:
            self._door.wait_for(lambda: not self._closed)
            self._closed = True
            self._door.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            with self._door:
                self._closed = False
                self._door.notify_all()

    def files(self, folder: str) -> Iterator[str]:
        """The spool paths of all files under `folder`, in no order."""
        for parent, _, names in os.walk(self.path / folder):
            relative = Path(parent).relative_to(self.path)
            yield from (str(relative / name) for name in names)

    # Room

    def room(self) -> Room:
        """How much room there is. Once HARD it stays so until `resume_percent`: no flutter at the mark."""
        if self.ballast is not None and self.ballast.given_up:
            return Room.HARD
        now = time.monotonic()
        if now - self._measured_at >= self._settings.measure_s:
            self._room, self._measured_at = self._measure(), now
        return self._room

    def _measure(self) -> Room:
        settings = self._settings
        try:
            disk = os.statvfs(self.path)
        except OSError:
            return Room.HARD  # A disk that has gone away takes nothing in; it may come back.
        free = disk.f_bavail * disk.f_frsize
        used_percent = 100.0 * (1 - disk.f_bavail / max(1, disk.f_blocks))
        hard = settings.resume_percent if self._room is Room.HARD else settings.hard_percent
        if used_percent >= hard or free < settings.reserve_bytes:
            return Room.HARD
        return Room.SOFT if used_percent >= settings.soft_percent else Room.OK

    # Starting

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Hold the spool for one node. Raises `SpoolBroken` while another node holds it."""
        with (self.path / _LOCK).open("ab") as lock:
            for _ in range(_LOCK_TRIES):
                with suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.05)
            else:
                raise SpoolBroken(f"another node is already using the spool {self.path}: stop it first")
            lock.truncate(0)
            lock.write(socket.gethostname().encode())
            lock.flush()
            yield

    def sweep_incoming(self) -> int:
        """Delete what was being written by processes that are gone; how many files."""
        removed = 0
        for relative in self.files(INCOMING):
            with suppress(FileNotFoundError), self.absolute(relative).open("rb") as file:
                # Every writer holds a lock on its file, and a lock dies with its process.
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.absolute(relative).unlink()
                    removed += 1
        return removed

    def reconcile(self, ledger: "Ledger") -> "Reconciliation":
        """Make spool and ledger agree after a crash: see `dicom_node.reconcile`."""
        from dicom_node.reconcile import reconcile  # noqa: PLC0415 (it needs the spool itself)

        return reconcile(self, ledger)

    # One file

    def _temporary(self) -> Path:
        return Path(f"{self._incoming}{next(self._count)}.part")

    def _place(self, contents: bytes, path: str) -> None:
        with Part(self, self._temporary(), contents) as part:
            part.place(path)


def _written_past_the_cache(path: str, blocks: memoryview, size: int) -> int:
    """A new file with the first `size` bytes of `blocks`, which are whole blocks in aligned memory.

    A byte costs more processor on its way through the page cache than all the rest of receiving. Where the
    file system takes no direct writes, that is the way all the same.
    """
    whole = size // BLOCK * BLOCK
    try:
        return _written(path, blocks[:whole], blocks[whole:size], os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        Path(path).unlink(missing_ok=True)
        return _written(path, blocks[:whole], blocks[whole:size], 0)


def _written(path: str, blocks: memoryview, rest: memoryview, how: int) -> int:
    """A new file with `blocks`, written as `how` says, and the `rest`, which is less than a block."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | how, 0o600)
    try:
        written = os.write(descriptor, blocks)
        if written == len(blocks):
            # Through the cache: to cut the last block off afterwards waits for the file system's journal.
            fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
            written += os.write(descriptor, rest)
        if written == len(blocks) + len(rest):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the last room of a disk


def occupant(path: Path) -> str | None:
    """The host of the node that takes instances into the spool at `path`; None where no node does.

    Raises `OSError` where that cannot be told: the spool is not here, or not ours to look at.
    """
    path.stat()
    try:
        with (path / _LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read(256).decode(errors="replace")
    except FileNotFoundError:
        pass  # No node ever was here.
    return None

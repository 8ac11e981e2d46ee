"""One file of the spool on its way to its name: written, synced, renamed; or gone without a trace."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ledger.errors import SiteError
from ledger.failpoint import failpoint
from ledger.identifiers import Digest

if TYPE_CHECKING:
    from dicom_node.spool import Spool

INCOMING, INSTANCES, QUARANTINE, RESULTS = "incoming", "instances", "quarantine", "results"
BLOCK = 4096  #: bytes: what disks write as one, and what direct writes are aligned to

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PIECES_MAXIMUM = 512  # of one writev call; the kernel takes 1024
# Instances up to this size stay in the page cache, for somebody will read them soon.
_CACHED_BYTES = 64 << 20
_PUSH_BYTES = 16 << 20  # How often the beginning of a larger one is pushed to the disk.


class SpoolFull(SiteError):
    """There is no room for another file."""


class SpoolBroken(SiteError):
    """The disk under the spool refuses to work."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A file that has its name and its synced bytes, but whose folder is not synced yet: no promise."""

    digest: Digest  #: of the data set, without File Meta Information
    size: int  #: of the data set, in bytes
    path: str  #: relative to the spool


class Part:
    """A file that is being written, under no name yet. A context manager: what was not placed is deleted.

    A file that already has the name has the same data set. If it is whole it stays, with the header that says
    who sent it first; what a failing disk did to it in the meantime is healed by the copy that just came.
    Every method raises `SpoolFull` or `SpoolBroken`, after which only `discard` is left to do.
    """

    def __init__(self, spool: "Spool", temporary: Path, header: bytes) -> None:
        self._spool, self._temporary = spool, temporary
        self._waiting: bytes = header  # written together with what comes first
        self._hash = hashlib.sha256()
        self.size = 0  #: of the data set, in bytes
        self._pushed = _CACHED_BYTES
        self._descriptor = -1
        with self._explained():
            self._descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append(self, pieces: Sequence[memoryview]) -> None:
        """Write the next bytes of the data set."""
        for piece in pieces:
            self._hash.update(piece)
            self.size += len(piece)
        with self._explained():
            self._write([memoryview(self._waiting), *pieces] if self._waiting else pieces)
            self._waiting = b""
            if self.size >= self._pushed:
                # What is on its way to the disk already need not be waited for at the end, nor cached.
                os.posix_fadvise(self._descriptor, 0, self._pushed, os.POSIX_FADV_DONTNEED)
                self._pushed += _PUSH_BYTES

    @property
    def digest(self) -> Digest:
        """Of the data set so far."""
        return Digest(self._hash.hexdigest())

    @property
    def staged(self) -> Staged:
        """What `stage` will have made of it."""
        digest = self.digest
        return Staged(digest, self.size, instance_path(digest))

    @property
    def descriptor(self) -> int:
        """The open file with all that was written, header included; to be read from, and not to be moved."""
        return self._descriptor

    def stage(self) -> Staged:
        """Place it among the instances. The folder is not synced yet."""
        staged = self.staged
        self.place(staged.path)
        failpoint("spool_renamed")
        return staged

    def quarantine(self) -> Staged:
        """Place it in quarantine: durable when this returns."""
        staged = Staged(self.digest, self.size, f"{QUARANTINE}/{self.digest}.dcm")
        self.place(staged.path)
        self._spool.sync_folders([QUARANTINE])
        return staged

    def place(self, path: str) -> None:
        """Sync it, and give it its name, unless a whole file has it already."""
        target = self._spool.absolute(path)
        with self._explained():
            if self._waiting:
                self._write([memoryview(self._waiting)])
            # Only data sets: a result is named by all of its bytes, and there is no other header to keep.
            if self.size and _ends_in(target, self.size, self.digest):
                self.discard()
                return
            # What was received once was received then: results are dated by it.
            with suppress(FileNotFoundError):
                came = target.stat()
                os.utime(self._descriptor, ns=(came.st_atime_ns, came.st_mtime_ns))
            os.fsync(self._descriptor)
            self._close()
            failpoint("spool_written")
            self._temporary.replace(target)

    def discard(self) -> None:
        """Delete it, unless it was placed."""
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self._temporary.unlink()

    def _write(self, pieces: Sequence[memoryview]) -> None:
        for start in range(0, len(pieces), _PIECES_MAXIMUM):
            views = list(pieces[start : start + _PIECES_MAXIMUM])
            written = os.writev(self._descriptor, views)
            while written < sum(map(len, views)):  # rare: a signal, or the last room of a disk
                views = _behind(views, written)
                written = os.writev(self._descriptor, views)

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.discard()
            raise site_error(error, self._spool.path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0 or self._temporary.exists():
            self.discard()


def instance_path(digest: Digest) -> str:
    """The spool path of the instance whose data set has this digest."""
    return f"{INSTANCES}/{digest.value[:2]}/{digest}.dcm"


def _ends_in(path: Path, size: int, digest: Digest) -> bool:
    """Whether the last `size` bytes of the file at `path` are those that `digest` was made of."""
    try:
        with path.open("rb") as file:
            start = os.fstat(file.fileno()).st_size - size
            if start < 0:
                return False
            file.seek(start)
            return hashlib.file_digest(file, "sha256").hexdigest() == digest.value
    except FileNotFoundError:
        return False


def _behind(views: Sequence[memoryview], count: int) -> list[memoryview]:
    """`views` without their first `count` bytes."""
    left: list[memoryview] = []
    for view in views:
        if count < len(view):
            left.append(view[count:])
        count = max(0, count - len(view))
    return left


def site_error(error: OSError, path: Path) -> SiteError:
    """What an error of the disk under the spool at `path` means for its administrator."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _NO_SPACE:
        return SpoolFull(f"the spool {path} is full: {reason}. Free some room; receiving resumes by itself")
    return SpoolBroken(f"the spool {path} cannot be used: {reason}")

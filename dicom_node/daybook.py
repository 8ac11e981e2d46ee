"""The daybook: where an instance is durable after one sync, until file and row are made of it.

Bookkeepers enter what happens into a daybook at once, and carry it over into the ledger in a quiet moment. So
do we: `Page.write` makes the whole of an instance durable by one system call, and Success may be said. File
and row are made a few milliseconds later for all that came meanwhile (`dicom_node.bookkeeper`), and then the
page is free again. What a crash leaves here is carried over at the next start (`dicom_node.carry_forward`).

One file, `daybook` in the spool: a block with the mark, then pages of 1 MiB. A page is a block that says
what follows, and the bytes of the file that the instance will be. Of a page only as much is ever written, in
memory and on the disk, as its instance needs. The page used last is used next, so most often its room on the
disk is allocated, and a sync waits for nothing but the bytes. A page counts if it is whole by its own check
sums and not numbered below the mark.
"""

import errno
import hashlib
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.part import BLOCK, site_error
from ledger.failpoint import failpoint
from ledger.identifiers import Digest

NAME = "daybook"
PAGE_BYTES = (
    1 << 20
)  # A slice of 512 x 512 has half of it; what is larger is worth a file of its own at once.
_PAGES = 128  # Memory is used for those that wait to be carried over, most often a few.
_PAGE_S = 0.5  # Waiting for a page is faster than the slow way; not if the disk is in trouble.

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_DSYNC  # What is written is durable when the call returns.

_MARK = struct.Struct("<8sQ")
_PAGE = struct.Struct("<8sQIQ32s64s")  # magic, number, bytes of File Meta, of data set, digest, address
_SUM = struct.Struct("<I")
_MARK_MAGIC, _PAGE_MAGIC = b"WTDAYBK1", b"WTPAGE01"


@dataclass(frozen=True, slots=True)
class Entry:
    """An instance that was found in the daybook: whole."""

    number: int
    header: bytes  #: all that comes before the data set in its file
    data_set: bytes
    digest: Digest  #: of the data set
    address: str  #: whom it came from


class Page:
    """Room for one instance: gathered in memory, then written at once. Used by one thread at a time."""

    def __init__(self, daybook: "Daybook", index: int, memory: memoryview, header: bytes) -> None:
        self._daybook, self._index, self._memory = daybook, index, memory
        self._hash = hashlib.sha256()
        self._start = self._end = BLOCK + len(header)
        self._memory[BLOCK : self._start] = header
        self._number: int | None = None

    def append(self, pieces: Sequence[memoryview]) -> bool:
        """Take the next bytes of the data set; False, and nothing is taken, where they do not fit."""
        if self._end + sum(map(len, pieces)) > PAGE_BYTES:
            return False
        for piece in pieces:
            end = self._end + len(piece)
            self._memory[self._end : end] = piece
            self._hash.update(piece)
            self._end = end
        return True

    @property
    def contents(self) -> memoryview:
        """The bytes of its file."""
        return self._memory[BLOCK : self._end]

    @property
    def blocks(self) -> memoryview:
        """As `contents`, up to the end of its last block: what a direct write takes."""
        return self._memory[BLOCK : -(-self._end // BLOCK) * BLOCK]

    @property
    def header(self) -> bytes:
        """What comes before the data set in its file."""
        return bytes(self._memory[BLOCK : self._start])

    @property
    def data_set(self) -> memoryview:
        """The data set so far."""
        return self._memory[self._start : self._end]

    @property
    def digest(self) -> Digest:
        """Of the data set so far."""
        return Digest(self._hash.hexdigest())

    def write(self, address: str) -> None:
        """Make it durable. Raises `SpoolFull` or `SpoolBroken`: then it may be found after a crash or not."""
        self._number = self._daybook._next_number()
        told = _PAGE.pack(
            _PAGE_MAGIC,
            self._number,
            self._start - BLOCK,
            self._end - self._start,
            self._hash.digest(),
            address.encode()[:64],
        )
        check = zlib.crc32(self._memory[BLOCK : self._start], zlib.crc32(told))
        told += _SUM.pack(check)
        self._memory[: len(told)] = told
        whole = -(-self._end // BLOCK) * BLOCK
        self._daybook._write(self._memory[:whole], _place(self._index))
        self._daybook._out_of_hand(self._index)
        failpoint("page_written")

    def free(self) -> None:
        """Its instance has file and row, or was never promised: somebody else may have the page."""
        self._daybook._give_back(self._index, self._number)


class Daybook:
    """The pages of one spool. Safe to use from many threads; one node at a time has it open."""

    def __init__(self, folder: Path) -> None:
        """Open it, and make it if need be. Raises `SpoolFull` or `SpoolBroken`."""
        self._folder = folder
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._free = list(range(_PAGES))[::-1]
        self._memory = memoryview(mmap.mmap(-1, _PAGES * PAGE_BYTES))  # touched only where it is used
        self._mark_memory = memoryview(mmap.mmap(-1, BLOCK))
        self._open_numbers: set[int] = set()
        self._in_hand: set[int] = set()  # pages that are being filled or written
        path = folder / NAME
        try:
            self._descriptor = _open(path)
            _sync(folder)  # The pages are worth nothing if the name of the file is lost.
            self._mark, self._number = _numbers(path)
        except OSError as error:
            raise site_error(error, folder) from error

    def begin(self, header: bytes) -> Page | None:
        """A page for an instance that is coming in; None while all are in use."""
        with self._lock:
            if not self._free and not self._freed.wait_for(lambda: self._free, _PAGE_S):
                return None
            index = self._free.pop()
            self._in_hand.add(index)
        return Page(self, index, self._memory[index * PAGE_BYTES : (index + 1) * PAGE_BYTES], header)

    def in_use(self) -> int:
        """How many pages are not free."""
        with self._lock:
            return _PAGES - len(self._free)

    def at_once(self) -> int:
        """How many pages are being filled or written: so many associations are busy."""
        return len(self._in_hand)

    def mark(self) -> None:
        """Write down that whatever is free now needs no second look. Raises `SpoolFull` or `SpoolBroken`."""
        with self._lock:
            mark = min(self._open_numbers, default=self._number)
        if mark != self._mark:
            told = _MARK.pack(_MARK_MAGIC, mark)
            told += _SUM.pack(zlib.crc32(told))
            self._mark_memory[: len(told)] = told
            self._write(self._mark_memory, 0)
            self._mark = mark

    def entries(self) -> Iterator[Entry]:
        """What a node that is gone did not carry over, in its order. Raises `SpoolBroken`."""
        try:
            with (self._folder / NAME).open("rb") as file:
                found = [told for index in range(_PAGES) if (told := _read(file.fileno(), index))]
                for number, index in sorted(found):
                    if number >= self._mark and (entry := _entry(file.fileno(), index)):
                        yield entry
        except OSError as error:
            raise site_error(error, self._folder) from error

    def close(self) -> None:
        """Close the file. What was not carried over is found at the next start."""
        os.close(self._descriptor)

    def _next_number(self) -> int:
        with self._lock:
            number = self._number
            self._number += 1
            self._open_numbers.add(number)
            return number

    def _out_of_hand(self, index: int) -> None:
        with self._lock:
            self._in_hand.discard(index)

    def _give_back(self, index: int, number: int | None) -> None:
        with self._lock:
            self._in_hand.discard(index)
            self._free.append(index)
            self._freed.notify()
            if number is not None:
                self._open_numbers.discard(number)

    def _write(self, contents: memoryview, place: int) -> None:
        try:
            written = self._written(contents, place)
        except OSError as error:
            raise site_error(error, self._folder) from error
        if written < len(contents):  # the last room of a disk
            raise site_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), self._folder)

    def _written(self, contents: memoryview, place: int) -> int:
        try:
            return os.pwrite(self._descriptor, contents, place)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # Some file systems promise direct writes and then refuse them, or want larger blocks than ours.
        plain = os.open(self._folder / NAME, _FLAGS)
        os.dup2(plain, self._descriptor, inheritable=False)  # for all threads at once
        os.close(plain)
        return os.pwrite(self._descriptor, contents, place)


def _place(index: int) -> int:
    """Where a page begins. The first one belongs to the mark."""
    return (index + 1) * PAGE_BYTES


def _open(path: Path) -> int:
    """Open it so that a write is durable when it returns, past the page cache where the disk allows that."""
    try:
        return os.open(path, _FLAGS | os.O_CREAT | os.O_DIRECT, 0o600)
    except OSError:  # Some file systems know no direct writes.
        return os.open(path, _FLAGS | os.O_CREAT, 0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _numbers(path: Path) -> tuple[int, int]:
    """The mark, and the first number that was never used."""
    with path.open("rb") as file:
        start = os.pread(file.fileno(), _MARK.size + _SUM.size, 0)
        mark = 0
        if len(start) == _MARK.size + _SUM.size:
            magic, told = _MARK.unpack_from(start)
            check = zlib.crc32(start[: _MARK.size])
            if magic == _MARK_MAGIC and _SUM.unpack_from(start, _MARK.size)[0] == check:
                mark = told
        used = [found[0] for index in range(_PAGES) if (found := _read(file.fileno(), index))]
    return mark, max([mark, *(number + 1 for number in used)])


def _read(descriptor: int, index: int) -> tuple[int, int] | None:
    """The number of what is on a page, and its index; None where there is nothing."""
    told = os.pread(descriptor, _PAGE.size, _place(index))
    if len(told) < _PAGE.size or not told.startswith(_PAGE_MAGIC):
        return None
    return int(_PAGE.unpack(told)[1]), index


def _entry(descriptor: int, index: int) -> Entry | None:
    """What is on a page, if it is whole: what was torn was never promised."""
    page = os.pread(descriptor, PAGE_BYTES, _place(index))
    _, number, meta, size, digest, address = _PAGE.unpack_from(page)
    start, end = BLOCK + meta, BLOCK + meta + size
    header, data_set = page[BLOCK:start], page[start:end]
    check = zlib.crc32(header, zlib.crc32(page[: _PAGE.size]))
    if (
        end > len(page)
        or _SUM.unpack_from(page, _PAGE.size)[0] != check
        or hashlib.sha256(data_set).digest() != digest
    ):
        return None
    return Entry(number, header, data_set, Digest(digest.hex()), address.rstrip(b"\0").decode())

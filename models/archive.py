"""
A model as it is handed over, laid out in a folder of our own: from a folder, a .zip or a .tar.

Rule 1: nothing is written outside of that folder, whatever the archive calls its members.
Rule 2: only regular files; links, devices, pipes and encrypted members are refused.
Rule 3: what is written is counted while it is written: an archive may lie about how large it is.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, cast

from models.contract import BrokenModel
from models.manifest import PATH

_PIECE_BYTES = 1 << 20
_READ_AT_ONCE = 64 << 20  # No reader of archives needs more at once, except for a header that lies.
_FILES_MAX = 10_000  # A checkpoint folder of nnU-Net has 20 files, the largest bundle 60.
_BYTES_MAX = 64 << 30
_RATIO_MAX = 20  # Weights hardly shrink; text shrinks to a fifth.
_SMALL_BYTES = 64 << 20  # Below this nobody has to mind the ratio.
_PATH = re.compile(PATH)
#: What tools leave behind, and no part of a model.
_LITTER = {"__MACOSX", "__pycache__", ".git", ".cache", ".DS_Store"}
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


class Unsafe(BrokenModel):
    """An archive or a folder holds what no model needs, and what could do harm."""


def is_archive(path: Path) -> bool:
    """Whether `lay_out` takes the file for an archive of a model."""
    return path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def lay_out(source: Path, into: Path) -> None:
    """Copy the folder, or unpack the archive, into the empty folder `into`. Raises `Unsafe`, `BrokenModel`.

    Where everything is in one folder, that folder is the model. Hidden files are left out.
    """
    if source.is_dir():
        _copy_folder(source, into)
    else:
        budget = _Budget(min(_BYTES_MAX, max(_SMALL_BYTES, _RATIO_MAX * source.stat().st_size)))
        try:
            with source.open("rb") as file:
                unpack = _unzip if source.name.lower().endswith(".zip") else _untar
                unpack(file, into, budget)
        except _BROKEN as error:
            raise BrokenModel(f"{source.name} is not a whole archive: {error}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise BrokenModel(f"{source.name} is not a whole archive: {error}") from error
    _lift(into)


@dataclass
class _Budget:
    """How much may still be written."""

    left: int
    files: int = 0
    names: set[str] = field(default_factory=set)

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Unsafe("the archive becomes far larger than it is: it may be a bomb, and nothing is kept")

    def enter(self, name: str) -> None:
        self.files += 1
        if self.files > _FILES_MAX:
            raise Unsafe(f"there are more than {_FILES_MAX} files in it: that is no model")
        if name.lower() in self.names:
            raise Unsafe(f"{name!r} is in it twice")
        self.names.add(name.lower())


def _copy_folder(source: Path, into: Path) -> None:
    budget = _Budget(_BYTES_MAX)
    for parent, folders, files in os.walk(source):
        folders[:] = sorted(name for name in folders if not _is_litter(name))
        for name in (*folders, *files):
            found = (Path(parent) / name).lstat()
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                if _is_litter(name):
                    continue
                raise Unsafe(f"{name!r} is neither a file nor a folder: links and devices are not taken")
        for name in sorted(files):
            if not _is_litter(name):
                path = Path(parent) / name
                relative = _safe(path.relative_to(source).as_posix())
                budget.enter(relative)
                with _opened(path) as file:
                    _write(file, into / relative, budget)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    # Between the look and the opening a link may have taken its place.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        yield file


def _unzip(file: IO[bytes], into: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir() and kind in (0, stat.S_IFDIR):
                continue
            if kind not in (0, stat.S_IFREG):
                raise Unsafe(f"{member.filename!r} is not a regular file: links and devices are not taken")
            if member.flag_bits & 0x1:
                raise Unsafe(f"{member.filename!r} is encrypted")
            if (relative := _wanted(member.filename)) is not None:
                budget.enter(relative)
                with archive.open(member) as content:
                    _write(content, into / relative, budget)


def _untar(file: IO[bytes], into: Path, budget: _Budget) -> None:
    with tarfile.open(fileobj=cast(IO[bytes], _Careful(_decompressed(file))), mode="r:") as archive:
        for member in archive:
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise Unsafe(f"{member.name!r} is not a regular file: links and devices are not taken")
            budget.take(0 if member.size <= budget.left else member.size)
            if (relative := _wanted(member.name)) is None:
                continue
            budget.enter(relative)
            content = archive.extractfile(member)
            assert content is not None
            with content:
                _write(content, into / relative, budget)


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(file))
    if start.startswith(b"\xfd7zXZ\0"):
        return cast(IO[bytes], lzma.LZMAFile(file))
    return file


class _Careful:
    """A file of which nobody reads more at once than a header can honestly ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _READ_AT_ONCE:
            raise Unsafe("a header of the archive is as long as no header is")
        return self._file.read(size)


def _wanted(name: str) -> str | None:
    """The safe path of a member; None for litter. Raises `Unsafe`."""
    parts = PurePosixPath(name.removeprefix("./")).parts
    if any(_is_litter(part) and part not in (".", "..") for part in parts):
        return None
    return _safe(name.removeprefix("./"))


def _safe(name: str) -> str:
    if not _PATH.fullmatch(name) or ".." in name.split("/"):
        raise Unsafe(
            f"{name!r} cannot be the path of a file of a model: letters, digits and _ . + - between slashes, "
            "beginning with a letter, a digit or _"
        )
    return name


def _is_litter(name: str) -> bool:
    return name in _LITTER or (name.startswith(".") and name not in (".", ".."))


def _write(content: IO[bytes], path: Path, budget: _Budget) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        while piece := content.read(_PIECE_BYTES):
            budget.take(len(piece))
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _tells(name: str) -> bool:
    """Whether the name of the folder says something: a part of a bundle, a configuration of nnU-Net."""
    return name in ("configs", "models") or "__" in name or name.startswith("fold_")


def _lift(into: Path) -> None:
    """Where all is in one folder, take it from there."""
    inside = list(into.iterdir())
    if len(inside) == 1 and inside[0].is_dir() and not _tells(inside[0].name):
        (outer,) = inside
        # A name that nothing in it has.
        lifted = outer.rename(into / ".lifted")
        for path in list(lifted.iterdir()):
            path.rename(into / path.name)
        lifted.rmdir()

"""
A model's folder, of which only what the manifest vouches for can be read.

The digest is taken of the file that was opened, every time, and the same open file is handed out: nothing can
be put in its place between the look and the use. Links are not followed.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ledger.identifiers import Digest
from models.contract import BrokenModel
from models.manifest import FileFact, Manifest

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Package:
    """An installed model: a folder and the manifest in it."""

    folder: Path
    manifest: Manifest
    written: bytes = b""  #: the manifest as it was read from its file: what signatures are about

    def open(self, path: str) -> BinaryIO:
        """The file `path` of the manifest, verified and at its beginning. Raises `BrokenModel`."""
        fact = self._fact(path)
        file = os.fdopen(self._open(fact), "rb")
        if (broken := _what_is_wrong(file, fact)) is not None:
            file.close()
            raise self._broken(path, broken)
        file.seek(0)
        return file

    def read(self, path: str, at_most: int = 16 << 20) -> bytes:
        """The content of a small file, verified. Raises `BrokenModel`, also above `at_most` bytes."""
        if self._fact(path).size > at_most:
            raise self._broken(path, f"is longer than {at_most} bytes, too long for its kind")
        with self.open(path) as file:
            return file.read(at_most)

    def paths(self, under: str = "") -> tuple[str, ...]:
        """The files of the manifest whose path begins with `under`, in order."""
        return tuple(sorted(fact.path for fact in self.manifest.files if fact.path.startswith(under)))

    @property
    def weights_digest(self) -> Digest:
        """SHA-256 over the paths and digests of all files: what the model is, beside its code."""
        lines = sorted(f"{fact.path} {fact.sha256}" for fact in self.manifest.files)
        return Digest(hashlib.sha256("\n".join(lines).encode()).hexdigest())

    def _fact(self, path: str) -> FileFact:
        for fact in self.manifest.files:
            if fact.path == path:
                return fact
        raise self._broken(path, "is not among the files of its manifest")

    def _open(self, fact: FileFact) -> int:
        """A descriptor of the file, no part of whose path below the folder is a link."""
        *parents, name = fact.path.split("/")
        at = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for parent in parents:
                below = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = below
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        except OSError as error:
            raise self._broken(fact.path, f"cannot be opened: {os.strerror(error.errno or 0)}") from error
        finally:
            os.close(at)

    def _broken(self, path: str, because: str) -> BrokenModel:
        return BrokenModel(f"model {self.manifest.identity}: {path} {because}")


def _what_is_wrong(file: BinaryIO, fact: FileFact) -> str | None:
    """Why the open `file` is not what the manifest says, as the end of a sentence; None where it is."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        return "is not a regular file with one name"
    if found.st_size != fact.size:
        return f"has {found.st_size} bytes, its manifest says {fact.size}: install the model again"
    digest = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    if digest.hexdigest() != fact.sha256:
        return "is not the file that its manifest vouches for: install the model again"
    return None

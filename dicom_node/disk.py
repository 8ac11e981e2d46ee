"""One sync for all that was written to a file system: many files cost little more than one."""

import ctypes
import os
from pathlib import Path

from dicom_node.part import site_error

_LIBC = ctypes.CDLL(None, use_errno=True)
#: Where syncfs does for all what fsync does for one. Others may leave data in the memory of a server.
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "f2fs", "tmpfs"})
_MOUNTS = Path("/proc/self/mountinfo")


def trusted(kind: str, release: str) -> bool:
    """Whether syncfs is as good as many an fsync: locally, since Linux 5.8, which tells errors."""
    numbers = [int(part) for part in release.split("-", maxsplit=1)[0].split(".")[:2] if part.isdecimal()]
    return kind in _LOCAL and numbers >= [5, 8]


def kind_of(device: int, mounts: str) -> str:
    """The kind of the file system `device`, by the text of mountinfo; empty where it is not listed."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        if number in mount.split()[2:3]:
            return source.split()[0]
    return ""


class Disk:
    """The file system that a folder is on."""

    def __init__(self, folder: Path, *, release: str = os.uname().release) -> None:
        """Raises `SpoolBroken`. Only errors that happen after this are told by `sync`."""
        self._folder = folder
        try:
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            kind = kind_of(os.fstat(self._descriptor).st_dev, _MOUNTS.read_text(errors="replace"))
        except OSError as error:
            raise site_error(error, folder) from error
        self._trusted = trusted(kind, release)

    def sync(self) -> bool:
        """Make all files and names survive a loss of power; False where each has to be synced by itself.

        Raises `SpoolFull` or `SpoolBroken`.
        """
        if not self._trusted:
            return False
        if _LIBC.syncfs(self._descriptor) != 0:
            code = ctypes.get_errno()
            raise site_error(OSError(code, os.strerror(code)), self._folder)
        return True

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._descriptor)

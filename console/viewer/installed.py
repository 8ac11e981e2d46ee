"""The viewer of a site: put into its data folder, found there, and taken out again.

Rule 1: a viewer is there whole or not at all. Everything is made ready in a folder of its own; then one file,
`current`, names it, and that file is replaced in one step.
Rule 2: whoever serves a viewer looks at `current` again for every page: an installation needs no restart.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from console.viewer.obtain import VERSION, believed, digest_of, packed
from console.viewer.settle import FILES, Index, NotAViewer, read_index, settle
from ledger.errors import SiteError
from models.archive import lay_out
from models.contract import BrokenModel

#: What to do where there is none.
HOW = "no viewer is installed here; an administrator does it with: wetread viewer install"
_CURRENT = "current"


class NoViewer(SiteError):
    """No viewer is installed."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """A viewer that is installed."""

    folder: Path
    index: Index

    def file(self, name: str) -> Path:
        """Where a file of the index lies."""
        return self.folder / FILES / name


def place_of(data: Path) -> Path:
    """Where the viewer of a site lies, whose data folder is `data`."""
    return data / "viewer"


def find_viewer(data: Path) -> Viewer | None:
    """The viewer of the site; None where none is installed. Raises `NotAViewer` where it is damaged."""
    place = place_of(data)
    try:
        name = (place / _CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SiteError(f"{place / _CURRENT} cannot be read: {error.strerror}") from error
    if not name or Path(name).name != name:
        raise NotAViewer(f"{place / _CURRENT} is damaged: `wetread viewer install` again")
    folder = place / name
    return Viewer(folder, read_index(folder))


def is_installed(data: Path) -> bool:
    """Whether there is a viewer, without a look at whether it is whole."""
    return (place_of(data) / _CURRENT).exists()


def install(
    data: Path,
    *,
    source: Path | None = None,
    version: str = VERSION,
    sha512: str | None = None,
    npm: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Viewer:
    """Install `version` from npm, or from the archive `source`. What was there stays until the new one is
    whole.

    Raises `NoSuchViewer`, `ViewerNotFetched`, `AnotherViewer`, `NotAViewer`, `SiteError`.
    """
    expected = digest_of(version, sha512)
    with _alone(place_of(data)) as place:
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=place))
        try:
            if source is None:
                progress(f"npm fetches OHIF {version} …")
            archive = believed(source or packed(version, work, npm), expected, work, progress)
            _unpack(archive, work)
            progress("the files are made ready …")
            ready = work / "ready"
            ready.mkdir()
            index = settle(work / "package", ready, version=version, sha512=expected)
            folder = place / f"{version}-{os.urandom(4).hex()}"
            ready.rename(folder)
        except OSError as error:
            raise SiteError(f"{error.filename or place} cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        _name(place, folder.name)
        _tidy(place, folder.name)
    return Viewer(folder, index)


def remove(data: Path) -> str:
    """Take the viewer away; the version that it had. Raises `NoViewer`."""
    if not place_of(data).is_dir():
        raise NoViewer("no viewer is installed here: there is nothing to remove")
    with _alone(place_of(data)) as place:
        try:
            name = (place / _CURRENT).read_text(encoding="utf-8").strip()
            (place / _CURRENT).unlink()
        except FileNotFoundError:
            raise NoViewer("no viewer is installed here: there is nothing to remove") from None
        _tidy(place, "")
    return name.partition("-")[0]


def _unpack(archive: Path, work: Path) -> None:
    package = work / "package"
    package.mkdir()
    try:
        lay_out(archive, package)
    except BrokenModel as error:
        raise NotAViewer(f"the archive cannot be unpacked: {error}") from error


def _name(place: Path, name: str) -> None:
    """From now on the viewer is the folder `name`."""
    fresh = place / f".{_CURRENT}"
    with fresh.open("w", encoding="utf-8") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(place / _CURRENT)


def _tidy(place: Path, keep: str) -> None:
    """Delete every folder but one: earlier versions, and what an interrupted installation left."""
    for one in place.iterdir():
        if one.is_dir() and not one.is_symlink() and one.name != keep:
            shutil.rmtree(one, ignore_errors=True)


@contextmanager
def _alone(place: Path) -> Iterator[Path]:
    """One installation at a time. Raises `SiteError`."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SiteError(f"{place} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SiteError("another `wetread viewer` command is at work here: wait for its end") from None
        yield place
    finally:
        with suppress(OSError):
            os.close(lock)

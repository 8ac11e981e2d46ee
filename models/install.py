"""
Putting a model into the models folder, and taking it out: each is one rename, so nobody ever opens half a
model.

It is laid out in a hidden folder beside its place, looked through, every digest compared, and then it gets
its name. A version that is there stays as it is: results name it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import SiteError
from models.archive import is_archive, lay_out
from models.contract import BrokenModel
from models.manifest import Manifest
from models.recognise import Recognised, recognise
from models.registry import installed
from models.seal import check_whole, seal
from models.settings import ModelsSettings
from models.shelf import MANIFESTS, Place, places
from models.trust import Trust, check, trust_of


class AlreadyInstalled(SiteError):
    """That version of the model is there already, and stays as it is."""


class NoModelsFolder(SiteError):
    """The models folder cannot be written."""


class WithoutManifest(BrokenModel):
    """What shall be installed has no manifest; `recognised` is what can be told of it."""

    def __init__(self, name: str, recognised: Recognised | None) -> None:
        kind = "nothing that Wetread knows"
        if recognised is not None:
            kind = f"a model for the runtime {recognised.runtime}"
        super().__init__(f"{name} has no manifest; it looks like {kind}")
        self.recognised = recognised


@dataclass(frozen=True, slots=True)
class Installed:
    """What was put into the models folder."""

    place: Place
    manifest: Manifest
    trust: Trust


def install(source: Path, settings: ModelsSettings, shelf: Path) -> Installed:
    """Install the model in the folder or archive at `source`.

    Raises `WithoutManifest`, `BrokenModel`, `AlreadyInstalled`, and `SiteError` where the site does not trust
    it, has no key for it, or has no room.
    """
    with _beside(shelf) as folder:
        lay_out_single(source, folder)
        if not any((folder / name).is_file() for name in MANIFESTS):
            raise WithoutManifest(source.name, recognise(folder))
        package = seal(folder)
        manifest = package.manifest
        check_whole(package)
        if manifest.runtime == "built-in":
            raise BrokenModel(
                f"model {manifest.identity} says that it is built in: only what comes with Wetread is; "
                "give its runtime"
            )
        if manifest.name in {one.name for one in installed()}:
            raise AlreadyInstalled(f"{manifest.name} is the name of a built-in model: give yours another one")
        trust = trust_of(package, settings)
        check(manifest, trust, settings)
        place = Place(manifest.name, manifest.version, shelf / manifest.name / manifest.version)
        _put(folder, place)
    return Installed(place, manifest, trust)


def lay_out_single(source: Path, into: Path) -> None:
    """The folder, the content of the archive, or the single file at `source`, in the empty folder `into`."""
    if source.is_dir() or is_archive(source):
        lay_out(source, into)
    elif source.is_file() and not source.is_symlink():
        shutil.copyfile(source, into / source.name)
    else:
        raise BrokenModel(f"{source} is neither a folder nor a file")


def remove(place: Place) -> None:
    """Take a version out of the models folder. A worker that has it loaded keeps it until it makes place."""
    gone = place.folder.parent.parent / f".removed-{place.name}-{place.version}-{os.getpid()}"
    try:
        place.folder.rename(gone)  # In one step: nobody meets half of it.
        shutil.rmtree(gone)
        if not places(place.folder.parent.parent, place.name):
            place.folder.parent.rmdir()
    except OSError as error:
        raise NoModelsFolder(f"{place.identity} cannot be removed: {error.strerror}") from error


def _put(folder: Path, place: Place) -> None:
    already = (
        f"{place.identity} is installed already and stays as it is: give another version to what changed"
    )
    if place.folder.exists():
        raise AlreadyInstalled(already)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    place.folder.parent.mkdir(exist_ok=True)
    try:
        folder.rename(place.folder)
    except OSError as error:
        if place.folder.exists():
            raise AlreadyInstalled(already) from error
        raise
    for changed in (place.folder, place.folder.parent):
        descriptor = os.open(changed, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)


@contextmanager
def _beside(shelf: Path) -> Iterator[Path]:
    """An empty folder on the same disk, hidden from who looks for models; gone at the end."""
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=shelf))
    except OSError as error:
        raise NoModelsFolder(f"the models folder {shelf} cannot be written: {error.strerror}") from error
    try:
        yield folder
    except OSError as error:
        raise NoModelsFolder(f"the model cannot be written to {shelf}: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)

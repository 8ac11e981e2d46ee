"""
A model in Python of a site's own: a class in the `model.py` of its folder.

Its modules are read from the files that the manifest vouches for, and live under a name that holds their
digest: two versions of one model can be open at the same time, and neither can be taken for an installed
package. It is code, and opened only where the site trusts it (see `models.trust`).
"""

import hashlib
import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import Lock
from types import CodeType, ModuleType
from typing import Any

from ledger.errors import WetreadError
from ledger.identifiers import Digest
from models.contract import BrokenModel, Context, Given, Memory, grid_shape
from models.manifest import Manifest, Strict
from models.package import Package
from models.runtimes.proposals import proposal
from models.runtimes.tensors.options import understood
from results.findings import Findings

_VERBS = ("load", "run", "estimate", "unload")
_importing = Lock()


class PythonOptions(Strict):
    """There are none: the class decides."""


class PythonEntry:
    """Implements `models.contract.Model` by a class of the package, made with the package."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.manifest: Manifest = package.manifest
        self.folder: Path = package.folder
        self.weights_digest: Digest | None = package.weights_digest
        understood(self.manifest, PythonOptions)
        self._model: Any = None
        if "model.py" not in package.paths():
            raise BrokenModel(f"model {self.manifest.identity}: there is no model.py among its files")
        if not self.manifest.entry.isidentifier():
            raise BrokenModel(f"model {self.manifest.identity}: `entry` has to name the class in model.py")

    def load(self, device: str) -> None:
        """Import the package's code, make its model and load that. Raises `BrokenModel`."""
        with _importing, _blamed(self.manifest, "its code cannot be imported"):
            module = importlib.import_module(f"{_installed(self.package)}.model")
        made = getattr(module, self.manifest.entry, None)
        if not isinstance(made, type):
            raise BrokenModel(f"model {self.manifest.identity}: model.py has no class {self.manifest.entry}")
        with _blamed(self.manifest, f"{self.manifest.entry} cannot be made or loaded"):
            model: Any = made(self.package)
            lacking = [verb for verb in _VERBS if not callable(getattr(model, verb, None))]
            if lacking:
                raise BrokenModel(
                    f"model {self.manifest.identity}: {self.manifest.entry} lacks {', '.join(lacking)}: see "
                    f"models/contract.py"
                )
            model.load(device)
        self._model = model

    def run(self, given: Given, context: Context) -> Findings:
        """Whatever the class finds, if it is on the grid of what was given. Raises `BrokenModel`."""
        if self._model is None:
            raise BrokenModel(f"model {self.manifest.identity} was run before it was loaded")
        with _blamed(self.manifest, "it failed"):
            findings = self._model.run(given, context)
        if not isinstance(findings, Findings):
            raise BrokenModel(
                f"model {self.manifest.identity} gave {type(findings).__name__} in the place of findings"
            )
        shape = grid_shape(given)
        drawn = [findings.label_map] if findings.label_map is not None else []
        for array in [*drawn, *(one.values for one in findings.maps)]:
            if tuple(array.shape[-3:]) != shape:
                raise BrokenModel(
                    f"model {self.manifest.identity} drew on a grid of {tuple(array.shape)}, and was "
                    f"given {shape}"
                )
        return findings

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """What the class says; before it is loaded, what the manifest does."""
        if self._model is None:
            return Memory(host=self.manifest.memory_mib << 20, device=0)
        with _blamed(self.manifest, "its estimate failed"):
            estimated = self._model.estimate(shape)
        if not isinstance(estimated, Memory):
            raise BrokenModel(f"model {self.manifest.identity} estimates no memory but {estimated!r:.80}")
        return estimated

    def unload(self) -> None:
        """Let the class give back what it holds, and forget it."""
        if self._model is not None:
            with _blamed(self.manifest, "it could not be unloaded"):
                self._model.unload()
        self._model = None


@contextmanager
def _blamed(manifest: Manifest, what: str) -> Iterator[None]:
    """Whatever a model's own code raises is that model's fault; our errors and memory speak for
    themselves.
    """
    try:
        yield
    except (WetreadError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which this module does not import
            raise
        text = (str(error).strip().splitlines() or [""])[0][:300]
        raise BrokenModel(f"model {manifest.identity}: {what}: {type(error).__name__}: {text}") from error


def _installed(package: Package) -> str:
    """The name under which the package's modules can be imported."""
    lines = "\n".join([package.manifest.identity, str(package.weights_digest), str(package.folder)])
    name = f"_wetread_model_{package.manifest.name}_{hashlib.sha256(lines.encode()).hexdigest()[:16]}"
    if not any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.append(_Finder(name, package))
    return name


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `name` and the modules below it in one package, and nothing else."""

    def __init__(self, name: str, package: Package) -> None:
        self.name, self.package = name, package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name and not fullname.startswith(f"{self.name}."):
            return None
        stem = fullname.removeprefix(self.name).lstrip(".").replace(".", "/")
        names = self.package.paths()
        as_package = f"{stem}/__init__.py" if stem else "__init__.py"
        for file, is_package in ((f"{stem}.py", False), (as_package, True)):
            if (stem and file in names) or (not stem and file in names and is_package):
                return importlib.util.spec_from_loader(
                    fullname, _Loader(self.package, file), is_package=is_package
                )
        if stem and not any(one.startswith(f"{stem}/") for one in names):
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(self.package, None), is_package=True)


class _Loader(importlib.abc.InspectLoader):
    """A module from a verified file; nothing is cached beside it. None: a folder without `__init__.py`."""

    def __init__(self, package: Package, file: str | None) -> None:
        self.package, self.file = package, file

    def get_source(self, fullname: str) -> str:
        return "" if self.file is None else self.package.read(self.file).decode("utf-8")

    def get_code(self, fullname: str) -> CodeType:
        where = str(self.package.folder / self.file) if self.file is not None else "<folder>"
        return compile(self.get_source(fullname), where, "exec", dont_inherit=True)


def propose(folder: Path) -> dict[str, Any]:
    """A class of the site's own says everything itself."""
    return proposal(
        "python",
        folder,
        ("model.py",),
        missing=("Say in `entry` which class in model.py is the model: see models/contract.py.",),
    )

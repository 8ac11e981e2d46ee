"""
Which models are here, and what each of them is exactly.

A rule names a model as `name` or `name@version`: a built-in one, or one of the models folder, of which a name
alone is the newest version. Code of a site that was never installed is named `package.module:Class`.

Listing models reads manifests and imports no model: torch stays out until one is opened. Opening one asks
first whether the site trusts it (`models.trust`).
"""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ledger.errors import SiteError, WetreadError
from ledger.identifiers import Uid
from models.code import code_digest
from models.contract import BrokenModel, Model, UnknownModel
from models.manifest import Manifest
from models.package import Package
from models.settings import BUILT_IN_ONLY, ModelsSettings
from models.shelf import Place, package_at, package_in, places, read_manifest
from models.trust import BUILT_IN, Level, NotTrusted, Trust, check, trust_of
from results.findings import CodingScheme
from results.provenance import Provenance

__all__ = [
    "Found", "broken", "code_digest", "every_found", "find", "find_in", "installed", "open_found",
    "open_model", "provenance_of", "read_manifest", "trust_in",
]  # fmt: skip

_BUILTIN = Path(__file__).parent / "builtin"
_VERBS = ("load", "run", "estimate", "unload")

#: manifest.runtime → the class in `models.runtimes.<runtime>`, and the extra that brings its library.
RUNTIMES = {
    "monai_bundle": ("MonaiBundle", "monai"),
    "nnunet": ("NnUNet", "nnunet"),
    "torch_export": ("TorchExport", ""),
    "torchscript": ("TorchScript", ""),
    "onnx": ("Onnx", "onnx"),
    "state_dict": ("StateDict", "monai"),
    "python": ("PythonEntry", ""),
    "container": ("Container", ""),
}


class RuntimeMissing(SiteError):
    """A model needs a runtime that this installation does not have."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model that is here, not opened yet."""

    manifest: Manifest
    package: Package | None  #: None: a built-in model
    trust: Trust

    @property
    def key(self) -> str:
        """The same for the same model: its identity with a digest of its manifest."""
        written = self.package.written if self.package else b""
        return f"{self.manifest.identity} {sha256(written).hexdigest()}"


def every_found(settings: ModelsSettings = BUILT_IN_ONLY) -> tuple[Found, ...]:
    """Every model that is here and whole enough to be listed: built-in ones, then by name and version."""
    return (*_built_in(), *(found for _, found in _shelved(settings) if isinstance(found, Found)))


def broken(settings: ModelsSettings = BUILT_IN_ONLY) -> tuple[tuple[Place, BrokenModel], ...]:
    """What stands in the models folder and is no model, with what is wrong."""
    return tuple((place, found) for place, found in _shelved(settings) if isinstance(found, BrokenModel))


def installed(settings: ModelsSettings = BUILT_IN_ONLY) -> tuple[Manifest, ...]:
    """The manifests of the models that are here."""
    return tuple(found.manifest for found in every_found(settings))


def find(reference: str, settings: ModelsSettings = BUILT_IN_ONLY) -> Found:
    """The model that `name` or `name@version` names. Raises `UnknownModel`, and `BrokenModel` where what
    stands in its place is none.
    """
    name, _, version = reference.partition("@")
    for found in _built_in():
        if found.manifest.name == name and version in ("", found.manifest.version):
            return found
    mine = (
        [place for place in places(settings.folder, name) if version in ("", place.version)] if name else []
    )
    if not mine:
        have = ", ".join(manifest.identity for manifest in installed(settings))
        raise UnknownModel(f"there is no model {reference!r} here; installed: {have}")
    return _found(mine[-1], settings)


def find_in(folder: Path, settings: ModelsSettings = BUILT_IN_ONLY) -> Found:
    """The model in `folder`, which need not be installed. Raises `BrokenModel`."""
    package = package_in(folder)
    return Found(package.manifest, package, trust_of(package, settings))


def open_model(
    reference: str, *, settings: ModelsSettings = BUILT_IN_ONLY, allow_python: bool = False
) -> Model:
    """The model that `reference` names, not yet loaded.

    Raises `UnknownModel`, `BrokenModel`, and `SiteError` where this site does not trust it, has no key for it
    or lacks its runtime.
    """
    if ":" in reference:
        return _open_python(reference, allow_python=allow_python or settings.allow_unsigned)
    return open_found(find(reference, settings), settings)


def open_found(found: Found, settings: ModelsSettings = BUILT_IN_ONLY) -> Model:
    """The model, not yet loaded. Raises `BrokenModel`, and `SiteError` as `open_model` does."""
    check(found.manifest, found.trust, settings)
    if found.package is None:
        module = importlib.import_module(f"models.builtin.{found.manifest.name}.model")
        return _checked(getattr(module, found.manifest.entry, None), found.manifest.identity)
    runtime = _runtime(found.manifest)
    return _checked(runtime, found.manifest.identity, found.package)


def _built_in() -> Iterator[Found]:
    for path in sorted(_BUILTIN.glob("*/manifest.toml")):
        yield Found(read_manifest(path), None, BUILT_IN)


def _shelved(settings: ModelsSettings) -> Iterator[tuple[Place, Found | BrokenModel]]:
    for place in places(settings.folder):
        try:
            yield place, _found(place, settings)
        except BrokenModel as error:
            yield place, error


def _found(place: Place, settings: ModelsSettings) -> Found:
    """Raise `BrokenModel` whatever is wrong with the folder: it is as its maker liked it."""
    try:
        package = package_at(place)
        return Found(package.manifest, package, trust_of(package, settings))
    except WetreadError:
        raise
    except Exception as error:
        raise BrokenModel(
            f"{place.identity} in the models folder cannot be read ({type(error).__name__}: "
            f"{str(error)[:200]}): its files are not what the maker of a model writes"
        ) from error


def _runtime(manifest: Manifest) -> object:
    """The class that runs the model. Raises `RuntimeMissing` or `BrokenModel`."""
    if manifest.runtime not in RUNTIMES:
        raise BrokenModel(
            f"model {manifest.identity}: only models that come with Wetread are {manifest.runtime}; the "
            f"runtimes are {', '.join(RUNTIMES)}"
        )
    name, extra = RUNTIMES[manifest.runtime]
    module_name = f"models.runtimes.{manifest.runtime}"
    try:
        return getattr(importlib.import_module(module_name), name, None)
    except ModuleNotFoundError as error:
        if error.name in (module_name, "models.runtimes"):
            raise RuntimeMissing(
                f"model {manifest.identity} needs the runtime {manifest.runtime}, which this version of "
                "Wetread does not have"
            ) from None
        hint = f": pip install wetread[{extra}]" if extra else ""
        raise RuntimeMissing(
            f"model {manifest.identity} ({manifest.runtime}) needs the Python package {error.name}, which is "
            f"not installed here{hint}"
        ) from error


def _open_python(reference: str, *, allow_python: bool) -> Model:
    """A model of the site: `package.module:Class`."""
    if not allow_python:
        raise NotTrusted(
            f"model {reference!r} is Python code outside Wetread, and this site does not allow such models "
            f"(allow_python_models in the [worker] settings)"
        )
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UnknownModel(
            f"model {reference!r}: module {module_name!r} cannot be imported: {error}"
        ) from error
    return _checked(getattr(module, attribute, None), reference)


def _checked(cls: object, reference: str, *arguments: Package) -> Model:
    """An instance of `cls`, which has all that the contract asks for."""
    if not isinstance(cls, type):
        raise BrokenModel(f"model {reference!r}: its module has no class of that name")
    model = cls(*arguments)
    lacking = [verb for verb in _VERBS if not callable(getattr(model, verb, None))]
    if lacking:
        raise BrokenModel(f"model {reference!r} lacks {', '.join(lacking)}: see models/contract.py")
    if not isinstance(getattr(model, "manifest", None), Manifest):
        raise BrokenModel(f"model {reference!r} has no manifest: see models/contract.py")
    if not isinstance(getattr(model, "folder", None), Path) or not hasattr(model, "weights_digest"):
        raise BrokenModel(
            f"model {reference!r} does not say its folder and weights_digest: see models/contract.py"
        )
    return model  # type: ignore[no-any-return]  # a Model by what was just looked at


def trust_in(model: Model, settings: ModelsSettings = BUILT_IN_ONLY) -> Trust:
    """Who vouches for an opened model, by what is written beside it now."""
    if model.folder.is_relative_to(_BUILTIN):
        return BUILT_IN
    try:
        return trust_of(package_in(model.folder), settings)
    except BrokenModel:  # Code of the site that was never installed: it has no package.
        return Trust(Level.UNSIGNED_CODE)


def _own_card(model: Model) -> str:
    """The card that lies beside the model, where it says no place on the web."""
    card = model.manifest.card
    return f"{card} of {model.manifest.identity}" if (model.folder / card).is_file() else ""


def provenance_of(model: Model, settings: Mapping[str, object], trust: Trust = BUILT_IN) -> Provenance:
    """What results say about `model` run with `settings`.

    The device UID (PS3.3 §C.7.5.1) is a pure function of name, weights and code, its runtime's library
    included (`models.code`): the same everywhere, and another one as soon as one of them changes. PyTorch's
    own version is not part of it.
    """
    manifest, weights = model.manifest, model.weights_digest
    code = code_digest(model.folder, manifest.runtime)
    text = "\n".join([manifest.name, manifest.version, str(weights or "no weights"), str(code)])
    number = int.from_bytes(sha256(text.encode()).digest()[:16], "big")
    return Provenance(
        name=manifest.name,
        version=manifest.version,
        device_uid=Uid(f"2.25.{number}"),
        weights_digest=weights,
        code_digest=code,
        settings=dict(settings),
        schemes=tuple(
            CodingScheme(
                designator=one.designator,
                name=one.name,
                organization=one.organization,
                uid=Uid(one.uid) if one.uid else None,
            )
            for one in manifest.schemes
        ),
        card_url=manifest.card_url or _own_card(model),
        trust="" if trust.level is Level.BUILT_IN else str(trust),
    )

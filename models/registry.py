"""
Which models are here, and what each of them is exactly.

A rule names a built-in model as `name` or `name@version`. A site's own model is named `package.module:Class`;
that is code of the site, so it is only opened where the site says so.

Listing models reads manifests and imports no model: torch stays out until one is opened.
"""

import hashlib
import importlib
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from ledger.identifiers import Digest, Uid
from models.contract import BrokenModel, Model, UnknownModel
from models.manifest import Manifest
from results.provenance import Provenance

_BUILTIN = Path(__file__).parent / "builtin"
_PREPARE = Path(__file__).parent / "prepare"  # Its code decides voxels, so it is part of what a model is.
_VERBS = ("load", "run", "estimate", "unload")


def installed() -> tuple[Manifest, ...]:
    """The manifests of the built-in models, by name."""
    return tuple(read_manifest(path) for path in sorted(_BUILTIN.glob("*/manifest.toml")))


def read_manifest(path: Path) -> Manifest:
    """Raise `BrokenModel` unless `path` is a manifest."""
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BrokenModel(f"the manifest of model {path.parent.name} cannot be read: {error}") from error


def open_model(reference: str, *, allow_python: bool = False) -> Model:
    """The model that `reference` names, not yet loaded. Raises `UnknownModel` or `BrokenModel`."""
    if ":" in reference:
        return _open_python(reference, allow_python=allow_python)
    name, _, version = reference.partition("@")
    for manifest in installed():
        if manifest.name == name and version in ("", manifest.version):
            module = importlib.import_module(f"models.builtin.{manifest.name}.model")
            return _checked(getattr(module, manifest.entry, None), reference)
    have = ", ".join(f"{manifest.name}@{manifest.version}" for manifest in installed())
    raise UnknownModel(f"there is no model {reference!r} here; installed: {have}")


def _open_python(reference: str, *, allow_python: bool) -> Model:
    """A model of the site: `package.module:Class`."""
    if not allow_python:
        raise UnknownModel(
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


def _checked(cls: object, reference: str) -> Model:
    """An instance of `cls`, which has all that the contract asks for."""
    if not isinstance(cls, type):
        raise BrokenModel(f"model {reference!r}: its module has no class of that name")
    model = cls()
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


def provenance_of(model: Model, settings: Mapping[str, object]) -> Provenance:
    """What results say about `model` run with `settings`.

    The device UID (PS3.3 §C.7.5.1) is a pure function of name, weights and code: the same everywhere, and
    another one as soon as the model could answer differently.
    """
    manifest, weights = model.manifest, model.weights_digest
    code = code_digest(model.folder)
    text = "\n".join([manifest.name, manifest.version, str(weights or "no weights"), str(code)])
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    return Provenance(
        name=manifest.name,
        version=manifest.version,
        device_uid=Uid(f"2.25.{number}"),
        weights_digest=weights,
        code_digest=code,
        settings=dict(settings),
    )


def code_digest(folder: Path) -> Digest:
    """SHA-256 over the Python files and the manifest in `folder`, and over the code that prepares voxels."""
    digest = hashlib.sha256()
    for root in (folder, _PREPARE):
        for path in sorted([*root.rglob("*.py"), *root.glob("manifest.toml")]):
            # A checkout may turn line ends; that changes no answer.
            content = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{root.name}/{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return Digest(digest.hexdigest())

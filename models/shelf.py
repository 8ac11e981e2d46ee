"""
The models folder of a site: `<name>/<version>/manifest.toml` (or `.yaml`) and the files that it names.

A version that is there is never changed: another one is put beside it. What cannot be read does not hide the
others: it is listed with what is wrong.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from models.contract import BrokenModel
from models.manifest import Manifest
from models.package import Package
from models.plain_yaml import read_yaml

MANIFESTS = ("manifest.toml", "manifest.yaml", "manifest.yml")
_LONGEST_BYTES = 1 << 20  # A manifest of 200 structures has 30 KiB; more is not a manifest.
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,47}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Place:
    """One version of one model in the models folder, whether or not it can be used."""

    name: str
    version: str
    folder: Path

    @property
    def identity(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


def places(folder: Path | None, name: str | None = None) -> tuple[Place, ...]:
    """What stands in the models folder, by name, oldest version first; `name`: only this model's."""
    if folder is None or not folder.is_dir() or (name is not None and not _NAME.fullmatch(name)):
        return ()
    names = [folder / name] if name is not None else sorted(folder.iterdir())
    found = [
        Place(of.name, version.name, version)
        for of in names
        if _NAME.fullmatch(of.name) and of.is_dir() and not of.is_symlink()
        for version in of.iterdir()
        if _VERSION.fullmatch(version.name) and version.is_dir() and not version.is_symlink()
    ]
    return tuple(sorted(found, key=lambda place: (place.name, version_order(place.version))))


def package_at(place: Place) -> Package:
    """The model that stands there. Raises `BrokenModel`, also where its manifest calls itself otherwise."""
    package = package_in(place.folder)
    manifest = package.manifest
    if (manifest.name, manifest.version) != (place.name, place.version):
        raise BrokenModel(
            f"the folder of {place.identity} holds {manifest.identity}: install it with `wetread models add`"
        )
    return package


def package_in(folder: Path) -> Package:
    """The model in `folder`, whatever the folder is called. Raises `BrokenModel`."""
    path = manifest_path(folder)
    content = _content(path)
    return Package(folder, parse_manifest(content, path.name, of=folder.name), content)


def manifest_path(folder: Path) -> Path:
    """The manifest in `folder`. Raises `BrokenModel` where there is none, or two."""
    found = [folder / name for name in MANIFESTS if (folder / name).is_file()]
    if len(found) != 1:
        what = "no manifest" if not found else f"{' and '.join(path.name for path in found)}"
        raise BrokenModel(f"{folder.name} has {what}: one of {', '.join(MANIFESTS)} has to be there")
    return found[0]


def read_manifest(path: Path) -> Manifest:
    """Raise `BrokenModel`, with every complaint, unless `path` is a manifest."""
    return parse_manifest(_content(path), path.name, of=path.parent.name)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_BYTES + 1)
    except OSError as error:
        raise BrokenModel(f"{path.name} of {path.parent.name} cannot be read: {error.strerror}") from error


def parse_manifest(content: bytes, name: str, *, of: str) -> Manifest:
    """The manifest that the file called `name` holds. Raises `BrokenModel`; `of` is the model, in words."""
    where = f"{name} of model {of}"
    if len(content) > _LONGEST_BYTES:
        raise BrokenModel(f"{where} is longer than {_LONGEST_BYTES} bytes: that is no manifest")
    try:
        text = content.decode("utf-8")
        tables: Any = tomllib.loads(text) if name.endswith(".toml") else read_yaml(text)
    except UnicodeDecodeError:
        raise BrokenModel(f"{where} is not UTF-8 text") from None
    except RecursionError:
        raise BrokenModel(f"{where} is nested too deep") from None
    except ValueError as error:  # Also of integers and dates that are none, which TOML lets through.
        raise BrokenModel(f"{where} is not valid {Path(name).suffix[1:].upper()}: {error}") from None
    if not isinstance(tables, dict):
        raise BrokenModel(f"{where} holds no keys")
    try:
        return Manifest.model_validate(tables)
    except ValidationError as error:
        raise BrokenModel(f"{where}: {'; '.join(complaints(error))}") from None


def complaints(error: ValidationError) -> Iterator[str]:
    """One sentence for each complaint about a manifest, naming the key and what is allowed."""
    yield from dict.fromkeys(_sentence(detail) for detail in error.errors(include_url=False))


def version_order(
    version: str,
) -> tuple[tuple[tuple[int, int, str], ...], int, tuple[tuple[int, int, str], ...]]:
    """What sorts versions from old to new: numbers by value, and 1.0.0-rc1 before 1.0.0 (semver.org §11)."""
    release, _, before = version.partition("+")[0].partition("-")
    return _parts(release), 0 if before else 1, _parts(before)


def _parts(text: str) -> tuple[tuple[int, int, str], ...]:
    words = re.findall(r"[0-9]+|[A-Za-z]+", text)
    return tuple((1, int(word), "") if word.isdecimal() else (0, 0, word.lower()) for word in words)


def _sentence(detail: ErrorDetails) -> str:
    place = [part for part in detail["loc"] if not (isinstance(part, str) and part.startswith("tuple["))]
    if detail["type"] == "extra_forbidden":
        key, known = str(place[-1]), _known(place[:-1])
        close = get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
        return f"unknown key {_key(place)!r}: {hint}"
    if detail["type"] in ("missing", "missing_argument"):
        return f"{_key(place)!r} is missing"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if detail["type"] == "string_pattern_mismatch":
        message = f"has to match {detail['ctx']['pattern']}"
    message = message[:1].lower() + message[1:]
    given = "" if isinstance(detail["input"], dict | list) else f" (it says {_shown(detail['input'])})"
    return f"{_key(place)!r}: {message}{given}" if place else message


def _shown(value: object) -> str:
    """Python refuses to write integers of thousands of digits, which TOML reads in hexadecimal."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a very large number"
    return repr(value)[:200]


def _key(place: list[Any]) -> str:
    """`segments[2].kind`: counted from 1, as people do."""
    text = ""
    for part in place:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _known(place: list[Any]) -> list[str]:
    """The keys of the table at `place` in a manifest."""
    model: type[BaseModel] = Manifest
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            inner = list(_models_in(model.model_fields[part].annotation))
            if not inner:
                return []
            model = inner[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)

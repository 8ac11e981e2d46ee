"""
What a bundle says of itself, read as data: `configs/inference.*`, `configs/metadata.json`, `large_files.yml`.

Nothing is evaluated, instantiated or imported here, so any folder may be looked at. A TorchScript archive
may carry its configuration inside, under `extra/` (monai.data.save_net_with_metadata).
"""

import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from models.contract import BrokenModel
from models.package import Package
from models.plain_yaml import read_yaml

CONFIGURATIONS = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_LARGE = ("large_files.yml", "large_files.yaml")
_AT_MOST_BYTES = 4 << 20
_AT_MOST_NODES = (
    100_000  # Whole-body bundles have a thousand; aliases of YAML can make billions of a kilobyte.
)
_AT_MOST_DEPTH = 60


class Files(Protocol):
    """The files of a bundle, by their path in it."""

    def paths(self) -> tuple[str, ...]:
        """All of them, in order."""

    def read(self, path: str) -> bytes:
        """A small file. Raises `BrokenModel`."""

    def open(self, path: str) -> BinaryIO:
        """Any file, at its beginning. Raises `BrokenModel`."""


@dataclass(frozen=True, slots=True)
class Installed:
    """The files that the manifest of an installed model vouches for."""

    package: Package

    def paths(self) -> tuple[str, ...]:
        """All of them, in order."""
        return self.package.paths()

    def read(self, path: str) -> bytes:
        """A small file, verified."""
        return self.package.read(path, _AT_MOST_BYTES)

    def open(self, path: str) -> BinaryIO:
        """Any file, verified."""
        return self.package.open(path)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that nobody vouches for yet. Links in it are not followed."""

    folder: Path

    def paths(self) -> tuple[str, ...]:
        """The regular files below it, hidden ones left out."""
        found = []
        for root, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
            for name in names:
                path = Path(root) / name
                if not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                    found.append(path.relative_to(self.folder).as_posix())
        return tuple(sorted(found))

    def read(self, path: str) -> bytes:
        """A small file."""
        with self.open(path) as file:
            content = file.read(_AT_MOST_BYTES + 1)
        if len(content) > _AT_MOST_BYTES:
            raise BrokenModel(
                f"{path} of the bundle is longer than {_AT_MOST_BYTES} bytes, too long for its kind"
            )
        return content

    def open(self, path: str) -> BinaryIO:
        """Any regular file."""
        try:
            descriptor = os.open(self.folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise BrokenModel(f"{path} of the bundle cannot be opened: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BrokenModel(f"{path} of the bundle is not a regular file")
        return os.fdopen(descriptor, "rb")


@dataclass(frozen=True, slots=True)
class LargeFile:
    """A file that is not delivered with the bundle, and where it is to be had."""

    path: str
    url: str
    md5: str

    def __str__(self) -> str:
        md5 = f" (md5 {self.md5})" if self.md5 else ""
        return f"{self.path} from {self.url}{md5}"


@dataclass(frozen=True, slots=True)
class Configuration:
    """A bundle as it stands in its files."""

    path: str  #: of the configuration
    tree: Mapping[str, Any]  #: the configuration, as JSON or YAML have it
    metadata: Mapping[str, Any]
    large_files: tuple[LargeFile, ...]
    archive: str | None = None  #: the TorchScript file that the configuration is in

    def lacking(self, have: tuple[str, ...]) -> tuple[LargeFile, ...]:
        """The large files that are not among those that the bundle has."""
        return tuple(one for one in self.large_files if one.path not in have)

    def outputs(self) -> Mapping[str, Any]:
        """`network_data_format.outputs`; empty where the metadata is silent."""
        return _mapping(_mapping(self.metadata.get("network_data_format")).get("outputs"))

    def inputs(self) -> Mapping[str, Any]:
        """`network_data_format.inputs`; empty where the metadata is silent."""
        return _mapping(_mapping(self.metadata.get("network_data_format")).get("inputs"))


def read_configuration(files: Files, path: str = "") -> Configuration:
    """The configuration `path`, or the bundle's `inference`. Raises `BrokenModel`."""
    have = files.paths()
    wanted = (path,) if path else CONFIGURATIONS
    found = next((one for one in wanted if one in have), None)
    large = _large_files(files, have)
    if found is None:
        for archive in (one for one in have if one.endswith(".ts")):
            inside = _from_archive(files, archive, path)
            if inside is not None:
                tree, metadata = inside
                return Configuration(archive, tree, metadata, large, archive)
        raise BrokenModel(f"the bundle has no {' or '.join(wanted)}: is it a MONAI bundle?")
    metadata = (
        parse("configs/metadata.json", files.read("configs/metadata.json"))
        if ("configs/metadata.json" in have)
        else {}
    )
    return Configuration(found, parse(found, files.read(found)), metadata, large)


def parse(path: str, content: bytes) -> dict[str, Any]:
    """A JSON or YAML document that is a mapping. Raises `BrokenModel`."""
    try:
        document = json.loads(content) if path.endswith(".json") else read_yaml(content)
        _bounded(document)
    except (ValueError, RecursionError) as error:
        raise BrokenModel(f"{path} of the bundle cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise BrokenModel(f"{path} of the bundle is not a mapping of names")
    return document


def _bounded(document: object) -> None:
    """Raise `ValueError` for a document that would be too much to walk."""
    nodes, level = 0, [document]
    for _ in range(_AT_MOST_DEPTH):
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                if not all(isinstance(key, str | int | float | bool) or key is None for key in node):
                    raise ValueError("a name in it is not a text")
                below += node.values()
            elif isinstance(node, list):
                below += node
            if nodes + len(below) > _AT_MOST_NODES:
                raise ValueError(f"it has more than {_AT_MOST_NODES} parts")
        nodes += len(below)
        level = below
        if not level:
            return
    raise ValueError(f"it is nested more than {_AT_MOST_DEPTH} deep")


def _from_archive(files: Files, archive: str, wanted: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The configuration and the metadata under `extra/` of a TorchScript archive."""
    try:
        with files.open(archive) as file, zipfile.ZipFile(file) as parts:
            extra = {
                info.filename.rpartition("/extra/")[2]: info
                for info in parts.infolist()
                if "/extra/" in info.filename and info.file_size <= _AT_MOST_BYTES
            }
            name = next((one for one in (wanted, "inference.json", "inference.yaml") if one in extra), None)
            if name is None:
                return None
            tree = parse(name, parts.read(extra[name]))
            metadata = (
                parse("metadata.json", parts.read(extra["metadata.json"])) if "metadata.json" in extra else {}
            )
    # An encrypted member is a RuntimeError; NotImplementedError, of a method unknown to zipfile, is one too.
    except (zipfile.BadZipFile, RuntimeError, zlib.error, OSError, EOFError, struct.error) as error:
        raise BrokenModel(f"{archive} of the bundle is not a TorchScript archive: {error}") from error
    return tree, metadata


def _large_files(files: Files, have: tuple[str, ...]) -> tuple[LargeFile, ...]:
    path = next((one for one in _LARGE if one in have), None)
    if path is None:
        return ()
    listed = parse(path, files.read(path)).get("large_files")
    return tuple(
        LargeFile(str(one["path"]), str(one.get("url", "")), str(one.get("hash_val", "")))
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict) and "path" in one
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

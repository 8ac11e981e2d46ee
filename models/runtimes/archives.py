"""
Files of weights, looked at before a library reads them.

PyTorch's formats are zip archives, and a small archive can unpack to all the memory there is; so before
anything is unpacked the sizes in its directory are added up. Archives that PyTorch writes hold their members
as they are, neither packed nor encrypted nor twice (only TorchScript packs its source code), so one that does
otherwise was made by somebody else.
"""

import json
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from models.contract import BrokenModel
from models.package import Package

_MEMBERS = 200_000
# The reader of names and shapes takes 70 bytes and 3 µs for each byte that means nothing.
_PICKLE_BYTES = 1 << 20
_PICKLE_BYTES_PER_MEMBER = 1 << 10  # a tensor's name, shape and strides take 200
_CODE_BYTES = 64 << 20
_HEADER_BYTES = 16 << 20
_LARGEST_BYTES = 32 << 30


class Refused(ValueError):
    """A file is not what it should be; the message ends a sentence that begins with its name."""


def look_at_archive(file: BinaryIO, size: int, *, programs: bool = False) -> tuple[str, ...]:
    """The names in a PyTorch archive that may be unpacked, without the folder that all are in; `file` is
    at its beginning again. Of `programs` the source code may be packed. Raises `Refused`.
    """
    if size > _LARGEST_BYTES:
        raise Refused(f"has {size} bytes, and {_LARGEST_BYTES} is the most")
    if file.read(4) != b"PK\x03\x04":
        raise Refused(
            "is no archive of PyTorch 1.6 or later: load it where you trust it and save it again "
            "with torch.save"
        )
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, struct.error) as error:
        raise Refused(f"is a damaged archive: {error}") from error
    finally:
        file.seek(0)
    if len(members) > _MEMBERS or len({member.filename for member in members}) != len(members):
        raise Refused("names a member of its archive twice, or more than there can be")
    names = tuple("/".join(PurePosixPath(member.filename).parts[1:]) for member in members)
    if not programs and "constants.pkl" in names:
        raise Refused("is a TorchScript program, not a file of weights: its runtime is torchscript")
    _look_at_members(members, size, programs=programs)
    return names


def _look_at_members(members: list[zipfile.ZipInfo], size: int, *, programs: bool) -> None:
    stored = packed = 0
    names_bytes = _PICKLE_BYTES + _PICKLE_BYTES_PER_MEMBER * len(members)
    for member in members:
        if member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size:
            stored += member.file_size
        elif programs and member.filename.split("/")[1:2] == ["code"]:
            packed += member.file_size
        else:
            raise Refused(
                f"is packed ({member.filename}): PyTorch does not pack, and a packed file can be a bomb"
            )
        if member.flag_bits & 0x1 or member.filename.startswith("/") or ".." in member.filename.split("/"):
            raise Refused(f"holds {member.filename!r}, which PyTorch would not write")
        if member.filename.endswith(".pkl") and member.file_size > names_bytes:
            raise Refused(f"holds {member.file_size} bytes of names and shapes: no network has that many")
    if stored > size or packed > _CODE_BYTES:
        raise Refused(f"unpacks to {stored + packed} bytes and has {size}: it is a bomb")


def state_dict(package: Package, path: str, below: str = "") -> dict[str, Tensor]:
    """The weights in `path`, by name: safetensors, or a PyTorch checkpoint that holds nothing but numbers.

    `below` is the key they lie under; without it the usual ones are tried. Raises `BrokenModel`.
    """
    with package.open(path) as file:
        try:
            size = next(fact.size for fact in package.manifest.files if fact.path == path)
            if path.endswith(".safetensors"):
                return _safetensors(file, size)
            return _weights(_checkpoint(file, size), below)
        except Refused as refused:
            raise BrokenModel(f"model {package.manifest.identity}: {path} {refused}") from refused


def _safetensors(file: BinaryIO, size: int) -> dict[str, Tensor]:
    start = file.read(8)
    header = struct.unpack("<Q", start)[0] if len(start) == 8 else size
    if size > _LARGEST_BYTES or header > min(_HEADER_BYTES, size - 8):
        raise Refused(
            f"is no safetensors file, or is cut off: its header would have {header} bytes of {size}"
        )
    try:
        named = json.loads(file.read(header))
    except (ValueError, RecursionError) as error:
        raise Refused("is no safetensors file: its header is not JSON") from error
    if not isinstance(named, dict):
        raise Refused("is no safetensors file: its header names no tensors")
    file.seek(0)
    try:
        return safetensors.torch.load(file.read())
    except (
        safetensors.SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise Refused(f"is not a valid safetensors file: {_first_line(error)}") from error


def _checkpoint(file: BinaryIO, size: int) -> Any:
    names = look_at_archive(file, size)
    if "data.pkl" not in names:
        raise Refused("holds no weights: it is some other archive")
    try:
        with warnings.catch_warnings():
            # Older files make PyTorch speak of its own storages; nobody here can mend that.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # Whatever a file can do to the reader of numbers, the file is to blame.
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise Refused(
                "holds more than numbers, which would be code to run: save net.state_dict() alone "
                "and nothing else "
                f"({_first_line(error)})"
            ) from error
        raise Refused(f"cannot be read as weights: {_first_line(error)}") from error


def _weights(loaded: Any, below: str) -> dict[str, Tensor]:
    """The tensors by name, wherever in the checkpoint they usually lie."""
    for key in [below] if below else ["state_dict", "model_state_dict", "model", "network_weights", ""]:
        inside: Any = loaded
        for part in key.split(".") if key else ():
            inside = inside.get(part) if isinstance(inside, Mapping) else None
        if isinstance(inside, Mapping) and inside and all(isinstance(one, Tensor) for one in inside.values()):
            # A view can claim more elements than it has bytes.
            total = sum(one.numel() for one in inside.values())
            held = {
                one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in inside.values()
            }
            if total > sum(held.values()):
                raise Refused(f"claims {total} numbers and holds {sum(held.values())} bytes")
            return {str(name): one for name, one in inside.items()}
    where = f"under {below!r} " if below else ""
    has = ", ".join(str(key) for key in loaded) if isinstance(loaded, Mapping) else type(loaded).__name__
    raise Refused(
        f"holds no tensors by name {where}but {has[:200]}: [options] weights_key says where they are"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

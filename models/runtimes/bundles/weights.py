"""Weights into a network: nothing pickled in them is run, and what is missing is named with its address."""

import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy._core.multiarray as pickled  # where NumPy keeps what its arrays are pickled by
import torch
from torch import Tensor, nn

from models.contract import BrokenModel
from models.runtimes.bundles.configuration import Configuration

_WRAPPED = ("state_dict", "model", "network", "net", "model_state_dict")
_AT_MOST_TIMES = 2  # as large as its file may a checkpoint become

#: Numbers as NumPy pickles them: a searched architecture (DiNTS) is made of them.
_NUMPY: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (pickled._reconstruct, "numpy.core.multiarray._reconstruct"),
    pickled._reconstruct,
    (pickled.scalar, "numpy.core.multiarray.scalar"),
    pickled.scalar,
    np.ndarray,
    np.dtype,
    *(
        type(np.dtype(name))
        for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
    ),
]


def read_checkpoint(file: BinaryIO, path: str) -> Any:
    """Tensors, numbers, texts and arrays; anything else in it is refused. Raises `BrokenModel`."""
    _refuse_bomb(file, path)
    try:
        with torch.serialization.safe_globals(_NUMPY):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises what it likes
        because = str(error).strip().split("\n", maxsplit=1)[0]
        raise BrokenModel(f"{path} of the bundle holds more than weights, or is broken: {because}") from error


def fit(network: nn.Module, content: Any, path: str) -> None:
    """Put the weights of a checkpoint into `network`, every one of them. Raises `BrokenModel`."""
    state = content
    for name in _WRAPPED:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
            break
    if not isinstance(state, Mapping) or not all(isinstance(one, Tensor) for one in state.values()):
        raise BrokenModel(f"{path} of the bundle holds no weights by their names")
    state = {name.removeprefix("module."): one for name, one in state.items()}
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(state))
    more = sorted(set(state) - set(wanted))
    wrong = sorted(name for name in set(wanted) & set(state) if wanted[name].shape != state[name].shape)
    if missing or more or wrong:
        told = [
            f"{len(names)} {what} (first {names[0]})"
            for names, what in ((missing, "missing"), (more, "unknown"), (wrong, "of another shape"))
            if names
        ]
        raise BrokenModel(f"the weights in {path} are not those of the bundle's network: {', '.join(told)}")
    network.load_state_dict(state, strict=True)


def missing(configuration: Configuration, path: str) -> BrokenModel:
    """That the weights are not there, and where they are to be had."""
    known = next((one for one in configuration.large_files if one.path == path), None)
    where = f"; the bundle has it from {known.url} (md5 {known.md5})" if known else ""
    return BrokenModel(f"the bundle has no weights: {path} is not among its files{where}")


def _refuse_bomb(file: BinaryIO, path: str) -> None:
    """Raise `BrokenModel` for a checkpoint that unpacks to more than its file could hold."""
    size = file.seek(0, 2)
    file.seek(0)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as parts:
            unpacked = sum(info.file_size for info in parts.infolist())
        if unpacked > _AT_MOST_TIMES * size + (1 << 16):
            raise BrokenModel(
                f"{path} of the bundle unpacks from {size} to {unpacked} bytes: it is no checkpoint"
            )
    file.seek(0)

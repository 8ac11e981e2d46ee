"""
The weights of one fold, taken out of a file that could have been made by anybody.

A PyTorch checkpoint is a zip archive with a pickle in it. What is read is the file whose digest was verified,
after a look at the archive's directory (so that a small file cannot become a large allocation), by PyTorch's
`weights_only` unpickler, which calls nothing but a fixed list of constructors. nnU-Net's own loader executes
whatever the pickle says.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor

from models.runtimes.archives import Refused, look_at_archive

#: nnU-Net logs its losses as NumPy scalars into the same file as the weights.
_SCALARS: list[Any] = [
    scalar,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")),
]


class NotACheckpoint(ValueError):
    """The file is not a checkpoint of nnU-Net, or is one that nobody should open; the text says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What of a fold is needed to run it."""

    weights: Mapping[str, Tensor]  #: by the name of the parameter, each once
    as_written: Mapping[str, Tensor]  #: the same tensors under all the names of the file
    configuration: str
    trainer: str
    mirror: tuple[int, ...]  #: axes along which the training mirrored; none: it did not


def read_checkpoint(file: BinaryIO) -> Checkpoint:
    """The checkpoint in `file`, on the CPU. Raises `NotACheckpoint`; executes nothing."""
    size = file.seek(0, 2)
    file.seek(0)
    try:
        look_at_archive(file, size)
    except Refused as refused:
        raise NotACheckpoint(f"it {refused}") from refused
    try:
        with torch.serialization.safe_globals(_SCALARS):
            found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).split("\n", 1)[0]
        raise NotACheckpoint(f"it holds more than numbers and names, and was not opened: {first}") from error
    except Exception as error:  # The archive is as its maker liked it: nothing that reads it is surprising.
        raise NotACheckpoint(f"it cannot be read as a PyTorch checkpoint: {error}") from error
    try:
        weights = _weights(found["network_weights"], size)
        axes = found.get("inference_allowed_mirroring_axes") or ()
        return Checkpoint(
            weights=weights,
            as_written=dict(found["network_weights"]),
            configuration=str(found["init_args"]["configuration"]),
            trainer=str(found["trainer_name"]),
            mirror=tuple(sorted({int(axis) for axis in axes})),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise NotACheckpoint(f"it lacks {error}, which nnU-Net writes into every checkpoint") from error


def _weights(found: Any, size: int) -> dict[str, Tensor]:
    """Each parameter once: nnU-Net writes a tensor up to four times, under the names of its parents."""
    weights: dict[str, Tensor] = {}
    for given, tensor in found.items():
        if not isinstance(given, str) or not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise NotACheckpoint("its weights are not all numbers under a name")
        # What training on several devices, or compiled, puts before every name.
        name = given.removeprefix("module.").removeprefix("_orig_mod.")
        if ".all_modules." in name or name.startswith("decoder.encoder."):
            continue
        weights[name] = tensor
    # A view repeats a number without storing it again.
    if sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > 2 * size:
        raise NotACheckpoint("its weights would take more than twice the memory of the file")
    return weights

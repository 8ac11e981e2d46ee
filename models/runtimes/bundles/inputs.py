"""
What a model is given, as the images that a bundle would have read from files.

A file of a volume has axes (column, row, slice) and an affine to RAS millimetres; findings have (slice, row,
column) and LPS. Both are the same voxels seen from two sides, so nothing is resampled here but the further
series of a set, onto the grid of the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from numpy.typing import NDArray
from torch import Tensor

from models.contract import Given, Image, NotForThisModel, SeriesSet, Timeline

_RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_COVERED = 0.9  # of the first series has a further one to cover, at least
_SAMPLED = 16  # places along each axis where that is looked at

Affine = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Read:
    """The images by the bundle's names, and the grid that findings come back to."""

    images: Mapping[str, MetaTensor]
    shape: tuple[int, ...]  #: of that grid as the bundle sees it: (column, row, slice), or (column, row)
    affine: Affine  #: index on it → RAS mm, 4 × 4


def read(
    given: Given, keys: Sequence[str], inputs: Sequence[str], channels: int, device: torch.device
) -> Read:
    """`keys` are the images that the bundle would read; `inputs` are the manifest's; `channels` is how many
    the network wants, so that a grey photograph can be given to one for colours.

    Several series are one image of several channels in the order of the manifest, unless the bundle reads
    them under their own names. Raises `NotForThisModel`.
    """
    match given:
        case Image():
            return _photograph(given, keys[0], channels, device)
        case SeriesSet():
            return _several(given, keys, inputs, device)
        case Timeline():
            return read(given.current, keys, inputs, channels, device)
    tensor, affine = _volume(given, device)
    return Read({keys[0]: _image(tensor, affine, "no_channel")}, tuple(tensor.shape), affine)


def ras_affine(volume: hd.Volume) -> Affine:
    """(column, row, slice) → RAS mm."""
    return np.asarray(_RAS_OF_LPS @ np.asarray(volume.affine, np.float64)[:, [2, 1, 0, 3]], np.float64)


def _volume(volume: hd.Volume, device: torch.device) -> tuple[Tensor, Affine]:
    """(column, row, slice) on `device`, turned there, where that costs less."""
    array = np.asarray(volume.array)
    if array.ndim != 3:
        raise NotForThisModel("The volume has several channels, and this model takes one.")
    here = torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)
    if not torch.isfinite(here).all():
        raise NotForThisModel("Some voxels are not numbers.")
    return here.permute(2, 1, 0).contiguous(), ras_affine(volume)


def _image(tensor: Tensor, affine: Affine, channel: str | int) -> MetaTensor:
    """As `LoadImage` gives it."""
    image = MetaTensor(tensor, affine=torch.as_tensor(affine, dtype=torch.float64))
    spatial = (
        tensor.shape if channel == "no_channel" else tensor.shape[1:] if channel == 0 else tensor.shape[:-1]
    )
    image.meta |= {
        "original_affine": affine.copy(),
        "original_channel_dim": float("nan") if channel == "no_channel" else channel,
        "spatial_shape": np.array(spatial),
        "space": "RAS",
        "filename_or_obj": "memory",
    }
    return image


def _photograph(given: Image, key: str, channels: int, device: torch.device) -> Read:
    """(column, row) or (column, row, colour), as MONAI's reader of pictures has it."""
    array = torch.from_numpy(np.ascontiguousarray(given.array, np.float32)).to(device).transpose(0, 1)
    rows_mm, columns_mm = given.spacing_mm or (1.0, 1.0)
    affine = np.diag([columns_mm, rows_mm, 1.0, 1.0])
    shape = tuple(array.shape[:2])
    if array.ndim == 2 and channels == 3:
        array = array[..., None].expand(-1, -1, 3)
    elif array.ndim == 3 and channels == 1:
        # Luminance of ITU-R BT.601, as picture readers turn colours into grey.
        array = array @ torch.tensor([0.299, 0.587, 0.114], device=device)
    channel: str | int = "no_channel" if array.ndim == 2 else -1
    return Read({key: _image(array.contiguous(), affine, channel)}, shape, affine)


def _several(given: SeriesSet, keys: Sequence[str], inputs: Sequence[str], device: torch.device) -> Read:
    first, affine = _volume(given.on_reference, device)
    tensors = {}
    for name in inputs:
        if name not in given.volumes:
            raise NotForThisModel(f"The series for {name!r} is missing.")
        volume = given.volumes[name]
        tensors[name] = first if name == given.reference else _onto(volume, name, first, affine, device)
    shape = tuple(first.shape)
    if set(inputs) <= set(keys):
        return Read({name: _image(one, affine, "no_channel") for name, one in tensors.items()}, shape, affine)
    stacked = torch.stack([tensors[name] for name in inputs])
    return Read({keys[0]: _image(stacked, affine, 0)}, shape, affine)


def _onto(volume: hd.Volume, name: str, first: Tensor, affine: Affine, device: torch.device) -> Tensor:
    """Another series on the grid of the first one, linearly; outside of what it covers its edge goes on."""
    tensor, own = _volume(volume, device)
    if tensor.shape == first.shape and np.allclose(own, affine, atol=1e-4):
        return tensor
    covered = _covered(np.linalg.inv(own) @ affine, tuple(first.shape), tuple(tensor.shape))
    if covered < _COVERED:
        raise NotForThisModel(
            f"The series for {name!r} covers {covered:.0%} of the first series; all series have to show the "
            f"same part of the body."
        )
    resample = SpatialResample(
        mode="bilinear", padding_mode="border", align_corners=True, dtype=torch.float64
    )
    image = MetaTensor(tensor[None], affine=torch.as_tensor(own, dtype=torch.float64))
    moved = resample(image, dst_affine=torch.as_tensor(affine), spatial_size=tuple(first.shape))
    onto: Tensor = moved.as_tensor()[0].float()
    return onto


def _covered(index_of_index: Affine, shape: tuple[int, ...], into: tuple[int, ...]) -> float:
    """The share of a grid of `shape` that lies within the voxels of a grid `into`."""
    axes = [np.linspace(0, size - 1, min(size, _SAMPLED)) for size in shape]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    at = places @ index_of_index[:3, :3].T + index_of_index[:3, 3]
    inside = ((at >= -0.5) & (at <= np.array(into) - 0.5)).all(axis=1)
    return float(inside.mean())

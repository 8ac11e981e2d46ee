"""
What was imaged as the one tensor that a network takes, (channels, z, y, x), with the grid that it lies on.

An image is a volume of one slice; a network of two axes sees its rows and columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.contract import BrokenModel, Given, Image, NotForThisModel, SeriesSet, Timeline
from models.manifest import Manifest
from models.prepare.grid import Grid
from models.prepare.sample import resample
from models.runtimes.tensors import intensity
from models.runtimes.tensors.options import Prepare


@dataclass(frozen=True, slots=True)
class Prepared:
    """The network's input, and where it and what it is made from lie."""

    image: Tensor  #: (C, z, y, x), float32
    grid: Grid
    source: Grid
    measured: bool  #: the source's millimetres are real: those of a volume in a patient


def prepared(
    given: Given, manifest: Manifest, prepare: Prepare, device: torch.device, *, axes: int = 3
) -> Prepared:
    """For a network of so many `axes`; one of an image has two.

    Raises `NotForThisModel` where these images cannot be made ready, and `BrokenModel` for what no images
    could.
    """
    if isinstance(given, Timeline):
        raise BrokenModel(
            f"model {manifest.identity}: a network of one input cannot take a timeline; runtime python can"
        )
    if isinstance(given, Image) and prepare.orientation is not None:
        raise BrokenModel(
            f"model {manifest.identity}: an image has rows and columns and no orientation to turn to"
        )
    if isinstance(given, Image) and given.spacing_mm is None and any(prepare.spacing_mm or ()):
        raise NotForThisModel(
            f"model {manifest.identity} needs to know how large a pixel is, and the image does not say it"
        )
    source = Grid.of(given)
    grid = _target(source, manifest, prepare, 2 if isinstance(given, Image) else axes)
    pieces = [
        _on_grid(voxels, at, grid, prepare) for voxels, at in _channels(given, manifest, prepare, device)
    ]
    image = torch.cat(pieces)
    outside = _outside(source, grid, device) if prepare.pads else None
    if not prepare.intensity_first:
        intensity.apply(prepare.intensity, image, outside)
    if outside is not None:
        image.masked_fill_(outside, prepare.padding)
    if not bool(torch.isfinite(image).all()):
        raise NotForThisModel(f"model {manifest.identity}: the image has values that are not numbers")
    return Prepared(image, grid, source, measured=not isinstance(given, Image))


def _target(source: Grid, manifest: Manifest, prepare: Prepare, axes: int) -> Grid:
    """The network's grid: turned, then spaced, then of its size, then of a multiple on the network's axes."""
    grid = source.oriented(prepare.orientation) if prepare.orientation else source
    if prepare.spacing_mm is not None:
        wanted = [voxel_mm or None for voxel_mm in _three(prepare.spacing_mm, 0.0, manifest)]
        grid = grid.spaced(wanted)
    if prepare.size is not None:
        size = [side or n for side, n in zip(_three(prepare.size, 0, manifest), grid.shape, strict=True)]
        grid = grid.with_shape(size) if prepare.fit == "resize" else _around(grid, size)
    each = _three((prepare.multiple_of,) * axes, 1, manifest)
    return _around(grid, [-(-n // many) * many for n, many in zip(grid.shape, each, strict=True)])


def _around(grid: Grid, size: Sequence[int]) -> Grid:
    """The same middle, with voxels added to or taken from both ends; the odd one behind."""
    low = [
        (n - side) // 2 if n >= side else -((side - n) // 2) for n, side in zip(grid.shape, size, strict=True)
    ]
    return grid.cropped(low, [first + side for first, side in zip(low, size, strict=True)])


def _three(given: Sequence[Any], first: Any, manifest: Manifest) -> tuple[Any, ...]:
    """Numbers for three axes; where there are two, they are of rows and columns."""
    if len(given) not in (2, 3):
        raise BrokenModel(f"model {manifest.identity}: {tuple(given)} is not for two or three axes")
    return (first, *given) if len(given) == 2 else tuple(given)


def _channels(
    given: Given, manifest: Manifest, prepare: Prepare, device: torch.device
) -> list[tuple[Tensor, Grid]]:
    """(C, slice, row, column) in float32 of each series, in the order of the manifest's inputs."""
    match given:
        case Image():
            array = given.array if given.array.ndim == 3 else given.array[..., np.newaxis]
            return [
                (
                    _in_colours(_tensor(np.moveaxis(array, -1, 0)[:, np.newaxis], device), prepare),
                    Grid.of(given),
                )
            ]
        case SeriesSet():
            names = [one.name for one in manifest.inputs]
            if missing := [name for name in names if name not in given.volumes]:
                raise NotForThisModel(f"model {manifest.identity} needs the series {', '.join(missing)}, too")
            return [_of_volume(given.volumes[name], prepare, device) for name in names]
        case hd.Volume():
            return [_of_volume(given, prepare, device)]
    raise BrokenModel(f"model {manifest.identity}: nothing is known of a {type(given).__name__}")


def _of_volume(volume: hd.Volume, prepare: Prepare, device: torch.device) -> tuple[Tensor, Grid]:
    array = volume.array if volume.array.ndim == 4 else volume.array[..., np.newaxis]
    return _in_colours(_tensor(np.moveaxis(array, -1, 0), device), prepare), Grid.of(volume)


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    # A copy, always: intensities are changed in place.
    return torch.tensor(np.ascontiguousarray(array, np.float32), device=device)


def _in_colours(voxels: Tensor, prepare: Prepare) -> Tensor:
    if prepare.colours == "rgb":
        return voxels if len(voxels) == 3 else voxels[:1].repeat(3, 1, 1, 1)
    if len(voxels) == 3:  # ITU-R BT.601, as PS3.3 §C.7.6.3.1.2 has it
        weights = torch.tensor([0.299, 0.587, 0.114], device=voxels.device)
        return torch.einsum("c,czyx->zyx", weights, voxels)[None]
    return voxels


def _on_grid(voxels: Tensor, at: Grid, grid: Grid, prepare: Prepare) -> Tensor:
    if prepare.intensity_first:
        intensity.apply(prepare.intensity, voxels)
    if at == grid:
        return voxels
    return resample(voxels, at, grid, "linear", antialias=prepare.smooth)


def _outside(source: Grid, grid: Grid, device: torch.device) -> Tensor | None:
    """Which voxels (z, y, x) of the network's grid are no part of the source; None: all are."""
    there = torch.ones(source.shape, dtype=torch.uint8, device=device)
    outside = resample(there, source, grid, "nearest", outside=0) == 0
    return outside if bool(outside.any()) else None

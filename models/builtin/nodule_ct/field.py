"""
The lungs as the search sees them: cut out, on cubes of about a millimetre, with everything around them dark.

What lies outside the closed lungs is given the density of lung: so a nodule on the pleura is a round spot
like any other, and the chest wall, the heart and the diaphragm are nothing. Thick slices are drawn out to
cubes between their middles; that invents no detail, it only lets every direction be treated alike.
All arrays are (z, y, x) towards head, back and left.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.prepare.morphology import Box, Mask, Spacing
from models.prepare.resample import reduce_volume, working_shape

STEP_MM = 1.0  #: of the cubes
_HIGHEST_HU = 100.0  # a calcified nodule is as bright to the search as a solid one
_LOWEST_HU = -1000.0
_LUNG_LIKE_HU = (-980.0, -600.0)


@dataclass(frozen=True, slots=True)
class Grids:
    """Two grids over the same box of a chest: the source voxels, and cubes of about a millimetre."""

    box: Box  #: of the source (z, y, x) that the cubes cover from edge to edge
    source_mm: Spacing
    shape: tuple[int, int, int]  #: cubes

    @property
    def step_mm(self) -> Spacing:
        """The edges of a cube; nearly alike."""
        z, y, x = (
            (side.stop - side.start) * mm / n
            for side, mm, n in zip(self.box, self.source_mm, self.shape, strict=True)
        )
        return z, y, x

    def to_source(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Indices (…, 3) of the cubes as indices of the source."""
        few = np.array([(side.stop - side.start) for side in self.box]) / np.array(self.shape)
        return np.asarray((at + 0.5) * few - 0.5 + np.array([side.start for side in self.box]))


@dataclass(frozen=True, slots=True)
class Field:
    """What the search looks at."""

    grids: Grids
    hu: Tensor  #: (z, y, x) float32 with the outside of the lungs dark
    inside: Tensor  #: (z, y, x) bool, the closed lungs
    lung_hu: float  #: median of the aerated lung, and of what is outside


def grids_of(box: Box, source_mm: Spacing, step_mm: float = STEP_MM) -> Grids:
    """Cubes of about `step_mm` over `box` of the source."""
    z, y, x = (
        max(1, round((side.stop - side.start) * mm / step_mm))
        for side, mm in zip(box, source_mm, strict=True)
    )
    return Grids(box, source_mm, (z, y, x))


def field_of(
    source: NDArray[np.generic], grids: Grids, lungs: NDArray[np.float32], device: torch.device
) -> Field:
    """The field over `grids.box` of `source`; `lungs` are the closed lungs on the cubes, 0 … 1."""
    block = source[grids.box]
    fewer = working_shape(_triple(block.shape), grids.source_mm, float(np.mean(grids.step_mm)))
    hu = torch.from_numpy(reduce_volume(block, fewer, device)).to(device)
    if fewer != grids.shape:
        hu = functional.interpolate(hu[None, None], size=grids.shape, mode="trilinear", align_corners=False)[
            0, 0
        ]
    hu.clamp_(_LOWEST_HU, _HIGHEST_HU)
    soft = torch.from_numpy(lungs).to(device)
    inside = soft > 0.5
    aerated = hu[inside & (hu > _LUNG_LIKE_HU[0]) & (hu < _LUNG_LIKE_HU[1])]
    lung_hu = float(aerated[:: max(1, aerated.numel() // 1_000_000)].median()) if aerated.numel() else -850.0
    # The edge of the mask is known to a millimetre: within it the wall is faded out.
    weight = ((soft - 0.5) * 2).clamp_(0, 1)
    return Field(grids, lung_hu + (hu - lung_hu) * weight, inside, lung_hu)


def drawn_out(mask: Mask, shape: tuple[int, int, int], grids: Grids) -> NDArray[np.float32]:
    """`mask`, on a working grid over all of a source of `shape`, as 0 … 1 on the cubes: trilinear."""
    field = mask.astype(np.float32)
    for axis in range(3):
        side, n, few = grids.box[axis], grids.shape[axis], mask.shape[axis]
        at = (np.arange(n) + 0.5) * (side.stop - side.start) / n + side.start  # edge-based, in source voxels
        index = at * few / shape[axis] - 0.5
        low = np.clip(np.floor(index).astype(int), 0, few - 1)
        high = np.minimum(low + 1, few - 1)
        part = np.clip(index - low, 0, 1).astype(np.float32)
        part = part.reshape([-1 if k == axis else 1 for k in range(3)])
        field = np.take(field, low, axis) * (1 - part) + np.take(field, high, axis) * part
    return np.ascontiguousarray(field)


def _triple(shape: tuple[int, ...]) -> tuple[int, int, int]:
    z, y, x = shape
    return z, y, x

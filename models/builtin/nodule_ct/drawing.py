"""
A spot on the voxels of the images: what is drawn, measured and counted.

The spot says where the nodule is and what hangs on it; the voxels of the images say where it ends. A voxel
belongs to a solid nodule where it is brighter than half way between core and lung, within one cube of the
spot. The edge of ground glass is drowned in noise: there the spot, found on smoothed cubes, decides alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.builtin.nodule_ct.spots import SOLID_CORE_HU, Spot
from models.prepare.morphology import FACES, Box, Mask, Spacing


@dataclass(frozen=True, slots=True)
class Drawn:
    """The voxels of one nodule: `mask` within `box` of the source (z, y, x)."""

    box: Box
    mask: Mask


def draw(spot: Spot, source: NDArray[np.generic], source_mm: Spacing) -> Drawn | None:
    """The voxels of `spot`; None where it falls between them."""
    cutout = spot.cutout
    step = cutout.step_mm
    solid = spot.core_hu > SOLID_CORE_HU
    region = ndimage.binary_dilation(spot.mask, FACES) & cutout.lung if solid else spot.mask
    cubes = ndimage.find_objects(region.astype(np.uint8))[0]
    sides, index = [], []
    for axis in range(3):
        low_mm = cutout.low_mm[axis] + (cubes[axis].start - 0.5) * step
        high_mm = cutout.low_mm[axis] + (cubes[axis].stop - 0.5) * step
        first = max(0, int(np.floor(low_mm / source_mm[axis])))
        last = min(source.shape[axis], int(np.ceil(high_mm / source_mm[axis])))
        if first >= last:
            return None
        sides.append(slice(first, last))
        middles_mm = (np.arange(first, last) + 0.5) * source_mm[axis]
        index.append((middles_mm - cutout.low_mm[axis]) / step)
    z, y, x = sides
    inside = ndimage.map_coordinates(
        region.astype(np.float32), np.stack(np.meshgrid(*index, indexing="ij")), order=1, mode="nearest"
    )
    mask = inside > 0.5
    if solid:
        mask &= np.asarray(source[z, y, x], np.float32) > spot.threshold_hu
    labels, count = ndimage.label(mask, FACES)
    if count == 0:
        return None
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return Drawn((z, y, x), np.asarray(ndimage.binary_fill_holes(largest)))

"""
Bright things on a working grid: the skeleton, the front of the spine, and what is too large for a coronary.

All arrays are (z, y, x): z towards the head, y towards the back, x towards the patient's left.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.contract import NotForThisModel
from models.prepare.morphology import Mask, Spacing, components, dilate

_BONE_ML = 4.0  # No piece of a calcified coronary is so large; ribs, sternum and vertebrae are.
_AROUND_MM = 4.0  # The edge of bone, blurred over two working voxels
_SPINE_HALF_MM = 14.0  # half of a vertebral body
_OVER_MM = 24.0  # Discs have no bone in front: the vertebra above or below speaks for them.
_SPINE_ML = 15.0


@dataclass(frozen=True, slots=True)
class Skeleton:
    """`mask` has a margin; `front_y` is the first row of the spine in every plane, `middle_x` its column."""

    mask: Mask
    front_y: NDArray[np.int64]  #: (z,)
    middle_x: float


def find_skeleton(hu: NDArray[np.float32], body: Mask, lowest_hu: float, spacing_mm: Spacing) -> Skeleton:
    """The bones of what is at least `lowest_hu`. Raises `NotForThisModel` where no spine is seen."""
    if not body.any():
        raise NotForThisModel("No body is in the images: they hold nothing but air.")
    labels, sizes = components((hu >= lowest_hu) & body, np.ones((3, 3, 3), np.bool_))
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    bone = (sizes * voxel_ml > _BONE_ML)[labels]
    spine = _spine(bone, body, spacing_mm)
    if float(spine.sum()) * voxel_ml < _SPINE_ML:
        raise NotForThisModel("No spine was found behind the heart, so bone could not be told from calcium.")
    middle = float(np.median(np.nonzero(spine)[2]))
    half = int(np.ceil(_SPINE_HALF_MM / spacing_mm[2]))
    low = max(0, round(middle) - half)
    columns = spine[:, :, low : round(middle) + half + 1]
    found = columns.any(axis=(1, 2))
    first = np.where(found, columns.any(axis=2).argmax(axis=1), -1)
    reach = int(np.ceil(_OVER_MM / spacing_mm[0]))
    front = np.empty(len(first), np.int64)
    known = np.flatnonzero(first >= 0)
    for z in range(len(first)):
        near = first[max(0, z - reach) : z + reach + 1]
        near = near[near >= 0]
        front[z] = round(float(np.median(near))) if near.size else first[known[np.abs(known - z).argmin()]]
    return Skeleton(dilate(bone, _AROUND_MM, spacing_mm), front, middle)


def _spine(bone: Mask, body: Mask, spacing_mm: Spacing) -> Mask:
    """Bone in the middle of the back: the half of the body behind its centre, near the densest column."""
    rows = np.flatnonzero(body.any(axis=(0, 2)))
    behind = bone.copy()
    behind[:, : (rows[0] + rows[-1]) // 2] = False
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    third = (columns[-1] - columns[0] + 1) // 3
    across = behind.sum(axis=(0, 1)).astype(np.float64)
    across[: columns[0] + third] = across[columns[-1] - third + 1 :] = 0
    smooth = ndimage.uniform_filter1d(across, max(1, round(2 * _SPINE_HALF_MM / spacing_mm[2])))
    middle, half = int(smooth.argmax()), int(np.ceil(2 * _SPINE_HALF_MM / spacing_mm[2]))
    behind[:, :, : max(0, middle - half)] = False
    behind[:, :, middle + half + 1 :] = False
    # A heart full of contrast medium may reach as far back; it is not one piece with the spine.
    labels, sizes = components(behind)
    return labels == sizes.argmax() if sizes.max() else behind

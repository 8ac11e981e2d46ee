"""
Trabecular bone in vertebral bodies, where they are, without naming them.

Bone in front of the spinal canal that a disc of 16 mm fits into is a vertebral body; the discs between part
one from the next. Half way up each body a cylinder well inside the cortex is measured.
Arrays are (z, y, x) on the working grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.builtin.calcium_ct.bones import Skeleton
from models.prepare.morphology import IN_PLANE, Mask, Spacing

_BONE_HU = 130.0
_BEHIND_FRONT_MM = 40.0  # so deep a vertebral body is at most
_HALF_WIDE_MM = 26.0
_FITS_MM = 8.0
_AREA_MM2 = 300.0
_TALL_MM = (10.0, 40.0)
_RADIUS_MM, _HALF_TALL_MM = 8.0, 4.0
_SPREAD_HU = 90.0  # more, and the cylinder holds cortex, a vein or cement


@dataclass(frozen=True, slots=True)
class Body:
    """One vertebral body: the plane of its middle, and the cylinder."""

    plane: int
    cylinder: Mask


def vertebral_bodies(hu: NDArray[np.float32], skeleton: Skeleton, spacing_mm: Spacing) -> Iterator[Body]:
    """From the feet upwards."""
    step_z, step_y, step_x = spacing_mm
    rows, columns = np.arange(hu.shape[1]), np.arange(hu.shape[2])
    near = np.abs(columns - skeleton.middle_x) * step_x < _HALF_WIDE_MM
    behind = (rows[None] - skeleton.front_y[:, None]) * step_y
    zone = ((behind > -4.0) & (behind < _BEHIND_FRONT_MM))[:, :, None] & near
    bone = ndimage.binary_closing((hu >= _BONE_HU) & zone, IN_PLANE, 1)
    bone = np.stack([ndimage.binary_fill_holes(plane) for plane in bone])
    steps = max(1, round(_FITS_MM / step_x))
    block = ndimage.binary_opening(bone, IN_PLANE, steps)
    tall = block.sum(axis=(1, 2)) * step_y * step_x > _AREA_MM2
    start = 0
    for there, planes in groupby(tall):
        count = len(list(planes))
        low, start = start, start + count
        # One that the images cut off has no middle.
        if not there or low == 0 or start == len(tall) or not _TALL_MM[0] <= count * step_z <= _TALL_MM[1]:
            continue
        middle = (low + start - 1) // 2
        y, x = ndimage.center_of_mass(block[middle])
        round_mm = np.hypot((rows[:, None] - y) * step_y, (columns[None] - x) * step_x)
        half = int(_HALF_TALL_MM / step_z)
        cylinder = np.zeros(hu.shape, np.bool_)
        cylinder[middle - half : middle + half + 1] = round_mm <= _RADIUS_MM
        if float(hu[cylinder].std()) <= _SPREAD_HU:
            yield Body(middle, cylinder)

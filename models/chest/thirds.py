"""
Upper, middle and lower third of each lung, by height.

A lung reaches from its lowest to its highest voxel along the patient's own axis (LPS z, PS3.3 §C.7.6.2.1.1),
however the images are cut; its thirds are three parts of that height, not of its volume.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UPPER, MIDDLE, LOWER = 1, 2, 3
NAME = {UPPER: "upper", MIDDLE: "middle", LOWER: "lower"}


@dataclass(frozen=True, slots=True)
class Reach:
    """From where to where a lung reaches along the patient's axis, in LPS millimetres."""

    bottom_mm: float
    top_mm: float

    def third(self, height_mm: NDArray[np.float32]) -> NDArray[np.uint8]:
        """UPPER, MIDDLE or LOWER for each height; what lies beyond an end belongs to the third there."""
        part = (self.top_mm - height_mm) * (3.0 / max(self.top_mm - self.bottom_mm, 1e-6))
        return np.asarray(np.clip(np.floor(part) + 1, UPPER, LOWER), np.uint8)


def heights_mm(
    affine: NDArray[np.float64], shape: tuple[int, ...], first: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The LPS z of every voxel of `shape` as the sum of three arrays, one along each axis.

    `affine` turns an index into LPS mm; the index along the first axis begins at `first`.
    """
    row = affine[2]
    a = row[0] * (np.arange(shape[0]) + first) + row[3]
    b, c = (row[axis] * np.arange(shape[axis]) for axis in (1, 2))
    return (
        a.astype(np.float32)[:, None, None],
        b.astype(np.float32)[None, :, None],
        c.astype(np.float32)[None, None, :],
    )


def reach_of(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> Reach:
    """From where to where `mask`, which is not empty, reaches; voxels are counted to their edges."""
    along_z, along_y, along_x = heights_mm(affine, mask.shape)
    half = float(np.abs(affine[2, :3]).sum()) / 2
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    if not along_y.any() and not along_x.any():
        ends = along_z[[planes[0], planes[-1]], 0, 0]
        return Reach(float(ends.min()) - half, float(ends.max()) + half)
    z, y, x = np.nonzero(mask)
    height = along_z[z, 0, 0] + along_y[0, y, 0] + along_x[0, 0, x]
    return Reach(float(height.min()) - half, float(height.max()) + half)

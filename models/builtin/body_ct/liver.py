"""
The liver below the top of the right hemidiaphragm: a cylinder that is checked before it is believed.

In a chest without disease nothing else lies there. Where the voxels are not as alike as liver is, or not as
dense, nothing is said. Arrays are (z, y, x) on the working grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.prepare.morphology import Mask, Spacing

LIVER_HU = (20.0, 80.0)
_BELOW_MM = (18.0, 42.0)
_RADIUS_MM = 14.0
_SPREAD_HU = 10.0  # of means over about 6 mm


@dataclass(frozen=True, slots=True)
class Liver:
    """Where it was measured; None with the reason why it was not."""

    cylinder: Mask | None
    because: str = ""


def find_liver(hu: NDArray[np.float32], right: Mask, dome: int | None, spacing_mm: Spacing) -> Liver:
    """Below `dome`, the top of the diaphragm under the lung `right`."""
    step_z, step_y, step_x = spacing_mm
    if dome is None or dome * step_z < _BELOW_MM[1] + step_z:
        return Liver(None, "the images end above or just below the right diaphragm")
    # Where no lung is any more, a little below the top, with lung all around: the middle of the dome.
    below = dome - max(1, round(6.0 / step_z))
    columns = right[dome + 1 :].any(axis=0) & ~right[below]
    columns = ndimage.binary_opening(columns, iterations=2)
    if not columns.any():
        return Liver(None, "the top of the right diaphragm was not found")
    labels, _ = ndimage.label(columns)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    y, x = ndimage.center_of_mass(labels == sizes.argmax())
    rows, cols = np.arange(hu.shape[1])[:, None], np.arange(hu.shape[2])
    round_mm = np.hypot((rows - y) * step_y, (cols - x) * step_x)
    cylinder = np.zeros(hu.shape, np.bool_)
    low, high = (dome - round(mm / step_z) for mm in reversed(_BELOW_MM))
    cylinder[low : high + 1] = round_mm <= _RADIUS_MM
    if (cylinder & right).any():
        return Liver(None, "lung reaches below the right diaphragm there")
    smooth = ndimage.uniform_filter(hu, [max(1, round(6.0 / step)) for step in spacing_mm])[cylinder]
    mean, spread = float(smooth.mean()), float(smooth.std())
    if not LIVER_HU[0] <= mean <= LIVER_HU[1]:
        asked = f"{LIVER_HU[0]:.0f} to {LIVER_HU[1]:.0f}"
        return Liver(None, f"what lies below the right diaphragm has {mean:.0f} HU, not {asked}")
    if spread > _SPREAD_HU:
        return Liver(None, f"what lies below the right diaphragm is not even ({spread:.0f} HU)")
    return Liver(cylinder)

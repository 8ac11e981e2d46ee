"""
The lungs on both sides of the heart: of a whole chest, or of images that are only as wide as the heart.

Images of the heart cut both lungs off at the sides, where no outline of a whole lung can be had; there, what
is filled with air but darker than tissue and brighter than the room is lung enough to find the heart between.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.chest.airways import find_airways
from models.chest.body import find_body
from models.chest.lungs import find_lungs
from models.contract import NotForThisModel
from models.prepare.morphology import Mask, Spacing, components

AIR_HU = -400.0
_CLOSING_MM = 8.0
_LUNG_HU = (-965.0, -550.0)  # The room is darker; seen over a few voxels, so that noise does not matter.
_LUNG_ML = 60.0
_LUNG_MAX_ML = 5000.0
_OPENED_MM = 4.0
TISSUE_HU = -500.0
_CARINA_WIDE_MM = 34.0  # wall included


@dataclass(frozen=True, slots=True)
class View:
    """What surrounds the heart, all (z, y, x) on the working grid."""

    body: Mask
    right: Mask
    left: Mask
    airways: Mask | None  #: None: not looked for
    carina: int | None  #: its plane


def whole_chest(hu: NDArray[np.float32], spacing_mm: Spacing) -> View:
    """Of images that show the chest from side to side. Raises `NotForThisModel`."""
    body = find_body(hu, spacing_mm)
    air = body & (hu < AIR_HU)
    airways = find_airways(hu, body, air, spacing_mm)
    right, left = find_lungs(hu, air, spacing_mm, _CLOSING_MM, airways.mask)
    largest_ml = max(right.sum(), left.sum()) * float(np.prod(spacing_mm)) / 1000
    if largest_ml > _LUNG_MAX_ML:
        raise NotForThisModel(
            f"A lung would measure {largest_ml:.0f} ml; a person has none above {_LUNG_MAX_ML:.0f} ml."
        )
    carina = _carina(airways.mask, airways.seed[0], spacing_mm) if airways.seed else None
    return View(body, right, left, airways.mask, carina)


def heart_sized(hu: NDArray[np.float32], body: Mask, middle_x: float, spacing_mm: Spacing) -> View:
    """Of images that cut both lungs off at the sides, parted at the spine. Raises `NotForThisModel`."""
    smooth = ndimage.uniform_filter(hu, 3)
    lungs = (smooth > _LUNG_HU[0]) & (smooth < _LUNG_HU[1])
    lungs = ndimage.binary_opening(lungs, iterations=max(1, round(_OPENED_MM / 2 / spacing_mm[2])))
    labels, sizes = components(lungs)
    lungs = (sizes * float(np.prod(spacing_mm)) / 1000 > _LUNG_ML)[labels]
    lungs = ndimage.binary_closing(lungs, iterations=2) | lungs
    if not lungs.any():
        raise NotForThisModel("No lungs were found beside the heart.")
    middle = round(middle_x)
    right, left = lungs.copy(), lungs.copy()
    right[:, :, middle:] = False
    left[:, :, :middle] = False
    return View(body, right, left, None, None)


def _carina(airways: Mask, top: int, spacing_mm: Spacing) -> int | None:
    """The first plane below the trachea in which the airways are wider than a trachea."""
    for z in range(top, -1, -1):
        columns = np.flatnonzero(airways[z].any(axis=0))
        if columns.size and (columns[-1] - columns[0] + 1) * spacing_mm[2] > _CARINA_WIDE_MM:
            return z
    return None

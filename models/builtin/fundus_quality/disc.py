"""
Where the optic disc is, roughly: the brightest spot of its size in which vessels meet.

Only used to doubt a side that the headers state; it is no outline of the disc.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from models.builtin.fundus_quality.view import View
from models.images.grid import Mask, Plane

_SIZE = 0.13  # of the radius of a 45 degree field
_STANDS_OUT = 3.0  # in spreads of the smoothed light
_CENTRED = 0.2  # of the radius: a disc nearer to the middle says nothing of the side


@dataclass(frozen=True, slots=True)
class Disc:
    """Its place on the working grid, and on which side of the photograph that is."""

    row: float
    column: float
    at: str  #: "left", "right", or "middle" of the image


def find_disc(light: Plane, vessels: Mask, view: View) -> Disc | None:
    """The disc on `light`, a plane in which it is bright; None where nothing stands out."""
    size = max(2.0, _SIZE * view.radius)
    inner = ndimage.binary_erosion(view.mask, iterations=max(1, round(0.08 * view.radius)))
    weight = np.maximum(ndimage.gaussian_filter(view.mask.astype(np.float32), 4 * size), 1e-3)
    wide = ndimage.gaussian_filter(np.where(view.mask, light, 0), 4 * size) / weight
    spot = ndimage.gaussian_filter(np.where(view.mask, light, wide), size / 2) - wide
    many = ndimage.gaussian_filter(vessels.astype(np.float32), size)
    values = spot[inner]
    if values.size == 0 or float(values.std()) == 0:
        return None
    clear = (spot - float(np.median(values))) / float(values.std())
    score = np.where(inner, clear * (0.3 + many / max(float(many.max()), 1e-6)), -np.inf)
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    if clear[row, column] < _STANDS_OUT:
        return None
    off = (column - view.column) / view.radius
    at = "middle" if abs(off) < _CENTRED else "left" if off < 0 else "right"
    return Disc(float(row), float(column), at)

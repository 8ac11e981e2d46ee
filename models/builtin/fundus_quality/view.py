"""
The field of view of a fundus photograph: a round bright region on dark ground, perhaps cut at the image's
edge.

Planes are (row, column), of a working grid.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from models.contract import NotForThisModel
from models.images.grid import Mask, Plane

_BRIGHT = 0.15  # of the way from the dark surround to the bright fundus
_ROUND = 0.93  # overlap over union of the region with the circle, inside the image
_EDGE_SEEN = 0.2  # of the circle lies in the image as an edge
_RADIUS = (0.25, 0.85)  # of the shorter side
_RED = 1.2  # red over green: a fundus is orange
_BLUE = 1.0  # blue over green at most


@dataclass(frozen=True, slots=True)
class View:
    """The field of view and its circle, in pixels of the working grid."""

    mask: Mask
    row: float
    column: float
    radius: float


def find_view(rgb: Plane) -> View:
    """The field of view of (row, column, 3). Raises `NotForThisModel` where there is no round orange one."""
    light = rgb.max(axis=2)
    dark, bright = np.percentile(light, (1, 90))
    region = ndimage.binary_opening(light > dark + _BRIGHT * (bright - dark), iterations=2)
    labels, count = ndimage.label(region)
    if count == 0:
        raise NotForThisModel("No field of view was found on the photograph.")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    mask = np.asarray(ndimage.binary_fill_holes(labels == sizes.argmax()))
    view = _circle(mask)
    _refuse_other_colours(rgb[view.mask])
    return view


def _circle(mask: Mask) -> View:
    rim = mask & ~ndimage.binary_erosion(mask, border_value=1)
    rim[[0, 1, -2, -1]] = False
    rim[:, [0, 1, -2, -1]] = False
    rows, columns = np.nonzero(rim)
    refusal = NotForThisModel(
        "The photograph does not show the round edge of a fundus camera's field of view."
    )
    if rows.size < 30:
        raise refusal
    keep = np.ones(rows.size, np.bool_)
    row = column = radius = 0.0
    for _ in range(4):  # Notches and pointers at the edge are left out as they are found.
        y, x = rows[keep].astype(float), columns[keep].astype(float)
        system = np.column_stack([2 * y, 2 * x, np.ones(y.size)])
        (row, column, rest), *_ = np.linalg.lstsq(system, y * y + x * x, rcond=None)
        radius = float(np.sqrt(max(rest + row * row + column * column, 1.0)))
        off = np.abs(np.hypot(rows - row, columns - column) - radius)
        keep = off <= max(2.0, 2 * float(np.median(off)))
    short = min(mask.shape)
    disc = np.hypot(*(np.indices(mask.shape) - np.array([row, column])[:, None, None])) <= radius
    union = float((disc | mask).sum())
    seen = float(keep.sum()) / (2 * np.pi * radius)
    if (
        not _RADIUS[0] * short <= radius <= _RADIUS[1] * short
        or float((disc & mask).sum()) < _ROUND * union
        or seen < _EDGE_SEEN
    ):
        raise refusal
    return View(np.asarray(disc & mask), float(row), float(column), radius)


def _refuse_other_colours(pixels: Plane) -> None:
    red, green, blue = (float(value) for value in np.median(pixels, axis=0))
    if red < _RED * green or blue > _BLUE * green:
        raise NotForThisModel("The photograph has not the colours of a fundus in white light.")

"""
The breast on a mammogram: the one large bright shape that grows out of one side of the image, without muscle.

Planes are (row, column) on the working grid with the chest wall at column 0 (`turned`), brighter is denser.
Steps: threshold at a share of the way from air to tissue, found by Otsu; largest piece; what hangs below the
breast cut off; on oblique views the pectoral muscle by the straight line with the strongest edge (the idea:
Karssemeijer, who used the Hough transform; see J Digit Imaging 2015, doi 10.1007/s10278-015-9813-5).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from models.contract import NotForThisModel
from models.images.grid import Mask, Plane
from models.images.measures import otsu

_RIM = 0.15  # of the way from air to tissue: skin is thin
_WALL_SHARE = 0.3  # of the height of the image, where the breast leaves it
_OPPOSITE_SHARE = 0.05
_ONE_RUN = 0.9  # of the breast lies in one run from the chest wall
_AREA = (0.04, 0.92)  # of the image
_NECK = 0.06  # of the widest row: narrower, it is another part of the body
_MUSCLE_ROWS, _MUSCLE_COLUMNS = (0.25, 0.98), (0.15, 0.95)  # where the line may end, in parts of the breast
_LINES = 28
#: How strong the edge must be: the mean fall per mm across the line, in parts of the breast's own contrast,
#: times the root of its length in mm.
_EDGE = 0.15


@dataclass(frozen=True, slots=True)
class Outline:
    """What was found, in the turned plane."""

    breast: Mask  #: with the muscle
    wall: str  #: the side of the image as it was sent: "left" or "right"
    air: float  #: the value beside the breast


def find_breast(plane: Plane) -> Outline:
    """The breast in a plane as it was sent. Raises `NotForThisModel` where the shape is not that of a
    breast.
    """
    parting = otsu(plane.ravel())
    air = float(np.median(plane[plane < parting.threshold]))
    tissue = float(np.median(plane[plane >= parting.threshold]))
    bright = ndimage.binary_opening(plane > air + _RIM * (tissue - air), iterations=2)
    labels, _ = ndimage.label(bright)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if sizes.max() == 0:
        raise NotForThisModel("No breast was found on the image.")
    piece = np.asarray(ndimage.binary_fill_holes(labels == sizes.argmax()))
    at_left, at_right = float(piece[:, :3].any(axis=1).mean()), float(piece[:, -3:].any(axis=1).mean())
    wall = "left" if at_left >= at_right else "right"
    if max(at_left, at_right) < _WALL_SHARE or min(at_left, at_right) > _OPPOSITE_SHARE:
        raise NotForThisModel(
            "The image does not show one breast that grows out of one side of it: this is no standard "
            "mammogram."
        )
    breast = _without_fold(turned(piece, wall))
    share = float(breast.mean())
    if not _AREA[0] <= share <= _AREA[1]:
        raise NotForThisModel(
            f"The breast would cover {100 * share:.0f} % of the image: the outline cannot be trusted."
        )
    run = np.cumprod(breast[:, 2:], axis=1).sum() + breast[:, :2].sum()
    if run < _ONE_RUN * breast.sum():
        raise NotForThisModel("The bright shape on the image is not that of a breast.")
    return Outline(breast, wall, air)


def turned(plane: np.ndarray, wall: str) -> np.ndarray:
    """The plane with the chest wall at column 0; twice is as before."""
    return plane if wall == "left" else plane[:, ::-1]


def _without_fold(breast: Mask) -> Mask:
    """Without the abdomen below the infra-mammary fold: rows beyond a neck, seen from the widest row."""
    width = breast.sum(axis=1)
    widest = int(width.argmax())
    narrow = np.flatnonzero(width[widest:] < _NECK * width[widest])
    cut = breast.copy()
    if narrow.size:
        cut[widest + narrow[0] :] = False
    above = np.flatnonzero(width[:widest] < _NECK * width[widest])
    if above.size:
        cut[: above[-1] + 1] = False
    return cut


def find_pectoral(plane: Plane, breast: Mask, step: float) -> Mask:
    """The muscle in the upper corner at the chest wall; empty where no edge of one is seen.

    `step` is the spacing of the plane in mm, or its stand-in where there is none.
    """
    none = np.zeros_like(breast)
    top_width = int(breast[: max(3, breast.shape[0] // 50)].any(axis=0).sum())
    rows_of = np.flatnonzero(breast.any(axis=1))
    height = int(rows_of[-1] - rows_of[0])
    if top_width < 5 or rows_of[0] > 0.05 * breast.shape[0]:
        return none  # The breast does not reach the upper edge: nothing of the axilla is in the image.
    inside = plane[breast]
    scale = float(np.percentile(inside, 90) - np.percentile(inside, 10)) or 1.0
    smooth = ndimage.gaussian_filter(plane, 1.5 / step)
    down, along = np.gradient(smooth / scale, step)
    best, at = 0.0, (0.0, 0.0)
    for column in np.linspace(*_MUSCLE_COLUMNS, _LINES) * top_width:
        for row in np.linspace(*_MUSCLE_ROWS, _LINES) * height * 0.9:
            if row < 1.2 * column:
                continue  # flatter than any pectoral muscle
            part = np.linspace(0.05, 0.95, 60)
            y, x = (row * part).astype(int), (column * (1 - part)).astype(int)
            on = breast[y, x]
            if on.mean() < 0.9:
                continue
            length = float(np.hypot(row, column))
            across = -(down[y, x] * column + along[y, x] * row) / length
            strength = float(np.clip(across, -0.2, 0.2).mean()) * np.sqrt(length * step)
            if strength > best:
                best, at = strength, (row, column)
    if best < _EDGE:
        return none
    y, x = np.indices(breast.shape)
    muscle = (y / at[0] + x / at[1] < 1) & breast
    beside = (y / (at[0] * 1.25) + x / (at[1] * 1.25) < 1) & breast & ~muscle
    brighter = muscle.any() and beside.any() and plane[muscle].mean() > plane[beside].mean()
    return muscle if brighter else none

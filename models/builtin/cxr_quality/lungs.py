"""
Where the lungs are on an upright frontal radiograph, well enough to say whether the field cuts them off.

A lung is darker than what is at three of its four sides at least: chest wall, mediastinum, shoulder and
diaphragm, of which a field may cut one off. Air beside the body is not: nothing brighter is beyond it. Where
the depth of that valley is two fifths of its deepest, the lung ends. It is no outline to measure a volume by.
Planes are (row, column) of the field, on a grid of `SIDE` x `SIDE`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.builtin.cxr_quality.lie import square
from models.images.grid import Mask, Plane

SIDE = 128  #: rows and columns of the grid
_SOFT, _SPOT = 0.02, 0.04  # of the side: ribs are smoothed away; what a lung is larger than
_PLACE, _REACH = (0.45, 0.3, 0.7), (0.3, 0.16)  # where lungs are: row, columns; how far from there
_PART = 0.4  # of the deepest
_AIR = 0.4  # of the lung's own rank: darker is no lung, but the air beside the body
_DEEP = 0.12  # in ranks: less dark is no lung
_AREA = (0.02, 0.35)  # of the field, each
_RATIO = 3.5  # of the larger to the smaller
_OPPOSITE = 16  # of the side: the middle reaches so far into the other half
_NECK = 5  # pixels: through what is no wider than twice that, no lung goes on
_TOUCH = 3  # lines: nearer to the edge of the field, a lung is cut off
_CONTACT = 8  # pixels of these lines: less is a corner of it
_AS_DARK = 0.6  # of the rank of the lungs: darker is air that runs out of the image


@dataclass(frozen=True, slots=True)
class Lungs:
    """Both lungs in the field, and how far each of their ends is from its edges, in parts of its sides."""

    mask: Mask  #: (SIDE, SIDE)
    above: float
    below: float
    at_left: float  #: of the image
    at_right: float
    middle: float  #: how much brighter the mediastinum is, in ranks of 0 to 1
    cut_off: tuple[str, ...]  #: which parts lie at the edge of the field, as a radiographer says it


def find_lungs(field: Plane) -> Lungs | None:
    """The lungs in the field; None where two of about the same size are not seen."""
    small = square(field, SIDE)
    order = small.ravel().argsort(kind="stable").argsort(kind="stable")
    picture = (order / (order.size - 1)).reshape(SIDE, SIDE)
    depth = _depth(picture)
    left, right = (_lung(picture, depth, side) for side in (0, 1))
    if left is None or right is None:
        return None
    sizes = sorted((float(left.mean()), float(right.mean())))
    if sizes[0] < _AREA[0] or sizes[1] > _AREA[1] or sizes[1] > _RATIO * sizes[0]:
        return None
    both = np.asarray(ndimage.binary_fill_holes(left | right))
    rows, columns = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
    return Lungs(
        mask=both,
        above=float(rows[0]) / SIDE,
        below=float(SIDE - 1 - rows[-1]) / SIDE,
        at_left=float(columns[0]) / SIDE,
        at_right=float(SIDE - 1 - columns[-1]) / SIDE,
        middle=_middle(picture, left, right),
        cut_off=tuple(_cut_off(picture, both)),
    )


def _cut_off(picture: NDArray[np.float64], lungs: Mask) -> Iterator[str]:
    usual = float(np.median(picture[lungs]))
    for name, edge in (
        ("the apices", np.s_[:_TOUCH, :]),
        ("the bases", np.s_[-_TOUCH:, :]),
        ("the lung at the left of the image", np.s_[:, :_TOUCH]),
        ("the lung at the right of the image", np.s_[:, -_TOUCH:]),
    ):
        contact = picture[edge][lungs[edge]]
        if contact.size >= _CONTACT * _TOUCH and float(np.median(contact)) >= _AS_DARK * usual:
            yield name


def _middle(picture: NDArray[np.float64], left: Mask, right: Mask) -> float:
    """How much brighter what is between the lungs is than they are."""
    level = np.flatnonzero(left.any(axis=1) & right.any(axis=1))
    if level.size == 0:
        return 0.0
    inner = int(np.median(SIDE - 1 - left[level, ::-1].argmax(axis=1)))
    other = int(np.median(right[level].argmax(axis=1)))
    between = picture[level, inner + 1 : other]
    if between.size == 0:
        return 0.0
    return float(np.percentile(between, 75) - picture[left | right].mean())


def _depth(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much darker each pixel is than the third brightest of what is at its four sides.

    Towards the other lung only the middle is asked: beyond it is a chest wall, too.
    """
    soft = ndimage.gaussian_filter(picture, _SOFT * SIDE)
    half, beyond = SIDE // 2, SIDE // _OPPOSITE
    from_left, from_right = (np.maximum.accumulate(soft, axis=1), _from_right(soft))
    from_right[:, :half] = _from_right(soft[:, : half + beyond])[:, :half]
    from_left[:, half:] = np.maximum.accumulate(soft[:, half - beyond :], axis=1)[:, beyond:]
    above = np.maximum.accumulate(soft, axis=0)
    below = np.maximum.accumulate(soft[::-1], axis=0)[::-1]
    return np.asarray(np.sort(np.stack((from_left, from_right, above, below)), axis=0)[1] - soft)


def _from_right(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum.accumulate(plane[:, ::-1], axis=1)[:, ::-1].copy()


def _lung(picture: NDArray[np.float64], depth: NDArray[np.float64], side: int) -> Mask | None:
    rows, columns = np.indices(depth.shape) / SIDE
    half = columns < 0.5 if side == 0 else columns >= 0.5
    off = ((rows - _PLACE[0]) / _REACH[0]) ** 2 + ((columns - _PLACE[1 + side]) / _REACH[1]) ** 2
    likely = ndimage.gaussian_filter(depth, _SPOT * SIDE) * np.exp(-off) * half
    row, column = np.unravel_index(int(likely.argmax()), likely.shape)
    reach = round(_SPOT * SIDE)
    near = slice(max(0, row - reach), row + reach + 1), slice(max(0, column - reach), column + reach + 1)
    deepest = float(np.percentile(depth[near], 75))
    if deepest < _DEEP:
        return None
    air = ndimage.gaussian_filter(picture, _SOFT * SIDE) < _AIR * float(np.median(picture[near]))
    dark = ndimage.binary_opening(half & (depth > _PART * deepest) & ~air, iterations=2)
    disc = np.hypot(*(np.indices((2 * _NECK + 1, 2 * _NECK + 1)) - _NECK)) <= _NECK
    labels, _ = ndimage.label(ndimage.binary_opening(dark, disc))
    if not labels[row, column]:
        return None
    return np.asarray(ndimage.binary_dilation(labels == labels[row, column], disc) & dark)

"""
The outline of a lesion on the slice where it is largest, and its longest diameters there.

The slice is the one with most of its pixels, the first of several. Where the lesion has several parts on it,
the outline is that of the largest; holes are filled. It runs through the middles of the pixels' sides between
the lesion and what is not, so whoever fills it has the very pixels again. Graphics count from the corner of
the first pixel, whose centre is (0.5, 0.5).

The long axis is the longest line between two points of the outline, in millimetres of the images; the short
one is the longest at right angles to it from border to border (RECIST 1.1, Eisenhauer 2009). In a lesion that
bends, either may cross what is not lesion, as a caliper would.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from results.findings import Findings
from results.grid import Grid
from results.occupied import Drawn, box_of

#: Graphic Data (0070,0022) holds 65534 bytes (PS3.5 §7.1.2), four for each number.
POINTS_MAX = 8000
_EVERYWHERE = np.ones((3, 3), np.bool_)


@dataclass(frozen=True, slots=True)
class Axis:
    """A diameter: its length, and its two ends as (column, row) of the image."""

    length_mm: float
    ends: NDArray[np.float64]  #: (2, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A lesion on one slice."""

    plane: int  #: of the grid, from 0
    points: NDArray[np.float64]  #: (n, 2): (column, row), closed: the last is the first
    long: Axis | None  #: None on an image whose millimetres are not those of a place
    short: Axis | None
    parts: int  #: how many the lesion has on this slice


@dataclass(frozen=True, slots=True)
class Lesion:
    """A lesion that has voxels, with its outline."""

    drawn: Drawn
    outline: Outline
    voxels: int


def lesions(findings: Findings, drawn: Sequence[Drawn], grid: Grid) -> Iterator[Lesion]:
    """The lesions of `drawn`, the segments that have voxels."""
    for one in drawn:
        if one.segment.is_lesion:
            box = box_of(findings, one)
            slab = findings.layers[one.segment.layer][box] == one.segment.number
            yield Lesion(one, outline_of(slab, box, grid), int(np.count_nonzero(slab)))


def outline_of(slab: NDArray[np.bool_], box: tuple[slice, slice, slice], grid: Grid) -> Outline:
    """The outline of a mask, given as (slice, row, column) within `box` of the grid; some voxel is set."""
    key, points, parts = _largest_outline(slab)
    points = points + np.array([box[2].start, box[1].start])
    axes = (None, None) if grid.step_mm is None else _axes(points, grid.step_mm[1], grid.step_mm[2])
    return Outline(plane=box[0].start + key, points=points, long=axes[0], short=axes[1], parts=parts)


def diameters_mm(slab: NDArray[np.bool_], step_mm: tuple[float, float, float]) -> tuple[float, float]:
    """The long and the short axis of a mask as its outline has them, in millimetres; `step_mm` is between
    slices, rows and columns, and some voxel is set.
    """
    long, short = _axes(_largest_outline(slab)[1], step_mm[1], step_mm[2])
    return long.length_mm, short.length_mm


def _largest_outline(slab: NDArray[np.bool_]) -> tuple[int, NDArray[np.float64], int]:
    """The slice with most of a mask, the closed outline of its largest part there, and how many parts."""
    key = int(np.argmax(np.count_nonzero(slab, axis=(1, 2))))
    labelled, parts = ndimage.label(slab[key])
    largest = 1 + int(np.argmax(np.bincount(labelled.ravel())[1:]))
    # What is open to the outside at a corner only is outside, as the outline goes.
    part = ndimage.binary_fill_holes(labelled == largest, structure=_EVERYWHERE)
    points = _around(part)
    if len(points) > POINTS_MAX:
        points = _hull(points)
    return key, np.concatenate([points, points[:1]]), int(parts)


def _around(part: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The outer border of a part in one piece, (n, 2) as (column, row), clockwise and not closed.

    Each side of a pixel is a step from corner to corner with the part on its right.
    """
    rows, columns = part.shape
    wide = np.zeros((rows + 2, columns + 2), np.bool_)
    wide[1:-1, 1:-1] = part
    row, column = divmod(int(np.argmax(part)), columns)
    corner, way = (column, row), 0
    begin = corner
    ahead = ((1, 0), (0, 1), (-1, 0), (0, -1))  # east, south, west, north
    # Of the pixels that meet in the corner, seen along each way: the one on the left, then on the right.
    beside = (((0, -1), (0, 0)), ((0, 0), (-1, 0)), ((-1, 0), (-1, -1)), ((-1, -1), (0, -1)))
    middles: list[tuple[float, float]] = []
    while True:
        step = ahead[way]
        middles.append((corner[0] + step[0] / 2, corner[1] + step[1] / 2))
        corner = (corner[0] + step[0], corner[1] + step[1])
        left, right = (bool(wide[corner[1] + dy + 1, corner[0] + dx + 1]) for dx, dy in beside[way])
        # Pixels that only meet at a corner are not neighbours, so the way round keeps to its own pixel.
        way = (way + 1) % 4 if not right else way if not left else (way + 3) % 4
        if corner == begin and way == 0:
            return _without_straights(np.array(middles))


def _without_straights(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Only where it turns."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(points[turns])


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of the smallest convex polygon around `points`, in order (Andrew 1979)."""
    ordered = [tuple(point) for point in np.unique(points, axis=0).tolist()]
    sides = []
    for row in (ordered, ordered[::-1]):
        side: list[tuple[float, ...]] = []
        for point in row:
            while len(side) > 1 and _turn(side[-2], side[-1], point) <= 0:
                side.pop()
            side.append(point)
        sides += side[:-1]
    return np.array(sides)


def _turn(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _axes(points: NDArray[np.float64], between_rows: float, between_columns: float) -> tuple[Axis, Axis]:
    """`points` are closed."""
    step = np.array([between_columns, between_rows])
    corners = _hull(points[:-1])
    apart = np.linalg.norm((corners[:, None] - corners[None]) * step, axis=2)
    a, b = np.unravel_index(int(np.argmax(apart)), apart.shape)
    ends = corners[[a, b]]
    long = Axis(float(apart[a, b]), ends)
    return long, _across(points * step, (ends[1] - ends[0]) * step / long.length_mm, step)


def _across(outline: NDArray[np.float64], along: NDArray[np.float64], step: NDArray[np.float64]) -> Axis:
    """The longest line from border to border at right angles to `along`; both in millimetres."""
    turned = np.array([along, (-along[1], along[0])])
    u, v = turned @ outline.T
    # Between two corners the width changes evenly, so it is largest at one: none may be left out.
    at = np.unique(u[:-1])
    u0, u1, v0, v1 = u[:-1], u[1:], v[:-1], v[1:]
    best, low, high, where = -1.0, 0.0, 0.0, 0.0
    for one in at.tolist():
        crossed = (np.minimum(u0, u1) <= one) & (one <= np.maximum(u0, u1))
        flat = crossed & (u0 == u1)
        cut = crossed & (u0 != u1)
        share = (one - u0[cut]) / (u1[cut] - u0[cut])
        meets = np.concatenate([v0[cut] + share * (v1[cut] - v0[cut]), v0[flat], v1[flat]])
        if meets.max() - meets.min() > best + 1e-9:
            low, high, where = float(meets.min()), float(meets.max()), one
            best = high - low
    ends = np.array([(where, low), (where, high)]) @ turned / step
    return Axis(best, ends)

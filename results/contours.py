"""
The outline of a mask: polygons that go half-way between each pixel inside and its neighbour outside.

Every vertex lies in the middle between two centres of pixels, one of the mask and one beside it. So no centre
lies on an outline, and whoever fills it by the usual rule (a pixel belongs to it if its centre does) gets the
mask back, pixel by pixel. Corners are cut at 45 degrees, and what runs straight on is one edge however long.

Pixels that touch at a corner alone do not hang together: their outlines pass each other, and no two outlines
touch. Outlines around something run clockwise as one sees the image, those of its holes the other way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: (x, y) of each vertex in pixels: x along a row, y down a column, whole numbers being centres of pixels. An
#: edge leads from the last vertex to the first.
Ring = NDArray[np.float64]

_PIXELS_AT_ONCE = 8_000_000

# The sides of a pixel, clockwise from the upper one, and the steps (x, y) out of it and along it.
_OUT = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])
_ALONG = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])


@dataclass(frozen=True, slots=True)
class Outline:
    """All outlines of one slice of a mask."""

    plane: int
    around: tuple[Ring, ...]
    holes: tuple[Ring, ...]


def outlines(mask: NDArray[np.bool_]) -> Iterator[Outline]:
    """The outlines of `mask`, (slice, row, column), slice by slice; nothing for an empty slice."""
    slices, rows, columns = mask.shape
    step = max(_PIXELS_AT_ONCE // ((rows + 2) * (columns + 2)), 1)
    for start in range(0, slices, step):
        yield from _outlines(mask[start : start + step], start)


def _outlines(mask: NDArray[np.bool_], start: int) -> Iterator[Outline]:
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))  # Now each pixel of the mask has eight neighbours.
    _, height, width = padded.shape
    inside = padded.reshape(-1)
    pixels, sides = _edges(inside, width)
    if not pixels.size:
        return
    corner, following = _corners(inside, width, pixels, sides)
    pixels, sides = pixels[corner], sides[corner]
    planes, at = np.divmod(pixels, height * width)
    x = at % width - 1 + 0.5 * _OUT[sides, 0]
    y = at // width - 1 + 0.5 * _OUT[sides, 1]

    order, starts = _cycles(following)
    points = np.stack([x, y], axis=1)[order]
    ends = np.append(starts[1:], len(order))
    after = following[order]
    twice_area = np.add.reduceat(points[:, 0] * y[after] - x[after] * points[:, 1], starts)
    last: int | None = None
    around: list[Ring] = []
    holes: list[Ring] = []
    # Rings begin at their first vertex in the order of the pixels, so they come slice by slice.
    for plane, begin, end, area in zip(
        planes[order[starts]].tolist(), starts.tolist(), ends.tolist(), twice_area.tolist(), strict=True
    ):
        if last is not None and plane != last:
            yield Outline(start + last, tuple(around), tuple(holes))
            around, holes = [], []
        last = plane
        (around if area > 0 else holes).append(points[begin:end])
    if last is not None:
        yield Outline(start + last, tuple(around), tuple(holes))


def _edges(inside: NDArray[np.bool_], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(pixel, side) of every side of a pixel inside whose neighbour is outside, in the order of the
    pixels.
    """
    found = []
    here = inside[width:-width]  # The first and the last row are padding.
    for side, (x, y) in enumerate(_OUT):
        beside = width + y * width + x
        there = inside[beside : beside + here.size]
        found.append((np.flatnonzero(here & ~there) + width) * 4 + side)
    keys = np.sort(np.concatenate(found))
    return keys // 4, keys % 4


def _corners(
    inside: NDArray[np.bool_], width: int, pixels: NDArray[np.int64], sides: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which of these sides an outline turns at; and, among those alone, which one follows which."""
    along = _ALONG[sides, 1] * width + _ALONG[sides, 0]
    out = _OUT[sides, 1] * width + _OUT[sides, 0]
    ahead = inside[pixels + along]
    left = ahead & inside[pixels + along + out]
    right = ~ahead
    turn = right.astype(np.int64) - left
    next_side = (sides + turn) % 4
    next_pixel = pixels + np.where(right, 0, along) + np.where(left, out, 0)
    following = np.searchsorted(pixels * 4 + sides, next_pixel * 4 + next_side)

    # Eight directions: four along a side, and four across a corner, which a turn to the right leaves a side
    # by and a turn to the left comes to the next one by.
    direction = np.where(turn == 0, sides, 4 + np.where(right, sides, next_side))
    came_by = np.empty_like(direction)
    came_by[following] = direction
    corner = came_by != direction
    while not (stays := corner[following]).all():  # at most as often as a run can be halved
        following = np.where(stays, following, following[following])
    return corner, (np.cumsum(corner) - 1)[following[corner]]


def _cycles(following: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All vertices, ring after ring, and where each ring begins."""
    after: Sequence[int] = following.tolist()
    waiting = bytearray(b"\1") * len(after)
    order: list[int] = []
    starts: list[int] = []
    begin = waiting.find(1)
    while begin >= 0:
        starts.append(len(order))
        vertex = begin
        while waiting[vertex]:
            waiting[vertex] = 0
            order.append(vertex)
            vertex = after[vertex]
        begin = waiting.find(1, begin)
    return np.asarray(order, dtype=np.int64), np.asarray(starts, dtype=np.int64)

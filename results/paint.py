"""
Findings in colour upon grey: one plane at a time, in the pixels of the source.

A segment is a line along its inside and a tint that leaves the anatomy to be seen; a box is its rectangle, a
landmark a cross with nothing in its middle, a heat map a veil that is thickest where it is hottest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.findings import Box, Findings, HeatMap, Point
from results.grid import Grid, NotEncodable
from results.regions import slice_next_to, slices_of

Colour = tuple[int, int, int]

#: How much of a segment's colour its inside has.
TINT = 0.25
#: Of its largest area, what a segment shows on a plane that stands for it too.
_SEEN_WELL = 0.9
#: How much of its colour the hottest place of a map has.
VEIL = 0.6
#: Boxes and landmarks take turns: bright, and told apart by people who see no red or no green.
MARK_COLOURS: tuple[Colour, ...] = (
    (255, 214, 0),
    (0, 224, 255),
    (255, 110, 199),
    (140, 255, 120),
    (255, 150, 60),
    (190, 160, 255),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the legend."""

    label: str
    colour: Colour


def line_width(rows: int, columns: int) -> int:
    """How many pixels of the source a line takes, so that it is seen when the image fills a screen."""
    return max(1, round(max(rows, columns) / 640))


def paint_labels(
    picture: NDArray[np.uint8], labels: NDArray[np.integer], colours: Sequence[Colour], *, line: int
) -> None:
    """Tint and outline, in place, the labels 1 … N of (row, column) in `colours[label - 1]`."""
    used = labels > 0
    if not used.any():
        return
    # Only the box that holds them: most slices are mostly background.
    rows, columns = (np.flatnonzero(used.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    part, inside = labels[box], used[box]
    table = np.array([(0, 0, 0), *colours], dtype=np.float32)
    colour = table[part]
    grey = picture[box].astype(np.float32)
    share = np.where(inside, np.float32(TINT), np.float32(0.0))
    share[inside & _edges(part, line)] = 1.0
    picture[box] = np.rint(grey + (colour - grey) * share[..., None]).astype(np.uint8)


def _edges(labels: NDArray[np.integer], line: int) -> NDArray[np.bool_]:
    """Pixels with another label, or the end of the labels, at most `line` rows or columns away."""
    padded = np.pad(labels, line)
    rows, columns = labels.shape
    edges = np.zeros(labels.shape, dtype=np.bool_)
    for away in range(1, line + 1):
        for down, right in ((away, 0), (-away, 0), (0, away), (0, -away)):
            shifted = padded[line + down : line + down + rows, line + right : line + right + columns]
            edges |= shifted != labels
    return edges


def paint_box(picture: NDArray[np.uint8], box: Box, colour: Colour, *, line: int) -> None:
    """The rectangle of the box, in place, along the inside of its edges."""
    rows, columns = picture.shape[:2]
    top, left = (max(int(np.floor(low + 0.5)), 0) for low in box.low[1:])
    bottom = min(max(int(np.ceil(box.high[1] + 0.5)), top + 1), rows)
    right = min(max(int(np.ceil(box.high[2] + 0.5)), left + 1), columns)
    picture[top : min(top + line, bottom), left:right] = colour
    picture[max(bottom - line, top) : bottom, left:right] = colour
    picture[top:bottom, left : min(left + line, right)] = colour
    picture[top:bottom, max(right - line, left) : right] = colour


def paint_point(picture: NDArray[np.uint8], point: Point, colour: Colour, *, line: int) -> None:
    """A cross around the landmark, in place; what it stands on is left to be seen."""
    rows, columns = picture.shape[:2]
    row, column = (int(np.floor(at + 0.5)) for at in point.at[1:])
    row, column = min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)
    for away in range(2 * line, 7 * line):
        for down, right in ((away, 0), (-away, 0), (0, away), (0, -away)):
            r, c = row + down, column + right
            across = slice(max(r, 0), max(r + (line if right else 1), 0))
            along = slice(max(c, 0), max(c + (line if down else 1), 0))
            picture[across, along] = colour


def heat_range(one: HeatMap) -> tuple[float, float]:
    """The values of the coldest and the hottest colour: 0 to 1 where it is a share, else its own ends."""
    low, high = float(one.values.min()), float(one.values.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1.0


def heat_colour(share: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 … 1 as black, red, yellow, white: (…, 3) of 0 … 255."""
    steps = share[..., None] * 3 - np.arange(3, dtype=np.float32)
    return np.asarray(np.clip(steps, 0, 1) * 255, dtype=np.float32)


def paint_heat(picture: NDArray[np.uint8], values: NDArray[np.float32], ends: tuple[float, float]) -> None:
    """The veil of a heat map's plane (row, column), in place."""
    share = np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1).astype(np.float32)
    grey = picture.astype(np.float32)
    picture[...] = np.rint(grey + (heat_colour(share) - grey) * (VEIL * share)[..., None]).astype(np.uint8)


class Painter:
    """What of the findings lies on which plane, and how it is painted there."""

    def __init__(self, findings: Findings, grid: Grid) -> None:
        self._findings, self._layers = findings, findings.layers
        self._line = line_width(grid.rows, grid.columns)
        self._colours = [segment.colour_rgb for segment in findings.segments]
        marks: list[tuple[Box | Point, range]] = []
        for box in findings.boxes:
            marks.append((box, _on(box, grid)))
        for point in findings.points:
            nearest = slice_next_to(point, grid)
            marks.append((point, range(nearest, nearest + 1)))
        self._marks = [
            (mark, used, MARK_COLOURS[n % len(MARK_COLOURS)]) for n, (mark, used) in enumerate(marks)
        ]
        self.areas = self._areas(grid.shape[0])  #: (plane, segment): pixels

    def _areas(self, planes: int) -> NDArray[np.int64]:
        """How many pixels of each plane each segment has, in its own layer."""
        count = len(self._findings.segments)
        areas = np.zeros((planes, count), dtype=np.int64)
        for number, layer in enumerate(self._layers if count else ()):
            own = np.array([segment.layer == number for segment in self._findings.segments])
            for plane in np.flatnonzero(layer.any(axis=(1, 2))):
                found = np.bincount(layer[plane].reshape(-1), minlength=count + 1)[1 : count + 1]
                areas[plane] += found * own
        return areas

    @property
    def planes(self) -> list[int]:
        """The planes with something on them, in order."""
        used = set(np.flatnonzero(self.areas.any(axis=1)).tolist())
        for _, on, _ in self._marks:
            used.update(on)
        return sorted(used)

    @property
    def key_planes(self) -> list[int]:
        """One plane for each finding, the findings in order: where a segment is largest, a box's middle."""
        return self.keys(first=())

    def keys(self, *, first: Sequence[int]) -> list[int]:
        """The same with the segments of `first` (from 0) and all marks before the others.

        A finding that is seen well on a plane of another one needs none of its own.
        """
        chosen: list[int] = []
        count = self.areas.shape[1]
        order: list[int | range] = [*first, *(on for _, on, _ in self._marks)] if first else []
        order += [*range(count), *(on for _, on, _ in self._marks)]
        for one in order:
            if isinstance(one, range):
                plane, seen = one[len(one) // 2], any(k in one for k in chosen)
            else:
                plane = int(self.areas[:, one].argmax())
                enough = max(_SEEN_WELL * int(self.areas[plane, one]), 1.0)
                seen = not self.areas[plane, one] or bool((self.areas[chosen, one] >= enough).any())
            if not seen:
                chosen.append(plane)
        return chosen

    def paint(self, picture: NDArray[np.uint8], plane: int) -> None:
        """All that lies on `plane`, in place, upon (row, column, 3)."""
        for layer in self._layers:
            paint_labels(picture, layer[plane], self._colours, line=self._line)
        for mark, on, colour in self._marks:
            if plane in on and isinstance(mark, Box):
                paint_box(picture, mark, colour, line=self._line)
            elif plane in on and isinstance(mark, Point):
                paint_point(picture, mark, colour, line=self._line)

    def legend(self, plane: int) -> list[Entry]:
        """What is on `plane`: segments in order, then boxes and landmarks."""
        entries = [
            Entry(segment.label, segment.colour_rgb)
            for k, segment in enumerate(self._findings.segments)
            if self.areas[plane, k]
        ]
        return entries + [Entry(mark.label, colour) for mark, on, colour in self._marks if plane in on]


def _on(box: Box, grid: Grid) -> range:
    """The slices of a box. Raises `NotEncodable` where it lies beside the images."""
    if box.low[1] >= grid.rows - 0.5 or box.low[2] >= grid.columns - 0.5:
        raise NotEncodable(f"the box of {box.label!r} lies beside the images")
    return slices_of(box, grid)


def in_colour(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(row, column) as (row, column, 3), to be painted upon."""
    return np.repeat(grey[..., None], 3, axis=2)

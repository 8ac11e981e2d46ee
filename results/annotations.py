"""
What can be drawn on the images, as a reader shall see it: lines, and beside them what they are.

Lesions are outlined on every slice that they touch, boxes drawn on every slice whose centre they hold, and
landmarks on the slice next to them; organs are left to the segmentation. Coordinates are those of a graphic
annotation in pixels (PS3.3 §C.10.5): from the corner of the first pixel, whose centre is (0.5, 0.5).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ledger.identifiers import Uid
from results.contours import outlines
from results.figures import quantity, within
from results.findings import Box, Findings, Measurement, Segment, Verdict
from results.grid import Grid, NotEncodable
from results.occupied import box_of, drawn_segments
from results.provenance import Run
from results.regions import slice_next_to, slices_of
from results.uids import box_tracking_uid, segment_tracking_uid, tracking_uid
from results.words import plain

NOT_VERIFIED = "AI, not verified"

#: A label's size, as a share of the image: the font is the viewer's, so nobody knows it better.
_LINE, _WIDTH = 0.03, 0.24


@dataclass(frozen=True, slots=True)
class Layer:
    """Marks of one kind, which a reader switches on and off together (PS3.3 §C.10.7)."""

    name: str
    description: str
    colour_rgb: tuple[int, int, int]


OUTLINES = Layer("AI LESIONS", "AI, not verified: outlines of lesions", (255, 220, 60))
BOXES = Layer("AI BOXES", "AI, not verified: boxes around what was detected", (90, 220, 255))
POINTS = Layer("AI LANDMARKS", "AI, not verified: landmarks", (255, 150, 220))
VERDICTS = Layer("AI VERDICTS", "AI, not verified: what is said of the whole image", (255, 255, 255))
LAYERS = (OUTLINES, BOXES, POINTS, VERDICTS)


@dataclass(frozen=True, slots=True)
class Mark:
    """One finding on one slice."""

    layer: Layer
    plane: int
    tracking: Uid
    name: str  #: of the finding, for people
    lines: tuple[NDArray[np.float64], ...]  #: closed where first and last (x, y) are the same; a point is one
    text: str
    corners: tuple[float, float, float, float]  #: left, top, right and bottom of the text
    anchor: tuple[float, float] | None  #: where a line leads to from the text


def marks(findings: Findings, grid: Grid, run: Run) -> list[Mark]:
    """All of them, by slice. Raises `NotEncodable` where a finding lies beside the images."""
    found = [*_lesions(findings, grid, run), *_boxes(findings, grid, run), *_points(findings, grid, run)]
    if grid.place is None:  # Of a volume no slice shows what is said of the whole.
        found += list(_verdicts(findings, run))
    found.sort(key=lambda one: (one.plane, LAYERS.index(one.layer)))
    taken: dict[int, list[_Corners]] = {}
    return [_placed(one, grid, taken.setdefault(one.plane, [])) for one in found]


@dataclass(frozen=True, slots=True)
class _Shape:
    """A mark whose text has no place yet."""

    layer: Layer
    plane: int
    tracking: Uid
    name: str
    lines: tuple[NDArray[np.float64], ...]
    said: Sequence[str]


def _lesions(findings: Findings, grid: Grid, run: Run) -> Iterator[_Shape]:
    if findings.label_map is None or not any(segment.is_lesion for segment in findings.segments):
        return
    if findings.layers.shape[1:] != grid.shape:
        raise NotEncodable(f"the label map is {findings.label_map.shape}, the source {grid.shape}")
    for one in drawn_segments(findings):
        segment = one.segment
        if not segment.is_lesion:
            continue
        box = box_of(findings, one)
        slices, rows, columns = box
        # From the centre of a pixel, which is a whole number there, to the corner of the first.
        offset = np.array([columns.start + 0.5, rows.start + 0.5])
        mask = findings.layers[segment.layer][box] == segment.number
        for outline in outlines(mask):
            lines = tuple(
                np.concatenate([ring, ring[:1]]) + offset for ring in (*outline.around, *outline.holes)
            )
            plane = slices.start + outline.plane
            yield _Shape(
                OUTLINES, plane, segment_tracking_uid(run, segment), segment.label, lines, _said(segment)
            )


def _boxes(findings: Findings, grid: Grid, run: Run) -> Iterator[_Shape]:
    for box in findings.boxes:
        top, left = (max(low + 0.5, 0.0) for low in box.low[1:])
        bottom, right = min(box.high[1] + 0.5, float(grid.rows)), min(box.high[2] + 0.5, float(grid.columns))
        if top >= bottom or left >= right:
            raise NotEncodable(f"the box of {box.label!r} lies beside the images")
        line = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
        for plane in slices_of(box, grid):
            yield _Shape(BOXES, plane, box_tracking_uid(run, box), box.label, (line,), _said(box))


def _points(findings: Findings, grid: Grid, run: Run) -> Iterator[_Shape]:
    for point in findings.points:
        plane = slice_next_to(point, grid)
        line = np.array([(point.at[2] + 0.5, point.at[1] + 0.5)])
        said = [point.label]
        if point.uncertainty_mm is not None:
            said.append(f"+/- {point.uncertainty_mm:.3g} mm")
        yield _Shape(POINTS, plane, tracking_uid(run, point.label, "point"), point.label, (line,), said)


def _verdicts(findings: Findings, run: Run) -> Iterator[_Shape]:
    for verdict in findings.verdicts:
        if verdict.present:
            tracking = tracking_uid(run, verdict.label, "verdict")
            yield _Shape(VERDICTS, 0, tracking, verdict.label, (), _verdict(verdict))


def _verdict(verdict: Verdict) -> list[str]:
    what = "probability" if verdict.calibrated else "score"
    return [f"{verdict.label}: {what} {_share(verdict.probability)}"]


def _said(one: Segment | Box) -> list[str]:
    values = [] if one.score is None else [f"certainty {_share(one.score)}"]
    values += [_value(measurement) for measurement in one.measurements[:1]]
    return [one.label, *values]


def _value(one: Measurement) -> str:
    return f"{within(one.name.meaning)} {quantity(one.value, one.unit, 3)}"


def _share(value: float) -> str:
    """As a percentage, and never as a certainty that the number is not."""
    percent = 100 * value
    return "< 1 %" if 0 < percent < 1 else "> 99 %" if 99 < percent < 100 else f"{percent:.0f} %"


_Corners = tuple[float, float, float, float]


def _placed(one: _Shape, grid: Grid, taken: list[_Corners]) -> Mark:
    """With its text to the right of the lines, or to their left where the image ends; below what is there
    already.
    """
    text = "\r\n".join([*(plain(line) for line in one.said), NOT_VERIFIED])
    width, height = _WIDTH * grid.columns, _LINE * grid.rows * (len(one.said) + 1)
    if one.lines:
        points = np.concatenate(one.lines)
        (left, top), (right, _) = points.min(axis=0), points.max(axis=0)
        gap = 0.02 * grid.columns
        x = right + gap if right + gap + width <= grid.columns else left - gap - width
        anchor = points[int(np.argmax(points[:, 0] if x > left else -points[:, 0]))]
    else:
        x, top, anchor = 0.02 * grid.columns, 0.02 * grid.rows, None
    x = float(np.clip(x, 0, max(grid.columns - width, 0)))
    y = float(np.clip(top, 0, max(grid.rows - height, 0)))
    corners = (x, y, x + width, y + height)
    for _ in range(len(taken)):
        under = [other for other in taken if _overlap(corners, other)]
        if not under or under[0][3] + height > grid.rows:
            break
        y = under[0][3]
        corners = (x, y, x + width, y + height)
    taken.append(corners)
    at = None if anchor is None else (float(anchor[0]), float(anchor[1]))
    return Mark(one.layer, one.plane, one.tracking, one.name, one.lines, text, corners, at)


def _overlap(a: _Corners, b: _Corners) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

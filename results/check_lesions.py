"""
Is a lesion drawn where it is, and as long as it is? Filled pixel by pixel, and measured on what was filled.

Nothing of the encoder is used: the outline on disk is filled as a viewer would fill it and compared with the
model's mask, and the ends of the axes are measured in the images' own millimetres.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage

from results import codes
from results.asked import Asked
from results.check_places import planes_of
from results.content import Numbers, name_of, numbers, references
from results.expect import as_code, expect, near
from results.findings import Segment
from results.source import Source

_WHAT = "marks"
_TOLERANCE_PX = 1e-2  # Graphic Data is of single precision.
_POINTS_MAX = 8000  # beyond them the hull is drawn


def present(asked: Asked) -> Iterator[Segment]:
    """The segments that have a voxel, in order: those that were found in the segmentations, where there are
    any.
    """
    findings = asked.findings
    if asked.found:
        labels = {found.segment.label for found in asked.found.values()}
        yield from (segment for segment in findings.segments if segment.label in labels)
        return
    on = [set(np.unique(layer).tolist()) for layer in findings.layers]
    yield from (segment for segment in findings.segments if segment.number in on[segment.layer])


def check_lesion(segment: Segment, asked: Asked, group: Dataset) -> None:
    """The outline is that of the largest part on the largest slice; the axes are where they are said to be.
    Raises `CheckFailed`.
    """
    label, source = segment.label, asked.source
    slices, mask = _mask(segment, asked)
    (region,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
    plane, points = _graphics(region, label, source)
    areas = mask.sum(axis=(1, 2))
    area = int(areas[slices.index(plane)]) if plane in slices else 0
    expect(
        area == areas.max(),
        f"{_WHAT}: {label!r} is drawn on an image with {area} of its pixels, another has {areas.max()}",
    )
    expect(
        region.GraphicType == "POLYLINE" and near(points[0], points[-1], 0),
        f"{_WHAT}: the outline of {label!r} is not closed",
    )
    rows, columns = mask.shape[1:]
    expect(
        bool((points >= 0).all() and (points <= (columns, rows)).all()),
        f"{_WHAT}: the outline of {label!r} leaves the image",
    )
    part = largest_part(mask[slices.index(plane)])
    filled = fill(points, (rows, columns))
    if _sides(part) <= _POINTS_MAX:
        other = int((filled != part).sum())
        expect(other == 0, f"{_WHAT}: the outline of {label!r} is wrong in {other} pixels")
    else:
        expect(bool(filled[part].all()), f"{_WHAT}: the outline of {label!r} leaves some of it out")
    check_sizes(_WHAT, segment, asked, numbers(group))
    if source.geometry is not None:
        _check_axes(segment, group, source, plane=plane, points=points)


def check_sizes(
    what: str, segment: Segment, asked: Asked, said: Numbers
) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """Volume and axes that the model did not give itself; returns which those are. Raises `CheckFailed`."""
    source = asked.source
    if not segment.is_lesion or source.geometry is None:
        return set()
    _, mask = _mask(segment, asked)
    own = {measurement.name for measurement in segment.measurements}
    ours = [
        (as_code(name), as_code(unit))
        for name, unit in (
            (codes.VOLUME, codes.MILLILITRE),
            (codes.LONG_AXIS, codes.MILLIMETRE),
            (codes.SHORT_AXIS, codes.MILLIMETRE),
        )
        if name not in own
    ]
    missing = [name for name, unit in ours if (name, unit) not in said]
    expect(not missing, f"{what}: {segment.label!r} has no {missing}")
    volume, long, short = (
        said.get((as_code(name), as_code(unit))) if name not in own else None
        for name, unit in (
            (codes.VOLUME, codes.MILLILITRE),
            (codes.LONG_AXIS, codes.MILLIMETRE),
            (codes.SHORT_AXIS, codes.MILLIMETRE),
        )
    )
    if volume is not None:
        meant = float(mask.sum()) * float(np.prod(source.geometry.spacing)) / 1000
        expect(
            near([volume], [meant], 1e-3 * meant),
            f"{what}: volume of {segment.label!r} is {volume} ml, its voxels {meant:.4g}",
        )
    if long is not None:
        areas = mask.sum(axis=(1, 2))
        step = np.asarray(source.geometry.spacing[1:], float)
        rows, columns = (np.flatnonzero(mask.any(axis=axes)) for axes in ((0, 2), (0, 1)))
        close = mask[areas == areas.max(), rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        lengths = [_longest(largest_part(one), step) for one in close]
        longest, shortest = max(lengths), min(lengths)
        expect(
            shortest - 1e-3 <= long <= longest + float(step.max()) + 1e-3,
            f"{what}: the long axis of {segment.label!r} is {long} mm, its pixels are {longest:.4g} mm apart",
        )
        expect(
            short is None or 0 < short <= long + 1e-3,
            f"{what}: the short axis of {segment.label!r} is {short} mm, the long one {long}",
        )
    return set(ours)


def _mask(segment: Segment, asked: Asked) -> tuple[list[int], NDArray[np.bool_]]:
    """The slices that may hold the segment, and its pixels on them, (slice, row, column)."""
    layer = asked.findings.layers[segment.layer]
    slices = [*range(len(layer))]
    held = [found for found in asked.found.values() if found.segment.label == segment.label]
    if held:
        slices = [k for k, plane in enumerate(planes_of(asked.source)) if plane in held[0].planes]
    return slices, np.asarray(layer[slices] == segment.number)


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest part of a slice whose pixels touch by their sides, its holes filled."""
    labels, count = ndimage.label(mask)
    sizes = np.histogram(labels, np.arange(1, count + 2))[0].tolist()
    part = labels == 1 + sizes.index(max(sizes))
    # A hole is what cannot be reached from beyond the edge, corners included.
    outside, _ = ndimage.label(np.pad(~part, 1, constant_values=True), np.ones((3, 3)))
    return np.asarray((outside != outside[0, 0])[1:-1, 1:-1])


def fill(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres a closed outline, (n, 2) as (column, row), holds: by the even-odd rule."""
    filled = np.zeros(shape, np.bool_)
    centres = np.arange(shape[1]) + 0.5
    (x0, y0), (x1, y1) = points[:-1].T, points[1:].T
    for row in range(shape[0]):
        crossed = (y0 <= row + 0.5) != (y1 <= row + 0.5)
        along = (row + 0.5 - y0[crossed]) / (y1[crossed] - y0[crossed])
        at = np.sort(x0[crossed] + along * (x1[crossed] - x0[crossed]))
        filled[row] = np.searchsorted(at, centres) % 2 == 1
    return filled


def _check_axes(
    segment: Segment,
    group: Dataset,
    source: Source,
    *,
    plane: int,
    points: NDArray[np.float64],
) -> None:
    if source.geometry is None:
        return
    step = np.asarray(source.geometry.spacing[:0:-1], float)  # mm per (column, row)
    lines: dict[tuple[str, str], NDArray[np.float64]] = {}
    own = {as_code(measurement.name) for measurement in segment.measurements}
    for item in group.ContentSequence:
        for drawn in item.get("ContentSequence", []) if item.ValueType == "NUM" else []:
            if drawn.ValueType != "SCOORD":
                continue
            where, ends = _graphics(drawn, segment.label, source)
            length = float(np.linalg.norm((ends[1] - ends[0]) * step))
            said = float(item.MeasuredValueSequence[0].NumericValue)
            expect(
                where == plane and ends.shape == (2, 2) and near([length], [said], 1e-5 * said + 1e-3),
                f"{_WHAT}: an axis of {segment.label!r} is drawn {length:.4g} mm long and said to be {said}",
            )
            expect(
                all(_on_border(end, points) for end in ends),
                f"{_WHAT}: an axis of {segment.label!r} does not end on its border",
            )
            lines[name_of(item)] = (ends[1] - ends[0]) * step
    meant = {as_code(name) for name in (codes.LONG_AXIS, codes.SHORT_AXIS)} - own
    expect(lines.keys() == meant, f"{_WHAT}: of {segment.label!r} {sorted(lines)} are drawn")
    if len(lines) < 2:
        return
    long, short = (lines[as_code(name)] for name in (codes.LONG_AXIS, codes.SHORT_AXIS))
    lengths = float(np.linalg.norm(long)), float(np.linalg.norm(short))
    expect(
        abs(float(long @ short)) <= 1e-3 * lengths[0] * lengths[1],
        f"{_WHAT}: the axes of {segment.label!r} are not at right angles",
    )
    widest = _widest(points * step, long / lengths[0])
    expect(
        widest - 1e-3 <= lengths[1] * 1.001,
        f"{_WHAT}: {segment.label!r} is {widest:.4g} mm across, its short axis {lengths[1]:.4g}",
    )


def _widest(outline: NDArray[np.float64], along: NDArray[np.float64]) -> float:
    """The longest of many lines across, in millimetres."""
    u, v = outline @ along, outline @ np.array([-along[1], along[0]])
    widest = 0.0
    for at in np.linspace(u.min(), u.max(), 202)[1:-1]:
        crossed = (u[:-1] < at) != (u[1:] < at)
        share = (at - u[:-1][crossed]) / (u[1:][crossed] - u[:-1][crossed])
        meets = v[:-1][crossed] + share * (v[1:][crossed] - v[:-1][crossed])
        widest = max(widest, float(np.ptp(meets)))
    return widest


def _on_border(end: NDArray[np.float64], points: NDArray[np.float64]) -> bool:
    """Whether a point lies on the outline, which was compared with the mask before."""
    along = np.diff(points, axis=0)
    share = ((end - points[:-1]) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-12)
    nearest = points[:-1] + np.clip(share, 0, 1)[:, None] * along
    return bool(np.linalg.norm(nearest - end, axis=1).min() < _TOLERANCE_PX)


def _longest(part: NDArray[np.bool_], step: NDArray[np.float64]) -> float:
    """The largest distance between centres of pixels, in millimetres."""
    rows = np.flatnonzero(part.any(axis=1))
    # In each row only the first and the last can be far from anything.
    first, last = part[rows].argmax(axis=1), part.shape[1] - 1 - part[rows, ::-1].argmax(axis=1)
    at = np.stack([np.tile(rows, 2), np.concatenate([first, last])], axis=1) * step
    return max(float(np.linalg.norm(at - one, axis=1).max()) for one in at)


def _sides(part: NDArray[np.bool_]) -> int:
    """How many sides of pixels lie between a part and what is not."""
    wide = np.pad(part, 1)
    return int((wide[1:] != wide[:-1]).sum() + (wide[:, 1:] != wide[:, :-1]).sum())


def _graphics(item: Dataset, label: str, source: Source) -> tuple[int, NDArray[np.float64]]:
    """The slice that graphics are on, and their points."""
    images: Sequence[tuple[str, int | None]] = references(item)
    planes = planes_of(source)
    expect(
        len(images) == 1 and images[0] in planes,
        f"{_WHAT}: {label!r} is drawn on {images}, not one of the images",
    )
    return planes.index(images[0]), np.asarray(item.GraphicData, float).reshape(-1, 2)

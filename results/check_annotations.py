"""
Are the lines of a presentation state where the model found something, on those images and on no other?

Lines are followed as a viewer would draw them. Those of a lesion are filled again and compared with its
voxels; those of a box and of a landmark are measured.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from results.asked import Asked
from results.check_places import planes_of
from results.check_structure_set import fill
from results.expect import CheckFailed, expect
from results.findings import Box, Point, Segment, Verdict
from results.uids import box_tracking_uid, segment_tracking_uid, tracking_uid
from results.words import plain

_WHAT = "presentation state"
_TOLERANCE = 1e-3  # of a pixel: Graphic Data is in single precision

Lines = NDArray[np.float64]
#: (Tracking UID, slice)
Where = tuple[str, int]


@dataclass
class Drawn:
    """What one finding has on one image."""

    layer: str
    lines: list[Lines] = field(default_factory=list)  #: (x, y) in pixels, whole numbers being centres
    filled: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


def check_annotations(dataset: Dataset, asked: Asked) -> None:
    """Raise `CheckFailed` unless everything that can be drawn is drawn, with its label, and nothing else."""
    drawn = _drawn(dataset, asked)
    meant = dict(_meant(asked))
    missing, surplus = meant.keys() - drawn.keys(), drawn.keys() - meant.keys()
    expect(
        not missing and not surplus,
        f"{_WHAT}: {len(missing)} findings are not drawn on their images, and {len(surplus)} things are drawn"
        " that the model did not find there",
    )
    for where, one in meant.items():
        _check_lines(drawn[where], one, where[1], asked)
        _check_text(drawn[where], one)


def slices_with_marks(asked: Asked) -> set[int]:
    """The slices that something is to be drawn on."""
    return {k for (_, k), _ in _meant(asked)}


def _drawn(dataset: Dataset, asked: Asked) -> Mapping[Where, Drawn]:
    slice_of = {name: k for k, name in enumerate(planes_of(asked.source))}
    layers = [str(one.GraphicLayer) for one in dataset.GraphicLayerSequence]
    expect(len(set(layers)) == len(layers), f"{_WHAT}: two graphic layers have one name: {layers}")
    found: dict[Where, Drawn] = {}
    by_kind: dict[str, set[str]] = defaultdict(set)
    for annotation in dataset.GraphicAnnotationSequence:
        (image,) = annotation.ReferencedImageSequence
        frame = image.get("ReferencedFrameNumber")
        name = str(image.ReferencedSOPInstanceUID), None if frame is None else int(frame)
        if name not in slice_of:
            raise CheckFailed(f"{_WHAT}: something is drawn on {name[0]}, which is no source image")
        layer = str(annotation.GraphicLayer)
        expect(layer in layers, f"{_WHAT}: something is drawn in the layer {layer!r}, which is not described")
        for item in annotation.get("GraphicObjectSequence", []):
            expect(item.GraphicAnnotationUnits == "PIXEL", f"{_WHAT}: a line is not measured in pixels")
            here = found.setdefault((str(item.TrackingUID), slice_of[name]), Drawn(layer))
            here.lines.append(np.array(item.GraphicData, dtype=np.float64).reshape(-1, 2) - 0.5)
            expect(
                len(here.lines[-1]) == int(item.NumberOfGraphicPoints),
                f"{_WHAT}: a line of {item.NumberOfGraphicPoints} points has {len(here.lines[-1])}",
            )
            kind = "POINT" if len(here.lines[-1]) == 1 else "POLYLINE"
            expect(item.GraphicType == kind, f"{_WHAT}: a {kind} is called {item.GraphicType}")
            expect(item.get("GraphicFilled", "N") == "N", f"{_WHAT}: what is under a shape is hidden by it")
            by_kind[layer].add(str(item.TrackingUID))
        for item in annotation.get("TextObjectSequence", []):
            here = found.setdefault((str(item.TrackingUID), slice_of[name]), Drawn(layer))
            here.texts.append(str(item.UnformattedTextValue))
            _check_corners(item, asked)
            expect(here.layer == layer, f"{_WHAT}: a text is in the layer {layer!r}, its lines in another")
    return found


def _check_corners(item: Dataset, asked: Asked) -> None:
    (left, top), (right, bottom) = item.BoundingBoxTopLeftHandCorner, item.BoundingBoxBottomRightHandCorner
    rows, columns = int(asked.source.first.Rows), int(asked.source.first.Columns)
    inside = 0 <= left < right <= columns + _TOLERANCE and 0 <= top < bottom <= rows + _TOLERANCE
    expect(inside, f"{_WHAT}: a text is written from {left}, {top} to {right}, {bottom}, beside the image")


_Finding = Segment | Box | Point | Verdict


def _meant(asked: Asked) -> Iterator[tuple[Where, _Finding]]:
    """What is to be drawn, and where."""
    findings, run = asked.findings, asked.run
    slices = len(planes_of(asked.source))
    for segment in findings.segments:
        if segment.is_lesion:
            for k, plane in enumerate(findings.layers[segment.layer]):
                if bool((plane == segment.number).any()):
                    yield (str(segment_tracking_uid(run, segment)), k), segment
    for box in findings.boxes:
        on = [k for k in range(slices) if box.low[0] <= k <= box.high[0]]
        middle = min(range(slices), key=lambda k: (abs(k - (box.low[0] + box.high[0]) / 2), -k))
        for k in on or [middle]:
            yield (str(box_tracking_uid(run, box)), k), box
    for point in findings.points:
        nearest = min(range(slices), key=lambda k: (abs(k - point.at[0]), -k))
        yield (str(tracking_uid(run, point.label, "point")), nearest), point
    for verdict in findings.verdicts:
        if verdict.present and asked.source.is_one_image:
            yield (str(tracking_uid(run, verdict.label, "verdict")), 0), verdict


def _check_lines(drawn: Drawn, one: _Finding, k: int, asked: Asked) -> None:
    expect(
        drawn.layer == _LAYERS[type(one)],
        f"{_WHAT}: {one.label!r} is drawn in the layer {drawn.layer!r}",
    )
    rows, columns = int(asked.source.first.Rows), int(asked.source.first.Columns)
    match one:
        case Segment():
            mask = asked.findings.layers[one.layer][k] == one.number
            again = np.zeros((rows, columns), np.bool_)
            for ring in _joined(drawn.lines):
                again ^= fill(ring, (rows, columns))
            same = np.array_equal(again, mask)
        case Box():
            (low_row, low_column), (high_row, high_column) = one.low[1:], one.high[1:]
            left, top = max(low_column, -0.5), max(low_row, -0.5)
            right, bottom = min(high_column, columns - 0.5), min(high_row, rows - 0.5)
            corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
            same = len(drawn.lines) == 1 and _close(drawn.lines[0], corners)
        case Point():
            same = len(drawn.lines) == 1 and _close(drawn.lines[0], [(one.at[2], one.at[1])])
        case Verdict():
            same = not drawn.lines
    expect(same, f"{_WHAT}: what is drawn of {one.label!r} on slice {k} is not where the model found it")


_LAYERS = {Segment: "AI LESIONS", Box: "AI BOXES", Point: "AI LANDMARKS", Verdict: "AI VERDICTS"}


def _close(line: Lines, meant: Sequence[tuple[float, float]]) -> bool:
    return line.shape == (len(meant), 2) and bool(np.abs(line - np.array(meant)).max() < _TOLERANCE)


def _joined(lines: Sequence[Lines]) -> Iterator[Lines]:
    """Closed outlines, each without its last point, which is its first. A long one comes in several parts."""
    parts: list[Lines] = []
    for line in lines:
        if parts:
            expect(
                bool((parts[-1][-1] == line[0]).all()), f"{_WHAT}: an outline goes on elsewhere than it ends"
            )
        parts.append(line)
        if bool((parts[0][0] == line[-1]).all()):
            yield np.concatenate([part[:-1] for part in parts])
            parts = []
    expect(not parts, f"{_WHAT}: an outline is not closed")


def _check_text(drawn: Drawn, one: _Finding) -> None:
    expect(len(drawn.texts) == 1, f"{_WHAT}: {one.label!r} has {len(drawn.texts)} texts on one image")
    said = drawn.texts[0].split("\r\n")
    expect(
        said[0].startswith(plain(one.label)) and said[-1] == "AI, not verified",
        f"{_WHAT}: the text of {one.label!r} says {drawn.texts[0]!r}",
    )
    share = one.probability if isinstance(one, Verdict) else None if isinstance(one, Point) else one.score
    if share is not None:
        percents = re.findall(r"([<>]?) ?(\d+) %", drawn.texts[0].removeprefix(plain(one.label)))
        near = percents and (percents[0][0] or abs(float(percents[0][1]) - 100 * share) <= 0.5 + 1e-9)
        limits = {"<": share < 0.01, ">": share > 0.99, "": True}
        expect(
            bool(near) and limits[percents[0][0]],
            f"{_WHAT}: the text of {one.label!r} says {drawn.texts[0]!r}, the model gave {share:.4f}",
        )
    if isinstance(one, Segment | Box) and one.measurements:
        value = one.measurements[0].value
        numbers = [float(text) for text in re.findall(r"-?\d+\.?\d*(?:e[-+]\d+)?", said[-2])]
        expect(
            any(abs(number - value) <= 0.006 * abs(value) for number in numbers),
            f"{_WHAT}: the text of {one.label!r} says {said[-2]!r}, the model measured {value}",
        )

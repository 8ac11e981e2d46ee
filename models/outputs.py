"""
From what a network gives to findings, as the manifest says: segments, boxes, verdicts, points, quantities,
maps. Every runtime uses these functions, so the same output means the same finding whichever file it came
from.

Arrays are (slice, row, column) on the grid that the model was given, with the channel in front. Nothing here
knows of torch. What a network gives and a manifest does not name is not reported; what the manifest names and
the network does not give is `BrokenModel`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ledger.job import Outcome
from models.contract import BrokenModel
from models.grades import grades_of
from models.manifest import ClassOut, Manifest, SegmentOut
from models.resolve import resolved
from results import codes
from results.findings import (
    Box,
    Comparison,
    Findings,
    Grade,
    HeatMap,
    Measurement,
    Point,
    Recommendation,
    Segment,
    Verdict,
)

Activation = Literal["sigmoid", "softmax", "none"]
LabelMap = NDArray[np.uint8] | NDArray[np.uint16]

_UNSURE = 1e-7  # A probability of exactly 0 or 1 has no logit.


@dataclass(frozen=True, slots=True)
class Drawn:
    """A label map with its segments, each on the layer where it does not overlap another."""

    label_map: LabelMap  #: (slice, row, column), or (layer, slice, row, column)
    segments: tuple[Segment, ...]


def segments_of(manifest: Manifest) -> tuple[Segment, ...]:
    """The segments that a model draws, with codes and colours, all on layer 0. Raises `BrokenModel`."""
    return tuple(resolved(manifest, one) for one in manifest.segments)


def values_of(segment: SegmentOut) -> tuple[int, ...]:
    """The output labels that make up a segment."""
    return segment.region or (segment.number if segment.value is None else segment.value,)


def channels_of(segment: SegmentOut) -> tuple[int, ...]:
    """The output channels, counted from 0, that make up a segment."""
    return segment.region or (segment.number - 1 if segment.value is None else segment.value,)


def thresholds_of(manifest: Manifest, channels: int) -> tuple[float, ...]:
    """From which probability on each of the output's channels counts; 0.5 where the manifest says nothing.

    Raises `BrokenModel` where two segments ask different ones of the same channel.
    """
    asked: dict[int, float] = {}
    for segment in manifest.segments:
        for channel in channels_of(segment):
            _within(manifest, channel, channels, "channel")
            threshold = 0.5 if segment.threshold is None else segment.threshold
            if asked.setdefault(channel, threshold) != threshold:
                raise _broken(manifest, f"two segments ask different thresholds of channel {channel}")
    return tuple(asked.get(channel, 0.5) for channel in range(channels))


def draw_labels(manifest: Manifest, labels: NDArray[Any]) -> Drawn:
    """From a map of labels, (slice, row, column), each voxel one of the network's output values.

    Labels that the manifest does not name become background.
    """
    if labels.dtype.kind not in "ui" or labels.ndim != 3:
        raise _broken(manifest, f"gave a label map of {labels.dtype} and {labels.ndim} axes instead of three")
    top = int(labels.max(initial=0))
    if int(labels.min(initial=0)) < 0 or top > np.iinfo(np.uint16).max:
        raise _broken(manifest, f"gave labels from {int(labels.min())} to {top}")
    present = set(np.flatnonzero(_counts(labels, top)).tolist())
    tables: list[NDArray[Any]] = []  # of each layer: output value → number
    layers = []
    for segment in manifest.segments:
        wanted = [value for value in values_of(segment) if value in present]
        layer = next((n for n, table in enumerate(tables) if not table[wanted].any()), len(tables))
        if layer == len(tables):
            tables.append(np.zeros(top + 1, _number_type(manifest)))
        tables[layer][wanted] = segment.number
        layers.append(layer)
    return _drawn(manifest, [_looked_up(table, labels) for table in tables], layers, labels.shape)


def draw_channels(manifest: Manifest, channels: NDArray[np.bool_]) -> Drawn:
    """From channels that may overlap, (channel, slice, row, column), thresholds applied already."""
    if channels.dtype != np.bool_ or channels.ndim != 4:
        raise _broken(manifest, f"gave channels of {channels.dtype} and {channels.ndim} axes instead of four")
    maps: list[NDArray[Any]] = []
    layers = []
    for segment in manifest.segments:
        used = channels_of(segment)
        for channel in used:
            _within(manifest, channel, len(channels), "channel")
        mask = channels[used[0]] if len(used) == 1 else channels[list(used)].any(axis=0)
        layer = next((n for n, drawn in enumerate(maps) if not drawn[mask].any()), len(maps))
        if layer == len(maps):
            maps.append(np.zeros(channels.shape[1:], _number_type(manifest)))
        maps[layer][mask] = segment.number
        layers.append(layer)
    return _drawn(manifest, maps, layers, channels.shape[1:])


def draw_probabilities(manifest: Manifest, probabilities: NDArray[np.floating[Any]]) -> Drawn:
    """From probabilities, (channel, slice, row, column): the same, after the manifest's thresholds."""
    thresholds = np.asarray(thresholds_of(manifest, len(probabilities)), probabilities.dtype)
    return draw_channels(manifest, probabilities >= thresholds[:, None, None, None])


def with_volumes(drawn: Drawn, voxel_mm3: float) -> Drawn:
    """The same with the volume of every segment that has a voxel, in millilitres."""
    layered = drawn.label_map if drawn.label_map.ndim == 4 else drawn.label_map[np.newaxis]
    counts = [_counts(layer, len(drawn.segments)) for layer in layered]
    segments = []
    for one in drawn.segments:
        voxels = int(counts[one.layer][one.number])
        volume = Measurement(name=codes.VOLUME, value=voxels * voxel_mm3 / 1000.0, unit=codes.MILLILITRE)
        segments.append(replace(one, measurements=(volume, *one.measurements)) if voxels else one)
    return Drawn(drawn.label_map, tuple(segments))


def boxes_of(
    manifest: Manifest,
    low: ArrayLike,
    high: ArrayLike,
    scores: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    shape: tuple[int, int, int],
    nms_iou: float | None = None,
    at_most: int = 100,
) -> tuple[Box, ...]:
    """The boxes that reach the threshold of their class, the surest first: "Nodule 1", "Nodule 2", …

    `low` and `high` are (box, 3): slice, row, column in voxels of a grid of `shape`, voxel k from k - ½ to
    k + ½. They are cut at the edge of the grid; what lies outside of it is left out. `scores` are
    probabilities before calibration, `classes` the output indices; None: all are of the first class. Of boxes
    of one class that share more than `nms_iou` of their union only the surest stays.
    """
    lows, highs = (np.asarray(side, np.float64).reshape(-1, 3) for side in (low, high))
    likely = np.asarray(scores, np.float64).reshape(-1)
    kinds = np.zeros(len(likely), int) if classes is None else np.asarray(classes).reshape(-1)
    if not len(lows) == len(highs) == len(likely) == len(kinds):
        raise _broken(manifest, f"gave {len(lows)} boxes, {len(likely)} scores and {len(kinds)} classes")
    _check_probabilities(manifest, likely)
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise _broken(manifest, "gave boxes whose corners are not numbers")
    lows = np.maximum(lows, -0.5)
    highs = np.minimum(highs, np.asarray(shape) - 0.5)
    found: list[tuple[float, tuple[float, ...], tuple[float, ...], ClassOut]] = []
    for index, one in ((cls.index, cls) for cls in manifest.classes):
        mine = np.flatnonzero((kinds == index) & (lows < highs).all(axis=1))
        sure = {int(n): float(_calibrated(likely[n], one)) for n in mine}
        # Equal scores are ordered by place, so that the numbering does not hang on the network's order.
        order = sorted(sure, key=lambda n: (-sure[n], tuple(lows[n]), tuple(highs[n])))
        order = [n for n in order if sure[n] >= one.threshold]
        if nms_iou is not None:
            order = _suppressed(order, lows, highs, nms_iou)
        found += [(sure[n], tuple(lows[n].tolist()), tuple(highs[n].tolist()), one) for n in order]
    found.sort(key=lambda box: (-box[0], box[1], box[2], box[3].index))
    return _numbered(found[:at_most])


def verdicts_of(
    manifest: Manifest, outputs: ArrayLike, activation: Activation = "sigmoid"
) -> tuple[Verdict, ...]:
    """What a classifier says, class by class, from its `outputs`: one number for each class.

    "sigmoid": logits, each class by itself (multi-label). "softmax": logits of classes that exclude one
    another; only the likeliest is present, and only from its threshold on. "none": probabilities already.
    A calibration (a, b) makes of a logit a·logit + b: Platt scaling; with b = 0 and one a for all, division
    by a temperature.
    """
    numbers = np.asarray(outputs, np.float64).reshape(-1)
    if not np.isfinite(numbers).all():
        raise _broken(manifest, "gave outputs that are not numbers")
    for one in manifest.classes:
        _within(manifest, one.index, len(numbers), "output")
    if activation == "none":
        _check_probabilities(manifest, numbers)
        likely = numbers.copy()
        for one in manifest.classes:
            likely[one.index] = _calibrated(numbers[one.index], one)
    else:
        for one in manifest.classes:
            if one.calibration is not None:
                numbers[one.index] = one.calibration[0] * numbers[one.index] + one.calibration[1]
        likely = _softmax(numbers) if activation == "softmax" else _sigmoid(numbers)
    best = int(np.argmax(likely)) if len(likely) else -1
    return tuple(
        Verdict(
            label=one.label,
            finding=one.finding,
            present=bool(likely[one.index] >= one.threshold)
            and (activation != "softmax" or one.index == best),
            probability=float(likely[one.index]),
            threshold=one.threshold,
            calibrated=one.calibration is not None,
            site=one.site,
        )
        for one in manifest.classes
    )


def points_of(
    manifest: Manifest,
    at: ArrayLike,
    scores: ArrayLike | None = None,
    uncertainty_mm: ArrayLike | None = None,
) -> tuple[Point, ...]:
    """The landmarks, from (point, 3): slice, row, column in voxels. One that is no number was not found."""
    places = np.asarray(at, np.float64).reshape(-1, 3)
    sure = None if scores is None else np.asarray(scores, np.float64).reshape(-1)
    wide = None if uncertainty_mm is None else np.asarray(uncertainty_mm, np.float64).reshape(-1)
    for one in manifest.points:
        for given in (places, sure, wide):
            if given is not None:
                _within(manifest, one.index, len(given), "point")
    if sure is not None:
        _check_probabilities(manifest, sure[np.isfinite(places).all(axis=1)])
    return tuple(
        Point(
            label=one.label,
            site=one.site,
            at=_three(places[one.index]),
            score=None if sure is None else float(sure[one.index]),
            uncertainty_mm=None if wide is None else float(wide[one.index]),
        )
        for one in manifest.points
        if np.isfinite(places[one.index]).all()
    )


def quantities_of(manifest: Manifest, values: ArrayLike) -> tuple[Measurement, ...]:
    """The numbers that a model estimates, from one output for each. What is not a number is left out."""
    numbers = np.asarray(values, np.float64).reshape(-1)
    for one in manifest.quantities:
        _within(manifest, one.index, len(numbers), "output")
    return tuple(
        Measurement(name=one.name, value=float(numbers[one.index]) * one.scale + one.offset, unit=one.unit)
        for one in manifest.quantities
        if np.isfinite(numbers[one.index])
    )


def maps_of(manifest: Manifest, maps: NDArray[np.floating[Any]]) -> tuple[HeatMap, ...]:
    """The maps of numbers, from (map, slice, row, column)."""
    if maps.ndim != 4:
        raise _broken(manifest, f"gave maps of {maps.ndim} axes instead of four")
    for one in manifest.maps:
        _within(manifest, one.index, len(maps), "map")
        if not np.isfinite(maps[one.index]).all():
            raise _broken(manifest, f"gave a map {one.label!r} with voxels that are not numbers")
    return tuple(
        HeatMap(
            label=one.label,
            quantity=one.quantity,
            unit=one.unit,
            values=np.ascontiguousarray(maps[one.index], np.float32),
            of=one.of,
        )
        for one in manifest.maps
    )


def findings_of(
    manifest: Manifest,
    *,
    drawn: Drawn | None = None,
    boxes: Sequence[Box] = (),
    points: Sequence[Point] = (),
    verdicts: Sequence[Verdict] = (),
    maps: Sequence[HeatMap] = (),
    measurements: Sequence[Measurement] = (),
    grades: Sequence[Grade] = (),
    recommendations: Sequence[Recommendation] = (),
    comparisons: Sequence[Comparison] = (),
    cautions: Sequence[str] = (),
    timings: dict[str, float] | None = None,
) -> Findings:
    """Everything together, with the outcome: found, or nothing and in one sentence what was looked for.

    The manifest's own scales add their grades and recommendations to those of the model.
    """
    graded, proposed = grades_of(manifest, measurements)
    grades, recommendations = (*grades, *graded), (*recommendations, *proposed)
    any_voxel = drawn is not None and bool(drawn.label_map.any())
    found = any_voxel or bool(boxes or points or verdicts or measurements or maps)
    found = found or bool(grades or recommendations or comparisons)
    return Findings(
        outcome=Outcome.FOUND if found else Outcome.NOTHING,
        because="" if found else _nothing(manifest),
        label_map=drawn.label_map if drawn is not None and any_voxel else None,
        segments=drawn.segments if drawn is not None and any_voxel else (),
        boxes=tuple(boxes),
        points=tuple(points),
        verdicts=tuple(verdicts),
        maps=tuple(maps),
        grades=tuple(grades),
        recommendations=tuple(recommendations),
        comparisons=tuple(comparisons),
        measurements=tuple(measurements),
        cautions=tuple(cautions),
        timings=dict(timings or {}),
    )


def boxes_in_voxels(
    low_mm: ArrayLike, high_mm: ArrayLike, affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes along the axes of the patient, (box, 3) in LPS mm, as boxes along the axes of the grid.

    `affine` maps (slice, row, column) to LPS mm. Where the grid is oblique the box around all eight corners
    is taken: it holds the whole of the other.
    """
    lows, highs = (np.asarray(side, np.float64).reshape(-1, 3) for side in (low_mm, high_mm))
    choices = np.array([[(n >> axis) & 1 for axis in range(3)] for n in range(8)], bool)  # (8, 3)
    corners = np.where(choices[None], highs[:, None], lows[:, None])  # (box, 8, 3)
    inverse = np.linalg.inv(affine)
    placed = corners @ inverse[:3, :3].T + inverse[:3, 3]
    return placed.min(axis=1), placed.max(axis=1)


def _nothing(manifest: Manifest) -> str:
    looked_for = [one.label for one in segments_of(manifest)]
    looked_for += [one.label for one in manifest.classes] + [one.label for one in manifest.points]
    listed = ", ".join(looked_for[:5]) + (f" and {len(looked_for) - 5} more" if len(looked_for) > 5 else "")
    return f"None of what the model looks for was found: {listed}." if looked_for else "Nothing was found."


def _drawn(
    manifest: Manifest, maps: list[NDArray[Any]], layers: Sequence[int], shape: tuple[int, ...]
) -> Drawn:
    maps = maps or [np.zeros(shape, _number_type(manifest))]
    segments = [replace(one, layer=layer) for one, layer in zip(segments_of(manifest), layers, strict=True)]
    return Drawn(maps[0] if len(maps) == 1 else np.stack(maps), tuple(segments))


def _counts(labels: NDArray[Any], top: int) -> NDArray[np.intp]:
    """How many voxels have each of 0 … `top`."""
    # A slice at a time: NumPy counts in integers of eight bytes, and a whole CT of them is a gigabyte.
    return np.asarray(sum(np.bincount(one.ravel(), minlength=top + 1) for one in labels), np.intp) + np.zeros(
        top + 1, np.intp
    )


def _looked_up(table: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    found = np.empty(labels.shape, table.dtype)
    for n, one in enumerate(labels):
        found[n] = table[one]
    return found


def _number_type(manifest: Manifest) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if len(manifest.segments) <= np.iinfo(np.uint8).max else np.uint16


def _numbered(
    found: Iterable[tuple[float, tuple[float, ...], tuple[float, ...], ClassOut]],
) -> tuple[Box, ...]:
    counted: dict[str, int] = {}
    boxes = []
    for score, low, high, one in found:
        counted[one.label] = counted.get(one.label, 0) + 1
        boxes.append(
            Box(
                label=f"{one.label} {counted[one.label]}",
                kind=one.finding,
                site=one.site,
                low=_three(np.asarray(low)),
                high=_three(np.asarray(high)),
                score=score,
            )
        )
    return tuple(boxes)


def _suppressed(
    order: list[int], lows: NDArray[np.float64], highs: NDArray[np.float64], iou: float
) -> list[int]:
    kept: list[int] = []
    for n in order:
        if not kept or (_overlap(n, kept, lows, highs) <= iou).all():
            kept.append(n)
    return kept


def _overlap(
    n: int, others: list[int], lows: NDArray[np.float64], highs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intersection over union of box `n` with each of `others`."""
    sides = np.minimum(highs[n], highs[others]) - np.maximum(lows[n], lows[others])
    shared = np.prod(np.maximum(sides, 0.0), axis=1)
    whole = np.prod(highs[n] - lows[n]) + np.prod(highs[others] - lows[others], axis=1) - shared
    return np.asarray(shared / whole)


def _calibrated(probability: float, one: ClassOut) -> float:
    if one.calibration is None:
        return float(probability)
    a, b = one.calibration
    inside = min(max(float(probability), _UNSURE), 1 - _UNSURE)
    return float(_sigmoid(np.asarray(a * np.log(inside / (1 - inside)) + b)))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # tanh does not overflow.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(x - x.max(initial=-np.inf)) if x.size else x
    return np.asarray(powers / powers.sum()) if x.size else x


def _check_probabilities(manifest: Manifest, numbers: NDArray[np.float64]) -> None:
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise _broken(manifest, "gave scores that are no probabilities between 0 and 1")


def _within(manifest: Manifest, index: int, count: int, what: str) -> None:
    if not 0 <= index < count:
        raise _broken(manifest, f"gave {count} of {what}, and its manifest names {what} {index}")


def _three(place: NDArray[np.float64]) -> tuple[float, float, float]:
    z, y, x = place.tolist()
    return float(z), float(y), float(x)


def _broken(manifest: Manifest, said: str) -> BrokenModel:
    return BrokenModel(f"model {manifest.identity} {said}")

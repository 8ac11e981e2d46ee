"""Does each measurement group say what the model found, where it found it, of the image that it is on?"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from results import codes
from results.asked import Asked
from results.check_lesions import check_sizes
from results.check_places import planes_of
from results.content import Numbers, codes_named, name_of, numbers, references, uid_named, walk
from results.expect import CheckFailed, as_code, expect, near
from results.findings import Box, Concept, HeatMap, Measurement, Point, Segment, Verdict
from results.found import Found
from results.source import Source

_WHAT = "report"
_TOLERANCE_PX = 1e-3  # Graphic Data is of single precision.


def check_segment(segment: Segment, found: Found | None, asked: Asked, group: Dataset) -> None:
    """The group gives the values of the segment, and points to it (TID 1411) where a segmentation has it."""
    source = asked.source
    _check_finding(group, segment.label, segment.kind)
    anatomy = segment.category.value == codes.ANATOMICAL_STRUCTURE.value
    _check_site(group, segment.label, segment.kind if anatomy else None, segment.laterality)
    said = [
        (str(r.ReferencedSOPInstanceUID), int(r.ReferencedSegmentNumber))
        for item in walk(group)
        if name_of(item) == as_code(codes.REFERENCED_SEGMENT)
        for r in item.ReferencedSOPSequence
    ]
    meant = [] if found is None else [(found.sop_instance, found.number)]
    expect(said == meant, f"{_WHAT}: {segment.label!r} refers to {said}, the segment is {meant}")
    series = uid_named(group, codes.SOURCE_SERIES)
    expect(
        found is None or series == str(source.first.SeriesInstanceUID),
        f"{_WHAT}: the source series is said to be {series}",
    )
    sizes = check_sizes(_WHAT, segment, asked, numbers(group))
    values = check_numbers(
        repr(segment.label), group, [*segment.measurements, *_certainty(segment.score)], also=sizes
    )
    if found is not None and found.volume_mm3 is not None:
        _check_volume(segment, values, found.volume_mm3)


def check_box(box: Box, source: Source, group: Dataset) -> None:
    """The group draws the box on each slice that it holds, and gives its score and its size."""
    _check_finding(group, box.label, box.kind)
    _check_site(group, box.label, box.site, box.laterality)
    sizes: list[Measurement] = []
    if source.geometry is not None:
        own = {measurement.name for measurement in box.measurements}
        sides_mm = (np.asarray(box.high) - np.asarray(box.low)) * np.asarray(source.geometry.spacing)
        for name, side in zip((codes.DEPTH, codes.HEIGHT, codes.WIDTH), sides_mm, strict=True):
            if name not in own:
                sizes.append(Measurement(name=name, value=float(side), unit=codes.MILLIMETRE))
    check_numbers(repr(box.label), group, [*box.measurements, *_certainty(box.score), *sizes])

    planes = planes_of(source)
    height, width = int(source.first.Rows), int(source.first.Columns)
    held = [k for k in range(len(planes)) if box.low[0] <= k <= box.high[0]]
    if not held:
        middle = (box.low[0] + box.high[0]) / 2
        held = [min(range(len(planes)), key=lambda k: abs(k - middle - 1e-9))]
    (_, top, left), (_, bottom, right) = box.low, box.high
    rows = np.clip(np.array([top, top, bottom, bottom, top]) + 0.5, 0, height)
    columns = np.clip(np.array([left, right, right, left, left]) + 0.5, 0, width)
    meant = {planes[k]: np.stack([columns, rows], axis=1) for k in held}
    _check_graphics(group, box.label, "POLYLINE", meant)


def check_point(point: Point, source: Source, group: Dataset) -> None:
    """The group marks the landmark on the image next to it, and says how far from it, and how sure it is."""
    _check_site(group, point.label, point.site, None)
    planes = planes_of(source)
    nearest = min(range(len(planes)), key=lambda k: abs(k - point.at[0] - 1e-9))
    values = [*_certainty(point.score)]
    apart = point.at[0] - nearest
    if source.geometry is not None and abs(apart) > 1e-3:
        apart_mm = apart * float(source.geometry.spacing[0])
        values.append(Measurement(name=codes.OFF_PLANE, value=apart_mm, unit=codes.MILLIMETRE))
    if point.uncertainty_mm is not None:
        sd = Measurement(name=codes.STANDARD_DEVIATION, value=point.uncertainty_mm, unit=codes.MILLIMETRE)
        values.append(sd)
    check_numbers(repr(point.label), group, values)
    meant = np.array([[point.at[2] + 0.5, point.at[1] + 0.5]])
    _check_graphics(group, point.label, "POINT", {planes[nearest]: meant})


def check_verdict(verdict: Verdict, group: Dataset) -> None:
    """The group says present or absent, by how much, from where on, and what kind of number that is."""
    _check_finding(group, verdict.label, verdict.finding)
    _check_site(group, verdict.label, verdict.site, None)
    number = codes.PROBABILITY if verdict.calibrated else codes.CERTAINTY
    values = [
        Measurement(name=number, value=verdict.probability * 100, unit=codes.PERCENT),
        Measurement(name=codes.THRESHOLD, value=verdict.threshold * 100, unit=codes.PERCENT),
    ]
    check_numbers(repr(verdict.label), group, values)
    told = codes.PRESENT if verdict.present else codes.ABSENT
    answer = codes.EQUIVOCAL if verdict.unsure else told
    kind = codes.CALIBRATED if verdict.calibrated else codes.NOT_CALIBRATED
    for name, meant in ((verdict.finding, answer), (codes.CALIBRATION, kind)):
        said = codes_named(group, as_code(name))
        expect(
            said == [as_code(meant)],
            f"{_WHAT}: of {verdict.label!r} it says {said} where the model said {meant.meaning!r}",
        )


def check_map(one: HeatMap, dataset: Dataset | None, group: Dataset) -> None:
    """The group gives the largest value of the map, and points to the parametric map that holds it."""
    if dataset is None:
        raise CheckFailed(f"{_WHAT}: speaks of the map {one.label!r}, but there is no parametric map")
    largest = Measurement(name=one.quantity, value=float(np.max(one.values)), unit=one.unit)
    check_numbers(repr(one.label), group, [largest])
    said = references(group)
    expect(
        said == [(str(dataset.SOPInstanceUID), None)],
        f"{_WHAT}: the map {one.label!r} is said to be {said}, it is {dataset.SOPInstanceUID}",
    )


def check_numbers(
    whose: str,
    group: Dataset,
    measurements: Sequence[Measurement],
    *,
    also: Collection[tuple[tuple[str, str], tuple[str, str]]] = (),
) -> Numbers:
    """The numbers of the group: those of `measurements`, no more and no less, beside those (name, unit) that
    are looked at elsewhere. Raises `CheckFailed`.
    """
    everything = numbers(group)
    said = {key: value for key, value in everything.items() if key not in also}
    for item in walk(group):
        if item.ValueType == "NUM":
            expect(len(item.MeasuredValueSequence) == 1, f"{_WHAT}: a value of {whose} is left out")
    meant = {(as_code(m.name), as_code(m.unit)): m.value for m in measurements}
    expect(
        said.keys() == meant.keys(),
        f"{_WHAT}: {whose} has {sorted(said)}, the model measured {sorted(meant)}",
    )
    for key, value in meant.items():
        # Seven significant digits are written.
        expect(
            near([said[key]], [value], abs(value) * 1e-6 + 1e-12),
            f"{_WHAT}: {key[0][0]} of {whose} is {said[key]}, the model measured {value}",
        )
    return everything


def _certainty(score: float | None) -> Iterator[Measurement]:
    if score is not None:
        yield Measurement(name=codes.CERTAINTY, value=score * 100, unit=codes.PERCENT)


def _check_finding(group: Dataset, label: str, kind: Concept) -> None:
    said = codes_named(group, as_code(codes.FINDING))
    expect(said == [as_code(kind)], f"{_WHAT}: {label!r} is called {said}, the model said {as_code(kind)}")


def _check_site(group: Dataset, label: str, site: Concept | None, side: Concept | None) -> None:
    said = [
        (code, codes_named(item, as_code(codes.LATERALITY)))
        for item in walk(group)
        if name_of(item) == as_code(codes.FINDING_SITE)
        for code in [_value(item)]
    ]
    sides = [as_code(side)] if side else []
    meant = [] if site is None else [(as_code(site), sides)]
    expect(said == meant, f"{_WHAT}: {label!r} is said to be at {said}, the model said {meant}")


def _value(item: Dataset) -> tuple[str, str]:
    code = item.ConceptCodeSequence[0]
    return str(code.get("CodeValue") or code.get("LongCodeValue") or ""), str(code.CodingSchemeDesignator)


def _check_graphics(
    group: Dataset, label: str, kind: str, meant: dict[tuple[str, int | None], NDArray[np.float64]]
) -> None:
    """Every region is of the one kind, on an image of the finding, at the very place; none is missing."""
    said: dict[tuple[str, int | None], NDArray[np.float64]] = {}
    for item in walk(group):
        if item.ValueType in {"SCOORD", "SCOORD3D"}:
            expect(item.ValueType == "SCOORD", f"{_WHAT}: {label!r} is drawn beside the images")
            expect(item.GraphicType == kind, f"{_WHAT}: {label!r} is drawn as {item.GraphicType}")
            images = references(item)
            expect(len(images) == 1, f"{_WHAT}: a region of {label!r} is on {len(images)} images")
            expect(images[0] not in said, f"{_WHAT}: {label!r} is drawn twice on one image")
            said[images[0]] = np.asarray(item.GraphicData, dtype=float).reshape(-1, 2)
    expect(
        said.keys() == meant.keys(),
        f"{_WHAT}: {label!r} is drawn on {len(said)} images that are not the {len(meant)} where it is",
    )
    for image, points in meant.items():
        expect(
            near(said[image].reshape(-1), points.reshape(-1), _TOLERANCE_PX),
            f"{_WHAT}: {label!r} is drawn at {said[image].tolist()} (column, row), the model found it at "
            f"{points.tolist()}",
        )


def _check_volume(segment: Segment, said: Numbers, volume_mm3: float) -> None:
    for (name, (unit, _)), value in said.items():
        if name == as_code(codes.VOLUME):
            mm3 = value * codes.VOLUME_UNITS_MM3.get(unit, float("nan"))
            expect(
                near([mm3], [volume_mm3], 1e-3 * volume_mm3),
                f"{_WHAT}: volume of {segment.label!r} is {value} {unit}, its voxels {volume_mm3:.1f} mm3",
            )

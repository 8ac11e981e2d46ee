"""
Do the segmentations on disk say what the model said, where the images are?

They are read as a stranger would read them: positions taken from each frame, pixels decoded, and compared
with the model's label map and with the source's own headers. Nothing of the encoder is used on the way but
the words and names that both have to write alike.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from results import codes
from results.asked import Asked
from results.check_places import (
    TOLERANCE_MM,
    Places,
    PlaneName,
    check_grid,
    check_references,
)
from results.check_segments import check_descriptions, check_form, check_uids, maps_of, segments_of
from results.check_voxels import Tally, check_left_out, comparing
from results.expect import (
    CheckFailed,
    as_code,
    expect,
    expect_equipment,
    expect_identity,
    expect_provenance,
    near,
)
from results.findings import Findings, HeatMap, Segment
from results.found import Found
from results.uids import segment_tracking_uid

_WHAT = "segmentation"


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless the segmentations, as read back, are what the model drew; what was found in
    them is told to the checks of whatever refers to them.
    """
    findings = asked.findings
    drawn = findings.label_map is not None and bool(findings.label_map.any())
    expect(
        bool(read) or not (findings.segments and drawn),
        "the model drew something, but there is no segmentation",
    )
    asked.found.clear()
    for position, dataset in enumerate(read, start=1):
        for item in _check(dataset, asked, position, len(read)):
            tracking = str(segment_tracking_uid(asked.run, item.segment))
            expect(tracking not in asked.found, f"{_WHAT}: {item.segment.label!r} is there twice")
            asked.found[tracking] = item
    _check_whole(findings, {item.segment.number: item.voxels for item in asked.found.values()})
    _check_sides(list(asked.found.values()))


def _check(dataset: Dataset, asked: Asked, position: int, of: int) -> list[Found]:
    """What each segment of the file is."""
    findings, source, run = asked.findings, asked.source, asked.run
    expect_identity(_WHAT, dataset, source)
    segments = segments_of(dataset, asked)
    check_uids(dataset, asked, segments, position, of)
    expect_provenance(_WHAT, dataset, run)
    expect_equipment(_WHAT, dataset)
    check_form(dataset, asked, position, of)
    check_descriptions(dataset, asked, segments)
    check_grid(dataset, source, _WHAT)
    maps = maps_of(dataset, asked, segments)
    found = _check_frames(dataset, asked, segments, maps)
    if not maps:
        overlap = "YES" if _overlap(findings, list(segments.values())) else "NO"
    else:
        some = [one.values * 255 > 0.5 for one in maps.values()]
        overlap = "YES" if bool((np.sum(some, axis=0) > 1).any()) else "NO"
    expect(
        dataset.SegmentsOverlap == overlap,
        f"{_WHAT}: Segments Overlap is {dataset.SegmentsOverlap}, of the model's it is {overlap}",
    )
    return found


def _overlap(findings: Findings, segments: Sequence[Segment]) -> bool:
    """Whether segments overlap: then together they have more voxels than their union."""
    layers = sorted({segment.layer for segment in segments})
    if len(layers) < 2:
        return False
    numbers = [segment.number for segment in segments]
    each = [np.isin(findings.layers[layer], numbers) for layer in layers]
    union = np.logical_or.reduce(each)
    return sum(int(np.count_nonzero(one)) for one in each) > int(np.count_nonzero(union))


def _check_frames(
    dataset: Dataset, asked: Asked, segments: Mapping[int, Segment], maps: dict[int, HeatMap]
) -> list[Found]:
    """Every frame lies where its one source image lies, and holds the model's voxels of that slice."""
    findings, source = asked.findings, asked.source
    places = Places(source, _WHAT)
    check_references(dataset, source, places.slice_of, _WHAT)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    to_mm = np.zeros((3, 2)) if source.geometry is None else _in_plane(shared)
    groups = dataset.PerFrameFunctionalGroupsSequence
    count = int(dataset.NumberOfFrames)
    expect(len(groups) == count, f"{_WHAT}: Number of Frames is {count}, {len(groups)} are described")
    compare = comparing(dataset, findings, dict(segments), maps, _WHAT)

    tallies = {number: Tally() for number in segments}
    in_mm = {number: np.zeros(3) for number in segments}  # sums over voxels, by the file's own geometry …
    in_index = {number: np.zeros(3) for number in segments}  # … and by index on the model's volume
    planes: dict[int, dict[PlaneName, int]] = {number: {} for number in segments}
    seen: set[tuple[int | None, PlaneName]] = set()
    indexed: list[tuple[tuple[int, ...], int | None, int]] = []
    for index, group in enumerate(groups):
        number = places.once(group, "SegmentIdentificationSequence", _number)
        if number is not None and number not in segments:
            raise CheckFailed(f"{_WHAT}: frame {index + 1} is of segment {number}, which is not described")
        plane, k, position = places.of(group, index)
        if (number, plane) in seen:
            raise CheckFailed(f"{_WHAT}: segment {number} has two frames on one source image")
        seen.add((number, plane))
        indexed.append((places.once(group, "FrameContentSequence", _index), number, k))
        for one, tally in compare(index, number, k):
            planes[one][plane] = k
            tallies[one].voxels += tally.voxels
            in_mm[one] += position * tally.voxels + to_mm @ (tally.rows, tally.columns)
            in_index[one] += (k * tally.voxels, tally.rows, tally.columns)
    _check_dimensions(dataset, indexed)

    found: list[Found] = []
    instance = str(dataset.SOPInstanceUID)
    for number, segment in segments.items():
        expect(tallies[number].voxels > 0, f"{_WHAT}: {segment.label!r} has no voxel")
        voxels = round(tallies[number].voxels)
        if number in maps:
            check_left_out(maps[number], set(planes[number].values()), _WHAT)
            voxels = int(findings.mask(segment.number).sum())  # Fractions do not say which voxels it has.
        centroid, volume_mm3 = None, None
        if source.geometry is not None:
            centre = in_mm[number] / tallies[number].voxels
            meant = source.geometry.affine[:3] @ np.append(in_index[number] / tallies[number].voxels, 1.0)
            expect(
                near(centre, meant, TOLERANCE_MM),
                f"{_WHAT}: the centre of {segment.label!r} lies at {centre.round(3).tolist()}, "
                f"the model found it at {meant.round(3).tolist()} (LPS mm)",
            )
            centroid = float(centre[0]), float(centre[1]), float(centre[2])
            volume_mm3 = voxels * _voxel_mm3(shared)
        lies_on = frozenset(planes[number])
        found.append(Found(segment, instance, number, voxels, volume_mm3, centroid, lies_on))
    return found


def _number(group: Dataset) -> int | None:
    items = group.get("SegmentIdentificationSequence")
    return int(items[0].ReferencedSegmentNumber) if items else None


def _index(group: Dataset) -> tuple[int, ...]:
    values = group.FrameContentSequence[0]["DimensionIndexValues"].value
    return (int(values),) if isinstance(values, int) else tuple(int(v) for v in values)


def _check_dimensions(dataset: Dataset, indexed: Sequence[tuple[tuple[int, ...], int | None, int]]) -> None:
    """Frames are found by segment and by place, and both count from 1 without a gap (PS3.3 §C.7.6.17)."""
    (organization,) = (str(one.DimensionOrganizationUID) for one in dataset.DimensionOrganizationSequence)
    pointers = [int(one.DimensionIndexPointer) for one in dataset.DimensionIndexSequence]
    named = {str(one.DimensionOrganizationUID) for one in dataset.DimensionIndexSequence}
    expect(named == {organization}, f"{_WHAT}: dimensions are of the organizations {named}")
    placed = "FrameOfReferenceUID" in dataset
    labels = dataset.SegmentationType == "LABELMAP"
    meant = [*([] if labels else [0x0062000B]), *([0x00200032] if placed else [])] or [0x00209453]
    expect(pointers == meant, f"{_WHAT}: frames are indexed by {[hex(one) for one in pointers]}")
    order = {k: rank for rank, k in enumerate(sorted({k for _, _, k in indexed}), start=1)}
    for frame, (values, number, k) in enumerate(indexed, start=1):
        wanted = ([] if number is None else [number]) + ([order[k]] if placed or number is None else [])
        if list(values) != wanted:
            raise CheckFailed(f"{_WHAT}: frame {frame} has the dimension indices {values}, not {wanted}")


def _check_whole(findings: Findings, voxels: Mapping[int, int]) -> None:
    """No voxel is missing: each frame was compared, so sums can only differ by a frame left out."""
    if sum(voxels.values()) == np.count_nonzero(findings.layers):
        return
    for segment in findings.segments:
        meant, said = int(findings.mask(segment.number).sum()), voxels.get(segment.number, 0)
        expect(said == meant, f"{_WHAT}: {segment.label!r} has {said} voxels, the model found {meant}")
    if findings.segments:
        raise CheckFailed(f"{_WHAT}: the label map has voxels that belong to no segment")


def _check_sides(found: Sequence[Found]) -> None:
    """What is called right lies to the patient's right of its left counterpart: x grows to the left."""
    for right in found:
        for left in found:
            if right.segment.kind != left.segment.kind or right.centroid_mm is None:
                continue
            sides = (as_code(right.segment.laterality), as_code(left.segment.laterality))
            if sides == (as_code(codes.RIGHT), as_code(codes.LEFT)) and left.centroid_mm is not None:
                expect(
                    right.centroid_mm[0] < left.centroid_mm[0],
                    f"{_WHAT}: {right.segment.label!r} (x = {right.centroid_mm[0]:.1f} mm) lies "
                    f"to the patient's left of {left.segment.label!r} (x = {left.centroid_mm[0]:.1f} mm)",
                )


def _in_plane(shared: Dataset) -> NDArray[np.float64]:
    """(row, column) index → LPS mm relative to a frame's position, 3 × 2."""
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    cosines = np.array([float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient])
    return np.stack([cosines[3:] * float(spacing[0]), cosines[:3] * float(spacing[1])], axis=1)


def _voxel_mm3(shared: Dataset) -> float:
    measures = shared.PixelMeasuresSequence[0]
    return (
        float(measures.PixelSpacing[0])
        * float(measures.PixelSpacing[1])
        * float(measures.SpacingBetweenSlices)
    )

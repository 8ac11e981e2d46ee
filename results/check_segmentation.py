"""
Does the segmentation on disk say what the model said, where the images are?

It is read as a stranger would read it: bits unpacked here, positions taken from each frame, and compared with
the model's label map and with the source's own headers. Nothing of the encoder is used on the way.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from results import codes, observer
from results.expect import (
    CheckFailed,
    as_code,
    code_of,
    expect,
    expect_equipment,
    expect_identity,
    expect_provenance,
    expect_uids,
    near,
)
from results.findings import Findings, Segment
from results.provenance import Run
from results.source import Source
from results.uids import tracking_uid
from results.words import long_string

_WHAT = "segmentation"
_TOLERANCE_MM = 0.01


@dataclass(frozen=True, slots=True)
class Found:
    """One segment as the file has it."""

    segment: Segment  #: what the model said of it
    voxels: int
    volume_mm3: float | None  #: None on an image without a place
    centroid_mm: tuple[float, float, float] | None  #: LPS; None on an image without a place
    planes: frozenset[tuple[str, int | None]]  #: (SOP Instance UID, frame) of the images that it lies on


def check_segmentation(dataset: Dataset, findings: Findings, source: Source, run: Run) -> dict[int, Found]:
    """What each segment of the file is, by Segment Number. Raises `CheckFailed`."""
    expect_identity(_WHAT, dataset, source)
    expect_uids(_WHAT, dataset, source, run, "segmentation")
    expect_provenance(_WHAT, dataset, run)
    expect_equipment(_WHAT, dataset)
    expect(dataset.Modality == "SEG", f"{_WHAT}: Modality is {dataset.Modality}")
    check_grid(dataset, source)
    segments = _check_segments(dataset, findings, run)
    found = _check_frames(dataset, findings, source, segments)
    _check_sides(found)
    overlap = "YES" if _overlap(findings) else "NO"
    expect(
        dataset.SegmentsOverlap == overlap,
        f"{_WHAT}: Segments Overlap is {dataset.SegmentsOverlap}, of the model's it is {overlap}",
    )
    return found


def check_grid(dataset: Dataset, source: Source, what: str = _WHAT) -> None:
    """Rows, columns, spacing, orientation and frame of reference are the source's. Raises `CheckFailed`."""
    first = source.first
    size, theirs = (dataset.Rows, dataset.Columns), (first.Rows, first.Columns)
    expect(size == theirs, f"{what}: {size[0]} x {size[1]} pixels, the source has {theirs[0]} x {theirs[1]}")
    if source.geometry is None:
        _check_no_place(dataset, what)
        return
    expect(
        str(dataset.FrameOfReferenceUID) == str(first.FrameOfReferenceUID),
        f"{what}: Frame of Reference UID is {dataset.FrameOfReferenceUID}, "
        f"of the source {first.FrameOfReferenceUID}",
    )
    shared = dataset.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    spacing = [float(v) for v in measures.PixelSpacing]
    source_spacing = [float(v) for v in _of_plane(source, 0, "PixelMeasuresSequence", "PixelSpacing")]
    # An error of spacing or direction grows towards the far corner: there it may be 0.01 mm.
    reach = max(size)
    expect(
        near(spacing, source_spacing, _TOLERANCE_MM / reach),
        f"{what}: pixel spacing is {spacing} mm, of the source {source_spacing} mm",
    )
    cosines = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    source_cosines = [
        float(v) for v in _of_plane(source, 0, "PlaneOrientationSequence", "ImageOrientationPatient")
    ]
    expect(
        near(cosines, source_cosines, _TOLERANCE_MM / (reach * max(spacing))),
        f"{what}: image orientation is {cosines}, of the source {source_cosines}",
    )
    between, expected = float(measures.SpacingBetweenSlices), float(source.geometry.spacing[0])
    expect(
        near([between], [expected], _TOLERANCE_MM / len(planes_of(source))),
        f"{what}: slices are {between} mm apart, of the source {expected} mm",
    )


def _check_no_place(dataset: Dataset, what: str) -> None:
    """What is drawn on an image without a place claims none either."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    groups = [shared, *dataset.PerFrameFunctionalGroupsSequence]
    claims = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence")
    claimed = [name for name in claims if any(name in group for group in groups)]
    expect(
        not claimed and "FrameOfReferenceUID" not in dataset,
        f"{what}: lies somewhere in the patient, but the image does not say where it does",
    )


def _overlap(findings: Findings) -> bool:
    """Whether any voxel has two segments: then the layers hold more than their union."""
    layers = findings.layers
    return len(layers) > 1 and bool(np.count_nonzero(layers) > np.count_nonzero(layers.any(axis=0)))


def _check_segments(dataset: Dataset, findings: Findings, run: Run) -> dict[int, Segment]:
    """Numbers run from 1 without a gap, and each item describes the model's segment of the same label."""
    by_label = {long_string(segment.label): segment for segment in findings.segments}
    numbers = [int(item.SegmentNumber) for item in dataset.SegmentSequence]
    expect(numbers == list(range(1, len(numbers) + 1)), f"{_WHAT}: segments are numbered {numbers}")
    segments: dict[int, Segment] = {}
    provenance = run.provenance
    meant = (
        observer.algorithm_name(provenance),
        observer.algorithm_version(provenance),
        observer.source_name(provenance),
    )
    for item in dataset.SegmentSequence:
        segment = by_label.get(str(item.SegmentLabel))
        if segment is None:
            raise CheckFailed(f"{_WHAT}: segment {item.SegmentLabel!r} is none of the model's")
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        for name, ours, theirs in (
            ("category", code_of(item, "SegmentedPropertyCategoryCodeSequence"), as_code(segment.category)),
            ("type", code_of(item, "SegmentedPropertyTypeCodeSequence"), as_code(segment.kind)),
            ("side", code_of(kind, "SegmentedPropertyTypeModifierCodeSequence"), as_code(segment.laterality)),
        ):
            expect(ours == theirs, f"{_WHAT}: {name} of {segment.label!r} is {ours}, the model said {theirs}")
        tracking = str(tracking_uid(run, segment.label))
        expect(
            str(item.TrackingUID) == tracking, f"{_WHAT}: Tracking UID of {segment.label!r} is not this run's"
        )
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        said = (
            str(algorithm.AlgorithmName),
            str(algorithm.AlgorithmVersion),
            str(algorithm.get("AlgorithmSource", "")),
        )
        expect(said == meant, f"{_WHAT}: {segment.label!r} is said to be made by {said}, the run is {meant}")
        segments[int(item.SegmentNumber)] = segment
    return segments


def _check_frames(
    dataset: Dataset, findings: Findings, source: Source, segments: dict[int, Segment]
) -> dict[int, Found]:
    """Every frame lies where its one source image lies, and holds the model's voxels of that slice."""
    slice_of = {plane: index for index, plane in enumerate(planes_of(source))}
    check_references(dataset, source, slice_of)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    to_mm = np.zeros((3, 2)) if source.geometry is None else _in_plane(shared)
    groups = dataset.PerFrameFunctionalGroupsSequence
    expect(
        len(groups) == int(dataset.NumberOfFrames), f"{_WHAT}: Number of Frames is {dataset.NumberOfFrames}"
    )
    bits = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    needed = -(-len(groups) * rows * columns // 8)
    expect(
        needed <= bits.size <= needed + 1, f"{_WHAT}: pixel data has {bits.size} bytes, {needed} are needed"
    )

    voxels: Counter[int] = Counter()
    in_mm = {number: np.zeros(3) for number in segments}  # sums over voxels, by the file's own geometry …
    in_index = {number: np.zeros(3) for number in segments}  # … and by index on the model's volume
    planes: dict[int, set[tuple[str, int | None]]] = {number: set() for number in segments}
    for index, group in enumerate(groups):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        expect(
            number in segments, f"{_WHAT}: frame {index + 1} is of segment {number}, which is not described"
        )
        plane = source_of(group, index)
        k, position = check_place(group, index, source, slice_of)
        expect(plane not in planes[number], f"{_WHAT}: segment {number} has two frames on one source image")
        planes[number].add(plane)
        mask = _unpack(bits, index, rows, columns)
        expect(
            np.array_equal(mask, findings.layers[segments[number].layer][k] == segments[number].number),
            f"{_WHAT}: frame {index + 1} does not hold the voxels of {segments[number].label!r} on slice {k}",
        )
        in_rows, in_columns = mask.sum(axis=1, dtype=np.uint32), mask.sum(axis=0, dtype=np.uint32)
        count = int(in_rows.sum())
        row, column = float(in_rows @ np.arange(rows)), float(in_columns @ np.arange(columns))
        voxels[number] += count
        in_mm[number] += position * count + to_mm @ (row, column)
        in_index[number] += (k * count, row, column)

    _check_whole(findings, segments, voxels)
    found: dict[int, Found] = {}
    for number, segment in segments.items():
        lies_on = frozenset(planes[number])
        if source.geometry is None:
            found[number] = Found(segment, voxels[number], None, None, lies_on)
            continue
        centroid = in_mm[number] / voxels[number]
        expected = source.geometry.affine[:3] @ np.append(in_index[number] / voxels[number], 1.0)
        expect(
            near(centroid, expected, _TOLERANCE_MM),
            f"{_WHAT}: the centre of {segment.label!r} lies at {centroid.round(3).tolist()}, "
            f"the model found it at {expected.round(3).tolist()} (LPS mm)",
        )
        x, y, z = (float(v) for v in centroid)
        volume_mm3 = voxels[number] * _voxel_mm3(shared)
        found[number] = Found(segment, voxels[number], volume_mm3, (x, y, z), lies_on)
    return found


def check_place(
    group: Dataset, index: int, source: Source, slice_of: dict[tuple[str, int | None], int], what: str = _WHAT
) -> tuple[int, NDArray[np.float64]]:
    """The slice of the volume that frame `index` (0-based) was derived from, and where it lies (LPS mm; zeros
    on an image without a place): where its source image lies. Raises `CheckFailed`.
    """
    plane = source_of(group, index, what)
    k = slice_of.get(plane)
    if k is None:
        raise CheckFailed(f"{what}: frame {index + 1} refers to {plane[0]}, which is no source image")
    if source.geometry is None:
        return k, np.zeros(3)
    position = np.array([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient])
    theirs = [float(v) for v in _of_plane(source, k, "PlanePositionSequence", "ImagePositionPatient")]
    expect(
        near(position, theirs, _TOLERANCE_MM),
        f"{what}: frame {index + 1} lies at {position.tolist()}, its source image at {theirs} (LPS mm)",
    )
    return k, position


def _check_whole(findings: Findings, segments: dict[int, Segment], voxels: Counter[int]) -> None:
    """No voxel is missing: each frame was compared, so sums can only differ by a frame left out."""
    for number, segment in segments.items():
        expect(voxels[number] > 0, f"{_WHAT}: {segment.label!r} has no voxel")
    if voxels.total() == np.count_nonzero(findings.layers):
        return
    numbers = {segment.number: number for number, segment in segments.items()}
    for segment in findings.segments:
        meant, said = int(findings.mask(segment.number).sum()), voxels[numbers.get(segment.number, 0)]
        expect(said == meant, f"{_WHAT}: {segment.label!r} has {said} voxels, the model found {meant}")
    raise CheckFailed(f"{_WHAT}: the label map has voxels that belong to no segment")


def check_references(
    dataset: Dataset, source: Source, slice_of: dict[tuple[str, int | None], int], what: str = _WHAT
) -> None:
    """Referenced Series Sequence lists the one source series and exactly the instances that were used.

    Raises `CheckFailed`.
    """
    series = dataset.ReferencedSeriesSequence
    listed = [str(item.SeriesInstanceUID) for item in series]
    theirs = str(source.first.SeriesInstanceUID)
    expect(listed == [theirs], f"{what}: refers to the series {listed}, the source is {theirs}")
    instances = {str(item.ReferencedSOPInstanceUID) for item in series[0].ReferencedInstanceSequence}
    expect(
        instances == {uid for uid, _ in slice_of},
        f"{what}: the instances that it lists are not those of the volume",
    )


def _check_sides(found: dict[int, Found]) -> None:
    """What is called right lies to the patient's right of its left counterpart: x grows to the left."""
    for right in found.values():
        for left in found.values():
            if right.segment.kind != left.segment.kind or right.centroid_mm is None:
                continue
            sides = (as_code(right.segment.laterality), as_code(left.segment.laterality))
            if sides == (as_code(codes.RIGHT), as_code(codes.LEFT)) and left.centroid_mm is not None:
                expect(
                    right.centroid_mm[0] < left.centroid_mm[0],
                    f"{_WHAT}: {right.segment.label!r} (x = {right.centroid_mm[0]:.1f} mm) lies "
                    f"to the patient's left of {left.segment.label!r} (x = {left.centroid_mm[0]:.1f} mm)",
                )


def planes_of(source: Source) -> list[tuple[str, int | None]]:
    """(SOP Instance UID, frame) of each slice of the volume."""
    if source.frames is not None:
        return [(str(source.first.SOPInstanceUID), frame) for frame in source.frames]
    return [(str(image.SOPInstanceUID), None) for image in source.datasets]


def _of_plane(source: Source, k: int, group: str, keyword: str) -> list[float]:
    """`keyword` of slice `k` as the source's headers have it."""
    if source.frames is None:
        return list(source.datasets[k][keyword].value)
    frame = source.first.PerFrameFunctionalGroupsSequence[source.frames[k] - 1]
    holder = frame if group in frame else source.first.SharedFunctionalGroupsSequence[0]
    return list(holder[group].value[0][keyword].value)


def source_of(group: Dataset, index: int, what: str = _WHAT) -> tuple[str, int | None]:
    """The one image that frame `index` (0-based) was derived from. Raises `CheckFailed`."""
    images = [image for item in group.DerivationImageSequence for image in item.SourceImageSequence]
    expect(len(images) == 1, f"{what}: frame {index + 1} was derived from {len(images)} images")
    preserved = images[0].get("SpatialLocationsPreserved")
    expect(preserved == "YES", f"{what}: frame {index + 1} does not preserve spatial locations")
    frame = images[0].get("ReferencedFrameNumber")
    return str(images[0].ReferencedSOPInstanceUID), None if frame is None else int(frame)


def _unpack(bits: NDArray[np.uint8], index: int, rows: int, columns: int) -> NDArray[np.bool_]:
    """Frame `index` (0-based): it may begin and end within a byte (PS3.5 §8.1.1)."""
    first = index * rows * columns
    last = first + rows * columns
    loose = np.unpackbits(bits[first // 8 : -(-last // 8)], bitorder="little")
    return loose[first % 8 : first % 8 + rows * columns].reshape(rows, columns).view(np.bool_)


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

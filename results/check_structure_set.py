"""
Do the contours on disk hold the model's voxels, where the images are?

Each contour is filled again, by another way than it was drawn: the points of the file are brought back to the
pixels of the image that it names, by that image's own headers, and a pixel belongs to it if its centre does.
The contours of a slice, added up, are the mask; none of its pixels belongs to two.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ledger.result import Role
from results import codes, observer
from results.asked import Asked
from results.check_places import planes_of
from results.expect import (
    CheckFailed,
    as_code,
    code_of,
    expect,
    expect_equipment,
    expect_identity,
    expect_provenance,
    expect_uids,
)
from results.findings import Findings, Segment
from results.provenance import Run
from results.source import Source
from results.words import long_string

_WHAT = "structure set"
_CONTOUR_DATA = 0x30060050
#: Of a pixel, or of a slice's distance to the next: so far may a point be off its place.
_TOLERANCE = 0.02


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless the structure set, as read back, outlines the segments of the model."""
    labels = asked.findings.label_map
    described = asked.source.geometry is not None and bool(asked.findings.segments)
    drawn = described and labels is not None and bool(labels.any())
    expect(len(read) == drawn, f"{len(read)} structure sets of {'a' if drawn else 'no'} volume with segments")
    for dataset in read:
        _check(dataset, asked)


def _check(dataset: Dataset, asked: Asked) -> None:
    findings, source, run = asked.findings, asked.source, asked.run
    expect_identity(_WHAT, dataset, source)
    expect_uids(_WHAT, dataset, asked, Role.STRUCTURE_SET)
    expect_provenance(_WHAT, dataset, run)
    expect_equipment(_WHAT, dataset)
    expect(dataset.Modality == "RTSTRUCT", f"{_WHAT}: Modality is {dataset.Modality}")
    status = dataset.ApprovalStatus
    expect(status == "UNAPPROVED", f"{_WHAT}: its approval status is {status}, and nobody has looked at it")
    _check_references(dataset, source)
    voxels = _voxels(findings)
    regions = _check_regions(dataset, findings, run, {number for number, on in voxels.items() if on.any()})
    contours = {int(item.ReferencedROINumber): item for item in dataset.ROIContourSequence}
    expect(
        contours.keys() == regions.keys() and len(contours) == len(dataset.ROIContourSequence),
        f"{_WHAT}: there are contours of {sorted(contours)}, and regions {sorted(regions)}",
    )
    slices = _slices(source)
    for number, segment in regions.items():
        colour = tuple(int(one) for one in contours[number].ROIDisplayColor)
        expect(
            colour == segment.colour_rgb,
            f"{_WHAT}: {segment.label!r} is shown in {colour}, meant was {segment.colour_rgb}",
        )
        _check_contours(contours[number].ContourSequence, segment, findings, slices, voxels[segment.number])


def _check_references(dataset: Dataset, source: Source) -> None:
    theirs = str(source.first.FrameOfReferenceUID)
    frames = dataset.ReferencedFrameOfReferenceSequence
    said = {str(dataset.FrameOfReferenceUID), *(str(one.FrameOfReferenceUID) for one in frames)}
    said |= {str(one.ReferencedFrameOfReferenceUID) for one in dataset.StructureSetROISequence}
    expect(said == {theirs}, f"{_WHAT}: Frame of Reference UID is {sorted(said)}, of the source {theirs}")
    expect(
        "PositionReferenceIndicator" in dataset,
        f"{_WHAT}: does not say what its frame of reference begins at, not even that it is unknown",
    )
    named = [
        (
            str(study.ReferencedSOPInstanceUID),
            str(series.SeriesInstanceUID),
            str(image.ReferencedSOPInstanceUID),
        )
        for frame in frames
        for study in frame.RTReferencedStudySequence
        for series in study.RTReferencedSeriesSequence
        for image in series.ContourImageSequence
    ]
    meant = {
        (str(one.StudyInstanceUID), str(one.SeriesInstanceUID), str(one.SOPInstanceUID))
        for one in source.datasets
    }
    expect(
        set(named) == meant and len(named) == len(meant),
        f"{_WHAT}: the instances that it lists are not those of the volume",
    )


def _voxels(findings: Findings) -> dict[int, NDArray[np.int64]]:
    """How many voxels each segment has on each slice."""
    size = len(findings.segments) + 1
    counts = np.array(
        [
            [np.bincount(plane.reshape(-1), minlength=size)[:size] for plane in layer]
            for layer in findings.layers
        ]
    )
    return {one.number: counts[one.layer, :, one.number] for one in findings.segments}


def _check_regions(dataset: Dataset, findings: Findings, run: Run, drawn: set[int]) -> dict[int, Segment]:
    """Which segment each region is, by ROI Number: all that have voxels, each once."""
    by_label = {long_string(one.label): one for one in findings.segments}
    regions: dict[int, Segment] = {}
    made_by = f"{observer.algorithm_name(run.provenance)} {observer.algorithm_version(run.provenance)}"
    for item in dataset.StructureSetROISequence:
        name = str(item.ROIName)
        if name not in by_label:
            raise CheckFailed(f"{_WHAT}: region {name!r} is none of the model's")
        regions[int(item.ROINumber)] = by_label[name]
        expect(item.ROIGenerationAlgorithm == "AUTOMATIC", f"{_WHAT}: {name!r} is not said to be automatic")
        said = str(item.ROIGenerationDescription)
        expect(
            long_string(f"AI, not verified: {made_by}") == said,
            f"{_WHAT}: {name!r} is said to be made by {said!r}, the run is {made_by}",
        )
        algorithm = item.ROIDerivationAlgorithmIdentificationSequence[0]
        named = f"{algorithm.AlgorithmName} {algorithm.AlgorithmVersion}"
        expect(named == made_by, f"{_WHAT}: {name!r} is derived by {named!r}, the run is {made_by}")
    present = {long_string(one.label) for one in findings.segments if one.number in drawn}
    labels = [long_string(one.label) for one in regions.values()]
    expect(
        len(regions) == len(dataset.StructureSetROISequence) == len(set(labels)) and set(labels) == present,
        f"{_WHAT}: has the regions {labels}, the model drew {sorted(present)}",
    )
    seen = []
    for item in dataset.RTROIObservationsSequence:
        number = int(item.ReferencedROINumber)
        expect(number in regions, f"{_WHAT}: observes region {number}, which is not described")
        segment = regions[number]
        kind = item.RTROIIdentificationCodeSequence[0]
        ours = (
            code_of(item, "RTROIIdentificationCodeSequence"),
            code_of(kind, "SegmentedPropertyTypeModifierCodeSequence"),
        )
        meant = as_code(segment.kind), as_code(segment.laterality)
        expect(ours == meant, f"{_WHAT}: {segment.label!r} is {ours}, the model said {meant}")
        kind_of = str(item.get("RTROIInterpretedType") or "")
        organ = as_code(segment.category) == as_code(codes.ANATOMICAL_STRUCTURE)
        expect(kind_of == ("ORGAN" if organ else ""), f"{_WHAT}: {segment.label!r} is called {kind_of!r}")
        seen.append(number)
    expect(sorted(seen) == sorted(regions), f"{_WHAT}: observes {seen}, and has regions {sorted(regions)}")
    return regions


def _slices(source: Source) -> dict[tuple[str, int | None], "_Slice"]:
    return {name: _Slice(source, k) for k, name in enumerate(planes_of(source))}


class _Slice:
    """One image of the source, and how its pixels lie in the patient."""

    def __init__(self, source: Source, k: int) -> None:
        self.number = k

        def of_plane(group: str, keyword: str) -> NDArray[np.float64]:
            if source.frames is None:
                return np.array([float(one) for one in source.datasets[k][keyword].value])
            own = source.first.PerFrameFunctionalGroupsSequence[source.frames[k] - 1]
            holder = own if group in own else source.first.SharedFunctionalGroupsSequence[0]
            return np.array([float(one) for one in holder[group].value[0][keyword].value])

        self._corner = of_plane("PlanePositionSequence", "ImagePositionPatient")
        spacing = of_plane("PixelMeasuresSequence", "PixelSpacing")
        cosines = of_plane("PlaneOrientationSequence", "ImageOrientationPatient").reshape(2, 3)
        normal = np.cross(cosines[0], cosines[1])
        geometry = source.geometry
        depth = 1.0 if geometry is None else float(geometry.spacing[0])
        axes = np.stack([cosines[0] * spacing[1], cosines[1] * spacing[0], normal * depth], axis=1)
        self._to_pixels = np.linalg.inv(axes)

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(x, y) of points in the patient, (n, 3) in LPS mm. Raises `CheckFailed` where they lie beside
        it.
        """
        found = (points - self._corner) @ self._to_pixels.T
        off = float(np.abs(found[:, 2]).max())
        expect(
            off < _TOLERANCE,
            lambda: f"{_WHAT}: a contour lies {off:.2f} slices beside the image that it names",
        )
        return found[:, :2]


def _check_contours(
    contours: Sequence[Dataset],
    segment: Segment,
    findings: Findings,
    slices: Mapping[tuple[str, int | None], _Slice],
    voxels: NDArray[np.int64],
) -> None:
    filled: dict[int, list[NDArray[np.float64]]] = {}
    for contour in contours:
        kind = contour.ContourGeometricType
        expect(kind == "CLOSED_PLANAR", f"{_WHAT}: a contour of {segment.label!r} is {kind}")
        (image,) = contour.ContourImageSequence
        frame = image.get("ReferencedFrameNumber")
        name = str(image.ReferencedSOPInstanceUID), None if frame is None else int(frame)
        if name not in slices:
            raise CheckFailed(f"{_WHAT}: a contour refers to {name[0]}, which is no source image")
        points = points_of(contour)
        expect(
            len(points) == int(contour.NumberOfContourPoints) >= 3,
            f"{_WHAT}: a contour of {contour.NumberOfContourPoints} points has {len(points)}",
        )
        filled.setdefault(slices[name].number, []).append(slices[name].pixels(points))
    drawn = set(np.flatnonzero(voxels).tolist())
    expect(
        drawn == filled.keys(),
        f"{_WHAT}: {segment.label!r} has contours on {len(filled)} slices, the model drew it on {len(drawn)}",
    )
    layer = findings.layers[segment.layer]
    for k, rings in filled.items():
        expect(
            _filled_again(rings, layer[k] == segment.number, int(voxels[k])),
            f"{_WHAT}: the contours of {segment.label!r} do not hold its voxels on slice {k}",
        )


def _filled_again(rings: Sequence[NDArray[np.float64]], mask: NDArray[np.bool_], voxels: int) -> bool:
    """Whether `rings`, each filled for itself and added up, are `mask`, which has so many pixels."""
    points = np.concatenate(rings)
    # Beyond the box around all of them nothing is filled, so it is enough to count what is there.
    left, top = np.maximum(np.ceil(points.min(axis=0)).astype(int), 0)
    right, bottom = np.floor(points.max(axis=0)).astype(int) + 1
    held = mask[top:bottom, left:right]
    again = np.zeros(held.shape, np.uint16)
    for ring in rings:
        again += fill(ring - (left, top), held.shape)
    return np.array_equal(again, held) and int(np.count_nonzero(held)) == voxels


def points_of(contour: Dataset) -> NDArray[np.float64]:
    """Contour Data as (n, 3), LPS mm; straight from the text, of which there is a great deal."""
    element = contour.get_item(_CONTOUR_DATA)
    raw = element.value if element is not None else None
    values = raw.split(b"\\") if isinstance(raw, bytes) else contour.ContourData
    return np.array(values, dtype=np.float64).reshape(-1, 3)


def fill(ring: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels, (row, column), whose centres lie within `ring`: those from which an odd number of its edges
    is crossed on the way to the left.
    """
    a, b = ring, np.roll(ring, -1, axis=0)
    first, last = np.minimum(a[:, 1], b[:, 1]), np.maximum(a[:, 1], b[:, 1])
    # Rows whose centres an edge passes: from the first at or below its upper end to the last above its lower.
    start = np.clip(np.ceil(first), 0, shape[0]).astype(np.int64)
    count = np.maximum(np.clip(np.ceil(last), 0, shape[0]).astype(np.int64) - start, 0)
    edge = np.repeat(np.arange(len(ring)), count)
    begins = np.cumsum(count) - count
    row = start[edge] + np.arange(len(edge)) - begins[edge]
    x = a[edge, 0] + (row - a[edge, 1]) / (b - a)[edge, 1] * (b - a)[edge, 0]
    width = shape[1] + 1  # one more for what is crossed behind the last pixel
    place = row * width + np.clip(np.ceil(x), 0, shape[1]).astype(np.int64)
    crossed = np.bincount(place, minlength=shape[0] * width).reshape(shape[0], width) % 2
    return np.bitwise_xor.accumulate(crossed[:, :-1].astype(np.bool_), axis=1)

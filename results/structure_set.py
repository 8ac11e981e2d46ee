"""
Findings → RT Structure Set (PS3.3 §A.19): the outline of every segment on every slice of the source.

For those who know no segmentation: radiotherapy, and archives whose viewers draw contours alone. A contour
has its points in the patient, so there is one of a volume only. Segments alone are drawn; an outline of a box
would look like one of what is in it.

Holes are keyholes (`results.keyholes`): of the two ways that DICOM has (PS3.3 §C.8.8.6.3), CLOSEDPLANAR_XOR
is younger than most of what reads structure sets, and contours within contours are added by some of them and
subtracted by others.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from ledger.identifiers import Uid
from ledger.result import Role
from results import codes
from results.asked import Asked
from results.contours import Ring, outlines
from results.findings import Findings, Segment
from results.grid import Grid, NotEncodable, Place, Plane, grid_of
from results.headers import result_headers
from results.keyholes import polygons
from results.observer import algorithm_identification, algorithm_name, algorithm_version
from results.occupied import Drawn, box_of, drawn_segments
from results.provenance import Run
from results.source import Source
from results.words import DISCLAIMER, long_string, plain, series_description

RT_STRUCTURE_SET_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.481.3")
#: Detached Study Management: retired, and still what RT Referenced Study is said to be (PS3.3 §C.8.8.5).
_STUDY = "1.2.840.10008.3.1.2.3.1"

_CONTOUR_DATA = Tag(0x30060050)
#: In explicit transfer syntaxes the length of a DS value has sixteen bits, and is even (PS3.5 §7.1.2).
_LONGEST = 0xFFFE


def build(asked: Asked) -> list[Dataset]:
    """The structure set, without file meta information; none where no segment has a voxel, and of images that
    are no volume.

    Raises `NotEncodable` where the findings do not fit the source.
    """
    findings, source, run = asked.findings, asked.source, asked.run
    if findings.label_map is None or source.geometry is None:
        return []
    grid = grid_of(source)
    if findings.layers.shape[1:] != grid.shape:
        raise NotEncodable(f"the label map is {findings.label_map.shape}, the source {grid.shape}")
    drawn = drawn_segments(findings)
    place, frame_of_reference = grid.place, source.first.get("FrameOfReferenceUID")
    if not drawn or place is None:
        return []
    if not frame_of_reference:
        raise NotEncodable(
            "the source has no Frame of Reference UID (0020,0052), so no contour has a place in it"
        )

    dataset = result_headers(
        asked,
        Role.STRUCTURE_SET,
        sop_class=RT_STRUCTURE_SET_STORAGE,
        series_description=series_description(asked, "contours"),
    )
    del dataset.ContentDate, dataset.ContentTime  # the structure set has a date of its own
    dataset.OperatorsName = None  # Type 2: no person made it
    dataset.FrameOfReferenceUID = str(frame_of_reference)
    dataset.PositionReferenceIndicator = source.first.get("PositionReferenceIndicator")  # Type 2
    dataset.StructureSetLabel = "AI, not verified"
    dataset.StructureSetName = long_string(f"{algorithm_name(run.provenance)} contours")
    dataset.StructureSetDescription = DISCLAIMER
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.SeriesDate, dataset.SeriesTime
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(dataset, source, grid)]
    dataset.StructureSetROISequence = [_region(one, dataset, run) for one in drawn]
    dataset.RTROIObservationsSequence = [_observation(one) for one in drawn]
    dataset.ApprovalStatus = "UNAPPROVED"
    codes.identify_schemes(dataset, run.provenance.schemes)
    # Last, for whoever looks at a contour parses its text.
    images = [_image(plane) for plane in grid.planes]
    lattice = _Lattice.of(place)
    dataset.ROIContourSequence = [_contours(one, findings, grid, lattice, images) for one in drawn]
    return [dataset]


def _frame_of_reference(dataset: Dataset, source: Source, grid: Grid) -> Dataset:
    """The frame of reference that the contours lie in, and the images that they were drawn on."""
    series = Dataset()
    series.SeriesInstanceUID = str(source.first.SeriesInstanceUID)
    series.ContourImageSequence = [
        _reference(*one) for one in dict.fromkeys((p.sop_class, p.sop_instance) for p in grid.planes)
    ]
    study = _reference(_STUDY, str(dataset.StudyInstanceUID))
    study.RTReferencedSeriesSequence = [series]
    item = Dataset()
    item.FrameOfReferenceUID = dataset.FrameOfReferenceUID
    item.RTReferencedStudySequence = [study]
    return item


def _reference(sop_class: str, sop_instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
    return item


def _image(plane: Plane) -> Dataset:
    item = _reference(plane.sop_class, plane.sop_instance)
    if plane.frame is not None:
        item.ReferencedFrameNumber = plane.frame
    return item


def _region(one: Drawn, dataset: Dataset, run: Run) -> Dataset:
    item = Dataset()
    item.ROINumber = one.number  # the Segment Number of the same thing in the segmentation
    item.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
    item.ROIName = long_string(one.segment.label)
    item.ROIDescription = DISCLAIMER
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    made_by = f"AI, not verified: {algorithm_name(run.provenance)} {algorithm_version(run.provenance)}"
    item.ROIGenerationDescription = long_string(made_by)
    item.ROIDerivationAlgorithmIdentificationSequence = algorithm_identification(run.provenance)
    return item


def _observation(one: Drawn) -> Dataset:
    segment = one.segment
    item = Dataset()
    item.ObservationNumber = one.number
    item.ReferencedROINumber = one.number
    item.ROIObservationLabel = plain(segment.label.replace("\\", "/"), 16)
    # An organ is an organ. Whether a lesion is a target is not for a model to say.
    item.RTROIInterpretedType = "ORGAN" if _is_organ(segment) else None
    item.ROIInterpreter = None  # Type 2: nobody has looked yet
    kind = codes.coded(segment.kind)
    if segment.laterality is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [codes.coded(segment.laterality)]
    item.RTROIIdentificationCodeSequence = [kind]
    return item


def _is_organ(segment: Segment) -> bool:
    return segment.category.value == codes.ANATOMICAL_STRUCTURE.value


@dataclass(frozen=True, slots=True)
class _Lattice:
    """From pixels to the patient, LPS mm, in the source's own digits."""

    along: NDArray[np.float64]  #: one pixel along a row, then one down a column: (2, 3)
    digits: int  #: behind the point: a thousandth of a pixel, at least of a millimetre

    @classmethod
    def of(cls, place: Place) -> "_Lattice":
        row, column = np.asarray(place.orientation, dtype=np.float64).reshape(2, 3)
        between_rows, between_columns = (float(v) for v in place.pixel_spacing)
        smallest = min(between_rows, between_columns)
        return cls(
            np.stack([row * between_columns, column * between_rows]),
            max(3, 3 - int(np.floor(np.log10(smallest)))),
        )

    def text(self, ring: Ring, plane: Plane) -> bytes:
        """Contour Data: x, y and z of each point."""
        corner = np.asarray(plane.position, dtype=np.float64)
        # Adding zero makes of -0 a 0.
        values = np.round(ring @ self.along + corner, self.digits) + 0.0
        one = f"%.{self.digits}f"
        text = "\\".join([one] * values.size) % tuple(values.reshape(-1).tolist())
        return (text + " " * (len(text) % 2)).encode()


def _contours(
    one: Drawn, findings: Findings, grid: Grid, lattice: _Lattice, images: list[Dataset]
) -> Dataset:
    box = box_of(findings, one)
    slices, rows, columns = box
    mask = findings.layers[one.segment.layer][box] == one.segment.number
    offset = np.array([columns.start, rows.start], dtype=np.float64)
    item = Dataset()
    item.ROIDisplayColor = list(one.segment.colour_rgb)
    item.ReferencedROINumber = one.number
    contours: list[Dataset] = []
    for outline in outlines(mask):
        plane = slices.start + outline.plane
        written = [(ring, lattice.text(ring + offset, grid.planes[plane])) for ring in polygons(outline)]
        if any(len(text) > _LONGEST for _, text in written):
            pieces = _pieces(mask[outline.plane], offset, grid.planes[plane], lattice)
            written = list(pieces)
        contours += [_contour(len(ring), text, images[plane]) for ring, text in written]
    item.ContourSequence = Sequence(contours)
    return item


def _pieces(
    mask: NDArray[np.bool_], offset: NDArray[np.float64], plane: Plane, lattice: _Lattice
) -> Iterator[tuple[Ring, bytes]]:
    """What is too long for one contour, cut between two rows until each is short enough."""
    middle = len(mask) // 2
    for first, part in ((0, mask[:middle]), (middle, mask[middle:])):
        below = offset + np.array([0.0, first])
        for outline in outlines(part[np.newaxis]):
            written = [(ring, lattice.text(ring + below, plane)) for ring in polygons(outline)]
            if len(part) > 1 and any(len(text) > _LONGEST for _, text in written):
                yield from _pieces(part, below, plane, lattice)
            else:
                yield from written


def _contour(points: int, text: bytes, image: Dataset) -> Dataset:
    item = Dataset()
    # Explicit, little endian, in no character set of its own: then the bytes are written as they are.
    item.set_original_encoding(False, True, default_encoding)
    item.ContourImageSequence = [image]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = points
    # As bytes: a large organ has a million points, and pydicom would make an object of each number of them.
    item[_CONTOUR_DATA] = RawDataElement(
        _CONTOUR_DATA, "DS", len(text), text, 0, is_implicit_VR=False, is_little_endian=True
    )
    return item

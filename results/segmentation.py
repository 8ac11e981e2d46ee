"""
Findings → DICOM Segmentation (PS3.3 §A.51), BINARY, on exactly the grid of the source.

BINARY because every viewer that shows segmentations shows it, and because it alone holds segments that
overlap; on the source's own grid because some show no other. On an image without a Frame of Reference (a
radiograph, a mammogram, ultrasound) each pixel is that of the image, and the image's name is its only place.
"""

import highdicom as hd
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from ledger.identifiers import Uid
from ledger.result import Role
from results import codes
from results.findings import Findings, Segment
from results.frames import Drawn, drawn_segments, functional_groups, layers_of_others, pack
from results.grid import Grid, NotEncodable, grid_of
from results.headers import result_headers
from results.observer import algorithm_identification
from results.provenance import Run
from results.source import Source
from results.uids import derived_uid, tracking_uid
from results.words import DISCLAIMER, long_string, series_description

SEGMENTATION_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.66.4")

#: Far above what scanners count to, so that results stand at the end of a study's list, and always the same.
SERIES_NUMBER = 9101


def build_segmentation(findings: Findings, source: Source, run: Run) -> Dataset | None:
    """The segmentation, without file meta information; None where no segment has a voxel.

    Raises `NotEncodable` where the findings do not fit the source.
    """
    if findings.label_map is None:
        return None
    grid = grid_of(source)
    if findings.layers.shape[1:] != grid.shape:
        raise NotEncodable(f"the label map is {findings.label_map.shape}, the source {grid.shape}")
    _check_segments(findings)
    drawn = drawn_segments(findings)
    if not drawn:
        return None

    dataset = result_headers(
        source,
        run,
        role=Role.SEGMENTATION,
        sop_class=SEGMENTATION_STORAGE,
        modality="SEG",
        series_number=SERIES_NUMBER,
        series_description=series_description(run, findings, "segmentation"),
    )
    frame_of_reference(dataset, source, grid)
    _image(dataset, grid)
    dataset.SegmentsOverlap = "YES" if overlapping(findings) else "NO"
    dataset.SegmentSequence = [_segment(item, run) for item in drawn]
    reference_source(dataset, source, grid)
    _dimensions(dataset, run, grid)
    dataset.SharedFunctionalGroupsSequence = [shared_groups(grid)]
    pixels, frames = pack(findings.layers, drawn)
    dataset.NumberOfFrames = len(frames)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(functional_groups(grid, frames))
    dataset.add_new(0x7FE00010, "OB", pixels)  # PS3.5 §8.1.2: OB or OW where at most eight bits are allocated
    codes.identify_schemes(dataset, run.provenance.schemes)
    return dataset


def tracking_identifier(run: Run, segment: Segment) -> str:
    """What its Tracking UID says, for people: model and label."""
    return long_string(f"{run.provenance.name} {segment.label}")


def _check_segments(findings: Findings) -> None:
    largest = int(findings.layers.max(initial=0))
    if largest > len(findings.segments):
        raise NotEncodable(
            f"the label map has a voxel of {largest}, but there are {len(findings.segments)} segments"
        )
    for layer, number in layers_of_others(findings):
        raise NotEncodable(f"layer {layer} of the label map has voxels of segment {number}, of another layer")
    labels = [long_string(segment.label) for segment in findings.segments]
    if len(set(labels)) < len(labels) or not all(labels):
        raise NotEncodable("two segments have the same label, or one has none")


def overlapping(findings: Findings) -> bool:
    """Whether any voxel has two segments."""
    if len(findings.layers) < 2:
        return False
    taken = findings.layers[0] != 0
    for layer in findings.layers[1:]:
        more = layer != 0
        if bool((taken & more).any()):
            return True
        taken |= more
    return False


def frame_of_reference(dataset: Dataset, source: Source, grid: Grid) -> None:
    """The source's own; none on an image without a place. Raises `NotEncodable` where a volume has none."""
    if grid.place is None:
        # Without one, each pixel corresponds to one of the referenced image (PS3.3 §A.51.5.1), whose rows and
        # columns run as the image says (0020,0020, Type 2C), if it says so.
        dataset.PatientOrientation = source.first.get("PatientOrientation")
        return
    uid = source.first.get("FrameOfReferenceUID")
    if not uid:
        raise NotEncodable(
            "the source has no Frame of Reference UID (0020,0052), so nothing can be drawn on it"
        )
    dataset.FrameOfReferenceUID = str(uid)
    dataset.PositionReferenceIndicator = source.first.get("PositionReferenceIndicator")  # Type 2


def _image(dataset: Dataset, grid: Grid) -> None:
    """Segmentation Image and Multi-frame (PS3.3 §C.8.20.2, §C.7.6.6)."""
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = grid.rows, grid.columns
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"  # `reference_source` says otherwise where the source lost something
    dataset.BurnedInAnnotation = "NO"
    dataset.SegmentationType = "BINARY"
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = DISCLAIMER
    dataset.ContentCreatorName = None  # Type 2: no person made it


def _segment(item: Drawn, run: Run) -> hd.seg.SegmentDescription:
    segment = item.segment
    description = hd.seg.SegmentDescription(
        segment_number=item.number,
        segment_label=long_string(segment.label),
        segmented_property_category=codes.coded(segment.category),
        segmented_property_type=codes.coded(segment.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm_identification(run.provenance),
        tracking_uid=str(tracking_uid(run, segment.label)),
        tracking_id=tracking_identifier(run, segment),
        display_color=hd.color.CIELabColor.from_rgb(*segment.colour_rgb),
    )
    if segment.laterality is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [codes.coded(segment.laterality)]
    return description


def reference_source(dataset: Dataset, source: Source, grid: Grid) -> None:
    """The one source series, with exactly the instances used (Common Instance Reference, PS3.3 §C.12.2)."""
    instances: list[Dataset] = []
    for sop_class, sop_instance in dict.fromkeys((p.sop_class, p.sop_instance) for p in grid.planes):
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = sop_instance
        instances.append(item)
    series = Dataset()
    series.SeriesInstanceUID = str(source.first.SeriesInstanceUID)
    series.ReferencedInstanceSequence = instances
    dataset.ReferencedSeriesSequence = [series]
    # Once lossy, always lossy: what was derived from such images says so too (PS3.3 §C.7.6.1.1.5).
    if source.first.get("LossyImageCompression") == "01":
        dataset.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in source.first:
                dataset.add(source.first[keyword])


def _dimensions(dataset: Dataset, run: Run, grid: Grid) -> None:
    """Frames are found by segment, then by place where there is one (PS3.3 §C.7.6.17)."""
    organization = Dataset()
    organization.DimensionOrganizationUID = str(derived_uid(run, Role.SEGMENTATION, "dimension organization"))
    dataset.DimensionOrganizationSequence = [organization]
    pointers: list[Dataset] = []
    for keyword, attribute, group in (
        ("Segment Number", 0x0062000B, 0x0062000A),
        *([("Image Position (Patient)", 0x00200032, 0x00209113)] if grid.place is not None else []),
    ):
        pointer = Dataset()
        pointer.DimensionIndexPointer = Tag(attribute)
        pointer.FunctionalGroupPointer = Tag(group)
        pointer.DimensionOrganizationUID = organization.DimensionOrganizationUID
        pointer.DimensionDescriptionLabel = keyword
        pointers.append(pointer)
    dataset.DimensionIndexSequence = pointers


def shared_groups(grid: Grid) -> Dataset:
    """What all frames share: their spacing and orientation; nothing on an image without a place."""
    place = grid.place
    if place is None:
        return Dataset()
    measures = Dataset()
    measures.PixelSpacing = place.pixel_spacing
    spacing = f"{place.spacing_mm:.10g}"
    measures.SliceThickness = spacing if place.slice_thickness is None else place.slice_thickness
    # Frames without a voxel are left out: this is how a receiver knows how far apart the others were.
    measures.SpacingBetweenSlices = spacing
    orientation = Dataset()
    orientation.ImageOrientationPatient = place.orientation
    item = Dataset()
    item.PixelMeasuresSequence = [measures]
    item.PlaneOrientationSequence = [orientation]
    return item

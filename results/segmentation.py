"""
Findings → DICOM Segmentation (PS3.3 §A.51), on exactly the grid of the source.

BINARY unless a profile asks for another form, because every viewer that shows segmentations shows it, and
because one object holds segments that overlap; on the source's own grid because some show no other. A label
map is a SOP class of its own (Supplement 243), and archives have to have heard of it.

On an image without a Frame of Reference (a radiograph, a mammogram, ultrasound) each pixel is that of the
image, and the image's name is its only place.
"""

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from ledger.identifiers import Uid
from ledger.profile import Profile
from ledger.result import Role
from results import codes
from results.asked import Asked
from results.findings import Findings, Segment
from results.frames import add_functional_groups
from results.grid import Grid, NotEncodable, grid_of
from results.headers import result_headers
from results.observer import algorithm_identification, algorithm_name
from results.occupied import Drawn
from results.parts import WHOLE, Part, fractions, overlap, parts_of, probability_of
from results.pixels import bits, bits_of_a_label, frames_of, native, planes
from results.provenance import Run
from results.run_length import encapsulated
from results.source import Source
from results.uids import segment_tracking_uid
from results.words import DISCLAIMER, long_string, plain, series_description

SEGMENTATION_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.66.4")
LABEL_MAP_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.66.7")  # Supplement 243


def build(asked: Asked) -> list[Dataset]:
    """The segmentations in the profile's form, without file meta information; none where no segment has a
    voxel.

    Raises `NotEncodable` where the findings do not fit the source.
    """
    findings = asked.findings
    if findings.label_map is None:
        return []
    grid = grid_of(asked.source)
    if findings.layers.shape[1:] != grid.shape:
        raise NotEncodable(f"the label map is {findings.label_map.shape}, the source {grid.shape}")
    _check_labels(asked)
    for one in findings.maps:
        if one.of and one.values.shape != grid.shape:
            raise NotEncodable(f"the map {one.label!r} is {one.values.shape}, the source {grid.shape}")
    return [_build(asked, part, grid) for part in parts_of(findings, asked.profile)]


def _build(asked: Asked, part: Part, grid: Grid) -> Dataset:
    findings, source, run = asked.findings, asked.source, asked.run
    compressed = part.kind != "binary" and asked.profile.transfer_syntax == "rle"
    what = "segmentation" if part.of == 1 else f"seg part {part.position} of {part.of}"
    variant = part.variant(compressed=compressed)
    dataset = result_headers(
        asked,
        Role.SEGMENTATION,
        sop_class=LABEL_MAP_STORAGE if part.kind == "labelmap" else SEGMENTATION_STORAGE,
        series_description=series_description(asked, what),
        index=part.position - 1,
        variant=variant,
    )
    frame_of_reference(dataset, source, grid)
    _image(dataset, grid, part)
    _say_too_many(dataset, part)
    dataset.SegmentsOverlap = "YES" if _overlapping(findings, part) else "NO"
    background = [_background(run)] if part.kind == "labelmap" else []
    dataset.SegmentSequence = [*background, *(_segment(item, asked) for item in part.drawn)]
    reference_source(dataset, source, grid)
    _dimensions(dataset, asked, grid, part, variant)
    dataset.SharedFunctionalGroupsSequence = [shared_groups(grid)]
    codes.identify_schemes(dataset, run.provenance.schemes)
    _pixel_data(dataset, findings, part, compressed=compressed)
    add_functional_groups(dataset, grid, frames_of(part))
    return dataset


def _pixel_data(dataset: Dataset, findings: Findings, part: Part, *, compressed: bool) -> None:
    # PS3.5 §8.1.2 and §A.4: OW where more than eight bits are allocated, OB where it is encapsulated
    vr = "OW" if dataset.BitsAllocated == 16 and not compressed else "OB"
    if part.kind == "binary":
        pixels = bits(findings, part)
    else:
        pixels = encapsulated(planes(findings, part)) if compressed else native(planes(findings, part))
    dataset.add_new(0x7FE00010, vr, pixels)
    dataset["PixelData"].is_undefined_length = compressed


def tracking_identifier(run: Run, segment: Segment) -> str:
    """What its Tracking UID says, for people: model and label."""
    return long_string(f"{run.provenance.name} {segment.label}")


def _check_labels(asked: Asked) -> None:
    labels = [segment_label(asked.profile, segment) for segment in asked.findings.segments]
    if asked.profile.segmentation == "labelmap":
        labels.append(codes.BACKGROUND.meaning)
    if len(set(labels)) < len(labels) or not all(labels):
        raise NotEncodable("two segments have the same label, or one has none")


def _overlapping(findings: Findings, part: Part) -> bool:
    """Whether any voxel has two segments of the object; of fractions: has any of both."""
    if part.kind != "fractional":
        return overlap(findings, part.drawn)
    taken = np.zeros(findings.layers.shape[1:], np.bool_)
    for item in part.drawn:
        one = probability_of(findings, item.segment)
        some = taken if one is None else fractions(one) > 0
        if bool((taken & some).any()):
            return True
        taken |= some
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


def _image(dataset: Dataset, grid: Grid, part: Part) -> None:
    """Segmentation Image and Multi-frame (PS3.3 §C.8.20.2, §C.7.6.6)."""
    allocated = {"binary": 1, "labelmap": bits_of_a_label(part), "fractional": 8}[part.kind]
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = grid.rows, grid.columns
    dataset.BitsAllocated = dataset.BitsStored = allocated
    dataset.HighBit = allocated - 1
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"  # `reference_source` says otherwise where the source lost something
    dataset.BurnedInAnnotation = "NO"
    dataset.SegmentationType = part.kind.upper()
    if part.kind == "labelmap":
        dataset.add_new(0x00280120, "US", 0)  # Pixel Padding Value: which number is background
    if part.kind == "fractional":
        dataset.SegmentationFractionalType = "PROBABILITY"
        dataset.MaximumFractionalValue = WHOLE
    dataset.ContentLabel = "SEGMENTATION" if part.of == 1 else f"PART {part.position} OF {part.of}"
    dataset.ContentDescription = DISCLAIMER
    dataset.ContentCreatorName = None  # Type 2: no person made it


def _say_too_many(dataset: Dataset, part: Part) -> None:
    """That it has more frames than were asked for stands where it is said how it came about."""
    if part.too_many is not None:
        said = f"One segment of {part.frames} frames, more than {part.too_many}, and whole"
        model = dataset.ContributingEquipmentSequence[-1]
        model.ContributionDescription = plain(f"{model.ContributionDescription}. {said}", 1024)


def _segment(item: Drawn, asked: Asked) -> hd.seg.SegmentDescription:
    segment, run = item.segment, asked.run
    description = hd.seg.SegmentDescription(
        segment_number=item.number,
        segment_label=segment_label(asked.profile, segment),
        segmented_property_category=codes.coded(segment.category),
        segmented_property_type=codes.coded(segment.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm_identification(run.provenance),
        tracking_uid=str(segment_tracking_uid(run, segment)),
        tracking_id=tracking_identifier(run, segment),
        display_color=hd.color.CIELabColor.from_rgb(*segment.colour_rgb),
    )
    if segment.laterality is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [codes.coded(segment.laterality)]
    return description


def segment_label(profile: Profile, segment: Segment) -> str:
    """Segment Label (0062,0005), as the profile words it."""
    return long_string(profile.segment_label.replace("{label}", segment.label))


def _background(run: Run) -> Dataset:
    """Value 0 of a label map: every value that is used is described (PS3.3 §C.8.20.2).

    It is black and has no Tracking UID: there is nothing to follow.
    """
    item = Dataset()
    item.SegmentNumber = 0
    item.SegmentLabel = codes.BACKGROUND.meaning
    item.SegmentedPropertyCategoryCodeSequence = [codes.coded(codes.BACKGROUND)]
    item.SegmentedPropertyTypeCodeSequence = [codes.coded(codes.BACKGROUND)]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = algorithm_name(run.provenance)
    item.SegmentationAlgorithmIdentificationSequence = algorithm_identification(run.provenance)
    item.RecommendedDisplayCIELabValue = list(hd.color.CIELabColor(0.0, 0.0, 0.0).value)
    return item


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


def _dimensions(dataset: Dataset, asked: Asked, grid: Grid, part: Part, variant: str) -> None:
    """Frames are found by segment, where they have one, then by place, where there is one (PS3.3
    §C.7.6.17).
    """
    organization = Dataset()
    organization.DimensionOrganizationUID = str(
        asked.uid(Role.SEGMENTATION, "dimension organization", variant)
    )
    dataset.DimensionOrganizationSequence = [organization]
    by_segment = [] if part.kind == "labelmap" else [("Segment Number", 0x0062000B, 0x0062000A)]
    by_place = [] if grid.place is None else [("Image Position (Patient)", 0x00200032, 0x00209113)]
    pointers: list[Dataset] = []
    for name, attribute, group in [*by_segment, *by_place] or [("Frame Label", 0x00209453, 0x00209111)]:
        pointer = Dataset()
        pointer.DimensionIndexPointer = Tag(attribute)
        pointer.FunctionalGroupPointer = Tag(group)
        pointer.DimensionOrganizationUID = organization.DimensionOrganizationUID
        pointer.DimensionDescriptionLabel = name
        pointers.append(pointer)
    dataset.DimensionIndexSequence = pointers


def shared_groups(grid: Grid) -> Dataset:
    """What all frames share: their spacing and orientation.

    On an image without a place they are those of its own pixels: its rows and columns, as far apart as it
    says, else one unit. Without position and frame of reference that is no place in the patient (PS3.3 Table
    A.51-2 allows it). OHIF 3.13 goes blank where either group is left out, and highdicom then wants
    spacing and thickness.
    """
    place = grid.place
    if place is None:
        measures, orientation, item = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing = grid.pixel_spacing or ["1", "1"]
        measures.SliceThickness = "1"
        orientation.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        item.PixelMeasuresSequence, item.PlaneOrientationSequence = [measures], [orientation]
        return item
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

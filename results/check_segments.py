"""
Is each segmentation on disk of the form that was asked for, and are its segments described as the model did?

Type, bits, transfer syntax and UIDs; numbers, labels, codes, colours and the algorithm.
"""

from collections.abc import Mapping

from highdicom.color import CIELabColor
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from ledger.result import Role
from results import codes, observer
from results.asked import Asked
from results.expect import CheckFailed, as_code, code_of, expect, expect_uids
from results.findings import HeatMap, Segment
from results.parts import part_variant
from results.profile import series_number
from results.segmentation import LABEL_MAP_STORAGE, SEGMENTATION_STORAGE, segment_label, tracking_identifier
from results.uids import segment_tracking_uid
from results.words import series_description

_WHAT = "segmentation"


def segments_of(dataset: Dataset, asked: Asked) -> dict[int, Segment]:
    """The model's segments by their numbers in the file, which run from 1 without a gap; a label map also
    describes 0. Raises `CheckFailed`.
    """
    numbers = [int(item.SegmentNumber) for item in dataset.SegmentSequence]
    first = 0 if dataset.SegmentationType == "LABELMAP" else 1
    expect(
        numbers == list(range(first, first + len(numbers))) and len(numbers) > 1 - first,
        f"{_WHAT}: segments are numbered {numbers}",
    )
    by_label = {segment_label(asked.profile, one): one for one in asked.findings.segments}
    segments: dict[int, Segment] = {}
    for number, item in zip(numbers, dataset.SegmentSequence, strict=True):
        segment = by_label.get(str(item.SegmentLabel))
        if number and segment is None:
            raise CheckFailed(f"{_WHAT}: segment {item.SegmentLabel!r} is none of the model's")
        if number and segment is not None:
            segments[number] = segment
    return segments


def check_uids(
    dataset: Dataset, asked: Asked, segments: Mapping[int, Segment], position: int, of: int
) -> None:
    """They derive from the run and from what the object holds. Raises `CheckFailed`."""
    limit, frames = asked.profile.frame_limit, int(dataset.NumberOfFrames)
    variant = part_variant(
        kind=str(dataset.SegmentationType).lower(),
        labels=[segment.label for segment in segments.values()],
        position=position,
        of=of,
        too_many=limit if limit is not None and frames > limit else None,
        compressed=dataset.file_meta.TransferSyntaxUID == RLELossless,
    )
    expect_uids(_WHAT, dataset, asked, Role.SEGMENTATION, variant)


def check_form(dataset: Dataset, asked: Asked, position: int, of: int) -> None:
    """The type, and what belongs to it, is what the profile asks for (PS3.3 §C.8.20.2). Raises
    `CheckFailed`.
    """
    expect(dataset.Modality == "SEG", f"{_WHAT}: Modality is {dataset.Modality}")
    profile = asked.profile
    kind = str(dataset.SegmentationType)
    kinds = {"binary": {"BINARY"}, "labelmap": {"LABELMAP"}, "fractional": {"FRACTIONAL", "BINARY"}}
    expect(kind in kinds[profile.segmentation], f"{_WHAT}: it is {kind}, wanted was {profile.segmentation}")
    storage = LABEL_MAP_STORAGE if kind == "LABELMAP" else SEGMENTATION_STORAGE
    expect(dataset.SOPClassUID == str(storage), f"{_WHAT}: SOP Class UID is {dataset.SOPClassUID}")
    compressed = profile.transfer_syntax == "rle" and kind != "BINARY"
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    expect(
        syntax == (RLELossless if compressed else ExplicitVRLittleEndian),
        f"{_WHAT}: the transfer syntax is {syntax}",
    )
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    expect(
        allocated in {"BINARY": (1,), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}[kind]
        and (stored, int(dataset.HighBit)) == (allocated, allocated - 1)
        and (dataset.SamplesPerPixel, dataset.PixelRepresentation) == (1, 0)
        and dataset.PhotometricInterpretation == "MONOCHROME2",
        f"{_WHAT}: pixels of {kind} are described as {stored} of {allocated} bits, "
        f"{dataset.PhotometricInterpretation}",
    )
    if kind == "LABELMAP":
        padding = dataset.get("PixelPaddingValue")
        expect(padding == 0, f"{_WHAT}: Pixel Padding Value is {padding}, background is 0")
    if kind == "FRACTIONAL":
        said = dataset.SegmentationFractionalType
        expect(said == "PROBABILITY", f"{_WHAT}: the fractions are said to be {said}")
    limit, frames = profile.frame_limit, int(dataset.NumberOfFrames)
    held = [item for item in dataset.SegmentSequence if int(item.SegmentNumber)]
    expect(
        limit is None or frames <= limit or len(held) == 1,
        f"{_WHAT}: {frames} frames of {len(held)} segments, wanted were at most {limit}",
    )
    what = "segmentation" if of == 1 else f"seg part {position} of {of}"
    for keyword, said, meant in (
        ("Series Description", str(dataset.SeriesDescription), series_description(asked, what)),
        (
            "Series Number",
            int(dataset.SeriesNumber),
            series_number(profile, Role.SEGMENTATION, position - 1),
        ),
        (
            "Content Label",
            dataset.ContentLabel,
            "SEGMENTATION" if of == 1 else f"PART {position} OF {of}",
        ),
    ):
        expect(said == meant, f"{_WHAT}: {keyword} is {said!r}, it should be {meant!r}")


def check_descriptions(dataset: Dataset, asked: Asked, segments: Mapping[int, Segment]) -> None:
    """Each item describes the model's segment of the same label. Raises `CheckFailed`."""
    for item in dataset.SegmentSequence:
        _check_algorithm(item, asked)
        number = int(item.SegmentNumber)
        if number:
            _check_description(item, segments[number], asked)
        else:
            _check_background(item)


def _check_background(item: Dataset) -> None:
    meant = as_code(codes.BACKGROUND)
    for name in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
        said = code_of(item, name)
        expect(said == meant, f"{_WHAT}: the value 0 is described as {said}, background is {meant}")


def _check_algorithm(item: Dataset, asked: Asked) -> None:
    provenance = asked.run.provenance
    algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
    said = (
        str(item.SegmentAlgorithmType),
        str(item.SegmentAlgorithmName),
        str(algorithm.AlgorithmName),
        str(algorithm.AlgorithmVersion),
        str(algorithm.get("AlgorithmSource", "")),
        code_of(algorithm, "AlgorithmFamilyCodeSequence"),
    )
    meant = (
        "AUTOMATIC",
        observer.algorithm_name(provenance),
        observer.algorithm_name(provenance),
        observer.algorithm_version(provenance),
        observer.source_name(provenance),
        as_code(codes.ARTIFICIAL_INTELLIGENCE),
    )
    expect(said == meant, f"{_WHAT}: {item.SegmentLabel!r} is said to be made by {said}, the run is {meant}")


def _check_description(item: Dataset, segment: Segment, asked: Asked) -> None:
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    colour = CIELabColor.from_rgb(*segment.colour_rgb).value
    for name, ours, theirs in (
        ("category", code_of(item, "SegmentedPropertyCategoryCodeSequence"), as_code(segment.category)),
        ("type", code_of(item, "SegmentedPropertyTypeCodeSequence"), as_code(segment.kind)),
        ("side", code_of(kind, "SegmentedPropertyTypeModifierCodeSequence"), as_code(segment.laterality)),
        ("colour", tuple(int(v) for v in item.RecommendedDisplayCIELabValue), tuple(colour)),
        ("Tracking ID", str(item.TrackingID), tracking_identifier(asked.run, segment)),
    ):
        expect(ours == theirs, f"{_WHAT}: {name} of {segment.label!r} is {ours}, the model said {theirs}")
    tracking = str(segment_tracking_uid(asked.run, segment))
    expect(str(item.TrackingUID) == tracking, f"{_WHAT}: Tracking UID of {segment.label!r} is not this run's")


def maps_of(dataset: Dataset, asked: Asked, segments: Mapping[int, Segment]) -> dict[int, HeatMap]:
    """The probabilities of a FRACTIONAL object's segments; none of another's, and none is missing."""
    if asked.profile.segmentation != "fractional":
        return {}
    given = {one.of: one for one in asked.findings.maps if one.of}
    maps = {number: given[one.label] for number, one in segments.items() if one.label in given}
    wanted = len(segments) if dataset.SegmentationType == "FRACTIONAL" else 0
    expect(
        len(maps) == wanted,
        f"{_WHAT}: {dataset.SegmentationType} has {len(maps)} of {len(segments)} segments with a probability",
    )
    return maps

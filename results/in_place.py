"""
A label map that an archive refuses, as the binary segmentation that nearly all take.

Nothing is segmented anew: each voxel of the label map becomes a bit of its segment's frame, of the same image
at the same place (PS3.3 §C.8.20.2). It is an instance of its own, whose UIDs derive from those of the label
map. What refers to it is in `results/repointed.py`.
"""

import copy
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.tag import Tag

from ledger.errors import ModelError
from ledger.identifiers import Uid
from results.expect import expect
from results.pixels import packed
from results.uids import in_place_uid

LABEL_MAP_SEGMENTATION_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.66.7")
SEGMENTATION_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.66.4")

_OWN = frozenset(
    {
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SegmentationType",
        "SegmentsOverlap",
        "SegmentSequence",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelPaddingValue",
        "PhotometricInterpretation",
        "NumberOfFrames",
        "PixelData",
        "PerFrameFunctionalGroupsSequence",
        "DimensionOrganizationSequence",
        "DimensionIndexSequence",
    }
)
_BINARY = {
    "SegmentationType": "BINARY",
    "SegmentsOverlap": "NO",
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 1,
    "BitsStored": 1,
    "HighBit": 0,
}
NEXT_SERIES = 10  #: its Series Number is that of the label map and ten


class NotALabelMap(ModelError):
    """What was refused cannot be written as a binary segmentation."""


def as_binary(label_map: Dataset) -> Dataset:
    """`label_map`, as it was read from its file, without file meta information. Raises `NotALabelMap`."""
    if label_map.SOPClassUID != str(LABEL_MAP_SEGMENTATION_STORAGE):
        raise NotALabelMap("what was refused is no label map")
    if label_map.PhotometricInterpretation != "MONOCHROME2":
        raise NotALabelMap("the colours of the label map's palette would be lost")
    labels = _frames(label_map)
    binary = Dataset()
    binary.update({e.tag: copy.deepcopy(e) for e in label_map if e.keyword not in _OWN})
    original = Uid(label_map.SOPInstanceUID)
    binary.SOPClassUID = str(SEGMENTATION_STORAGE)
    binary.SOPInstanceUID = str(in_place_uid([original], "instance"))
    binary.SeriesInstanceUID = str(in_place_uid([original], "series"))
    binary.SeriesNumber = int(label_map.SeriesNumber) + NEXT_SERIES
    binary.SegmentationType, binary.SegmentsOverlap = "BINARY", "NO"
    binary.PhotometricInterpretation = "MONOCHROME2"
    binary.BitsAllocated = binary.BitsStored = 1
    binary.HighBit = 0
    binary.SegmentSequence = []
    for number, item in enumerate(_segments(label_map), start=1):
        segment = copy.deepcopy(item)
        segment.SegmentNumber = number
        binary.SegmentSequence.append(segment)
    organization = Dataset()
    organization.DimensionOrganizationUID = str(in_place_uid([original], "dimension organization"))
    binary.DimensionOrganizationSequence = [organization]
    binary.DimensionIndexSequence = _dimensions(label_map, organization)
    groups = list(label_map.PerFrameFunctionalGroupsSequence)
    on = [set(np.unique(labelled).tolist()) for labelled in labels]
    old = [int(item.SegmentNumber) for item in _segments(label_map)]
    frames = [(number, one, k) for number, one in enumerate(old, 1) for k in range(len(on)) if one in on[k]]
    binary.NumberOfFrames = len(frames)
    binary.PerFrameFunctionalGroupsSequence = [_group(groups[k], number) for number, _, k in frames]
    masks = (labels[k] == one for _, one, k in frames)
    binary.add_new(0x7FE00010, "OB", packed(masks, len(frames), labels[0].size))
    return binary


def check_as_binary(binary: Dataset, label_map: Dataset) -> None:
    """Raise `CheckFailed` unless `binary`, as read back, draws what `label_map` draws, on the same images."""
    what = "binary segmentation"
    expect(binary.SOPClassUID == str(SEGMENTATION_STORAGE), f"{what}: SOP Class UID is {binary.SOPClassUID}")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        expect(
            binary[keyword].value != label_map[keyword].value, f"{what}: has the {keyword} of the label map"
        )
    mine, theirs = ({e.tag: e for e in one if e.keyword not in _OWN} for one in (binary, label_map))
    other = sorted(str(tag) for tag in mine.keys() | theirs.keys() if mine.get(tag) != theirs.get(tag))
    expect(not other, f"{what}: differs from the label map in {', '.join(other)}")
    form = {keyword: binary.get(keyword) for keyword in _BINARY}
    expect(form == _BINARY, f"{what}: its form is {form}")
    frames = len(binary.PerFrameFunctionalGroupsSequence)
    size = -(-frames * int(binary.Rows) * int(binary.Columns) // 8)
    expect(
        int(binary.NumberOfFrames) == frames and len(binary.PixelData) == size + size % 2,
        f"{what}: has {binary.NumberOfFrames} frames in {len(binary.PixelData)} bytes, of {frames}",
    )
    numbers = numbers_of(label_map, binary)
    described = {name_of(one): _description(one) for one in binary.SegmentSequence}
    meant = {name_of(one): _description(one) for one in _segments(label_map)}
    expect(described == meant, f"{what}: says something else of a segment than the label map")
    labels = _frames(label_map)
    there = {_image_of(group): k for k, group in enumerate(label_map.PerFrameFunctionalGroupsSequence)}
    rebuilt = np.zeros_like(labels)
    back = {new: old for old, new in numbers.items()}
    stored = np.frombuffer(binary.PixelData, np.uint8)
    rows, columns = int(binary.Rows), int(binary.Columns)
    pixels = rows * columns
    for index, group in enumerate(binary.PerFrameFunctionalGroupsSequence):
        # A frame at a time: as bytes, all of them would be larger than the label map by the segments it has.
        byte, bit = divmod(index * pixels, 8)
        loose = np.unpackbits(stored[byte : byte - (-(bit + size) // 8)], bitorder="little")
        mask = loose[bit : bit + pixels].reshape(rows, columns)
        k = there.get(_image_of(group))
        expect(k is not None, f"{what}: frame {index + 1} is of no image of the label map")
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        rebuilt[k, mask == 1] = back.get(number, 0)
        place = group.get("PlanePositionSequence")
        expect(
            place == label_map.PerFrameFunctionalGroupsSequence[k].get("PlanePositionSequence"),
            f"{what}: frame {index + 1} lies elsewhere than in the label map",
        )
    expect(np.array_equal(rebuilt, labels), f"{what}: its voxels are not those of the label map")


def numbers_of(label_map: Dataset, binary: Dataset) -> Mapping[int, int]:
    """Segment Number in the label map → in the binary segmentation: by Tracking UID or label."""
    there = {name_of(item): int(item.SegmentNumber) for item in binary.SegmentSequence}
    numbers = {int(item.SegmentNumber): there.get(name_of(item), 0) for item in _segments(label_map)}
    expect(
        sorted(numbers.values()) == list(range(1, len(binary.SegmentSequence) + 1)),
        "binary segmentation: its segments are not those of the label map",
    )
    return numbers


def _segments(label_map: Dataset) -> list[Dataset]:
    """All but the background, which a binary segmentation does not describe."""
    return [item for item in label_map.SegmentSequence if int(item.SegmentNumber) != 0]


def name_of(segment: Dataset) -> str:
    """What tells a segment from the others, whatever its number."""
    return str(segment.get("TrackingUID") or segment.SegmentLabel)


def _description(segment: Dataset) -> Dataset:
    """All but its number."""
    bare = Dataset()
    bare.update({e.tag: e for e in segment if e.keyword != "SegmentNumber"})
    return bare


def _frames(label_map: Dataset) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(frame, row, column)"""
    pixels: NDArray[np.uint8] | NDArray[np.uint16] = np.asarray(label_map.pixel_array)
    return pixels if pixels.ndim == 3 else pixels[np.newaxis]


def _image_of(group: Dataset) -> tuple[str, int | None]:
    image = group.DerivationImageSequence[0].SourceImageSequence[0]
    frame = image.get("ReferencedFrameNumber")
    return str(image.ReferencedSOPInstanceUID), None if frame is None else int(frame)


def _group(group: Dataset, number: int) -> Dataset:
    item, content, segment = Dataset(), Dataset(), Dataset()
    item.update(group)  # What is not replaced is the same for all segments.
    content.update(group.FrameContentSequence[0])
    segment.ReferencedSegmentNumber = number
    item.SegmentIdentificationSequence, item.FrameContentSequence = [segment], [content]
    index = content.DimensionIndexValues
    places = [index] if isinstance(index, int) else list(index)
    content.add(DataElement(0x00209157, "UL", [number, *places]))
    return item


def _dimensions(label_map: Dataset, organization: Dataset) -> list[Dataset]:
    """By segment, and then as in the label map."""
    first = Dataset()
    first.DimensionIndexPointer, first.FunctionalGroupPointer = Tag(0x0062000B), Tag(0x0062000A)
    first.DimensionDescriptionLabel = "Segment Number"
    rest = [copy.deepcopy(item) for item in label_map.get("DimensionIndexSequence", [])]
    for item in (first, *rest):
        item.DimensionOrganizationUID = organization.DimensionOrganizationUID
    return [first, *rest]

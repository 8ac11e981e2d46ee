"""
The functional groups of a segmentation's frames: one item per slice that a segment touches.

We write these ourselves, not through `highdicom.seg.Segmentation`, for three reasons. It takes an enhanced
source only if its orientation is shared, and many a scanner repeats it per frame; it refers a frame to every
source frame at its place, and a perfusion series has dozens; and it decides about equality of planes by
distance, where `Source` knows which image each slice came from. A test holds the two against each other on
the same mask.

And we write them as bytes. Thousands of items differ in three numbers; as data sets of pydicom they cost
more time than all the pixels. What repeats (the image that a slice came from, its place, the segment) is
encoded once by pydicom and set together here; whoever looks at the sequence gets data sets all the same.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

from results import codes
from results.findings import Concept
from results.grid import Grid, Plane

_PER_FRAME = Tag(0x52009230)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: which segment, on which plane of the grid (0-based)."""

    number: int | None  #: None: every segment of a label map
    plane: int


def add_functional_groups(
    dataset: Dataset, grid: Grid, frames: Sequence[Frame], derivation: Concept = codes.DERIVED_BY_SEGMENTATION
) -> None:
    """Per-Frame Functional Groups Sequence (5200,9230): one item per frame, in order.

    Each says where the frame lies, the one image that it was derived from and how, and, unless it holds them
    all, which segment it belongs to. To be called last: what is set afterwards would have `dataset` encoded
    as slowly as any other, and so would to iterate over it.
    """
    encoded = b"".join(_items(grid, frames, derivation))
    dataset.NumberOfFrames = len(frames)
    dataset[_PER_FRAME] = RawDataElement(_PER_FRAME, "SQ", len(encoded), encoded, 0, False, True)
    # As if it had been read from a file of the encoding that it will be written in: then the bytes are
    # written as they are.
    dataset.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=convert_encodings(dataset.get("SpecificCharacterSet", "ISO_IR 6")),
    )


def _items(grid: Grid, frames: Sequence[Frame], derivation: Concept) -> Iterable[bytes]:
    order = {plane: index for index, plane in enumerate(sorted({frame.plane for frame in frames}), start=1)}
    derivations = dict(zip(order, _derivations([grid.planes[k] for k in order], derivation), strict=True))
    # An image has no place, and then frames are found by their segment alone.
    positions = {k: b"" if grid.place is None else _position(grid.planes[k]) for k in order}
    segments = {number: _segment(number) for number in {frame.number for frame in frames}}
    for frame in frames:
        index = [] if frame.number is None else [frame.number]
        if grid.place is not None or not index:
            index.append(order[frame.plane])
        # A label map of an image has nothing to be found by but a name.
        label = b"Image " if grid.place is None and frame.number is None else b""
        where = derivations[frame.plane] + _content(index, label) + positions[frame.plane]
        yield _item(where + segments[frame.number])


def _derivations(planes: Sequence[Plane], derivation: Concept) -> Iterable[bytes]:
    """Derivation Image (0008,9124) of a frame on each of `planes`: the one image, and how the frame was
    derived of it.
    """
    rest, how = Dataset(), Dataset()
    # Unless this is YES, Weasis trusts positions alone and OHIF draws nothing.
    rest.SpatialLocationsPreserved = "YES"
    rest.PurposeOfReferenceCodeSequence = [codes.coded(codes.SOURCE_IMAGE)]
    how.DerivationCodeSequence = [codes.coded(derivation)]
    rest_encoded, how_encoded = _encoded(rest), _encoded(how)
    for plane in planes:
        image = Dataset()
        image.ReferencedSOPClassUID = plane.sop_class
        image.ReferencedSOPInstanceUID = plane.sop_instance
        if plane.frame is not None:
            image.ReferencedFrameNumber = plane.frame
        source = _sequence(0x0008, 0x2112, _encoded(image) + rest_encoded)  # Source Image
        yield _sequence(0x0008, 0x9124, source + how_encoded)


def _position(plane: Plane) -> bytes:
    """Plane Position (Patient) (0020,9113) of a frame on `plane`."""
    item = Dataset()
    item.ImagePositionPatient = plane.position
    return _sequence(0x0020, 0x9113, _encoded(item))


def _content(index: Sequence[int], label: bytes = b"") -> bytes:
    """Frame Content (0020,9111) with its Dimension Index Values (0020,9157), and Frame Label (0020,9453)."""
    values = struct.pack(f"<HH2sH{len(index)}I", 0x0020, 0x9157, b"UL", 4 * len(index), *index)
    if label:
        values += struct.pack("<HH2sH", 0x0020, 0x9453, b"LO", len(label)) + label
    return _sequence(0x0020, 0x9111, values)


def _segment(number: int | None) -> bytes:
    """Segment Identification (0062,000A); nothing in a label map, whose frames hold all segments."""
    if number is None:
        return b""
    item = Dataset()
    item.ReferencedSegmentNumber = number
    return _sequence(0x0062, 0x000A, _encoded(item))


def _sequence(group: int, element: int, body: bytes) -> bytes:
    """A sequence of the one item `body`, of defined length (PS3.5 §7.5)."""
    item = _item(body)
    return struct.pack("<HH2sHI", group, element, b"SQ", 0, len(item)) + item


def _item(body: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def _encoded(item: Dataset) -> bytes:
    """The elements of `item` in Explicit VR Little Endian."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, item)
    return bytes(out.getvalue())

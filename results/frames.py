"""
The frames of a segmentation: one per slice that a segment touches, as bits and as functional groups.

We write these ourselves, not through `highdicom.seg.Segmentation`, for three reasons. It takes an enhanced
source only if its orientation is shared, and many a scanner repeats it per frame; it refers a frame to every
source frame at its place, and a perfusion series has dozens; and it decides about equality of planes by
distance, where `Source` knows which image each slice came from. A test holds the two against each other on
the same mask.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import DataElement
from scipy import ndimage

from results import codes
from results.findings import Concept, Findings, Segment
from results.grid import Grid, Plane


@dataclass(frozen=True, slots=True)
class Drawn:
    """A segment that has voxels: its number in the segmentation, and the box that holds it."""

    number: int  #: Segment Number (0062,0004), 1 … N without a gap; empty segments are left out
    segment: Segment
    box: tuple[slice, slice, slice]  #: (slice, row, column), in the segment's layer


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: which segment, on which plane of the grid (0-based)."""

    number: int
    plane: int


def layers_of_others(findings: Findings) -> Iterator[tuple[int, int]]:
    """(layer, number) of every segment that has voxels in a layer that is not its own."""
    for number, layer in enumerate(findings.layers if len(findings.layers) > 1 else ()):
        boxes = ndimage.find_objects(layer, max_label=len(findings.segments))
        for segment, box in zip(findings.segments, boxes, strict=True):
            if box is not None and segment.layer != number:
                yield number, segment.number


def drawn_segments(findings: Findings) -> tuple[Drawn, ...]:
    """The segments that have voxels, in order.

    An empty segment would be legal and have no frame, but viewers hang on it and `segimage2itkimage` refuses
    it: the report says in words and code that it is absent.
    """
    if not findings.segments:
        return ()
    boxes = [ndimage.find_objects(layer, max_label=len(findings.segments)) for layer in findings.layers]
    found = [(segment, boxes[segment.layer][segment.number - 1]) for segment in findings.segments]
    present = ((segment, box) for segment, box in found if box is not None)
    return tuple(Drawn(number, segment, box) for number, (segment, box) in enumerate(present, start=1))


def pack(layers: NDArray[np.integer], drawn: Sequence[Drawn]) -> tuple[bytes, list[Frame]]:
    """Pixel Data of a BINARY segmentation, and its frames in order: by segment, then by slice.

    `layers` is (layer, slice, row, column).

    Bits run from the least significant (PS3.5 §8.1.1), frame after frame without padding in between: where a
    frame is no multiple of eight pixels, the next begins within a byte.
    """
    frames: list[Frame] = []
    parts: list[bytes] = []
    rest = np.empty(0, dtype=np.bool_)
    for item in drawn:
        layer = layers[item.segment.layer]
        slab = layer[item.box[0]] == item.segment.number  # (slice, row, column)
        used = slab.any(axis=(1, 2))
        frames += [Frame(item.number, item.box[0].start + int(k)) for k in np.flatnonzero(used)]
        pixels = slab.reshape(-1) if used.all() else slab[used].reshape(-1)
        if rest.size:
            pixels = np.concatenate([rest, pixels])
        whole = pixels.size - pixels.size % 8
        parts.append(np.packbits(pixels[:whole], bitorder="little").tobytes())
        rest = pixels[whole:]
    parts.append(np.packbits(rest, bitorder="little").tobytes())
    data = b"".join(parts)
    return data + b"\0" * (len(data) % 2), frames


def functional_groups(grid: Grid, frames: Sequence[Frame]) -> Iterator[Dataset]:
    """The items of Per-Frame Functional Groups Sequence (5200,9230), one per frame.

    Each frame says which segment it belongs to, where it lies, and the one image that it was derived from.
    """
    order = {plane: index for index, plane in enumerate(sorted({frame.plane for frame in frames}), start=1)}
    positions = {plane: position_of(grid.planes[plane]) for plane in order}
    derivations = {plane: derivation_of(grid.planes[plane], codes.DERIVED_BY_SEGMENTATION) for plane in order}
    segments = {number: _segment(number) for number in {frame.number for frame in frames}}
    # Equal items are one object in memory: writing reads them, nobody changes them.
    for frame in frames:
        content = Dataset()
        # By segment, then by place; an image has none.
        index = [frame.number] if grid.place is None else [frame.number, order[frame.plane]]
        content.add(DataElement(0x00209157, "UL", index))  # Dimension Index Values
        item = Dataset()
        item.add(derivations[frame.plane])
        item.add(DataElement(0x00209111, "SQ", [content]))  # Frame Content
        if grid.place is not None:
            item.add(positions[frame.plane])
        item.add(segments[frame.number])
        yield item


def position_of(plane: Plane) -> DataElement:
    """Plane Position (Patient) of a frame on `plane`."""
    item = Dataset()
    item.ImagePositionPatient = plane.position
    return DataElement(0x00209113, "SQ", [item])  # Plane Position (Patient)


def _segment(number: int) -> DataElement:
    item = Dataset()
    item.ReferencedSegmentNumber = number
    return DataElement(0x0062000A, "SQ", [item])  # Segment Identification


def derivation_of(plane: Plane, derivation: Concept) -> DataElement:
    """Derivation Image of a frame on `plane`: the one image, and how the frame was `derivation` of it."""
    image = Dataset()
    image.ReferencedSOPClassUID = plane.sop_class
    image.ReferencedSOPInstanceUID = plane.sop_instance
    if plane.frame is not None:
        image.ReferencedFrameNumber = plane.frame
    # Unless this is YES, Weasis trusts positions alone and OHIF draws nothing.
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [codes.coded(codes.SOURCE_IMAGE)]
    item = Dataset()
    item.SourceImageSequence = [image]
    item.DerivationCodeSequence = [codes.coded(derivation)]
    return DataElement(0x00089124, "SQ", [item])  # Derivation Image

"""
The pixels of a segmentation, frame after frame: one bit of one segment, its fraction, or one number of all.

One plane (row, column) at a time: a volume of masks would be many times the volume of the images.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from results.findings import Findings
from results.frames import Frame
from results.parts import Part, fractions, probability_of

Plane = NDArray[np.uint8] | NDArray[np.uint16]


def frames_of(part: Part) -> list[Frame]:
    """Frames of one segment each: by segment, then by slice. Of a label map: by slice."""
    if part.kind == "labelmap":
        return [Frame(None, k) for k in sorted({k for item in part.drawn for k in item.planes})]
    return [Frame(item.number, k) for item in part.drawn for k in item.planes]


def bits(findings: Findings, part: Part) -> bytes:
    """Pixel Data of a BINARY segmentation, of the frames of `frames_of`, in even length.

    See `packed`.
    """
    masks = (
        findings.layers[item.segment.layer][k] == item.segment.number
        for item in part.drawn
        for k in item.planes
    )
    return packed(masks, part.frames, findings.layers.shape[2] * findings.layers.shape[3])


def packed(masks: Iterable[NDArray[np.bool_]], frames: int, pixels: int) -> bytes:
    """So many `frames` of so many `pixels` each as single bits, in even length.

    Bits run from the least significant (PS3.5 §8.1.1), frame after frame without padding in between: where a
    frame is no multiple of eight pixels, the next begins within a byte.
    """
    size = -(-frames * pixels // 8)
    data = np.zeros(size + size % 2, np.uint8)
    for number, frame in enumerate(masks):
        mask = frame.reshape(-1)
        byte, bit = divmod(number * pixels, 8)
        if bit:
            mask = np.concatenate([np.zeros(bit, np.bool_), mask])
        some = np.packbits(mask, bitorder="little")
        if bit:
            some[0] |= data[byte]
        data[byte : byte + some.size] = some
    return data.tobytes()


def planes(findings: Findings, part: Part) -> Iterator[Plane]:
    """The frames of a label map or of fractions, in the order of `frames_of`."""
    yield from _labels(findings, part) if part.kind == "labelmap" else _fractions(findings, part)


def native(frames: Iterator[Plane]) -> bytes:
    """Pixel Data that is not compressed: little endian, in even length."""
    data = b"".join(np.ascontiguousarray(one, one.dtype.newbyteorder("<")).data for one in frames)
    return data + b"\0" if len(data) % 2 else data


def bits_of_a_label(part: Part) -> int:
    """Bits Allocated (0028,0100) of a label map."""
    return 8 if len(part.drawn) < 1 << 8 else 16


def _labels(findings: Findings, part: Part) -> Iterator[Plane]:
    number_of = np.zeros(len(findings.segments) + 1, np.uint8 if bits_of_a_label(part) == 8 else np.uint16)
    for item in part.drawn:
        number_of[item.segment.number] = item.number
    layers = sorted({item.segment.layer for item in part.drawn})
    if len(layers) == 1 and len(part.drawn) == len(findings.segments):  # The numbers are the model's own.
        for frame in frames_of(part):
            yield findings.layers[layers[0], frame.plane].astype(number_of.dtype, copy=False)
        return
    for frame in frames_of(part):
        labels = number_of[findings.layers[layers[0], frame.plane]]
        for layer in layers[1:]:  # They do not overlap, or they would be in parts of their own.
            labels |= number_of[findings.layers[layer, frame.plane]]
        yield labels


def _fractions(findings: Findings, part: Part) -> Iterator[Plane]:
    for item in part.drawn:
        one = probability_of(findings, item.segment)
        if one is not None:
            values = fractions(one)
            yield from (values[k] for k in item.planes)

"""
RLE Lossless (PS3.5 Annex G), a whole frame at a time.

A label map is mostly runs: 300 slices of a hundred organs go from 75 MB to 2 MB. pydicom has an encoder, run
by run in Python; this one finds all the runs of a frame at once.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

_LONGEST = 128  # bytes of one run, replicated or literal


def encapsulated(frames: Iterable[NDArray[np.uint8] | NDArray[np.uint16]]) -> bytes:
    """Pixel Data of RLE Lossless: a Basic Offset Table, then one fragment for each frame (row, column)."""
    return encapsulate([encoded(frame) for frame in frames], has_bot=True)


def encoded(frame: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """One frame: the RLE header, then one RLE segment per byte of a pixel, the most significant first.

    Of colour, (row, column, 3) of eight bits: one segment per sample.
    """
    planes = np.ascontiguousarray(frame, frame.dtype.newbyteorder(">")).view(np.uint8)
    planes = planes.reshape(*frame.shape[:2], -1)
    width = planes.shape[2]
    segments = [_segment(np.ascontiguousarray(planes[..., byte])) for byte in range(width)]
    offsets = np.zeros(16, "<u4")
    offsets[0] = width
    offsets[1 : width + 1] = 64 + np.cumsum([0, *(len(one) for one in segments[:-1])])
    return offsets.tobytes() + b"".join(segments)


def _segment(plane: NDArray[np.uint8]) -> bytes:
    """One byte of every pixel (row, column) as PackBits, of even length; rows are encoded apart (§G.3.1)."""
    flat, columns = plane.reshape(-1), plane.shape[1]
    begins = np.empty(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[::columns] = True
    starts = np.flatnonzero(begins)
    # One or two equal bytes among unequal ones are cheaper as they are, together with their neighbours.
    literal = np.diff(starts, append=flat.size) <= 2
    joins = np.zeros_like(literal)
    joins[1:] = literal[1:] & literal[:-1] & (starts[1:] % columns != 0)
    starts, literal = _chopped(starts[~joins], literal[~joins], flat.size)
    lengths = np.diff(starts, append=flat.size)

    # A literal run is a byte of length - 1 and its bytes; a replicated one a byte of 257 - length and one.
    sizes = np.where(literal, lengths + 1, 2)
    places = np.cumsum(sizes) - sizes
    size = int(sizes.sum())
    out = np.zeros(size + size % 2, np.uint8)
    out[places] = np.where(literal, lengths - 1, 257 - lengths)
    out[places[~literal] + 1] = flat[starts[~literal]]
    sources = np.flatnonzero(np.repeat(literal, lengths))
    out[sources + np.repeat((places + 1 - starts)[literal], lengths[literal])] = flat[sources]
    return out.tobytes()


def _chopped(
    starts: NDArray[np.intp], literal: NDArray[np.bool_], total: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The runs that begin at `starts`, none longer than a run may be; a piece of one byte is literal."""
    lengths = np.diff(starts, append=total)
    pieces = -(-lengths // _LONGEST)
    firsts = np.cumsum(pieces) - pieces
    within = np.arange(int(pieces.sum())) - np.repeat(firsts, pieces)
    starts = np.repeat(starts, pieces) + within * _LONGEST
    return starts, np.repeat(literal, pieces) | (np.diff(starts, append=total) == 1)

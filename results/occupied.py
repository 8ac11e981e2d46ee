"""
Which slices each segment is on: counted once, and the frames of a segmentation follow from it.

Counting voxels by slice and number tells everything that has to be known before a pixel is encoded: which
segments have a voxel, on which slices, and whether the label map says what the segments say. On 300 slices of
512 x 512 it takes a tenth of a second, where a box around each segment takes three.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.findings import Findings, Segment
from results.grid import NotEncodable


@dataclass(frozen=True, slots=True)
class Drawn:
    """A segment that has voxels: its number in the segmentation, and the slices that it is on."""

    number: int  #: Segment Number (0062,0004), 1 … N without a gap; empty segments are left out
    segment: Segment
    planes: tuple[int, ...]  #: 0-based, ascending


def drawn_segments(findings: Findings) -> tuple[Drawn, ...]:
    """The segments that have voxels, in order.

    An empty segment would be legal and have no frame, but viewers hang on it and `segimage2itkimage` refuses
    it: the report says in words and code that it is absent. Raises `NotEncodable` where the label map has a
    voxel of no segment, or a layer one of another layer's.
    """
    if not findings.segments:
        return ()
    counts = voxels_by_slice(findings)
    drawn: list[Drawn] = []
    for segment in findings.segments:
        for layer in range(len(counts)):
            if layer != segment.layer and counts[layer, :, segment.number].any():
                raise NotEncodable(
                    f"layer {layer} of the label map has voxels of segment {segment.number}, of another layer"
                )
        planes = np.flatnonzero(counts[segment.layer, :, segment.number])
        if planes.size:
            drawn.append(Drawn(len(drawn) + 1, segment, tuple(planes.tolist())))
    return tuple(drawn)


def box_of(findings: Findings, drawn: Drawn) -> tuple[slice, slice, slice]:
    """The smallest box (slice, row, column) that holds the segment, in its layer."""
    slices = slice(drawn.planes[0], drawn.planes[-1] + 1)
    slab = findings.layers[drawn.segment.layer][slices] == drawn.segment.number
    rows, columns = (np.flatnonzero(slab.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    return slices, slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def voxels_by_slice(findings: Findings) -> NDArray[np.int64]:
    """How many voxels have each number: (layer, slice, number), number 0 left at nothing.

    Raises `NotEncodable` where the label map has a voxel of no segment.
    """
    known = len(findings.segments) + 1
    counts = np.zeros((*findings.layers.shape[:2], known), np.int64)
    for index in np.ndindex(*findings.layers.shape[:2]):
        plane = findings.layers[index]
        rows = np.flatnonzero(plane.any(axis=1))
        if not rows.size:
            continue
        found = np.bincount(plane[rows[0] : rows[-1] + 1].reshape(-1))
        if found.size > known:
            raise NotEncodable(
                f"the label map has a voxel of {found.size - 1}, but there are {known - 1} segments"
            )
        counts[index][: found.size] = found
    counts[..., 0] = 0
    return counts

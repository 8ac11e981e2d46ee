"""
Shapes of masks, in millimetres: components, boxes, and balls that grow and shrink them.

Arrays are (z, y, x) with `spacing_mm` alike. Distances are exact Euclidean ones, taken only in the box
that can change: a distance transform of the whole chest would take most of a run.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]

FACES = ndimage.generate_binary_structure(3, 1)
IN_PLANE = FACES & np.array([False, True, False])[:, None, None]  # neighbours within an axial plane only


def components(
    mask: Mask, structure: NDArray[np.bool_] = FACES
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels 1 … n of the connected parts, and the voxels of each; number 0 counts none."""
    labels, count = ndimage.label(mask, structure, output=np.int32)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return labels, sizes


def box_of(mask: Mask, margin_mm: float = 0.0, spacing_mm: Spacing = (1.0, 1.0, 1.0)) -> Box:
    """The smallest box around `mask`, which is not empty, with a margin; cut at the edge of the array."""
    slices = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        margin = int(np.ceil(margin_mm / spacing_mm[axis])) + (1 if margin_mm else 0)
        slices.append(
            slice(max(0, int(filled[0]) - margin), min(mask.shape[axis], int(filled[-1]) + 1 + margin))
        )
    return slices[0], slices[1], slices[2]


def depth_mm(mask: Mask, spacing_mm: Spacing) -> NDArray[np.float32]:
    """How deep every voxel lies in `mask`: the distance to the nearest voxel outside it within the array."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing_mm), np.float32)


def dilate(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """`mask` and all within `radius_mm` of it."""
    grown = np.zeros_like(mask)
    if mask.any():
        box = box_of(mask, radius_mm, spacing_mm)
        grown[box] = depth_mm(~mask[box], spacing_mm) <= radius_mm
    return grown


def close(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """`mask` with notches and gaps filled that a ball of `radius_mm` does not enter.

    At the faces of the array the ball has room: a lung that is cut off there is not pushed back.
    """
    closed = np.zeros_like(mask)
    if not mask.any():
        return closed
    box = box_of(mask)
    margins = [(pad, pad) for pad in (int(np.ceil(radius_mm / step)) + 1 for step in spacing_mm)]
    # Repeating the border slices keeps a lung that runs out of the images as wide as it is there.
    at_face = [
        (
            pad if side.start == 0 else 0,
            pad if side.stop == size else 0,
        )
        for (pad, _), side, size in zip(margins, box, mask.shape, strict=True)
    ]
    at_free = [(pad - low, pad - high) for (pad, _), (low, high) in zip(margins, at_face, strict=True)]
    padded = np.pad(np.pad(mask[box], at_face, mode="edge"), at_free)
    grown = depth_mm(~padded, spacing_mm) <= radius_mm
    shrunk = depth_mm(grown, spacing_mm) > radius_mm
    closed[box] = shrunk[tuple(slice(pad, -pad) for pad, _ in margins)]
    return closed | mask


def fill_cavities(mask: Mask) -> Mask:
    """`mask` with the holes filled that it encloses on all sides, in space.

    Not plane by plane: in many axial planes the dome of the diaphragm is ringed by lung, and is no hole.
    """
    filled = mask.copy()
    if mask.any():
        box = box_of(mask)
        filled[box] = ndimage.binary_fill_holes(mask[box], FACES)
    return filled


def convex_hull(plane: Mask) -> Mask:
    """The convex hull of a mask (y, x); nothing where its points span no area."""
    edge = plane & ~ndimage.binary_erosion(plane)
    points = np.argwhere(edge)
    if len(points) < 3:
        return np.zeros_like(plane)
    try:
        planes = ConvexHull(points).equations  # (n, 3): inside is a·y + b·x + c ≤ 0
    except QhullError:
        return np.zeros_like(plane)
    y, x = np.ogrid[: plane.shape[0], : plane.shape[1]]
    inside = np.ones(plane.shape, np.bool_)
    for a, b, c in planes:
        inside &= a * y + b * x + c <= 1e-6
    return inside

"""
Body, air, lungs: the two large dark spaces inside a chest.

All arrays are (z, y, x) on the working grid: z towards the head, y towards the back, x towards the patient's left.
"""

import numpy as np
from numpy.typing import NDArray

from models.contract import NotForThisModel
from models.prepare.morphology import (
    IN_PLANE,
    Mask,
    Spacing,
    box_of,
    close,
    components,
    depth_mm,
    fill_cavities,
)

TISSUE_HU = -500.0
LUNG_MINIMUM_ML = 100.0
GAS_HU = -965.0  # Half of a lung is never this dark, not even in emphysema; gas in bowel or pleura is.
_SECOND_LUNG = 0.15  # a part smaller than this share of the largest is not the other lung
_HALF = 0.25  # when fused lungs come apart, the smaller has at least this share of the larger
_FINE_MM = 2.5
_SPLIT_MM = (1.5, 2.5, 4.0, 6.0, 8.0, 10.0)


def find_body(hu: NDArray[np.float32], spacing_mm: Spacing) -> Mask:
    """The body with the air inside it. Raises `NotForThisModel` where there is none."""
    tissue = _opened(hu > TISSUE_HU, spacing_mm)
    labels, sizes = components(tissue)
    if sizes.max() == 0:
        raise NotForThisModel("No body is in the images: they hold nothing but air.")
    outside, count = components(labels != sizes.argmax(), IN_PLANE)
    # Air is outside where, in its axial plane, it reaches the edge of the images.
    reaches_edge = np.zeros(count.size, np.bool_)
    for face in (outside[:, 0], outside[:, -1], outside[:, :, 0], outside[:, :, -1]):
        reaches_edge[face.ravel()] = True
    reaches_edge[0] = False
    return np.asarray(~reaches_edge[outside])


def _opened(mask: Mask, spacing_mm: Spacing) -> Mask:
    """`mask` without what a cross of three voxels does not fit into: sheets, noise, the surface of a table.

    Only along fine axes: three voxels of a coarse one are as wide as a chest wall.
    """
    fine = [axis for axis in range(3) if spacing_mm[axis] <= _FINE_MM]
    eroded = mask.copy()
    for axis in fine:
        eroded &= _shifted(mask, axis, 1) & _shifted(mask, axis, -1)
    opened = eroded.copy()
    for axis in fine:
        opened |= _shifted(eroded, axis, 1) | _shifted(eroded, axis, -1)
    return opened


def _shifted(mask: Mask, axis: int, by: int) -> Mask:
    """`mask` moved by one voxel; beyond the edge it goes on as it is there."""
    moved = np.roll(mask, by, axis)
    edge: list[slice | int] = [slice(None)] * 3
    edge[axis] = 0 if by > 0 else -1
    moved[tuple(edge)] = mask[tuple(edge)]
    return moved


def find_lungs(
    hu: NDArray[np.float32], air: Mask, spacing_mm: Spacing, closing_mm: float, airways: Mask
) -> tuple[Mask, Mask]:
    """(right, left) from `air`, the air in the body, less `airways`. Raises `NotForThisModel`."""
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    parts = _air_spaces(hu, air & ~airways, voxel_ml)
    if len(parts) == 2 and parts[1].sum() < _SECOND_LUNG * parts[0].sum():
        parts = parts[:1]
    if len(parts) == 1:
        parts = _split(parts[0], spacing_mm)
    first, second = (_closed(part, closing_mm, spacing_mm) for part in parts)
    # Where both claim a voxel (the thin septum between them), it stays with whoever had it, or with nobody.
    both = first & second
    first &= ~both | parts[0]
    second &= ~both | parts[1]
    first, second = first & ~airways, second & ~airways
    x_first, x_second = (float(np.flatnonzero(part.any(axis=(0, 1))).mean()) for part in (first, second))
    return (first, second) if x_first < x_second else (second, first)


def _closed(part: Mask, closing_mm: float, spacing_mm: Spacing) -> Mask:
    return fill_cavities(close(part, closing_mm, spacing_mm))


def _air_spaces(hu: NDArray[np.float32], air: Mask, voxel_ml: float) -> list[Mask]:
    """The at most two largest spaces that are dark as lung, the larger first."""
    labels, sizes = components(air)
    spaces = []
    too_dark = 0
    for number in np.argsort(sizes)[::-1][:8]:
        if sizes[number] * voxel_ml < LUNG_MINIMUM_ML:
            break
        space = labels == number
        if float(np.median(hu[space])) < GAS_HU:
            too_dark += 1
        else:
            spaces.append(space)
    if not spaces:
        raise NotForThisModel(
            "No lungs were found: no space in the body is filled with lung tissue"
            + (", only with gas." if too_dark else ".")
        )
    return spaces[:2]


def _split(fused: Mask, spacing_mm: Spacing) -> list[Mask]:
    """Two lungs that touch, parted where the bridge between them is thinnest. Raises `NotForThisModel`."""
    box = box_of(fused)
    inner = np.pad(fused[box], 1)
    depth = depth_mm(inner, spacing_mm)
    for bridge_mm in _SPLIT_MM:
        labels, sizes = components(depth > bridge_mm)
        larger, smaller = np.argsort(sizes)[::-1][:2] if sizes.size > 2 else (0, 0)
        if smaller and sizes[smaller] > _HALF * sizes[larger]:
            to_larger = depth_mm(labels != larger, spacing_mm)
            to_smaller = depth_mm(labels != smaller, spacing_mm)
            parts = []
            for mine in (to_larger <= to_smaller, to_larger > to_smaller):
                part = np.zeros_like(fused)
                part[box] = (inner & mine)[1:-1, 1:-1, 1:-1]
                parts.append(part)
            return parts
    raise NotForThisModel("Only one lung was found, or two that could not be told apart.")

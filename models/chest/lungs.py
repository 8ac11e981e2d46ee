"""
The two lungs: the large dark spaces inside a chest that are no airways.

All arrays are (z, y, x) on the working grid: z towards the head, y towards the back, x towards the patient's
left.
"""

import numpy as np
from numpy.typing import NDArray

from models.contract import NotForThisModel
from models.prepare.morphology import (
    Mask,
    Spacing,
    box_of,
    close,
    components,
    depth_mm,
    dilate,
    fill_cavities,
)

LUNG_MINIMUM_ML = 100.0
GAS_HU = -965.0  # Half of a lung is never this dark, not even in emphysema; gas in bowel or pleura is.
_SECOND_LUNG = 0.15  # a part smaller than this share of the largest is not the other lung
_HALF = 0.25  # when fused lungs come apart, the smaller has at least this share of the larger
_APART_MM = 60.0  # between the centres of two lungs, from side to side
_AIRWAY_ROOM_MM = 5.0
_SPLIT_MM = (1.5, 2.5, 4.0, 6.0, 8.0, 10.0)


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
    _refuse_one_above_the_other(parts, spacing_mm)
    first, second = (_closed(part, closing_mm, spacing_mm) for part in parts)
    # Where both claim a voxel (the thin septum between them), it stays with whoever had it, or with nobody.
    both = first & second
    first &= ~both | parts[0]
    second &= ~both | parts[1]
    # Between an airway and the lung beside it there is mediastinum, however narrow: nothing is closed there.
    near_airways = dilate(airways, _AIRWAY_ROOM_MM, spacing_mm) & ~(parts[0] | parts[1])
    first, second = first & ~near_airways, second & ~near_airways
    first, second = first & ~airways, second & ~airways
    x_first, x_second = (float(np.flatnonzero(part.any(axis=(0, 1))).mean()) for part in (first, second))
    return (first, second) if x_first < x_second else (second, first)


def _refuse_one_above_the_other(parts: list[Mask], spacing_mm: Spacing) -> None:
    """Two lungs lie side by side; two parts that do not are one lung in pieces, or no lungs."""
    one, other = (
        np.array([float(axis.mean()) * step for axis, step in zip(np.nonzero(part), spacing_mm, strict=True)])
        for part in parts
    )
    apart_z, apart_y, apart_x = np.abs(one - other)
    if apart_x < max(_APART_MM, apart_z, apart_y):
        raise NotForThisModel("Only one lung was found, or two that could not be told apart.")


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

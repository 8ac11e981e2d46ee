"""
What is dense where lung should be: fluid, consolidation, collapse, a large mass.

Thresholds leave dense lung out of an outline, and nothing of that outline says so. What says so is the chest
around it: behind every plane of lung, and beside its upper two thirds, the pleura lies a few millimetres in
front of a rib. From the outline we look backwards and outwards to the first bone; what is as dense as fluid
or tissue on the way, beyond an ordinary chest wall, has taken the place of lung. A lung that ends much higher
than the other one says so, too, and so do thick dense regions that the outline encloses.

Rays are our own construction; no published method was reproduced. All arrays are (z, y, x) on the working
grid: z towards the head, y towards the back, x towards the patient's left.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.prepare.morphology import Mask, Spacing, box_of, depth_mm, dilate

BONE_HU = 180.0
_TISSUE_HU = -30.0  # fat outside the pleura is darker, and is no fluid
_WALL_MM = 14.0  # pleura, muscle and partial volume between any ordinary lung and its ribs
_USUAL_WALL_MM = 7.0  # of nine in ten rays: two real chests and phantoms stayed below 5 mm
_RAY_MM = 120.0  # no effusion is thicker that leaves a lung beside it
_RIB_GAP_MM = 16.0  # a ray that passes between two ribs still meets the bone of one so far above or below
_MEDIAL_MM = 42.0  # nearer to the middle lie heart, spine and great vessels
_APEX = 0.15  # of the lung's height: above it ribs lie far outside
_BASE = 0.4  # below it, in front, the liver lies beside the lung
_DENSE_HU = -250.0
_THICK_MM = 6.0  # half as wide as a dense region is, to be no vessel
_SHIFT_MM = 45.0


@dataclass(frozen=True, slots=True)
class Opacity:
    """What is dense about one lung."""

    at_wall_ml: float  #: between the outline and the ribs, beyond any ordinary chest wall
    layer_ml: float  #: the same beyond the usual one: a thin layer shows here
    within_ml: float  #: enclosed by the outline, thicker than a vessel
    raised_mm: float  #: how much higher than the other lung it ends; 0 where it ends lower

    @property
    def displaces(self) -> bool:
        """Whether lung is missing from the outline, so that its volume is not the lung's."""
        return self.at_wall_ml > AT_WALL_ML or self.raised_mm > _SHIFT_MM

    @property
    def layered(self) -> bool:
        """Whether a thin layer lies at the ribs: the outline is that of the aerated lung."""
        return self.layer_ml > LAYER_ML and not self.displaces

    @property
    def seen(self) -> bool:
        """Whether a reader has to be told."""
        return self.displaces or self.layered or self.within_ml > WITHIN_ML


AT_WALL_ML, LAYER_ML, WITHIN_ML = 40.0, 8.0, 8.0  #: what ordinary lungs stay below


def opacity_of(
    hu: NDArray[np.float32], body: Mask, lung: Mask, other: Mask, spacing_mm: Spacing, *, leftwards: bool
) -> Opacity:
    """What is dense about `lung`; `leftwards` where its outer side looks to the patient's left.

    The bottom of a lung that the images cut off says nothing about the diaphragm; both are compared only
    where neither is in the first plane.
    """
    z = np.flatnonzero(lung.any(axis=(1, 2)))
    raised = 0.0
    z_other = np.flatnonzero(other.any(axis=(1, 2)))
    if z[0] > 0 and z_other[0] > 0:
        raised = max(0.0, float(z[0] - z_other[0]) * spacing_mm[0])
    at_wall, layer = _at_wall_ml(hu, body, lung, other, spacing_mm, leftwards=leftwards)
    return Opacity(
        at_wall_ml=at_wall,
        layer_ml=layer,
        within_ml=_within_ml(hu, lung, spacing_mm),
        raised_mm=raised,
    )


def _at_wall_ml(
    hu: NDArray[np.float32], body: Mask, lung: Mask, other: Mask, spacing_mm: Spacing, *, leftwards: bool
) -> tuple[float, float]:
    """Beyond any ordinary chest wall, and beyond the usual one."""
    box = box_of(lung, _RAY_MM / 2, spacing_mm)
    middle = (_centre_x(lung) + _centre_x(other)) / 2 - box[2].start
    inner = lung[box]
    if not leftwards:
        inner = inner[:, :, ::-1]
        middle = inner.shape[2] - 1 - middle
    values, inside = hu[box], body[box]
    if not leftwards:
        values, inside = values[:, :, ::-1], inside[:, :, ::-1]
    # From here on the lung's outer side looks towards higher x.
    steps = max(1, round(_RIB_GAP_MM / spacing_mm[0]))
    bone = ndimage.maximum_filter1d(((values > BONE_HU) & inside).view(np.uint8), 2 * steps + 1, axis=0) > 0
    tissue = inside & (values > _TISSUE_HU)
    z = np.flatnonzero(inner.any(axis=(1, 2)))
    low, high = int(z[0]), int(z[-1])
    top = high - int(_APEX * (high - low))
    lateral = int(np.ceil(middle + _MEDIAL_MM / spacing_mm[2]))
    backwards = _before_bone_mm(inner, tissue, bone, spacing_mm[1], axis=1)  # (z, x)
    behind = backwards[low : top + 1, max(lateral, 0) :]
    outwards = _before_bone_mm(inner, tissue, bone, spacing_mm[2], axis=2)  # (z, y)
    y = np.flatnonzero(inner.any(axis=(0, 2)))
    front = int(y[0]) + (int(y[-1]) - int(y[0])) // 4
    # What lies behind the lung is counted already.
    rows = slice(front, int(y[-1]) - (int(y[-1]) - int(y[0])) // 4)
    planes = slice(low + int(_BASE * (high - low)), top + 1)
    beside = outwards[planes, rows]

    def beyond_ml(wall_mm: float) -> float:
        areas = ((behind, spacing_mm[0] * spacing_mm[2]), (beside, spacing_mm[0] * spacing_mm[1]))
        return sum(float(np.maximum(mm - wall_mm, 0).sum()) * area for mm, area in areas) / 1000

    return beyond_ml(_WALL_MM), beyond_ml(_USUAL_WALL_MM)


def _before_bone_mm(
    lung: Mask, tissue: Mask, bone: Mask, step_mm: float, *, axis: int
) -> NDArray[np.float32]:
    """How much tissue a ray from the last voxel of `lung` along `axis` crosses before the first bone; 0 for
    rays that meet no lung or no bone.
    """
    beyond = ~np.flip(np.logical_or.accumulate(np.flip(lung, axis), axis=axis), axis)  # after the last voxel
    met = np.logical_or.accumulate(beyond & bone, axis=axis)
    between = (tissue & beyond & ~met).sum(axis=axis) * np.float32(step_mm)
    counted = lung.any(axis=axis) & met.take(-1, axis=axis) & (between < _RAY_MM)
    return np.where(counted, between, 0).astype(np.float32)


def _within_ml(hu: NDArray[np.float32], lung: Mask, spacing_mm: Spacing) -> float:
    """Dense lung in the outline that is wider than a vessel."""
    box = box_of(lung)
    dense = np.pad((hu[box] > _DENSE_HU) & lung[box], 1)
    if not dense.any():
        return 0.0
    core = depth_mm(dense, spacing_mm) > _THICK_MM
    return float((dilate(core, _THICK_MM, spacing_mm) & dense).sum()) * float(np.prod(spacing_mm)) / 1000


def _centre_x(lung: Mask) -> float:
    return float(np.flatnonzero(lung.any(axis=(0, 1))).mean())

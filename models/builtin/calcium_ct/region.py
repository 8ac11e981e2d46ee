"""
Where coronary arteries can be: the soft tissue between the lungs, from below the carina to the diaphragm,
without bone, airways, and the aorta beside the spine.

No model of the heart is behind it, so it is a region of geometry: it holds valves and the root of the aorta
too, and what lies outside it is not counted. Arrays are (z, y, x) on the working grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.builtin.calcium_ct.bones import Skeleton
from models.builtin.calcium_ct.view import View
from models.contract import NotForThisModel
from models.prepare.morphology import Mask, Spacing, components, convex_hull, dilate

_HEART_MM = 140.0  # from the lowest point of the region upwards: no heart is longer
_BELOW_CARINA_MM = 10.0  # The coronary arteries begin some centimetres lower.
_BELOW_DOME_MM = 35.0  # so far the heart reaches below the top of the right hemidiaphragm
_RIGHT_OF_SPINE_MM = 45.0  # Below the dome, the liver is what lies further to the right.
_BEHIND_MM, _AORTA_MM = 18.0, 34.0  # in front of the spine: gullet and nodes; where the aorta runs
_AORTA_FROM_MM, _AORTA_TO_MM = -15.0, 45.0  # to the left of the middle of the spine
_AIRWAY_MM = 6.0  # walls of bronchi and the nodes at them
_LUNG_CM2 = 5.0  # less on one side in a plane, and the hull says nothing
_REGION_ML = 60.0
_CORE_MM = 6.0
_NARROW = 0.6  # Above the heart, the space between the lungs is narrower than this share of its widest.


@dataclass(frozen=True, slots=True)
class Heart:
    """`mask` is where calcium counts; `tissue` all between the lungs at that height, its edge left out."""

    mask: Mask
    tissue: Mask
    lower_end_seen: bool
    upper_end_seen: bool


def dome(right: Mask) -> int | None:
    """The plane of the top of the right hemidiaphragm under the right lung; None where no lung ends there.

    The lung's lowest voxel in each column lies on the diaphragm. Only the lateral half of the lung is asked:
    further in, lung lies on the heart, too.
    """
    if not right.any():
        return None
    rows, columns = (np.flatnonzero(right.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    box = (
        slice(None),
        slice(rows[0] + height // 4, rows[-1] + 1 - height // 4),
        slice(columns[0] + width // 5, columns[0] + 3 * width // 5),
    )
    inner = right[box]
    over = inner.any(axis=0)
    lowest = inner.argmax(axis=0)
    ends = over & (lowest > 0)  # Lung in the lowest plane has no diaphragm below it.
    if ends.sum() < max(1, over.sum() / 4):
        return None
    smooth = ndimage.median_filter(lowest, 5)  # A vessel at the base is no diaphragm.
    return int(np.percentile(smooth[ends], 95))


def find_heart(hu: NDArray[np.float32], view: View, skeleton: Skeleton, spacing_mm: Spacing) -> Heart:
    """The region between the lungs. Raises `NotForThisModel` where there is none."""
    lungs, airways, carina = (view.right, view.left), view.airways, view.carina
    both = view.right | view.left
    step_z, step_y, step_x = spacing_mm
    top_of_dome = dome(view.right)
    bottom = 0 if top_of_dome is None else max(0, top_of_dome - round(_BELOW_DOME_MM / step_z))
    top = both.shape[0] if carina is None else carina - round(_BELOW_CARINA_MM / step_z)
    top = min(top, bottom + round(_HEART_MM / step_z), both.shape[0])
    between = np.zeros_like(both)
    for z in range(bottom, max(bottom, top)):
        if all(lung[z].sum() * step_y * step_x / 100 > _LUNG_CM2 for lung in lungs):
            # Lungs wrap around the heart, and the chord in front closes it.
            between[z] = convex_hull(both[z]) & ~both[z]
    if top_of_dome is not None:
        right = round(skeleton.middle_x - _RIGHT_OF_SPINE_MM / step_x)
        between[bottom:top_of_dome, :, : max(0, right)] = False
    tissue = _largest(between & (hu > -300))
    if float(tissue.sum()) * float(np.prod(spacing_mm)) / 1000 < _REGION_ML:
        raise NotForThisModel("The heart was not found between the lungs.")
    near = _near_the_spine(between.shape, skeleton, spacing_mm)
    mask = between & ~skeleton.mask & ~near
    if airways is not None and airways.any():
        mask &= ~dilate(airways, _AIRWAY_MM, spacing_mm)
    core = ndimage.binary_erosion(tissue, iterations=max(1, round(_CORE_MM / step_x)))
    areas = tissue.sum(axis=(1, 2))
    return Heart(
        mask=mask,
        # Blood with contrast medium is as bright as bone, and has to be seen here.
        tissue=core & ~near,
        lower_end_seen=top_of_dome is not None and top_of_dome * step_z > _BELOW_DOME_MM / 2,
        upper_end_seen=carina is not None or bool(areas[-2:].max() < _NARROW * areas.max()),
    )


def _near_the_spine(shape: tuple[int, ...], skeleton: Skeleton, spacing_mm: Spacing) -> Mask:
    """What lies behind: a band in front of the spine, deeper on the left, where the aorta descends."""
    _, step_y, step_x = spacing_mm
    rows = np.arange(shape[1])[None, :, None] * step_y
    left = (np.arange(shape[2])[None, None, :] - skeleton.middle_x) * step_x
    front = skeleton.front_y[:, None, None] * step_y
    band = rows > front - _BEHIND_MM
    aorta = (rows > front - _AORTA_MM) & (left > _AORTA_FROM_MM) & (left < _AORTA_TO_MM)
    return np.broadcast_to(band | aorta, shape)


def _largest(mask: Mask) -> Mask:
    labels, sizes = components(mask)
    return labels == sizes.argmax() if sizes.max() else np.zeros_like(mask)

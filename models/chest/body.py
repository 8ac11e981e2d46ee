"""
The body, with the air inside it.

All arrays are (z, y, x) on the working grid: z towards the head, y towards the back, x towards the patient's
left.
"""

import numpy as np
from numpy.typing import NDArray

from models.contract import NotForThisModel
from models.prepare.morphology import IN_PLANE, Mask, Spacing, components

TISSUE_HU = -500.0
_FINE_MM = 2.5
_EDGE_LUNG_HU, _EDGE_LUNG_SHARE, _EDGE_LUNG_ML = (-950.0, -600.0), 0.8, 30.0


def find_body(hu: NDArray[np.float32], spacing_mm: Spacing) -> Mask:
    """The body with the air inside it. Raises `NotForThisModel` where there is none.

    Images may be narrower than the chest: then lung reaches their edge, and is still inside.
    """
    tissue = _opened(hu > TISSUE_HU, spacing_mm)
    labels, sizes = components(tissue)
    if sizes.max() == 0:
        raise NotForThisModel("No body is in the images: they hold nothing but air.")
    planes, voxels = components(labels != sizes.argmax(), IN_PLANE)
    # Air is outside where, in its axial plane, it reaches the edge of the images.
    outside = np.zeros(voxels.size, np.bool_)
    for face in (planes[:, 0], planes[:, -1], planes[:, :, 0], planes[:, :, -1]):
        outside[face.ravel()] = True
    outside[0] = False
    outside &= ~_cut_lung(hu, planes, voxels, outside, float(np.prod(spacing_mm)) / 1000)
    return np.asarray(~outside[planes])


def _cut_lung(
    hu: NDArray[np.float32],
    planes: NDArray[np.int32],
    voxels: NDArray[np.int64],
    outside: NDArray[np.bool_],
    voxel_ml: float,
) -> NDArray[np.bool_]:
    """Of the numbers of `planes`, those that reach the edge and are not room air but lung.

    Room air is darker than lung, and tables and blankets are of many densities; lung is all of one.
    """
    like_lung = (hu > _EDGE_LUNG_HU[0]) & (hu < _EDGE_LUNG_HU[1])
    share = np.bincount(planes.ravel(), weights=like_lung.ravel(), minlength=voxels.size) / np.maximum(
        voxels, 1
    )
    cut = outside & (share > _EDGE_LUNG_SHARE)
    cut[0] = False
    enough = float(voxels[cut].sum()) * voxel_ml > _EDGE_LUNG_ML
    return cut if enough else np.zeros_like(cut)


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

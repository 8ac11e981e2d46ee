"""
The body as a shell: fat under the skin, and what the wall of the trunk encloses.

Fat is -190 to -30 HU and muscle -29 to 150 HU (Mitsiopoulos et al., J Appl Physiol 1998; Aubrey et al., Acta
Physiol 2014). What is not fat is joined plane by plane until it is one closed wall; fat outside of it is
subcutaneous. Arrays are (z, y, x) on the working grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.contract import NotForThisModel
from models.prepare.morphology import IN_PLANE, Mask, Spacing, components

FAT_HU = (-190.0, -30.0)
MUSCLE_HU = (-29.0, 150.0)
_AIR_HU = -250.0
_SKIN_MM = 4.0
_SHEET_MM = 3.0  # thinner strands in fat are no wall
_GAP_MM = 14.0  # fat between muscles of the wall
_CUT_SHARE = 0.02  # of the body's edge that may lie on the edge of the images


@dataclass(frozen=True, slots=True)
class Shell:
    """`inside` is what the wall encloses, wall included; both fats lie in `body`."""

    inside: Mask
    subcutaneous: Mask
    other_fat: Mask


def find_shell(hu: NDArray[np.float32], body: Mask, spacing_mm: Spacing) -> Shell:
    """Raises `NotForThisModel` where no wall is found."""
    pixel = float(min(spacing_mm[1:]))
    within = _eroded(body, _SKIN_MM / pixel)
    dense = within & ((hu > FAT_HU[1]) | (hu < _AIR_HU))
    dense = _dilated(_eroded(dense, _SHEET_MM / pixel), _SHEET_MM / pixel) & dense
    labels, sizes = components(dense)
    if sizes.max() == 0:
        raise NotForThisModel("No wall of the trunk was found under the skin.")
    wall = labels == sizes.argmax()
    steps = _GAP_MM / 2 / pixel
    inside = _eroded(_filled(_dilated(wall, steps)), steps) | _filled(wall)
    inside &= body
    fat = (hu >= FAT_HU[0]) & (hu <= FAT_HU[1]) & body
    return Shell(inside=inside, subcutaneous=fat & ~inside, other_fat=fat & inside)


def cut_at_the_sides(body: Mask) -> bool:
    """Whether the images are narrower than the body, so that fat under the skin is missing."""
    edge = body[:, 0].sum() + body[:, -1].sum() + body[:, :, 0].sum() + body[:, :, -1].sum()
    rim = body & ~_eroded(body, 1)
    return bool(edge > _CUT_SHARE * rim.sum())


def _eroded(mask: Mask, steps: float) -> Mask:
    return np.asarray(ndimage.binary_erosion(mask, IN_PLANE, max(1, round(steps)), border_value=1))


def _dilated(mask: Mask, steps: float) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, IN_PLANE, max(1, round(steps))))


def _filled(mask: Mask) -> Mask:
    """Holes filled in every axial plane."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])

"""
When not to search, and what to say next to what was found.

A refusal (`NotForThisModel`) is for images in which a nodule could not be told from anything else; a caution
is for a search that says less than it seems. Both are sentences for the radiologist who reads the report.
"""

from collections.abc import Mapping

import numpy as np

from models.chest.anatomy import Chest
from models.contract import NotForThisModel
from models.ct import refuse_coarse_pixels, refuse_coarse_slices, refuse_no_ct
from models.manifest import Input

_PLANE_MAX_MM = 3.0  #: across rows and columns: coarser pixels show no nodule
_THICK_MM = 4.0  #: what is no thicker is searched for small nodules, too
THICK_LEAST_MM = 8.0  #: the smallest nodule that is reported on thicker slices
_FINE_MM = 2.5  #: thicker slices blur small nodules
_LUNGS_ML = (300.0, 10_000.0)  # both together, or what the images hold of them
_MEAN_HU = (-960.0, -450.0)
_CUT_SHARE = 0.15  # of the largest axial area of the lungs, in the first or last plane: a part is missing


def refuse_unsuitable(
    headers: Mapping[str, str], wanted: Input, shape: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> None:
    """Refuse what is no chest CT by its headers and grid; `spacing_mm` is (slice, row, column)."""
    refuse_no_ct(headers, wanted, shape, to="search the lungs")
    refuse_coarse_slices(wanted, spacing_mm, to="search for nodules")
    refuse_coarse_pixels(spacing_mm, _PLANE_MAX_MM, for_what="to search for nodules")


def refuse_implausible(chest: Chest) -> None:
    """Refuse what is no pair of lungs, or only their bases on an abdomen."""
    lungs_ml = float(np.count_nonzero(chest.lungs)) * float(np.prod(chest.spacing_mm)) / 1000
    if not _LUNGS_ML[0] <= lungs_ml <= _LUNGS_ML[1]:
        raise NotForThisModel(
            f"The lungs would measure {lungs_ml:.0f} ml, which is outside {_LUNGS_ML[0]:.0f} to "
            f"{_LUNGS_ML[1]:.0f} ml: the outline cannot be trusted."
        )
    mean_hu = float(chest.hu[chest.lungs].mean(dtype=np.float64))
    if not _MEAN_HU[0] <= mean_hu <= _MEAN_HU[1]:
        raise NotForThisModel(
            f"The lungs would have a mean of {mean_hu:.0f} HU, which is outside {_MEAN_HU[0]:.0f} to "
            f"{_MEAN_HU[1]:.0f} HU: the outline cannot be trusted."
        )
    areas = chest.lungs.sum(axis=(1, 2))
    if not chest.airways.found and areas[-1] > _CUT_SHARE * areas.max():
        raise NotForThisModel(
            "Only the lower part of the lungs is in the images: their upper end is cut off, and there is no "
            "trachea."
        )


def least_mm(asked_mm: float, slice_mm: float) -> float:
    """The smallest nodule that is reported."""
    return asked_mm if slice_mm <= _THICK_MM else max(asked_mm, THICK_LEAST_MM)


def thickness_mm(headers: Mapping[str, str], spacing_mm: tuple[float, ...]) -> float:
    """Of the slices: as they are apart, or as thick as they are said to be."""
    try:
        said = float(headers.get("SliceThickness", ""))
    except ValueError:
        said = 0.0
    return max(spacing_mm[0], said if np.isfinite(said) else 0.0)


def cautions(chest: Chest, headers: Mapping[str, str]) -> list[str]:
    """What a reader must know of this search."""
    said = list(chest.cautions)
    thick = thickness_mm(headers, chest.volume.spacing)
    if thick > _THICK_MM:
        said.append(
            f"The slices are {thick:.1f} mm thick: only nodules of {THICK_LEAST_MM:g} mm or more were looked "
            "for, and their sizes are rough."
        )
    elif thick > _FINE_MM:
        said.append(
            f"The slices are {thick:.1f} mm thick: small nodules may be missed, and volumes are rough."
        )
    areas = chest.lungs.sum(axis=(1, 2))
    for area, end in ((areas[-1], "upper"), (areas[0], "lower")):
        if area > _CUT_SHARE * areas.max():
            said.append(f"A part of the lungs is beyond the {end} end of the images and was not searched.")
    return said

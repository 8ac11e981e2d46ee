"""
When to say nothing, and what to say next to a number.

A refusal (`NotForThisModel`) is for images of which a volume would be wrong; a caution is for a number that
is right but means less than it seems. Both are sentences for the radiologist who reads the report.
"""

from collections.abc import Mapping

import numpy as np

from models.builtin.lung_ct.measure import value_of
from models.contract import NotForThisModel
from models.manifest import Input
from models.prepare.morphology import Mask, Spacing
from results.codes import ATTENUATION, VOLUME
from results.findings import Segment

_LUNG_ML = (400.0, 5000.0)
_RIGHT_TO_LEFT = (0.4, 2.5)
_MEAN_HU = (-950.0, -500.0)
_PLANE_MAX_MM = 5.0  #: across rows and columns; coarser is no diagnostic CT
_CUT_SHARE = (
    0.15  # of the largest axial area of the lungs, seen in the first or last plane: a part is missing
)
_TOUCH_CM2 = 1.0
_THIN_MM = 3.0  #: thickest slices on which LAA-950 and Perc15 are compared


def refuse_unsuitable(
    headers: Mapping[str, str], wanted: Input, shape: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> None:
    """Refuse what is no chest CT by its headers and grid; `spacing_mm` is (slice, row, column)."""
    modality = headers.get("Modality", "")
    if modality not in wanted.modality:
        raise NotForThisModel(
            "This model reads CT in Hounsfield units; the modality of these images is "
            f"{modality or 'not stated'}."
        )
    if len(shape) != 3:
        raise NotForThisModel("These images are in colour; this model reads CT in Hounsfield units.")
    if shape[0] < wanted.minimum_slices:
        raise NotForThisModel(
            f"The series has {shape[0]} slice{'s' * (shape[0] > 1)}; at least {wanted.minimum_slices} are "
            "needed to see whole lungs."
        )
    if wanted.spacing_max_mm is not None and spacing_mm[0] > wanted.spacing_max_mm:
        raise NotForThisModel(
            f"The slices are {spacing_mm[0]:.1f} mm apart; more than {wanted.spacing_max_mm:g} mm is too "
            "coarse to measure lungs."
        )
    if max(spacing_mm[1:]) > _PLANE_MAX_MM:
        raise NotForThisModel(
            f"The pixels are {max(spacing_mm[1:]):.1f} mm wide; more than {_PLANE_MAX_MM:g} mm is too coarse "
            "to measure lungs."
        )


def coverage_cautions(lungs: Mask, spacing_mm: Spacing) -> list[str]:
    """Refuse lungs that the images cut off; `lungs` is (z, y, x) on the working grid, both together."""
    step_z, step_y, step_x = spacing_mm
    areas = lungs.sum(axis=(1, 2)) * step_y * step_x / 100  # cm² in each axial plane
    cautions = []
    for area, end in ((areas[-1], "upper"), (areas[0], "lower")):
        if area > _CUT_SHARE * areas.max():
            raise NotForThisModel(
                f"Only a part of the lungs is in the images: {area:.0f} cm² of lung are cut off at the "
                f"{end} end (largest axial area {areas.max():.0f} cm²)."
            )
        if area > _TOUCH_CM2:
            cautions.append(
                f"The {end} end of the images cuts off a little of the lungs ({area:.0f} cm²); the volume is "
                "slightly too small."
            )
    front_and_back = (lungs[:, 0].sum() + lungs[:, -1].sum()) * step_x
    sides = (lungs[:, :, 0].sum() + lungs[:, :, -1].sum()) * step_y
    if (cut := float(front_and_back + sides) * step_z / 100) > _TOUCH_CM2:
        raise NotForThisModel(
            f"Only a part of the lungs is in the images: {cut:.0f} cm² of lung are cut off at the sides."
        )
    return cautions


def refuse_implausible(right: Segment, left: Segment) -> None:
    """Refuse measurements that no pair of lungs has."""
    for segment in (right, left):
        volume, mean = value_of(segment, VOLUME), value_of(segment, ATTENUATION)
        if not _LUNG_ML[0] <= volume <= _LUNG_ML[1]:
            raise NotForThisModel(
                f"{segment.label} would measure {volume:.0f} ml, which is outside {_LUNG_ML[0]:.0f} to "
                f"{_LUNG_ML[1]:.0f} ml: the outline cannot be trusted."
            )
        if not _MEAN_HU[0] <= mean <= _MEAN_HU[1]:
            raise NotForThisModel(
                f"{segment.label} would have a mean of {mean:.0f} HU, which is outside {_MEAN_HU[0]:.0f} to "
                f"{_MEAN_HU[1]:.0f} HU: the outline cannot be trusted."
            )
    ratio = value_of(right, VOLUME) / value_of(left, VOLUME)
    if not _RIGHT_TO_LEFT[0] <= ratio <= _RIGHT_TO_LEFT[1]:
        raise NotForThisModel(
            f"The right lung would be {ratio:.1f} times as large as the left, which is outside "
            f"{_RIGHT_TO_LEFT[0]} to {_RIGHT_TO_LEFT[1]}: the outlines cannot be trusted."
        )


def density_cautions(headers: Mapping[str, str], slice_mm: float) -> list[str]:
    """What makes LAA-950 and Perc15 of this series not comparable."""
    thickness = max(slice_mm, _number(headers.get("SliceThickness", "")))
    cautions = []
    if thickness > _THIN_MM:
        cautions.append(
            f"The slices are {thickness:.1f} mm thick: LAA-950 and Perc15 are not comparable with values "
            "from thin slices."
        )
    kernel = headers.get("ConvolutionKernel", "")
    if is_sharp(kernel):
        cautions.append(
            f"The images were made with a sharp kernel ({kernel}): LAA-950 is too high and Perc15 too low "
            "compared with a smooth kernel."
        )
    if headers.get("ContrastBolusAgent", "").strip().lower() not in ("", "no", "none"):
        cautions.append("Contrast medium was given: lung density is higher than without.")
    return cautions


def is_sharp(kernel: str) -> bool:
    """Whether a Convolution Kernel (0018,1210) is edge-enhancing, as the large vendors name them.

    Siemens B/H/I/Br/Bl/Bv… with numbers from 50 on (B50f, Bl57d); GE BONE, LUNG, EDGE, DETAIL; Philips YC,
    YD, E, L, D; Toshiba and Canon FC30 to FC39, FC50 to FC59 and FC80 to FC89.
    """
    words = kernel.upper().replace("[", " ").replace("'", " ").replace("\\", " ").split()
    if not words:
        return False
    name = words[0]  # a second value is the strength of iterative reconstruction
    digits = "".join(character for character in name if character.isdigit())
    if name.startswith("FC") and digits:
        return int(digits) // 10 in (3, 5, 8)
    if name.startswith(("BONE", "LUNG", "EDGE", "DETAIL", "ULTRA")) or name in (
        "YC",
        "YD",
        "YE",
        "E",
        "L",
        "D",
    ):
        return True
    return name[0] in "BHIQT" and len(digits) >= 2 and int(digits[:2]) >= 50


def _number(text: str) -> float:
    """The number in a Decimal String, 0 where there is none."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if np.isfinite(value) else 0.0

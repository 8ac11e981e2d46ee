"""
When to say nothing, and what to say next to a number.

A refusal (`NotForThisModel`) is for images of which no outline can be trusted. Where an outline is right but
is not all of a lung, what would be wrong of it is left out and a caution says so. A caution stands, too,
beside a number that is right but means less than it seems. All are sentences for the radiologist who reads
the report.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.builtin.lung_ct.measure import LABEL, Whole
from models.chest.anatomy import LEFT, RIGHT, Chest
from models.chest.opacity import AT_WALL_ML, WITHIN_ML, Opacity
from models.contract import NotForThisModel
from models.ct import contrast_given, refuse_coarse_pixels, refuse_coarse_slices, refuse_no_ct
from models.headers import number
from models.manifest import Input

_LUNG_ML = (400.0, 5000.0)
_RIGHT_TO_LEFT = (0.4, 2.5)
_USUAL_RATIO = (0.85, 1.6)
_MEAN_HU = (-950.0, -500.0)
_PLANE_MAX_MM = 5.0  #: across rows and columns; coarser is no diagnostic CT
_NAME = {RIGHT: "right", LEFT: "left"}
_NOISE_HU = 45.0  #: in the trachea; above it, noise alone moves ordinary lung below -950 HU
_THIN_MM = 3.0  #: thickest slices on which LAA-950 and Perc15 are compared


def refuse_unsuitable(
    headers: Mapping[str, str], wanted: Input, shape: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> None:
    """Refuse what is no chest CT by its headers and grid; `spacing_mm` is (slice, row, column)."""
    refuse_no_ct(headers, wanted, shape, to="see whole lungs")
    refuse_coarse_slices(wanted, spacing_mm, to="measure lungs")
    refuse_coarse_pixels(spacing_mm, _PLANE_MAX_MM, for_what="to measure lungs")


@dataclass(frozen=True, slots=True)
class Judged:
    """What may be said of one lung, and the sentences that must stand beside it."""

    whole: bool  #: the images hold all of it, so that thirds are known
    outlined: bool  #: and nothing dense has taken the place of lung, so that its volume is the lung's
    cautions: tuple[str, ...]


def judge(chest: Chest, side: int) -> Judged:
    """What may be said of the lung `side`."""
    coverage, opacity, name = chest.coverage(side), chest.opacity(side), _NAME[side]
    cautions = []
    if coverage.cut:
        ends = " and ".join(f"{area:.0f} cm2 at the {end}" for end, area in coverage.cut.items())
        cautions.append(
            f"Only a part of the {name} lung is in the images: {ends} are cut off. It has no volume and no "
            "thirds here, and its densities are those of the part that is seen."
        )
    for end, area in coverage.touched.items():
        cautions.append(
            f"The {end} end of the images cuts off a little of the {name} lung ({area:.0f} cm2); its volume "
            "is slightly too small."
        )
    if opacity.displaces:
        cautions.append(_displaced(name, opacity))
    if opacity.layered:
        cautions.append(
            f"A thin layer of dense tissue, about {opacity.layer_ml:.0f} ml as far as it is seen, lies "
            f"between the {name} lung and the ribs (a small effusion, thickened pleura or dense lung): the "
            "volume is that of the aerated lung."
        )
    if opacity.within_ml > WITHIN_ML:
        cautions.append(
            f"About {opacity.within_ml:.0f} ml of dense tissue lie within the outline of the {name} lung "
            "(consolidation, collapse or a mass): its densities are not those of aerated lung."
        )
    return Judged(coverage.whole, coverage.whole and not opacity.displaces, tuple(cautions))


def _displaced(name: str, opacity: Opacity) -> str:
    if opacity.at_wall_ml > AT_WALL_ML:
        seen = f"About {opacity.at_wall_ml:.0f} ml of dense tissue lie between the {name} lung and the ribs"
    else:
        seen = f"The {name} lung ends {opacity.raised_mm:.0f} mm higher than the other"
    return (
        f"{seen} (effusion, consolidation or collapse): this is not in the outline. The lung has no volume "
        "here, and its densities are those of its aerated part."
    )


def size_cautions(right: Whole, left: Whole) -> list[str]:
    """What is said of two whole lungs of which one is unusually small beside the other."""
    ratio = right.volume_ml / left.volume_ml
    if not (right.has_volume and left.has_volume) or _USUAL_RATIO[0] <= ratio <= _USUAL_RATIO[1]:
        return []
    small = "right" if ratio < 1 else "left"
    return [
        f"The right lung measures {ratio:.2f} times the left, usual is {_USUAL_RATIO[0]} to "
        f"{_USUAL_RATIO[1]}: the {small} lung has lost volume, or dense lung (collapse, a mass at the hilum) "
        "is not in its outline."
    ]


def refuse_implausible(right: Whole, left: Whole) -> None:
    """Refuse what no pair of lungs measures. Of a lung that is not whole, only too much is implausible."""
    for lung in (right, left):
        label, volume = LABEL[lung.number], lung.volume_ml
        lowest = _LUNG_ML[0] if lung.has_volume else 0.0
        if not lowest <= volume <= _LUNG_ML[1]:
            raise NotForThisModel(
                f"{label} would measure {volume:.0f} ml, which is outside {_LUNG_ML[0]:.0f} to "
                f"{_LUNG_ML[1]:.0f} ml: the outline cannot be trusted."
            )
        mean = float(lung.hu.mean(dtype=np.float64))
        if not _MEAN_HU[0] <= mean <= _MEAN_HU[1]:
            raise NotForThisModel(
                f"{label} would have a mean of {mean:.0f} HU, which is outside {_MEAN_HU[0]:.0f} to "
                f"{_MEAN_HU[1]:.0f} HU: the outline cannot be trusted."
            )
    ratio = right.volume_ml / left.volume_ml
    if right.has_volume and left.has_volume and not _RIGHT_TO_LEFT[0] <= ratio <= _RIGHT_TO_LEFT[1]:
        raise NotForThisModel(
            f"The right lung would be {ratio:.1f} times as large as the left, which is outside "
            f"{_RIGHT_TO_LEFT[0]} to {_RIGHT_TO_LEFT[1]}: the outlines cannot be trusted."
        )


def density_cautions(headers: Mapping[str, str], slice_mm: float, noise_hu: float | None) -> list[str]:
    """What makes LAA-950 and Perc15 of this series not comparable; `noise_hu` is the deviation in air."""
    thickness = max(slice_mm, number(headers.get("SliceThickness", "")))
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
    elif noise_hu is not None and noise_hu > _NOISE_HU:
        cautions.append(
            f"The images are noisy or sharpened (air in the trachea varies by {noise_hu:.0f} HU): LAA-950 is "
            "too high and Perc15 too low compared with smooth images."
        )
    if contrast_given(headers):
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

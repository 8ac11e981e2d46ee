"""
When there is no score, and what to say beside one.

A refusal (`NotForThisModel`) is for images of which a category would be wrong; a caution is for one that
means less than it seems.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.builtin.calcium_ct.scoring import LIMITS_HU, THIN_MM, Limits
from models.contract import NotForThisModel
from models.ct import contrast_given, refuse_coarse_pixels, refuse_no_ct
from models.headers import number
from models.manifest import Input
from models.prepare.morphology import Mask, Spacing

FULL_SCORE_MM = 3.0  #: thickest slices of a gated scan whose score is said as a number
_ROUNDING = 0.02
_PIXEL_MAX_MM = 1.5
_BLOOD_HU = 100.0  # Blood without contrast medium is below 70.
_BLOOD_ML = 15.0  # so much of it, and it is no calcium
_NOISE_HU = (25.0, 45.0)  # said; refused: at three deviations noise alone would reach the limit


def refuse_unsuitable(
    headers: Mapping[str, str], wanted: Input, shape: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> None:
    """Refuse by headers and grid; `spacing_mm` is (slice, row, column), axial."""
    refuse_no_ct(headers, wanted, shape, to="see the heart")
    thickness = max(spacing_mm[0], number(headers.get("SliceThickness", "")))
    if wanted.spacing_max_mm is not None and thickness > wanted.spacing_max_mm + _ROUNDING:
        raise NotForThisModel(
            f"The slices are {thickness:.1f} mm thick or apart; more than {wanted.spacing_max_mm:g} mm hides "
            "small calcifications."
        )
    refuse_coarse_pixels(spacing_mm, _PIXEL_MAX_MM, for_what="for lesions of 1 mm2")
    refuse_contrast(headers)


def refuse_contrast(headers: Mapping[str, str]) -> None:
    """Refuse where the headers say that a contrast medium was given."""
    if contrast_given(headers):
        raise NotForThisModel("Contrast medium was given: in the vessels it cannot be told from calcium.")


def limits_of(headers: Mapping[str, str]) -> Limits:
    """The limits for the tube voltage of the series. Raises `NotForThisModel`."""
    kvp = number(headers.get("KVP", ""))
    if kvp <= 0:
        raise NotForThisModel(
            "The images do not say their tube voltage (KVP), which decides from which HU on calcium counts."
        )
    if (found := LIMITS_HU.get(round(kvp))) is None or abs(kvp - round(kvp)) > 0.5:
        known = ", ".join(str(one) for one in LIMITS_HU)
        raise NotForThisModel(f"The tube voltage is {kvp:g} kV; limits for calcium are known for {known} kV.")
    return found


def refuse_enhanced(hu: NDArray[np.float32], tissue: Mask, lowest_hu: float, spacing_mm: Spacing) -> None:
    """Refuse where the blood between the lungs is too bright, whatever the headers say; (z, y, x)."""
    if not tissue.any():
        return
    bright = (ndimage.uniform_filter(hu, 3) > min(_BLOOD_HU, lowest_hu)) & tissue
    # Calcium is bright in small pieces; what stays after 4 mm are taken off all around is blood.
    core = ndimage.binary_erosion(bright, iterations=max(1, round(4.0 / spacing_mm[2])))
    kept = ndimage.binary_propagation(core, mask=bright)
    millilitres = float(kept.sum()) * float(np.prod(spacing_mm)) / 1000
    if millilitres > _BLOOD_ML:
        raise NotForThisModel(
            f"The blood seems to be enhanced ({millilitres:.0f} ml between the lungs are above "
            f"{min(_BLOOD_HU, lowest_hu):.0f} HU): with contrast medium calcium cannot be told."
        )


def noise_of(hu: NDArray[np.float64], inside: Mask) -> float:
    """The deviation from pixel to pixel in soft tissue of one plane (y, x), by the median: no edges."""
    tissue = inside[:, 2:] & inside[:, :-2]
    apart = np.abs(hu[:, 2:] - hu[:, :-2])[tissue]
    return float(np.median(apart)) / 0.6745 / np.sqrt(2.0) if apart.size > 100 else 0.0


def noise_cautions(noise_hu: float) -> list[str]:
    """Refuse noise that would be scored, and say what is near it."""
    if noise_hu > _NOISE_HU[1]:
        raise NotForThisModel(
            f"The images are too noisy ({noise_hu:.0f} HU in the heart; at most {_NOISE_HU[1]:.0f}): noise "
            "would count as calcium."
        )
    if noise_hu > _NOISE_HU[0]:
        return [f"The images are noisy ({noise_hu:.0f} HU in the heart): noise may count as calcium."]
    return []


def thickness_cautions(thickness_mm: float, *, gated: bool) -> list[str]:
    """What the thickness of the slices does to the result."""
    if thickness_mm > FULL_SCORE_MM + _ROUNDING:
        return [
            f"The slices are {thickness_mm:.1f} mm thick and the score is made for 3 mm: small "
            "calcifications are missed" + (", so only the category is given." if gated else ".")
        ]
    if thickness_mm < THIN_MM:
        return [f"Slices of {thickness_mm:.2g} mm were averaged to about 3 mm before scoring."]
    return []

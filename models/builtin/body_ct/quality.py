"""When to say nothing of a body, and what to say beside a number."""

from collections.abc import Mapping

from models.contract import NotForThisModel
from models.ct import contrast_given, refuse_coarse_pixels, refuse_no_ct
from models.headers import number
from models.manifest import Input

_PLANE_MAX_MM = 5.0
_BONE_SLICES_MM = 5.0  #: thicker slices mix vertebral bodies with discs
_USUAL_KVP = 120.0


def refuse_unsuitable(
    headers: Mapping[str, str], wanted: Input, shape: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> None:
    """Refuse what is no CT of a trunk by its headers and grid; `spacing_mm` is (slice, row, column)."""
    refuse_no_ct(headers, wanted, shape)
    if wanted.spacing_max_mm is not None and spacing_mm[0] > wanted.spacing_max_mm:
        raise NotForThisModel(
            f"The slices are {spacing_mm[0]:.1f} mm apart; at most {wanted.spacing_max_mm:g} mm are asked."
        )
    refuse_coarse_pixels(spacing_mm, _PLANE_MAX_MM)


def cautions(headers: Mapping[str, str]) -> list[str]:
    """What makes the numbers of this series not comparable with others."""
    said = []
    kvp = number(headers.get("KVP", ""))
    if kvp <= 0:
        said.append("The images do not say their tube voltage: HU of bone and fat depend on it.")
    elif abs(kvp - _USUAL_KVP) >= 0.5:
        said.append(
            f"The tube voltage is {kvp:g} kV: HU of bone and fat do not compare with those at 120 kV."
        )
    if contrast_given(headers):
        said.append("Contrast medium was given: bone and muscle are denser than without.")
    return said


def too_thick_for_bone(spacing_mm: float, headers: Mapping[str, str]) -> bool:
    """Whether a slice is so thick that it holds a disc beside a vertebral body."""
    return max(spacing_mm, number(headers.get("SliceThickness", ""))) > _BONE_SLICES_MM

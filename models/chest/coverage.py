"""
How much of a lung the images hold: what they cut off at their ends and at their sides.

All arrays are (z, y, x) on the working grid, z towards the head. Areas are of the lung in the outermost plane
of the images; where it is small beside the lung's largest axial area, next to nothing is missing.
"""

from dataclasses import dataclass

from models.prepare.morphology import Mask, Spacing

_CUT_SHARE = 0.15  # of the largest axial area, seen in the first or last plane: a part is missing
_TOUCH_CM2 = 1.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """Areas in cm² of one lung, or of both, that the edge of the images cuts through."""

    upper_cm2: float
    lower_cm2: float
    sides_cm2: float
    largest_cm2: float  #: largest axial area

    @property
    def cut(self) -> dict[str, float]:
        """Where a part is missing, with its area."""
        ends = {"upper end": self.upper_cm2, "lower end": self.lower_cm2}
        cut = {end: area for end, area in ends.items() if area > _CUT_SHARE * self.largest_cm2}
        return cut | ({"sides": self.sides_cm2} if self.sides_cm2 > _TOUCH_CM2 else {})

    @property
    def touched(self) -> dict[str, float]:
        """Where next to nothing is missing, with its area."""
        ends = {"upper": self.upper_cm2, "lower": self.lower_cm2}
        return {end: area for end, area in ends.items() if _TOUCH_CM2 < area <= _CUT_SHARE * self.largest_cm2}

    @property
    def whole(self) -> bool:
        """Whether next to nothing is missing."""
        return not self.cut


def coverage_of(lung: Mask, spacing_mm: Spacing) -> Coverage:
    """What the edge of the images cuts off of `lung`, which is not empty."""
    step_z, step_y, step_x = spacing_mm
    areas = lung.sum(axis=(1, 2)) * step_y * step_x / 100  # cm² in each axial plane
    front_and_back = (lung[:, 0].sum() + lung[:, -1].sum()) * step_x
    sides = (lung[:, :, 0].sum() + lung[:, :, -1].sum()) * step_y
    return Coverage(
        upper_cm2=float(areas[-1]),
        lower_cm2=float(areas[0]),
        sides_cm2=float(front_and_back + sides) * step_z / 100,
        largest_cm2=float(areas.max()),
    )

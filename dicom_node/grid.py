"""Do the slices of a series fill a regular grid? Then nothing is missing between the first and the last.

Geometry cannot see what is missing at the ends. So it is believed only of a stack that is long enough, whose
Instance Numbers, where they are given, begin with the first and leave none out, and after a pause.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from dicom_node.series_facts import SeriesFacts, main_stack, places_mm

_SLICES_MINIMUM = 10  # Scouts and key images come in ones and threes, and are as regular as chance has it.
_TOLERANCE = 0.05  # Of the spacing: positions are rounded when they are written.
_SAME_MM = 1e-3


@dataclass(frozen=True, slots=True)
class Grid:
    """What the geometry of a series says."""

    regular: bool
    because: str
    gap: bool = False  #: Something is missing between two slices.


def grid_of(series: SeriesFacts) -> Grid:
    """Whether the slices stand evenly along their normal, with no gap and none twice."""
    doubt = _cannot_say(series)
    if doubt:
        return Grid(False, doubt)
    steps = [after - before for before, after in pairwise(places_mm(main_stack(series.instances)))]
    spacing = median(steps)
    if min(steps) < max(_SAME_MM, spacing * _TOLERANCE):
        return Grid(False, "several slices stand at one place, or nearly")
    widest = max(steps)
    if widest > spacing * (1 + _TOLERANCE) + _SAME_MM:
        return Grid(
            False, f"there is a gap of {widest:.2f} mm between slices {spacing:.2f} mm apart", gap=True
        )
    if min(steps) < spacing * (1 - _TOLERANCE) - _SAME_MM:
        return Grid(False, f"the slices stand {min(steps):.2f} to {widest:.2f} mm apart")
    numbers = _numbers([instance.instance_number for instance in series.instances])
    evenly = f"{len(series.instances)} slices stand evenly, {spacing:.2f} mm apart, {numbers}"
    return Grid(not numbers.startswith("but"), evenly)


def _cannot_say(series: SeriesFacts) -> str:
    """Why geometry has nothing to say of a series; empty where it has."""
    if "LOCALIZER" in series.headers.get("ImageType", "").upper().split("\\"):
        return "a localizer: its geometry says nothing"
    if series.multi_frame:
        return "multi-frame: its slices came all at once"
    if len(series.instances) < _SLICES_MINIMUM:
        return f"fewer than {_SLICES_MINIMUM} images: their geometry says nothing"
    if series.stack < len(series.instances):
        outside = len(series.instances) - series.stack
        return f"{outside} of {len(series.instances)} images stand outside of one stack"
    return ""


def _numbers(numbers: Sequence[int | None]) -> str:
    """What the Instance Numbers add; it begins with "but" where they contradict."""
    given = sorted({number for number in numbers if number is not None})
    if not given:
        return "and have no instance numbers"
    if len(given) < len(numbers):
        return "but instance numbers occur twice or are left out"
    if given[0] > 1 or given[-1] - given[0] + 1 > len(given):
        return f"but of the instance numbers 1 to {given[-1]} only {len(given)} are here"
    return f"numbered {given[0]} to {given[-1]} without a gap"

"""
Which side of a picture is which side of the patient: R, L, A, P, H and F at its edges.

From the direction cosines, never from how the patient is said to have lain: a feet-first or a tilted series
is right by arithmetic (PS3.3 §C.7.6.2.1.1: +x is the patient's left, +y the back, +z the head). A slanted
edge has two letters or three, the nearest first, as PS3.3 §C.7.6.1.1.1 has them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from results.grid import Grid
from results.source import Source

_TOWARDS = (("L", "R"), ("P", "A"), ("H", "F"))
_OPPOSITE = str.maketrans("RLAPHF", "LRPAFH")
#: Less than 11° towards a side is no letter of its own.
_LEAST_COSINE = 0.2


@dataclass(frozen=True, slots=True)
class Sides:
    """What is at the edges of a picture; empty where nobody knows."""

    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""


def sides_of(source: Source, grid: Grid) -> Sides:
    """The sides of every plane of the grid; of an image without a place, what its header says."""
    if grid.place is not None:
        cosines = [float(v) for v in grid.place.orientation]
        return _sides(letters(cosines[:3]), letters(cosines[3:]))
    said = source.first.get("PatientOrientation") or ("", "")
    along = ["".join(c for c in str(one).upper() if c in "RLAPHF") for one in said]
    return _sides(along[0], along[1]) if len(along) == 2 else Sides()


def letters(direction: Iterable[float]) -> str:
    """The letters of a direction in the patient, LPS: (1, 0, 0) is "L"."""
    named = [
        (abs(share), pair[0] if share > 0 else pair[1])
        for share, pair in zip(direction, _TOWARDS, strict=True)
    ]
    return "".join(letter for share, letter in sorted(named, reverse=True) if share > _LEAST_COSINE)


def _sides(row: str, column: str) -> Sides:
    """From where a row and a column lead to."""
    return Sides(left=row.translate(_OPPOSITE), right=row, top=column.translate(_OPPOSITE), bottom=column)

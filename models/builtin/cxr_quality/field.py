"""
The field of a radiograph: what is left of the image without the flat margins that collimators, shutters and
the edges of a detector leave.

A margin is flat from the edge of the image inwards. A white one got no X-rays; a black one is a shutter that
the unit drew, or the full beam beside the body: which of the two, no picture can tell.
Planes are (row, column).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.images.grid import Plane

_FLAT = 0.05  # of the image's own range: so little varies along a line of a margin
_SAME = 0.15  # of that range: so far is a line of a margin from the outermost one
_MARGIN_MAX = 0.35  # of a side: more is no margin
_STEP = 3  # lines on either side among which the edge is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Rows and columns of the field; the last ones are not included."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """To cut the field out of its plane."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def share_of(self, shape: tuple[int, ...]) -> float:
        """Its part of the image, 0 to 1."""
        return (self.bottom - self.top) * (self.right - self.left) / (shape[0] * shape[1])

    def margins(self, shape: tuple[int, ...]) -> dict[str, int]:
        """How many lines were left out at each edge of the image that has a margin."""
        widths = {
            "upper": self.top,
            "lower": shape[0] - self.bottom,
            "left": self.left,
            "right": shape[1] - self.right,
        }
        return {side: width for side, width in widths.items() if width > 0}


def find_field(plane: Plane) -> Field:
    """The field of an image, the whole image where it has no flat margins."""
    low, high = np.percentile(plane, (1, 99))
    scale = float(high - low) or 1.0
    top, bottom = _ends(plane, scale)
    # Columns are asked between the rows that were found, so that a margin above does not count in them.
    left, right = _ends(plane[top:bottom].T, scale)
    return Field(top=top, bottom=bottom, left=left, right=right)


def _ends(lines: NDArray[np.float32], scale: float) -> tuple[int, int]:
    """First line within, first line beyond. Of each line the outermost tenths of its values are not asked:
    letters and side markers in a margin are few pixels.
    """
    levels = np.percentile(lines, (10, 50, 90), axis=1)
    return _first(levels, scale), len(lines) - _first(levels[:, ::-1], scale)


def _first(levels: NDArray[np.floating], scale: float) -> int:
    low, middle, high = levels
    margin = (high - low < _FLAT * scale) & (np.abs(middle - middle[0]) < _SAME * scale)
    first = int(np.argmin(margin))
    if margin.all() or not 0 < first <= _MARGIN_MAX * len(middle):
        return 0
    # Blur widens the edge: it lies where the step from line to line is largest.
    start = max(0, first - _STEP)
    steps = np.abs(np.diff(levels[:, start : first + _STEP + 1], axis=1)).sum(axis=0)
    return start + int(steps.argmax()) + 1

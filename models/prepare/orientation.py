"""
Any array seen as a patient: axes z, y, x that run towards head, back and left.

A canonical view shares the voxels of the array it is made from, so writing into the view of an empty label
map puts every label where the source images want it, and no answer has to be turned back.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

_LPS_OF_CANONICAL = (2, 1, 0)  # canonical axis 0 (z) is LPS component 2, and so on


@dataclass(frozen=True, slots=True)
class Canonical:
    """How the axes (slice, row, column) of one grid become (z, y, x) towards head, back and left.

    Oblique grids take the nearest axes: up to 45° off, "towards the head" is still the right word.
    """

    source_axes: tuple[int, int, int]  #: for z, y, x: the source axis that runs along it
    reversed: tuple[bool, bool, bool]  #: for z, y, x: whether the source axis runs the other way
    spacing_mm: tuple[float, float, float]  #: z, y, x

    @classmethod
    def of(cls, geometry: hd.VolumeGeometry | hd.Volume) -> "Canonical":
        """The canonical axes nearest to those of `geometry`."""
        cosines = np.asarray(geometry.affine)[:3, :3] / np.array(geometry.spacing)  # (LPS, source axis)

        def alignment(axes: tuple[int, ...]) -> float:
            return sum(
                float(abs(cosines[lps, axis])) for lps, axis in zip(_LPS_OF_CANONICAL, axes, strict=True)
            )

        z, y, x = max(permutations(range(3)), key=alignment)
        backwards = tuple(
            bool(cosines[lps, axis] < 0) for lps, axis in zip(_LPS_OF_CANONICAL, (z, y, x), strict=True)
        )
        spacing = geometry.spacing
        return cls(
            (z, y, x), (backwards[0], backwards[1], backwards[2]), (spacing[z], spacing[y], spacing[x])
        )

    def view(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """`array` (slice, row, column) as (z, y, x), sharing its memory."""
        turned = array.transpose(self.source_axes)
        return turned[tuple(slice(None, None, -1 if back else 1) for back in self.reversed)]

"""
A regular grid in the patient, and the grids that are made from it.

Everything that is done to voxels on their way to a network (turning, resampling, cropping, padding) is a
change of grid, and a grid knows where it lies. So nothing has to be undone step by step: an answer goes back
by asking where the source's voxels lie in it, and left cannot become right on the way.

Indices are along the array's axes, whole numbers being centres of voxels; millimetres are LPS (PS3.3
§C.7.6.2.1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import highdicom as hd
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ledger.errors import ModelError
from models.contract import Given, grid_affine, grid_shape

Triple = tuple[int, int, int]
Affine = NDArray[np.float64]

#: The patient's direction that a letter says, as a component of LPS and its sign.
_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


class NoSuchOrientation(ModelError):
    """A model asks for axes that are no three different directions of a patient."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A grid of `shape` voxels, and `affine` (4 × 4): index → LPS mm."""

    shape: Triple
    affine: Affine

    @classmethod
    def of(cls, given: "Given | hd.VolumeGeometry") -> "Grid":
        """The grid that findings on `given` have; an image is one slice, 1 mm where it has no spacing."""
        if isinstance(given, hd.VolumeGeometry):
            return cls(_three(given.spatial_shape), np.asarray(given.affine, np.float64))
        affine = grid_affine(given)
        if affine is None:
            rows, columns = getattr(given, "spacing_mm", None) or (1.0, 1.0)
            affine = np.zeros((4, 4))
            # Columns run to the patient's left and rows down, as an upright frontal image is shown.
            affine[0, 2], affine[2, 1], affine[1, 0], affine[3, 3] = columns, -rows, -1.0, 1.0
        return cls(grid_shape(given), affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Between the voxels along each axis of the array."""
        a, b, c = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return a, b, c

    @property
    def codes(self) -> str:
        """Where the axes of the array run, nearest: "SPL" says to the head, back and left, in this order."""
        axes = self._nearest()
        cosines = self._cosines()
        letters = {component: letter for letter, component in _LETTERS.items()}
        return "".join(letters[lps, 1 if cosines[lps, axis] > 0 else -1] for axis, lps in enumerate(axes))

    def __eq__(self, other: object) -> bool:
        """The same voxels at the same places, to a hundredth of a voxel."""
        if not isinstance(other, Grid) or self.shape != other.shape:
            return False
        corners = np.array(list(product(*((0.0, n - 1.0) for n in self.shape))))
        return bool(np.abs(self.indices_at(other.points_at(corners)) - corners).max() < 0.01)

    __hash__ = None  # type: ignore[assignment]  # equal to a tolerance

    def points_at(self, indices: ArrayLike) -> NDArray[np.float64]:
        """The points (n, 3), LPS mm, at `indices` (n, 3), which may lie between voxels."""
        return np.asarray(indices, np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def indices_at(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """The indices (n, 3) of `points_mm` (n, 3)."""
        offset = np.asarray(points_mm, np.float64) - self.affine[:3, 3]
        return np.asarray(np.linalg.solve(self.affine[:3, :3], offset.T).T)

    def into(self, other: "Grid") -> Affine:
        """Index here → index in `other`, 4 × 4."""
        return np.asarray(np.linalg.solve(other.affine, self.affine))

    def box_into(
        self, other: "Grid", low: ArrayLike, high: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The smallest (low, high) along the axes of `other` that holds the box from `low` to `high` here."""
        edges = np.array([low, high], np.float64)
        corners = np.array(list(product(*edges.T)))
        there = other.indices_at(self.points_at(corners))
        return there.min(0), there.max(0)

    def oriented(self, codes: str) -> "Grid":
        """The same voxels with axes that run as `codes` says, e.g. "RAS": the nearest axes of the patient.

        Raises `NoSuchOrientation`.
        """
        try:
            wanted = [_LETTERS[letter] for letter in codes]
        except KeyError as unknown:
            raise NoSuchOrientation(f"{codes!r}: {unknown} is none of L R A P S I") from None
        if sorted(lps for lps, _ in wanted) != [0, 1, 2]:
            raise NoSuchOrientation(f"{codes!r} does not name three different axes of a patient")
        nearest, cosines = self._nearest(), self._cosines()
        turned = np.zeros((4, 4))
        turned[3, 3] = 1
        shape = [0, 0, 0]
        for new, (lps, sign) in enumerate(wanted):
            old = nearest.index(lps)
            same = cosines[lps, old] * sign > 0
            shape[new] = self.shape[old]
            turned[old, new] = 1 if same else -1
            turned[old, 3] = 0 if same else self.shape[old] - 1
        return Grid(_three(shape), self.affine @ turned)

    def spaced(self, spacing_mm: Sequence[float | None], *, edges: bool = False) -> "Grid":
        """Voxels of `spacing_mm` along the axes of the array; None leaves an axis as it is.

        The first voxel's centre stays where it is, as in MONAI's `Spacing`; with `edges` its outer faces do.
        """
        shape, scale, shift = [], [], []
        for n, now, wanted in zip(self.shape, self.spacing_mm, spacing_mm, strict=True):
            factor = 1.0 if wanted is None else wanted / now
            # MONAI rounds as numpy does, halves to the even number.
            voxels = np.round(n / factor) if edges else np.round((n - 1) / factor + 1)
            shape.append(max(1, int(voxels)))
            scale.append(factor)
            shift.append((factor - 1) / 2 if edges else 0.0)
        return self._changed(shape, scale, shift)

    def with_shape(self, shape: Sequence[int]) -> "Grid":
        """`shape` voxels over the same extent, face to face, as nnU-Net and scikit-image resize."""
        scale = [n / m for n, m in zip(self.shape, shape, strict=True)]
        return self._changed(shape, scale, [(factor - 1) / 2 for factor in scale])

    def cropped(self, low: Sequence[int], high: Sequence[int]) -> "Grid":
        """The voxels `low` up to but not including `high`; beyond the grid it is padding."""
        shape = [end - first for first, end in zip(low, high, strict=True)]
        if min(shape) < 1:
            raise ValueError(f"nothing lies from {tuple(low)} to {tuple(high)}")
        return self._changed(shape, [1.0, 1.0, 1.0], low)

    def _changed(self, shape: Sequence[int], scale: Sequence[float], shift: Sequence[float]) -> "Grid":
        change = np.diag([*scale, 1.0])
        change[:3, 3] = shift
        return Grid(_three(shape), self.affine @ change)

    def _cosines(self) -> NDArray[np.float64]:
        """(LPS component, axis)."""
        return np.asarray(self.affine[:3, :3] / np.array(self.spacing_mm))

    def _nearest(self) -> tuple[int, ...]:
        """For each axis of the array: the LPS component that it runs along, each taken once."""
        cosines = self._cosines()
        return max(
            permutations(range(3)),
            key=lambda lps: sum(abs(cosines[component, axis]) for axis, component in enumerate(lps)),
        )


def _three(shape: Sequence[int]) -> Triple:
    a, b, c = (int(n) for n in shape)
    return a, b, c

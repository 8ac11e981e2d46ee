"""
Where windows lie on a grid, and how much each voxel of a window counts. Pure; no network is run here.

Two rules of placing are in use, and a model is run by the one that it was trained and validated with:
MONAI's, whose step is cut to whole voxels and whose last window is pushed back, and nnU-Net's, which spreads
the windows evenly. Grids may have any number of axes; volumes have (z, y, x).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

#: (size of the axis, window along it, overlap 0 … <1) → first voxels of the windows, ascending.
Starts = Callable[[int, int, float], tuple[int, ...]]
Place = tuple[int, ...]

_LEAST_WEIGHT = 1e-3  # MONAI's: a voxel in the corner of its only window has to have some weight


def monai_starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """As `monai.inferers.sliding_window_inference` places windows: even steps, the last one pushed back."""
    step = window if window == size else max(1, int(window * (1 - overlap)))
    count = 1 + max(0, ceil((size - window) / step))
    return tuple(min(n * step, size - window) for n in range(count))


def nnunet_starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """As nnU-Net v2 places windows: as few as the overlap allows, spread evenly (`round` is Python's)."""
    count = ceil((size - window) / (window * (1 - overlap))) + 1
    step = (size - window) / (count - 1) if count > 1 else 0.0
    # Steps below one voxel, which only a toy has, would place a window twice.
    return tuple(dict.fromkeys(round(step * n) for n in range(count)))


def gaussian(window: Sequence[int], sigma: float = 0.125) -> Tensor:
    """The weights (window) of a voxel in its window: MONAI's Gaussian, `sigma` in windows, at least 0.001."""
    weights = torch.ones(())
    for side in window:
        offset = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        weights = weights.unsqueeze(-1) * torch.exp(offset**2 / (-2 * (side * sigma) ** 2))
    return weights.clamp(min=max(float(weights.min()), _LEAST_WEIGHT))


def part_of(tensor: Tensor, where: Sequence[slice]) -> Tensor:
    """The part `where` of the last axes of `tensor`, sharing its memory."""
    index: tuple[Any, ...] = (..., *where)
    return tensor[index]


@dataclass(frozen=True, slots=True)
class Padding:
    """What surrounds a volume smaller than a window: half of it on either side, the odd voxel behind."""

    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant"
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Tiling:
    """Windows over a volume: the volume is padded to hold one, then covered."""

    window: tuple[int, ...]
    before: tuple[int, ...]  #: voxels padded in front of each axis
    size: tuple[int, ...]  #: of the padded volume
    starts: tuple[tuple[int, ...], ...]  #: of the windows, by axis

    @classmethod
    def of(cls, shape: Sequence[int], window: Sequence[int], overlap: float, starts: Starts) -> "Tiling":
        """Windows over a grid of `shape`; a side of the window that is not positive takes the whole axis."""
        if not 0 <= overlap < 1:
            raise ValueError(f"windows overlap by 0 to less than 1 of their length, not by {overlap}")
        if len(window) != len(shape):
            raise ValueError(
                f"a window of {len(window)} sides does not fit a volume of {len(shape)} axes without channels"
            )
        sides = tuple(side if side > 0 else size for side, size in zip(window, shape, strict=True))
        size = tuple(max(pair) for pair in zip(sides, shape, strict=True))
        before = tuple((padded - given) // 2 for padded, given in zip(size, shape, strict=True))
        placed = tuple(starts(n, side, overlap) for n, side in zip(size, sides, strict=True))
        return cls(sides, before, size, placed)

    @property
    def count(self) -> int:
        """How many windows there are."""
        many = 1
        for starts in self.starts:
            many *= len(starts)
        return many

    @property
    def long_axis(self) -> int:
        """The axis along which a slab of one window's length is the smallest part of the volume."""
        return max(range(len(self.size)), key=lambda axis: self.size[axis] / self.window[axis])

    def places(self, slowest: int = 0) -> list[Place]:
        """The first voxels of all windows; along the axis `slowest` they never go back."""
        axes = [slowest, *(axis for axis in range(len(self.size)) if axis != slowest)]
        places = product(*(self.starts[axis] for axis in axes))
        back = [axes.index(axis) for axis in range(len(axes))]
        return [tuple(place[at] for at in back) for place in places]

    def owned(self, place: Place) -> tuple[slice, ...]:
        """The part of the grid that lies deeper in the window at `place` than in its neighbours.

        These parts cover every voxel once.
        """
        parts = []
        for first, starts, window, size in zip(place, self.starts, self.window, self.size, strict=True):
            n = starts.index(first)
            low = 0 if n == 0 else (starts[n - 1] + window + first) // 2
            high = size if n == len(starts) - 1 else (first + window + starts[n + 1]) // 2
            parts.append(slice(low, high))
        return tuple(parts)

    def pad(self, volume: Tensor, padding: Padding) -> Tensor:
        """`volume` (C, …) on the padded grid; itself where nothing has to be added."""
        edges: list[int] = []
        for before, size, given in reversed(list(zip(self.before, self.size, volume.shape[1:], strict=True))):
            edges += [before, size - given - before]
        if not any(edges):
            return volume
        value = padding.value if padding.mode == "constant" else None
        return functional.pad(volume[None], edges, mode=padding.mode, value=value)[0]

    def unpadded(self, shape: Sequence[int]) -> tuple[slice, ...]:
        """Where the volume of `shape` lies in the padded grid."""
        return tuple(slice(before, before + given) for before, given in zip(self.before, shape, strict=True))

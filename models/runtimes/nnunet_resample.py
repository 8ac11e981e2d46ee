"""
Splines as nnU-Net resamples with, in a time and a memory that a server has.

nnU-Net calls `skimage.transform.resize`, which is `scipy.ndimage.zoom` with edges continued, on each
channel. That is linear and separable: along each axis the answer is a matrix times what is given. So the
matrices are made by `zoom` itself, once, from impulses, and applied by matrix products, which a GPU does
too. A cubic spline reaches a dozen voxels and then is nothing, so a part of the answer needs only a part of
what is given, and logits of all classes never have to exist on the fine grid.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from models.runtimes.nnunet_plans import Resampling

Three = tuple[int, int, int]

_ANISOTROPIC = 3.0  #: from this ratio of spacings on slices are resampled by themselves
_NOTHING = 1e-7  #: a weight below this is beyond the precision of what it is multiplied with


def new_shape(shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float]) -> Three:
    """The voxels that cover `shape` at another spacing, rounded as nnU-Net does (half to even)."""
    z, y, x = (
        round(given / wanted * size) for size, given, wanted in zip(shape, spacing_mm, target_mm, strict=True)
    )
    return max(z, 1), max(y, 1), max(x, 1)


def axis_apart(resampling: Resampling, spacing_mm: Sequence[float], target_mm: Sequence[float]) -> int | None:
    """The axis across slices that are resampled by themselves; None where all three are taken together."""
    spacing: Sequence[float] | None = None
    if resampling.apart:
        spacing = spacing_mm
    elif resampling.apart is None:
        for one in (spacing_mm, target_mm):
            if max(one) / min(one) > _ANISOTROPIC:
                spacing = one
                break
    if spacing is None:
        return None
    coarse = [axis for axis, mm in enumerate(spacing) if mm == max(spacing)]
    return coarse[0] if len(coarse) == 1 else None


@lru_cache(maxsize=64)
def matrix(many: int, wanted: int, order: int, *, across: bool = False) -> Tensor:
    """(wanted, many) float32: the spline of `order` along an axis of `many` voxels, at `wanted` of them.

    `across` slices nnU-Net calls `map_coordinates` instead of `zoom`; they differ in how they round.
    """
    if many == wanted:
        return torch.eye(many)
    found = np.empty((wanted, many), np.float32)
    impulse = np.zeros(many)
    at = (np.arange(wanted) + 0.5) * (many / wanted) - 0.5
    for n in range(many):
        impulse[n] = 1.0
        if across:
            found[:, n] = ndimage.map_coordinates(impulse, [at], order=order, mode="nearest")
        else:
            found[:, n] = ndimage.zoom(impulse, wanted / many, order=order, mode="nearest", grid_mode=True)
        impulse[n] = 0.0
    found[np.abs(found) < _NOTHING] = 0.0
    return torch.from_numpy(found)


@dataclass(frozen=True, slots=True)
class Resampler:
    """From a grid of `given` (z, y, x) to one of `wanted`, on `device`."""

    given: Three
    wanted: Three
    resampling: Resampling
    apart: int | None
    device: torch.device

    @property
    def idle(self) -> bool:
        """Both grids are the same."""
        return self.given == self.wanted

    def whole(self, channel: Tensor) -> Tensor:
        """`channel` (z, y, x) on the wanted grid, float32."""
        return self.part(channel, slice(0, self.wanted[0]), self.bounds(channel))

    def bounds(self, channel: Tensor) -> tuple[Tensor, Tensor] | None:
        """What the splines, which overshoot, are cut to: the least and the greatest value."""
        # With slices apart it is the slice's own, which `part` sees.
        return None if self.apart is not None else (channel.min().float(), channel.max().float())

    def part(self, channel: Tensor, planes: slice, bounds: tuple[Tensor, Tensor] | None) -> Tensor:
        """The planes `planes` of the answer of `channel` (z, y, x), float32 on the device."""
        along = self._along(0)[planes]  # (planes, z)
        used = along.abs().sum(0).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        given = channel[first:last].to(self.device, torch.float32)
        if self.apart not in (None, 0):
            return self._of_other_slices(channel, planes)
        answer = self._axis(self._axis(given, 2), 1)
        if self.apart == 0:
            answer = _cut(answer, given.amin((1, 2), keepdim=True), given.amax((1, 2), keepdim=True))
        if self.given[0] != self.wanted[0]:
            along = along[:, first:last].to(self.device)
            answer = (along @ answer.flatten(1)).view(len(along), *answer.shape[1:])
        else:
            answer = answer[planes.start - first : planes.stop - first]
        if bounds is not None:
            answer = _cut(answer, bounds[0].to(self.device), bounds[1].to(self.device))
        return answer

    def _of_other_slices(self, channel: Tensor, planes: slice) -> Tensor:
        """The same where the slices lie along y or x: every slice is needed for every plane."""
        apart = self.apart
        assert apart is not None
        given = channel.to(self.device, torch.float32)
        answer = given
        for axis in range(3):
            if axis != apart:
                answer = self._axis(answer, axis)
        plane = [axis for axis in range(3) if axis != apart]
        answer = _cut(answer, given.amin(plane, keepdim=True), given.amax(plane, keepdim=True))
        return self._axis(answer, apart)[planes]

    def _along(self, axis: int) -> Tensor:
        across = axis == self.apart
        order = self.resampling.order_across if across else self.resampling.order
        return matrix(self.given[axis], self.wanted[axis], order, across=across)

    def _axis(self, values: Tensor, axis: int) -> Tensor:
        if self.given[axis] == self.wanted[axis]:
            return values
        along = self._along(axis).to(self.device)
        if axis == 2:
            return values @ along.T
        if axis == 1:
            return along @ values
        return (along @ values.flatten(1)).view(len(along), *values.shape[1:])

    def planes_at_once(self, budget_bytes: int) -> int:
        """How many planes of the answer `part` can make within `budget_bytes`, at least one."""
        plane = self.wanted[1] * self.wanted[2] * 4
        reach = 2 * 14 * max(1.0, self.given[0] / self.wanted[0])  # of the spline, on either side
        return max(1, int(budget_bytes / plane - reach) // 2)


def _cut(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(values, low), high)


def slabs(size: int, depth: int) -> list[slice]:
    """0 … `size` in parts of `depth`."""
    edges = [*range(0, size, depth), size]
    return [slice(low, high) for low, high in itertools.pairwise(edges)]

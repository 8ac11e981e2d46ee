"""
Sums of overlapping windows over the part of a volume that is not final yet.

Windows come in order along one axis. Once the next window begins further on, nothing will be added to the
voxels before it: they are handed over as mean logits, and their room is used again. So the sums take
(classes × window along that axis × the other axes) instead of (classes × volume), and no voxel is ever
copied from one place of the sums to another: position p along the axis lives at p modulo the slab's length.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


class Slab:
    """Weighted sums (K, …) and weights (…) of a grid of `size`; `depth` planes along `axis` of it exist."""

    def __init__(
        self,
        classes: int,
        size: tuple[int, ...],
        *,
        axis: int,
        depth: int,
        dtype: torch.dtype,
        device: torch.device,
        dtype_of_weights: torch.dtype = torch.float32,
    ) -> None:
        room = tuple(depth if at == axis else n for at, n in enumerate(size))
        self._sums = torch.zeros((classes, *room), dtype=dtype, device=device)
        # One channel, so it may be exact whatever the sums are; nnU-Net rounds it as it rounds the sums.
        self._weights = torch.zeros(room, dtype=dtype_of_weights, device=device)
        self._axis, self._depth, self._end = axis, depth, size[axis]
        self._final = 0  # planes before this one were handed over

    def add(self, place: tuple[int, ...], logits: Tensor, weights: Tensor, weights_single: Tensor) -> None:
        """Add `logits` (K, window) of the window at `place`; `weights` has the dtype of the sums."""
        axis = self._axis
        window = logits.shape[1:]
        across = tuple(
            slice(None) if at == axis else slice(first, first + side)
            for at, (first, side) in enumerate(zip(place, window, strict=True))
        )
        sums, total = self._sums[(slice(None), *across)], self._weights[across]
        for offset, at, planes in self._pieces(place[axis], window[axis]):
            part = logits.narrow(axis + 1, offset, planes)
            here = sums.narrow(axis + 1, at, planes)
            if part.dtype == here.dtype:
                here.addcmul_(part, weights.narrow(axis, offset, planes))
            else:  # Rounded once, into the sum: rounding the logits first would be heard where two are near.
                weighing = weights_single.narrow(axis, offset, planes)
                for sum_of_class, logits_of_class in zip(here, part, strict=True):
                    sum_of_class.add_(logits_of_class * weighing)  # One class beside the sums, not all.
            total.narrow(axis, at, planes).add_(weights_single.narrow(axis, offset, planes))

    def advance(self, to: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Hand over the planes before `to` that were not: (which planes, sums (K, …), weights (…)).

        What is handed over may be written to, and is forgotten when the next one is asked for.
        """
        first, self._final = self._final, to
        for offset, at, planes in self._pieces(first, to - first):
            sums = self._sums.narrow(self._axis + 1, at, planes)
            total = self._weights.narrow(self._axis, at, planes)
            yield slice(first + offset, first + offset + planes), sums, total
            if to < self._end:
                sums.zero_()
                total.zero_()

    def rest(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Hand over all that is left."""
        return self.advance(self._end)

    def _pieces(self, first: int, planes: int) -> Iterator[tuple[int, int, int]]:
        """(offset from `first`, where in the ring, planes) of the one or two parts without a wrap."""
        at = first % self._depth
        until_wrap = min(planes, self._depth - at)
        if until_wrap:
            yield 0, at, until_wrap
        if planes > until_wrap:
            yield until_wrap, 0, planes - until_wrap

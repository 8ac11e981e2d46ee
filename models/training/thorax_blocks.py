"""
A grid in small blocks, so that a formula is evaluated only where its surface is.

A block far outside an organ is left alone, one deep inside it is filled, and only those that its surface may
cross are looked at voxel by voxel. Blocks are rows of a matrix: a few large operations, on the processor or a
GPU, draw a chest of any geometry.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training.thorax_points import Points

_EXTENT_MM = 9.0  #: of a block, about
#: Voxels: what fits the cache, and what fills a GPU.
_AT_ONCE = {"cpu": 1 << 15, "cuda": 1 << 23}
_SLACK = 1.6  #: distances are exact to first order only; a block this many radii away is safe
_FINE_MM, _MOST_PARTS = 3.5, 3


@contextmanager
def undivided() -> Iterator[int]:
    """Torch's operations on one thread each; how many threads there were, and are again afterwards.

    Its threads wait for each other busily after every operation, and a chest is very many small ones:
    on a machine with other work that costs ten times the time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The grid cut up: `centres` (blocks, 3) and `offsets` (voxels of a block, 3) in mm of the patient."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    block: tuple[int, int, int]
    counts: tuple[int, int, int]
    centres: Tensor
    offsets: Tensor
    parts: Tensor  #: (parts of a voxel, 3): where a thick voxel is sampled, mm from its centre
    axes: NDArray[np.float64]  #: (3, 3): mm of the patient for one step along each index
    origin: NDArray[np.float64]

    @classmethod
    def of(cls, geometry: hd.VolumeGeometry, device: str = "cpu") -> "Blocks":
        """Cut the grid of `geometry`."""
        shape = (geometry.spatial_shape[0], geometry.spatial_shape[1], geometry.spatial_shape[2])
        spacing = (geometry.spacing[0], geometry.spacing[1], geometry.spacing[2])
        block = _triple([int(np.clip(round(_EXTENT_MM / s), 1, 24)) for s in spacing])
        block = _triple([min(b, n) for b, n in zip(block, shape, strict=True)])
        counts = _triple([ceil(n / b) for n, b in zip(shape, block, strict=True)])
        axes, origin = geometry.affine[:3, :3], geometry.affine[:3, 3]
        first = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), -1).reshape(-1, 3)
        middle = first * np.array(block) + (np.array(block) - 1) / 2
        within = np.stack(np.meshgrid(*(np.arange(b) for b in block), indexing="ij"), -1).reshape(-1, 3)
        offsets = within - (np.array(block) - 1) / 2
        parts = [min(_MOST_PARTS, ceil(s / _FINE_MM)) for s in spacing]
        sub = np.stack(
            np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in parts), indexing="ij"), -1
        ).reshape(-1, 3)
        return cls(
            shape,
            spacing,
            block,
            counts,
            torch.tensor(middle @ axes.T + origin, dtype=torch.float32, device=device),
            torch.tensor(offsets @ axes.T, dtype=torch.float32, device=device),
            torch.tensor(sub @ axes.T, dtype=torch.float32, device=device),
            axes,
            origin,
        )

    @property
    def device(self) -> torch.device:
        return self.centres.device

    @property
    def radius_mm(self) -> float:
        """No voxel of a block is further from its centre, nor any part of one."""
        corner = self.offsets.norm(dim=1).max() + self.parts.norm(dim=1).max()
        return float(corner) + 0.5 * max(self.spacing)

    @property
    def edge_mm(self) -> float:
        """How wide the edge of an organ is in one part of a voxel."""
        parts = [min(_MOST_PARTS, ceil(s / _FINE_MM)) for s in self.spacing]
        return float(np.mean([s / n for s, n in zip(self.spacing, parts, strict=True)]))

    def full(self, value: float, dtype: torch.dtype) -> Tensor:
        """(blocks, voxels of a block), all of `value`."""
        size = (len(self.centres), len(self.offsets))
        return torch.full(size, value, dtype=dtype, device=self.device)

    def at(self, rows: Tensor, part: Tensor | None = None) -> Points:
        """The centres of the voxels of the blocks `rows` (n,), or one part of each: three (n, voxels)."""
        offsets = self.offsets if part is None else self.offsets + part
        centre = self.centres[rows]
        return Points(*(centre[:, axis, None] + offsets[None, :, axis] for axis in range(3)))

    def middles(self) -> Points:
        """The centre of every block."""
        return Points(self.centres[:, 0], self.centres[:, 1], self.centres[:, 2])

    def chunks(self, rows: Tensor) -> Iterator[Tensor]:
        """The blocks `rows`, as many at once as the device likes."""
        step = max(1, _AT_ONCE.get(self.device.type, 1 << 20) // len(self.offsets))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    def each(self, rows: Tensor, paint: Callable[[Tensor], None], threads: int) -> None:
        """`paint` every chunk of the blocks `rows`; chunks share no voxel, so that their order is nothing."""
        if self.device.type != "cpu" or threads < 2:
            for some in self.chunks(rows):
                paint(some)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(paint, self.chunks(rows)))

    def reached(self, distance: Tensor, margin_mm: float = 0.0) -> tuple[Tensor, Tensor]:
        """Which blocks the surface may cross and which lie deep inside; `distance` (blocks,) mm at their
        centres.
        """
        margin = _SLACK * self.radius_mm + self.edge_mm + margin_mm
        return torch.nonzero(distance.abs() <= margin)[:, 0], torch.nonzero(distance < -margin)[:, 0]

    def coverage(self, rows: Tensor, distance: Callable[[Points], Tensor]) -> Tensor:
        """How much (0 … 1) of every voxel of `rows` lies inside: (n, voxels)."""
        total: Tensor | None = None
        for part in self.parts:
            share = (0.5 - distance(self.at(rows, part)) / self.edge_mm).clamp(0, 1)
            total = share if total is None else total + share
        assert total is not None  # a voxel has at least one part
        return total / len(self.parts)

    def volume(self, blocks: Tensor) -> Tensor:
        """(slices, rows, columns) of what was (blocks, voxels of a block)."""
        whole = torch.empty(self.shape, dtype=blocks.dtype, device=blocks.device)
        slabs = blocks.reshape(self.counts[0], -1, len(self.offsets))
        padded = [n * b for n, b in zip(self.counts[1:], self.block[1:], strict=True)]
        for first, slab in zip(range(0, self.shape[0], self.block[0]), slabs, strict=True):
            rows = slab.reshape(*self.counts[1:], *self.block).permute(2, 0, 3, 1, 4)
            some = rows.reshape(self.block[0], *padded)[:, : self.shape[1], : self.shape[2]]
            whole[first : first + self.block[0]] = some[: self.shape[0] - first]
        return whole

    def near(
        self, start: NDArray[np.float64], end: NDArray[np.float64], reach_mm: float
    ) -> NDArray[np.int64]:
        """The blocks that a capsule between two points (3,) mm of the patient may touch."""
        inverse = np.linalg.inv(self.axes)
        index = (np.stack([start, end]) - self.origin) @ inverse.T
        widest = reach_mm * np.linalg.norm(inverse, axis=1)
        low = np.maximum(np.floor((index.min(0) - widest) / self.block).astype(int), 0)
        high = np.minimum(np.floor((index.max(0) + widest) / self.block).astype(int) + 1, self.counts)
        if (low >= high).any():
            return np.empty(0, np.int64)
        along = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
        z, y, x = np.meshgrid(*along, indexing="ij")
        return np.asarray(((z * self.counts[1] + y) * self.counts[2] + x).ravel(), np.int64)


def _triple(values: list[int]) -> tuple[int, int, int]:
    return values[0], values[1], values[2]

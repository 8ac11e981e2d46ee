"""
Down to a working grid and back up to the source, slab by slab.

Both grids cover the same millimetres, edge to edge. Down is the exact mean over the millimetres of a working
voxel, which also takes the noise down; up is trilinear. Only a slab of the source is ever held as floats, so
a thousand slices need no more memory than a hundred.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Triple = tuple[int, int, int]

_SLAB = 16  #: source slices held as floats at a time


def working_shape(shape: Triple, spacing_mm: tuple[float, float, float], target_mm: float) -> Triple:
    """The voxels (z, y, x) that cover the same extent at about `target_mm`; no axis gets finer than it is."""
    z, y, x = (
        n if spacing >= 0.98 * target_mm else max(1, round(n * spacing / target_mm))
        for n, spacing in zip(shape, spacing_mm, strict=True)
    )
    return z, y, x


def means(many: int, few: int) -> NDArray[np.float32]:
    """(few, many): each row takes the mean over the part of the axis that one of `few` equal cells covers."""
    edges = np.arange(few + 1) * (many / few)
    cells = np.arange(many)
    overlap = np.minimum(edges[1:, None], cells[None] + 1) - np.maximum(edges[:-1, None], cells[None])
    overlap = np.clip(overlap, 0, None)
    return np.asarray(overlap / overlap.sum(1, keepdims=True), np.float32)


def reduce_volume(array: NDArray[np.generic], shape: Triple, device: torch.device) -> NDArray[np.float32]:
    """`array` (z, y, x) as means on a grid of `shape` over the same extent."""
    along_z = means(array.shape[0], shape[0])
    along_y, along_x = (
        torch.from_numpy(means(many, few)).to(device)
        for many, few in zip(array.shape[1:], shape[1:], strict=True)
    )
    reduced = np.zeros(shape, np.float32)
    for start in range(0, array.shape[0], _SLAB):
        slab = np.ascontiguousarray(array[start : start + _SLAB], np.float32)
        planes = torch.from_numpy(slab).to(device)  # (k, Y, X)
        if shape[1:] != array.shape[1:]:
            planes = along_y @ planes @ along_x.T  # (k, y, x)
        flat = planes.cpu().numpy()
        for k in range(flat.shape[0]):
            for cell in np.flatnonzero(along_z[:, start + k]):
                reduced[cell] += along_z[cell, start + k] * flat[k]
    return reduced


def on_source(mask: NDArray[np.bool_], shape: Triple) -> NDArray[np.bool_]:
    """A mask (z, y, x) of the working grid at the centre of every voxel of a grid of `shape`."""
    at = [
        np.minimum(((np.arange(many) + 0.5) * few / many).astype(int), few - 1)
        for few, many in zip(mask.shape, shape, strict=True)
    ]
    return np.asarray(mask[np.ix_(*at)])


def enlarge(
    fields: NDArray[np.float32], shape: Triple, slices: slice, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """Trilinear values of `fields` (channel, z, y, x) on `slices` of a grid of `shape` over the same extent.

    Yields (range of source slices, values (k, channel, Y, X)), from low z to high.
    """
    few, many = fields.shape[1], shape[0]
    for start in range(slices.start, slices.stop, _SLAB):
        stop = min(start + _SLAB, slices.stop)
        at = (np.arange(start, stop) + 0.5) * few / many - 0.5
        low = np.clip(np.floor(at).astype(int), 0, few - 1)
        high = np.minimum(low + 1, few - 1)
        part = np.clip(at - low, 0, 1).astype(np.float32)[None, :, None, None]
        between = fields[:, low] * (1 - part) + fields[:, high] * part  # (channel, k, y, x)
        planes = torch.from_numpy(np.ascontiguousarray(between.swapaxes(0, 1))).to(device)
        if planes.shape[2:] != shape[1:]:
            planes = functional.interpolate(planes, size=shape[1:], mode="bilinear", align_corners=False)
        yield slice(start, stop), planes

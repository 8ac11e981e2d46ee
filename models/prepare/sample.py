"""
Voxels of one grid looked up on another one, on whatever device they are.

Grids whose axes are parallel, however turned or mirrored, are looked up axis by axis; where every voxel has
an equal, voxels are only moved. Oblique ones are looked up plane by plane. Beyond the source its outermost
voxel goes on, or `outside` is taken.

"linear" is what MONAI's `Spacing` and `scipy.ndimage` (order 1) give; "cubic", for parallel grids only, is
the interpolating B-spline of `scipy.ndimage` (order 3, mode "nearest"), which nnU-Net and scikit-image use.
"nearest" takes halves down. tests/models/prepare/test_sample.py holds them against each other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.prepare.grid import Grid

How = Literal["nearest", "linear", "cubic"]

_SAME = 1e-3  #: voxels: places closer than this are one
_PLANES_BYTES = 64 << 20  #: what an oblique lookup may hold at a time
_SPLINE_MARGIN = 12  # as scipy.ndimage pads before it filters in mode "nearest"


def resample(
    values: Tensor,
    source: Grid,
    target: Grid,
    how: How = "linear",
    *,
    outside: float | None = None,
    antialias: bool = False,
) -> Tensor:
    """`values` (…, source's shape) on `target`: (…, target's shape).

    "nearest" keeps the type of `values`, the others give float32. `outside` is the value where the target
    lies beyond the source's outermost voxel faces; None lets those voxels go on. `antialias` takes out,
    before linear or cubic lookup, what the target is too coarse for (a Gaussian, as scikit-image does).
    """
    if tuple(values.shape[-3:]) != source.shape:
        raise ValueError(f"values of {tuple(values.shape[-3:])} do not lie on a grid of {source.shape}")
    if how != "nearest":
        values = values.float()
    aligned = _Aligned.of(source, target)
    if aligned is None:
        if how == "cubic":
            raise ValueError("cubic lookup is for grids whose axes are parallel")
        if antialias and how != "nearest":
            values = _blurred(values, source, target)
        return _oblique(values, source, target, how, outside)
    values = values.permute(*range(values.ndim - 3), *(axis + values.ndim - 3 for axis in aligned.axes))
    # The axis that shrinks most first: the others then have less to do.
    order = sorted(range(3), key=lambda axis: target.shape[axis] / values.shape[axis - 3])
    for axis in order:
        values = _along(values, axis - 3, aligned.places[axis], how, antialias)
    if outside is not None:
        for axis in range(3):
            beyond = _beyond(aligned.places[axis], source.shape[aligned.axes[axis]])
            if beyond.any():
                index = torch.from_numpy(np.flatnonzero(beyond)).to(values.device)
                values = values.index_fill(axis - 3, index, outside)
    return values.contiguous()


def labels_onto(labels: Tensor, source: Grid, target: Grid) -> Tensor:
    """A label map (…, z, y, x) of any integer type, or bools, on `target`; 0 beyond the source."""
    if labels.dtype == torch.uint16:  # Few operations know it; bits are only moved.
        return resample(labels.view(torch.int16), source, target, "nearest", outside=0).view(torch.uint16)
    if labels.dtype == torch.bool:
        moved = resample(labels.view(torch.uint8), source, target, "nearest", outside=0)
        return moved.view(torch.bool)
    return resample(labels, source, target, "nearest", outside=0)


def reduced_onto(
    scores: Tensor,
    source: Grid,
    target: Grid,
    reducer: Callable[[Tensor], Tensor],
    *,
    how: Literal["linear", "cubic"] = "linear",
    at_most_bytes: int = 256 << 20,
) -> Tensor:
    """`reducer` (see `reducers`) of `scores` (K, source's shape) on `target`, never holding all of them.

    Smoother borders than moving labels, at K times the work. The result, (…, target's shape), lies where the
    scores do; slabs of scores take about `at_most_bytes`.
    """
    plane = max(1, scores.shape[0] * target.shape[1] * target.shape[2] * 4)
    planes = max(1, at_most_bytes // (2 * plane))
    answer: Tensor | None = None
    for first in range(0, target.shape[0], planes):
        stop = min(first + planes, target.shape[0])
        slab = target.cropped((first, 0, 0), (stop, *target.shape[1:]))
        part = reducer(resample(scores, source, slab, how))
        if answer is None:
            answer = torch.empty((*part.shape[:-3], *target.shape), dtype=part.dtype, device=part.device)
        answer[..., first:stop, :, :].copy_(part)
    assert answer is not None
    return answer


@dataclass(frozen=True, slots=True)
class _Aligned:
    """How parallel grids lie: the source's axis for each of the target's, and where its voxels are on it."""

    axes: tuple[int, int, int]
    places: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  #: in source voxels

    @classmethod
    def of(cls, source: Grid, target: Grid) -> "_Aligned | None":
        """None where the axes are not parallel to within a thousandth of a voxel over the whole target."""
        into = target.into(source)
        a, b, c = (int(np.argmax(np.abs(into[:3, axis]))) for axis in range(3))
        if len({a, b, c}) < 3:
            return None
        axes = (a, b, c)
        drift = np.abs(into[:3, :3] * np.maximum(np.array(target.shape) - 1, 1))
        for axis, along in enumerate(axes):
            drift[along, axis] = 0
        if drift.max() > _SAME:
            return None
        z, y, x = (
            into[along, axis] * np.arange(target.shape[axis]) + into[along, 3]
            for axis, along in enumerate(axes)
        )
        return cls(axes, (z, y, x))


def _beyond(places: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    return np.asarray((places < -0.5 - _SAME) | (places > size - 0.5 + _SAME))


def _nearest(places: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    # What lies in the middle between two voxels goes to the lower one, whatever the last digit says.
    return np.asarray(np.clip(np.ceil(places - 0.5 - _SAME), 0, size - 1), np.int64)


def _along(values: Tensor, axis: int, places: NDArray[np.float64], how: How, antialias: bool) -> Tensor:
    """`values` at `places` of one axis (counted from behind)."""
    size = values.shape[axis]
    if antialias and how != "nearest" and len(places) > 1:
        factor = abs(places[-1] - places[0]) / (len(places) - 1)
        if factor > 1:
            values = _blur(values, axis, (factor - 1) / 2)
    whole = np.round(places)
    if np.abs(places - whole).max() < _SAME or how == "nearest":
        index = _nearest(places, size)
        if np.array_equal(index, np.arange(size)):
            return values
        first, step = int(index[0]), int(index[1] - index[0]) if len(index) > 1 else 1
        if step == 1 and np.array_equal(index, np.arange(first, first + len(index))):
            return values.narrow(axis, first, len(index))
        if step == -1 and np.array_equal(index, np.arange(size)[::-1]):
            return values.flip(axis)
        return values.index_select(axis, torch.from_numpy(index).to(values.device))
    if how == "linear":
        inside = np.clip(places, 0, size - 1)
        low = np.minimum(np.floor(inside).astype(np.int64), max(size - 2, 0))
        part = torch.from_numpy((inside - low).astype(np.float32)).to(values.device)
        lower = values.index_select(axis, torch.from_numpy(low).to(values.device))
        upper = values.index_select(axis, torch.from_numpy(np.minimum(low + 1, size - 1)).to(values.device))
        return lower.lerp_(upper, part.reshape(-1, *[1] * (-axis - 1)))
    return _times(torch.from_numpy(_spline(size, places.tobytes())).to(values.device), values, axis)


def _times(matrix: Tensor, values: Tensor, axis: int) -> Tensor:
    """`matrix` (many, few) times `values` along `axis`."""
    if axis == -1:
        return values @ matrix.T
    if axis == -2:
        return matrix @ values
    flat = values.flatten(-2)  # (…, z, y·x)
    return (matrix @ flat).reshape(*values.shape[:-3], matrix.shape[0], *values.shape[-2:])


@lru_cache(maxsize=16)
def _spline(size: int, places: bytes) -> NDArray[np.float32]:
    """(many, size): values at `places` of the cubic B-spline through the voxels of an axis."""
    at = np.clip(np.frombuffer(places, np.float64), -_SPLINE_MARGIN, size - 1 + _SPLINE_MARGIN)
    long = size + 2 * _SPLINE_MARGIN
    # Coefficients from values: (c[i-1] + 4 c[i] + c[i+1]) / 6 = v[i], mirrored at the ends.
    band = np.zeros((long, long))
    index = np.arange(long)
    band[index, index] = 4 / 6
    band[index[1:], index[:-1]] = band[index[:-1], index[1:]] = 1 / 6
    band[0, 1] = band[-1, -2] = 2 / 6
    extended = np.zeros((long, size))
    extended[index, np.clip(index - _SPLINE_MARGIN, 0, size - 1)] = 1
    coefficients = np.linalg.solve(band, extended)
    where = at + _SPLINE_MARGIN
    first = np.floor(where).astype(int)
    t = where - first
    taps = ((1 - t) ** 3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6, t**3 / 6)
    result = np.zeros((len(at), size))
    for offset, tap in zip((-1, 0, 1, 2), taps, strict=True):
        mirrored = np.abs(first + offset)
        mirrored = np.where(mirrored > long - 1, 2 * (long - 1) - mirrored, mirrored)
        result += tap[:, None] * coefficients[mirrored]
    return result.astype(np.float32)


def _blur(values: Tensor, axis: int, sigma: float) -> Tensor:
    """A Gaussian along one axis, cut at 4 sigma; beyond the ends the last voxel goes on (scipy "nearest")."""
    reach = int(4 * sigma + 0.5)
    if reach == 0:
        return values
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    size = values.shape[axis]
    matrix = np.zeros((size, size), np.float32)
    rows = np.arange(size)
    for offset, weight in zip(offsets, weights, strict=True):
        np.add.at(matrix, (rows, np.clip(rows + offset, 0, size - 1)), weight)
    return _times(torch.from_numpy(matrix).to(values.device), values, axis)


def _blurred(values: Tensor, source: Grid, target: Grid) -> Tensor:
    """`values` without what an oblique `target` is too coarse for."""
    for axis in range(3):
        factor = float(np.linalg.norm(target.into(source)[axis, :3]))
        if factor > 1:
            values = _blur(values, axis - 3, (factor - 1) / 2)
    return values


def _oblique(values: Tensor, source: Grid, target: Grid, how: How, outside: float | None) -> Tensor:
    lead = values.shape[:-3]
    flat = values.reshape(-1, *source.shape)  # (C, z, y, x)
    answer = torch.empty((flat.shape[0], *target.shape), dtype=values.dtype, device=values.device)
    for first, stop, at in _planes(source, target, flat.shape[0], values.device):
        answer[:, first:stop] = _at(flat, at, how)
        if outside is not None:
            size = torch.tensor(source.shape, dtype=at.dtype, device=at.device)
            beyond = ((at < -0.5 - _SAME) | (at > size - 0.5 + _SAME)).any(-1)
            answer[:, first:stop].masked_fill_(beyond, outside)
    return answer.reshape(*lead, *target.shape)


def _planes(
    source: Grid, target: Grid, channels: int, device: torch.device
) -> Iterator[tuple[int, int, Tensor]]:
    """(first plane, last + 1, where its voxels are in the source (planes, y, x, 3)), by and by."""
    into = torch.from_numpy(target.into(source)).to(device)
    planes = max(1, _PLANES_BYTES // (target.shape[1] * target.shape[2] * 4 * (channels + 12)))
    y, x = (torch.arange(n, dtype=torch.float64, device=device) for n in target.shape[1:])
    across = y[:, None, None] * into[:3, 1] + x[None, :, None] * into[:3, 2] + into[:3, 3]
    for first in range(0, target.shape[0], planes):
        stop = min(first + planes, target.shape[0])
        z = torch.arange(first, stop, dtype=torch.float64, device=device)
        yield first, stop, (z[:, None, None, None] * into[:3, 0] + across).float()


def _at(flat: Tensor, at: Tensor, how: How) -> Tensor:
    """`flat` (C, source) at places `at` (…, 3): (C, …)."""
    size = torch.tensor(flat.shape[1:], dtype=at.dtype, device=at.device)
    if how == "nearest":
        z, y, x = torch.minimum((at - 0.5 - _SAME).ceil().clamp(min=0), size - 1).long().unbind(-1)
        return flat[:, z, y, x]
    # grid_sample wants x, y, z within -1 … 1, which are the centres of the outermost voxels.
    scaled = 2 * at / (size - 1).clamp(min=1) - 1
    looked_up = functional.grid_sample(
        flat[None], scaled.flip(-1)[None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return looked_up[0]

"""
Round bright spots: where the lungs may hold a nodule.

At several scales the field is smoothed, and the three curvatures of its brightness are looked at in every
voxel of the lungs that is bright enough. A ball is curved alike in all directions, a vessel not along itself,
a fissure only across itself; so of the curvatures |a| >= |b| >= |c|, all negative, the response c²/|a| is the
contrast of a ball and nothing on a tube or a sheet (Li, Sone and Doi, Med Phys 2003: the dot filter).

The curvatures are the eigenvalues of the Hessian matrix in closed form (Smith, CACM 1961), taken only
where a nodule could be; smoothing doubles its step from scale to scale, on cubes that are as coarse as the
scale allows.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.builtin.nodule_ct.field import Field

SIGMAS_MM = (1.1, 1.6, 2.3, 3.2, 4.6, 6.4, 9.0)  #: a ball of radius r responds most at r / √3
_BRIGHTER_HU = 45.0  # than lung, smoothed: less is noise
_RESPONSE_HU = 20.0  # a ball of ground glass 250 HU above the lung responds with about 70, a ragged one less
_SMALL_MM, _SMALL_RESPONSE_HU = 2.0, 40.0  # below this scale vessels are many: only what stands out
_AT_ONCE = 2_000_000  # voxels whose curvatures are held
_MOST = 500  # looked at more closely


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A round bright spot."""

    response: float  #: in HU: of a ball, about 0.3 times its contrast
    sigma_mm: float
    at: tuple[float, float, float]  #: (z, y, x) in cubes of the field

    @property
    def radius_mm(self) -> float:
        """Of the ball that would respond most at this scale."""
        return math.sqrt(3) * self.sigma_mm


def find_candidates(
    field: Field, sigmas_mm: tuple[float, ...] = SIGMAS_MM, most: int = _MOST
) -> tuple[Candidate, ...]:
    """The strongest spots, the strongest first; none within the radius of a stronger one."""
    found: list[Candidate] = []
    step = float(np.mean(field.grids.step_mm))
    hu, inside, times = field.hu, field.inside.float(), 1
    done = 0.0  # what `hu` is smoothed by already, mm
    for sigma in sigmas_mm:
        while sigma >= 2.2 * step * 2 * times and min(hu.shape) > 8:
            # A coarser cube is a mean over two, which smooths by a twelfth of its square.
            hu, inside = (
                functional.avg_pool3d(one[None, None], 2, ceil_mode=True)[0, 0] for one in (hu, inside)
            )
            done = math.hypot(done, step * times / 2)
            times *= 2
        hu = smooth(hu, math.sqrt(max(0.0, sigma**2 - done**2)) / (step * times))
        done = max(sigma, done)
        found += _spots(hu, inside > 0.5, field.lung_hu + _BRIGHTER_HU, _Scale(sigma, step * times, times))
    return _apart(sorted(found, reverse=True), step, most)


def smooth(hu: Tensor, sigma: float) -> Tensor:
    """`hu` (z, y, x) under a Gaussian of `sigma` voxels; beyond the edges it goes on as it is there."""
    if sigma < 0.2:
        return hu
    reach = math.ceil(3.2 * sigma)
    x = torch.arange(-reach, reach + 1, dtype=torch.float32, device=hu.device)
    bell = torch.exp(-(x**2) / (2 * sigma**2))
    kernel: list[float] = (bell / bell.sum()).tolist()
    for axis in range(3):
        n = hu.shape[axis]
        ends = [hu.narrow(axis, at, 1) for at in (0, n - 1)]
        first, last = (end.repeat_interleave(reach, axis) for end in ends)
        wide = torch.cat([first, hu, last], axis)
        hu = wide.narrow(axis, reach, n) * kernel[reach]
        for k in range(reach):
            both = wide.narrow(axis, k, n) + wide.narrow(axis, 2 * reach - k, n)
            hu.add_(both, alpha=kernel[k])
    return hu


@dataclass(frozen=True, slots=True)
class _Scale:
    """One scale of the search, on cubes that are `times` as coarse as those of the field."""

    sigma_mm: float
    step_mm: float
    times: int


def _spots(hu: Tensor, inside: Tensor, least_hu: float, scale: _Scale) -> list[Candidate]:
    """The local maxima of the response at one scale, in voxels of at least `least_hu`."""
    interesting = inside & (hu > least_hu)
    for axis in range(3):  # at a face the curvature is not known
        interesting.narrow(axis, 0, 1).fill_(False)
        interesting.narrow(axis, hu.shape[axis] - 1, 1).fill_(False)
    where = interesting.flatten().nonzero()[:, 0]
    response = torch.zeros(hu.numel(), device=hu.device)
    flat = hu.reshape(-1)
    for part in torch.split(where, _AT_ONCE):
        matrix = _hessian(flat, part, hu.shape) * (scale.sigma_mm / scale.step_mm) ** 2
        largest, _, smallest = eigenvalues(matrix)  # the largest is the least negative
        dot = torch.where(largest < 0, largest**2 / smallest.abs().clamp_min(1e-3), torch.zeros_like(largest))
        response[part] = dot.float()
    least_response = _SMALL_RESPONSE_HU if scale.sigma_mm < _SMALL_MM else _RESPONSE_HU
    strong = where[response[where] > least_response]
    plane, row = hu.shape[1] * hu.shape[2], hu.shape[2]
    around = [k * plane + j * row + i for k, j, i in product((-1, 0, 1), repeat=3) if (k, j, i) != (0, 0, 0)]
    for offset in around:
        strong = strong[response[strong] >= response[strong + offset]]
    return [
        Candidate(value, scale.sigma_mm, _in_field((at // plane, at % plane // row, at % row), scale.times))
        for at, value in zip(strong.tolist(), response[strong].tolist(), strict=True)
    ]


def _in_field(at: tuple[int, int, int], times: int) -> tuple[float, float, float]:
    z, y, x = ((index + 0.5) * times - 0.5 for index in at)
    return z, y, x


def _hessian(flat: Tensor, at: Tensor, shape: torch.Size) -> Tensor:
    """(6, n): zz, yy, xx, zy, zx, yx at the voxels `at`, by central differences, per voxel²."""
    strides = (shape[1] * shape[2], shape[2], 1)
    middle = 2 * flat[at]
    rows = [flat[at + s] + flat[at - s] - middle for s in strides]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        s, t = strides[one], strides[other]
        rows.append((flat[at + s + t] + flat[at - s - t] - flat[at + s - t] - flat[at - s + t]) / 4)
    return torch.stack(rows)


def eigenvalues(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The eigenvalues of symmetric 3 × 3 matrices, given as (6, n) zz, yy, xx, zy, zx, yx: largest, middle,
    smallest, each (n,). Closed form (Smith 1961).
    """
    a, b, c, d, e, f = matrix.double()
    mean = (a + b + c) / 3
    p = torch.sqrt((((a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2) + 2 * (d**2 + e**2 + f**2)) / 6)
    a, b, c = a - mean, b - mean, c - mean
    determinant = a * (b * c - f**2) - d * (d * c - f * e) + e * (d * f - b * e)
    phi = torch.acos((determinant / (2 * p**3).clamp_min(1e-12)).clamp(-1, 1)) / 3
    largest = mean + 2 * p * torch.cos(phi)
    smallest = mean + 2 * p * torch.cos(phi + 2 * math.pi / 3)
    return largest, 3 * mean - largest - smallest, smallest


def _apart(found: list[Candidate], step: float, most: int) -> tuple[Candidate, ...]:
    """Without what lies in a stronger one."""
    kept: list[Candidate] = []
    centres: NDArray[np.float64] = np.zeros((0, 3))
    radii: NDArray[np.float64] = np.zeros(0)
    for one in found:
        at = np.array(one.at)
        if (
            kept
            and (np.linalg.norm((centres - at) * step, axis=1) < 0.8 * np.maximum(radii, one.radius_mm)).any()
        ):
            continue
        kept.append(one)
        centres, radii = np.vstack([centres, at]), np.append(radii, one.radius_mm)
        if len(kept) == most:
            break
    return tuple(kept)

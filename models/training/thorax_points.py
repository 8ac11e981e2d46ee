"""
Signed distances in torch: ellipses, ellipsoids and tubes, at points given as three tensors (x, y, z) mm.

A distance is negative inside and exact to first order at the surface: all that coverage of voxels needs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Points(NamedTuple):
    """Where: LPS millimetres, three tensors of one shape."""

    x: Tensor
    y: Tensor
    z: Tensor


def ellipse(dx: Tensor, dy: Tensor, a: Tensor | float, b: Tensor | float, boxy: float = 0.0) -> Tensor:
    """The distance to an ellipse with half axes `a`, `b`; `boxy` pushes its corners out (0 … 0.6)."""
    u, v = (dx / a).square(), (dy / b).square()
    # Far outside u v would outgrow u + v: there the corners do not matter.
    square = u + v - boxy * (u * v).clamp_max(1.0) if boxy else u + v
    square = square.clamp_min(1e-6)
    slope = (u / (a * a) + v / (b * b) + 1e-9).sqrt()
    return (square.sqrt() - 1) * ((u + v).clamp_min(1e-6)).sqrt() / slope


def ellipsoid(dx: Tensor, dy: Tensor, dz: Tensor, half_axes: tuple[float, float, float]) -> Tensor:
    """The distance to an ellipsoid with half axes in mm."""
    a, b, c = half_axes
    u, v, w = (dx / a).square(), (dy / b).square(), (dz / c).square()
    r = (u + v + w).clamp_min(1e-6).sqrt()
    return (r - 1) * r / (u / (a * a) + v / (b * b) + w / (c * c) + 1e-9).sqrt()


def ball(at: Points, centre: tuple[float, float, float], half_axes: tuple[float, float, float]) -> Tensor:
    """An ellipsoid around `centre`."""
    return ellipsoid(at.x - centre[0], at.y - centre[1], at.z - centre[2], half_axes)


def tube(
    at: Points, start: Sequence[float], end: Sequence[float], start_mm: float, end_mm: float | None = None
) -> Tensor:
    """A piece of tube with round ends whose radius runs from `start_mm` to `end_mm`."""
    along = [end[axis] - start[axis] for axis in range(3)]
    length = max(sum(part * part for part in along), 1e-6)
    offset = [at[axis] - start[axis] for axis in range(3)]
    t = ((offset[0] * along[0] + offset[1] * along[1] + offset[2] * along[2]) / length).clamp(0, 1)
    square = (offset[0] - t * along[0]).square()
    square += (offset[1] - t * along[1]).square()
    square += (offset[2] - t * along[2]).square()
    radius = start_mm + t * ((start_mm if end_mm is None else end_mm) - start_mm)
    return (square + 1e-9).sqrt() - radius


def tubes(at: Points, path: Sequence[Sequence[float]], radius_mm: float | Sequence[float]) -> Tensor:
    """A tube along the points of `path`, of one radius or of one for each point."""
    radii = [radius_mm] * len(path) if isinstance(radius_mm, int | float) else list(radius_mm)
    pieces = [
        tube(at, path[i], path[i + 1], float(radii[i]), float(radii[i + 1])) for i in range(len(path) - 1)
    ]
    distance = pieces[0]
    for piece in pieces[1:]:
        distance = torch.minimum(distance, piece)
    return distance


def both(*distances: Tensor) -> Tensor:
    """Inside all of them."""
    result = distances[0]
    for distance in distances[1:]:
        result = torch.maximum(result, distance)
    return result


def either(*distances: Tensor) -> Tensor:
    """Inside one of them at least."""
    result = distances[0]
    for distance in distances[1:]:
        result = torch.minimum(result, distance)
    return result

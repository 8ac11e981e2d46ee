"""
Airways and vessels of the phantom: capsules, each a tapering piece between two points.

Vessels branch towards points spread through a lung: the points are halved again and again, and a branch that
feeds n of them has the radius n^(1/3) times that of a twig (Murray's law: r0³ = r1³ + r2³).
Coordinates are LPS millimetres.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training import chest_anatomy as anatomy

TWIG_MM = 0.75
BRANCH_POINTS = 112  #: twigs per lung
CARINA = (1.0, 16.0, 42.0)


@dataclass(frozen=True, slots=True)
class Capsule:
    """A piece of tube from `start` to `end` (x, y, z mm), its radius running from `start_mm` to `end_mm`."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    start_mm: float
    end_mm: float


def airways() -> tuple[Capsule, ...]:
    """Trachea from above the apices to the carina, main bronchi, and one lobar bronchus after the other."""
    right, left = (-34.0, 22.0, 14.0), (40.0, 26.0, 6.0)
    return (
        Capsule((0.0, 2.0, 260.0), (0.0, 4.0, 150.0), 9.0, 9.0),
        Capsule((0.0, 4.0, 150.0), CARINA, 9.0, 8.5),
        Capsule(CARINA, right, 7.5, 6.5),  # the right one is wider and steeper
        Capsule(CARINA, left, 6.5, 5.8),
        Capsule(right, (-52.0, 20.0, 34.0), 4.2, 3.2),
        Capsule(right, (-52.0, 34.0, -22.0), 5.0, 3.4),
        Capsule(left, (56.0, 16.0, 28.0), 4.2, 3.2),
        Capsule(left, (60.0, 40.0, -24.0), 4.6, 3.2),
    )


def vessels(seed: int) -> tuple[Capsule, ...]:
    """The vascular trees of both lungs."""
    random = np.random.default_rng([seed, 1])
    trees: list[Capsule] = []
    for hilum, sign in (((-36.0, 8.0, 2.0), -1.0), ((44.0, 10.0, -2.0), 1.0)):
        trees += _branches(np.array(hilum), _points_in_lung(random, sign))
    return tuple(trees)


def _points_in_lung(random: np.random.Generator, sign: float) -> NDArray[np.float32]:
    """(n, 3) points at least 7 mm inside the lung on the side `sign` of the middle."""
    points = np.empty((0, 3), np.float32)
    while len(points) < BRANCH_POINTS:
        tries = random.uniform((0, -85, -110), (126, 95, 138), (BRANCH_POINTS * 6, 3)).astype(np.float32)
        tries[:, 0] = anatomy.MIDLINE_X + sign * tries[:, 0]
        inside = anatomy.lungs(tries[:, 0], tries[:, 1], tries[:, 2]) < -7
        points = np.concatenate([points, tries[inside]])
    return points[:BRANCH_POINTS]


def _branches(root: NDArray[np.float64], points: NDArray[np.float32]) -> Iterator[Capsule]:
    """The tree from `root` (3,) to every one of `points` (n, 3)."""
    radius = TWIG_MM * len(points) ** (1 / 3)
    if len(points) == 1:
        yield Capsule(_triple(root), _triple(points[0]), radius, 0.6 * radius)
        return
    fork = 0.55 * root + 0.45 * points.mean(0)
    yield Capsule(_triple(root), _triple(fork), radius, radius * 0.85)
    # Halve the points across the direction in which they spread most.
    centred = points - points.mean(0)
    order = np.argsort(centred @ np.linalg.svd(centred, full_matrices=False)[2][0], kind="stable")
    half = len(points) // 2
    yield from _branches(fork, points[order[:half]])
    yield from _branches(fork, points[order[half:]])


def _triple(point: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def distance(capsule: Capsule, xyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distance in mm of the points `xyz` (3, …) to the surface of `capsule`: (…), negative inside."""
    start, end = np.array(capsule.start, np.float32), np.array(capsule.end, np.float32)
    along = end - start
    offset = [xyz[axis] - start[axis] for axis in range(3)]
    t = sum(offset[axis] * along[axis] for axis in range(3)) / max(float(along @ along), 1e-6)
    t = np.clip(t, 0, 1)
    square = sum((offset[axis] - t * along[axis]) ** 2 for axis in range(3))
    radius = capsule.start_mm + t * (capsule.end_mm - capsule.start_mm)
    return np.asarray(np.sqrt(square) - radius, np.float32)

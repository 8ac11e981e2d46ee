"""
The shape of a nodule: an ellipsoid whose surface wanders, given by its radius in every direction.

`radius(u) = R (1 + lobulation · waves(u)) · ellipsoid(u)`: star-convex, so that a point is inside where it is
nearer to the centre than the radius in its direction. R is chosen so that the volume, ∫ r³ dΩ / 3, is that of
the ball asked for. Spicules are thin threads on the surface and no part of the volume, as readers measure it.
"""

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from models.training.lesions import Nodule

_WAVES = 7
_GOLDEN = pi * (3 - sqrt(5))


def directions(count: int) -> NDArray[np.float64]:
    """(count, 3) unit vectors spread evenly over the sphere (Fibonacci)."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    around = index * _GOLDEN
    return np.stack([np.sqrt(1 - z * z) * np.cos(around), np.sqrt(1 - z * z) * np.sin(around), z], 1)


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A star-convex surface around the origin: axes of an ellipsoid, waves upon it, and its scale."""

    inverse_axes: NDArray[np.float64]  #: (3, 3): |A u| = 1 on the unit ellipsoid
    wave_vectors: NDArray[np.float64]  #: (waves, 3)
    wave_phases: NDArray[np.float64]  #: (waves,)
    lobulation: float
    scale_mm: float

    def radius(self, u: NDArray[np.floating]) -> NDArray[np.float64]:
        """The radius in mm in the directions `u` (…, 3), unit vectors."""
        waves = np.sin(u @ self.wave_vectors.T + self.wave_phases).sum(-1) / sqrt(_WAVES / 2)
        reach = np.maximum(np.linalg.norm(u @ self.inverse_axes.T, axis=-1), 1e-6)
        return np.asarray(self.scale_mm * np.clip(1 + self.lobulation * waves, 0.4, 1.8) / reach)

    @property
    def reach_mm(self) -> float:
        """No point of it is further from the centre."""
        return float(self.radius(directions(2000)).max()) * 1.02

    @property
    def volume_mm3(self) -> float:
        return float((self.radius(directions(4000)) ** 3).mean() * 4 * pi / 3)

    def inside(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which of the points (…, 3), mm from the centre, lie within."""
        far = np.linalg.norm(points, axis=-1)
        u = points / np.maximum(far, 1e-9)[..., None]
        return np.asarray(far < self.radius(u))

    def scaled(self, factor: float) -> "Shape":
        return Shape(
            self.inverse_axes, self.wave_vectors, self.wave_phases, self.lobulation, self.scale_mm * factor
        )


def shape_of(nodule: Nodule) -> Shape:
    """The surface of `nodule`, of exactly the volume of a ball of its diameter."""
    random = np.random.default_rng([nodule.seed, 41])
    turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
    stretch = nodule.elongation ** np.array([0.5, random.uniform(-0.3, 0.3), -0.5])
    inverse = np.diag(1 / stretch) @ turn.T
    # Longer waves are stronger waves: a nodule is lobed, not rough.
    vectors = random.standard_normal((_WAVES, 3)) * np.linspace(1.6, 4.0, _WAVES)[:, None]
    phases = random.uniform(0, 2 * pi, _WAVES)
    lobulation = max(nodule.lobulation, 0.12) if nodule.kind == "spiculated" else nodule.lobulation
    unit = Shape(inverse, vectors, phases, lobulation, 1.0)
    wanted = pi * nodule.diameter_mm**3 / 6
    return unit.scaled((wanted / unit.volume_mm3) ** (1 / 3))


def spicules(nodule: Nodule) -> list[tuple[NDArray[np.float64], NDArray[np.float64], float]]:
    """Threads from the surface outwards, each (start, end, radius at its start) in mm from the centre."""
    if nodule.kind != "spiculated":
        return []
    random = np.random.default_rng([nodule.seed, 43])
    shape = shape_of(nodule)
    count = int(random.integers(9, 16))
    u = random.standard_normal((count, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    length = random.uniform(0.25, 0.6, count) * nodule.diameter_mm
    start = u * (shape.radius(u) * 0.85)[:, None]
    bent = u + 0.15 * random.standard_normal((count, 3))
    end = start + bent * length[:, None]
    width = np.clip(nodule.diameter_mm * 0.06, 0.5, 1.0)
    return [(start[i], end[i], float(width)) for i in range(count)]


def axes_mm(inside: NDArray[np.bool_], spacing_mm: float) -> tuple[float, float]:
    """Long and short axis of a lattice of truth (z, y, x), in the axial plane of the longest diameter."""
    best = (0.0, 0.0)
    across = np.deg2rad(np.arange(0, 180, 2))
    along = np.stack([np.cos(across), np.sin(across)])
    for plane in inside:
        if not plane.any():
            continue
        # The ends of rows and columns suffice: an extreme point of the plane is an end of its row.
        edge = plane & ~(_shifted(plane, 1, 1) & _shifted(plane, -1, 1))
        y, x = np.nonzero(edge)
        width = np.stack([x, y], 1) @ along
        spans = (width.max(0) - width.min(0) + 1) * spacing_mm
        long = int(spans.argmax())
        if spans[long] > best[0]:
            best = (float(spans[long]), float(spans[(long + 45) % 90]))
    return best


def _shifted(plane: NDArray[np.bool_], by: int, axis: int) -> NDArray[np.bool_]:
    moved = np.roll(plane, by, axis)
    edge = [slice(None), slice(None)]
    edge[axis] = slice(0, 1) if by > 0 else slice(-1, None)
    moved[tuple(edge)] = False
    return moved

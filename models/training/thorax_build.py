"""
The build of a patient: one thorax made tall or short, broad or slim, adult or child, and bent a little.

The organs are formulas in canonical coordinates, those of an ordinary adult (`chest_anatomy`'s frame). A
build maps points of the patient there: scaled along each axis, then bent by slow waves, each patient's own.
"""

from dataclasses import dataclass
from math import tau

import numpy as np
import torch

from models.training.thorax_points import Points

_BEND_MM = 75.0  #: a wave turns once in tau times this


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Ratios to the ordinary adult, and what differs besides size.

    `scale` is the whole body's: 0.6 is about a child of four years, whose `width` and `depth` are more alike.
    """

    scale: float = 1.0
    width: float = 1.0
    depth: float = 1.0
    height: float = 1.0
    fat_mm: float = 13.0  #: under the skin
    heart: float = 1.0
    breasts_mm: float = 0.0
    diaphragm_mm: float = 0.0  #: higher by this much: less breath taken in
    bend_mm: float = 0.0  #: how far the waves move anything
    seed: int = 0  #: of the waves
    stomach_gas: bool = True

    def __post_init__(self) -> None:
        if not 0.35 <= self.scale <= 1.3:
            raise ValueError(f"a body of {self.scale} times an adult's size: 0.35 to 1.3")
        if not all(0.75 <= one <= 1.3 for one in (self.width, self.depth, self.height, self.heart)):
            raise ValueError("width, depth, height and heart lie between 0.75 and 1.3")
        if not 0 <= self.bend_mm <= 6:
            raise ValueError(f"waves of {self.bend_mm} mm: 0 to 6 mm")

    @property
    def factors(self) -> tuple[float, float, float]:
        """x, y, z: millimetres of the patient for one canonical millimetre."""
        return self.scale * self.width, self.scale * self.depth, self.scale * self.height

    @property
    def mm(self) -> float:
        """Millimetres of the patient for one canonical millimetre, about."""
        x, y, z = self.factors
        return float((x * y * z) ** (1 / 3))

    def _phases(self) -> list[float]:
        return [float(one) for one in np.random.default_rng([self.seed, 31]).uniform(0, tau, 6)]

    def canonical(self, at: Points) -> Points:
        """Points of the patient in the coordinates of the formulas."""
        fx, fy, fz = self.factors
        x, y, z = at.x / fx, at.y / fy, at.z / fz
        if not self.bend_mm:
            return Points(x, y, z)
        bend, a = 0.5 * self.bend_mm, self._phases()
        return Points(
            x + bend * (torch.sin(z / _BEND_MM + a[0]) + torch.sin(y / _BEND_MM + a[1])),
            y + bend * (torch.sin(z / _BEND_MM + a[2]) + torch.sin(x / _BEND_MM + a[3])),
            z + bend * (torch.sin(x / _BEND_MM + a[4]) + torch.sin(y / _BEND_MM + a[5])),
        )

    def patient(self, points: np.ndarray) -> np.ndarray:
        """Canonical points (n, 3) in the patient's millimetres: what `canonical` undoes."""
        wanted = np.asarray(points, np.float64)
        factors = np.array(self.factors)
        found = wanted * factors
        for _ in range(25 if self.bend_mm else 0):
            at = Points(*(torch.from_numpy(found[:, axis]) for axis in range(3)))
            found = found + (wanted - np.stack([part.numpy() for part in self.canonical(at)], 1)) * factors
        return np.asarray(found)


ADULT = Build()

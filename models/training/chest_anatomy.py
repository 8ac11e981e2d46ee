"""
The chest as formulas: where each organ is, as signed distances in millimetres.

`x, y, z` are patient coordinates, LPS (PS3.3 §C.7.6.2.1.1): +x to the patient's left, +y posterior, +z
towards the head; the origin lies in the middle of the chest. A signed distance is negative inside. Nothing
here is measured from a person; sizes are those of an ordinary adult at full inspiration.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

MIDLINE_X = 3.0  #: the plane between the lungs lies a little to the left, as the heart pulls it
MUSCLE_HU, FAT_HU, MEDIASTINUM_HU, BLOOD_HU = 55.0, -100.0, 35.0, 45.0
LIVER_HU, SPLEEN_HU, RIB_HU, VERTEBRA_HU, DISC_HU = 60.0, 50.0, 420.0, 220.0, 70.0
GAS_HU, OUTSIDE_HU, TABLE_HU = -985.0, -1000.0, -150.0


def ellipse(dx: Field, dy: Field, a: Field | float, b: Field | float) -> Field:
    """The distance to an ellipse with half axes `a`, `b` mm, exact to first order at its edge."""
    u, v = dx / a, dy / b
    r = np.sqrt(u * u + v * v)
    return np.asarray((r - 1) * r / (np.hypot(u / a, v / b) + 1e-6), np.float32)


def ellipsoid(dx: Field, dy: Field, dz: Field, half_axes: tuple[float, float, float]) -> Field:
    """The distance to an ellipsoid with half axes in mm, exact to first order at its edge."""
    a, b, c = half_axes
    u, v, w = dx / a, dy / b, dz / c
    r = np.sqrt(u * u + v * v + w * w)
    slope = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
    return np.asarray((r - 1) * r / (slope + 1e-6), np.float32)


def chest_wall(x: Field, y: Field, z: Field) -> Field:
    """Inside the pleural space of both sides and what lies between: a dome that closes at z = 138."""
    height = np.clip(z / 138.0, 0, 0.9995)
    narrowing = np.sqrt(1 - height**2.5)
    return ellipse(x, y - 5, 124 * narrowing, 86 * narrowing)


def diaphragm(x: Field, y: Field, z: Field) -> Field:
    """Negative above the two domes; the right one stands higher, on the liver."""
    right = -58 - 52 * (((x + 62) / 82) ** 2 + ((y + 8) / 84) ** 2)
    left = -71 - 46 * (((x - 62) / 82) ** 2 + ((y + 8) / 84) ** 2)
    return np.asarray(np.maximum(right, left) - z, np.float32)


def heart(x: Field, y: Field, z: Field) -> Field:
    """Left of the middle, so that the left lung is the smaller one."""
    return ellipsoid(x - 22, y + 18, z + 42, (60, 46, 52))


def aorta(x: Field, y: Field, z: Field) -> Field:
    """Descending aorta, left of the spine, below the arch at z = 55."""
    return np.asarray(np.maximum(np.hypot(x - 24, y - 44) - 12, z - 55), np.float32)


def spine(x: Field, y: Field, z: Field) -> Field:
    """Vertebral bodies with the muscle around them."""
    return ellipse(x, y - 72, 25, 26) + 0 * z


def septum(x: Field, y: Field, z: Field) -> Field:
    """What divides the lungs: thick around the trachea, 4 mm at the anterior junction line."""
    half = 2 + 21 * np.exp(-(((y - 18) / 36) ** 2)) + 13 * np.clip((z - 55) / 60, 0, 1)
    half = half + 12 * np.clip((15 - z) / 60, 0, 1)
    return np.asarray(np.abs(x - MIDLINE_X) - half, np.float32)


def lungs(x: Field, y: Field, z: Field) -> Field:
    """Both lungs, airways and vessels included; the side is the sign of x - MIDLINE_X."""
    distance = np.maximum(chest_wall(x, y, z), diaphragm(x, y, z))
    for organ in (septum, heart, aorta, spine):
        distance = np.maximum(distance, -organ(x, y, z))
    return distance


@dataclass(frozen=True, slots=True)
class Stomach:
    """Gas under the left dome: dark as lung, round, and no lung at all."""

    centre_mm: tuple[float, float, float] = (58.0, -22.0, -97.0)
    half_axes_mm: tuple[float, float, float] = (34.0, 24.0, 17.0)

    def distance(self, x: Field, y: Field, z: Field) -> Field:
        """Distance to the gas."""
        cx, cy, cz = self.centre_mm
        return ellipsoid(x - cx, y - cy, z - cz, self.half_axes_mm)


def _paint(hu: Field, distance: Field, value: float | Field, edge_mm: float) -> None:
    """Blend `value` into `hu` where `distance` is negative, over an edge as wide as the scanner blurs."""
    alpha = np.clip(0.5 - distance / edge_mm, 0, 1)
    hu += alpha * (value - hu)


def body(x: Field, y: Field, z: Field) -> Field:
    """The skin: shoulders narrow to the neck above z = 105."""
    neck = np.asarray(np.clip((z - 105) / 60, 0, 1) ** 2, np.float32)
    return ellipse(x, y - 5, 174 - 90 * neck, 120 - 45 * neck)


def tissue(x: Field, y: Field, z: Field, *, edge_mm: float, prone: bool) -> Field:
    """Hounsfield units of everything but lung parenchyma, vessels and airways: the shape of `x`."""
    hu = np.full(x.shape, OUTSIDE_HU, np.float32)
    bed = -128.0 if prone else 138.0  # the table is where the patient lies on it
    _paint(hu, np.maximum(np.abs(y - bed) - 7, np.abs(x) - 186), TABLE_HU, edge_mm)
    skin = body(x, y, z)
    _paint(hu, skin, FAT_HU, edge_mm)
    _paint(hu, skin + 14, MUSCLE_HU, edge_mm)

    wall = chest_wall(x, y, z)
    _paint(hu, wall, MEDIASTINUM_HU, edge_mm)
    # Ribs run downwards from back to front, one every 27 mm, in the shell outside the pleura.
    slope = (z + 0.35 * (y - 90)) / 27.0
    rib = np.abs(slope - np.floor(slope) - 0.5) * 27 - 6.5
    _paint(hu, np.maximum.reduce([np.abs(wall - 8) - 4, rib, z - 125]), RIB_HU, edge_mm)
    _paint(hu, np.maximum.reduce([np.abs(x) - 17, np.abs(y + 95) - 6, np.abs(z - 20) - 75]), RIB_HU, edge_mm)

    below = diaphragm(x, y, z)
    _paint(hu, np.maximum(wall, -below), SPLEEN_HU, edge_mm)
    _paint(hu, np.maximum.reduce([wall, -below, x - 25]), LIVER_HU, edge_mm)
    _paint(hu, heart(x, y, z), BLOOD_HU, edge_mm)
    _paint(hu, aorta(x, y, z), BLOOD_HU, edge_mm)
    _paint(hu, Stomach().distance(x, y, z), GAS_HU, edge_mm)
    level = z / 24.0
    disc = np.abs(level - np.floor(level) - 0.5) * 24 - 3
    vertebra = ellipse(x, y - 72, 18, 16)
    _paint(hu, vertebra, VERTEBRA_HU, edge_mm)
    _paint(hu, np.maximum(vertebra, disc), DISC_HU, edge_mm)
    _paint(hu, np.maximum(np.abs(x) - 5, np.abs(y - 100) - 12), VERTEBRA_HU, edge_mm)
    return hu

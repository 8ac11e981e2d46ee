"""
The bones and muscles of the thorax's wall: ribs, spine, sternum, clavicles and shoulder blades, as formulas.

Ribs are where two sheets of formulas cross: the shell outside the pleura, and bands that run downwards from
back to front, one every 24 mm: twelve pairs, each of compact bone around marrow, cartilage in front.
"""

import torch
from torch import Tensor

from models.training.thorax_anatomy import spine_y
from models.training.thorax_points import Points, ball, both, either, ellipse, tube, tubes

RIB_PITCH_MM, VERTEBRA_MM = 24.0, 24.0
_TOP_Z = 118.0


def rib(at: Points, wall_mm: Tensor) -> Tensor:
    """All ribs, compact bone and marrow; `wall_mm` is the distance to the pleura there."""
    level = (at.z + 0.45 * (at.y - 80)) / RIB_PITCH_MM + 0.3
    band = (level - torch.floor(level) - 0.5) * RIB_PITCH_MM * 0.91
    section = ellipse(wall_mm - 6.5, band, 4.2, 6.4)
    # The costal arch: in front the lowest ribs end higher than at the side.
    arch = -at.z - 62 - 0.0045 * (at.x.square()) - 0.9 * (at.y + 60).clamp_min(0)
    beside_spine = torch.where(at.y > 0, 24 - at.x.abs(), -99.0)
    return both(section, at.z - _TOP_Z, arch, -at.z - 150, beside_spine)


def cartilage_end(at: Points) -> Tensor:
    """Negative where a rib is cartilage: in front, towards the sternum."""
    return at.y + 66


def vertebra(at: Points) -> Tensor:
    """The bodies, one after the other without the discs."""
    return ellipse(at.x, at.y - spine_y(at.z), 17, 15.5, boxy=0.2)


def disc(at: Points) -> Tensor:
    """Negative between two vertebrae."""
    level = at.z / VERTEBRA_MM
    return (level - torch.floor(level) - 0.5).abs() * VERTEBRA_MM - 3.0


def arches(at: Points) -> Tensor:
    """Laminae, spinous and transverse processes around the canal."""
    y = at.y - spine_y(at.z)
    level = at.z / VERTEBRA_MM + 0.5
    middle = (level - torch.floor(level) - 0.5).abs() * VERTEBRA_MM
    ring = ellipse(at.x, y - 23, 14, 12).abs() - 3
    spinous = both(at.x.abs() - 3, (y - 34).abs() - 9, middle - 9)
    transverse = both((y - 24 - 0.15 * at.x.abs()).abs() - 4, at.x.abs() - 34, middle - 5)
    return either(both(ring, middle - 9), spinous, transverse)


def canal(at: Points) -> Tensor:
    return ellipse(at.x, at.y - spine_y(at.z) - 23, 9.5, 8)


def sternum(at: Points) -> Tensor:
    """Manubrium and body: it leans forwards towards its lower end."""
    front = -84 - 0.08 * (70 - at.z).clamp(0, 130)
    half = 15 + 14 * ((at.z - 60) / 25).clamp(0, 1)
    plate = both((at.y - front - 62 * ((at.z - 60) / 78).clamp(0, 1).square()).abs() - 5.5, at.x.abs() - half)
    return both(plate, (at.z - 20).abs() - 72)


def clavicles(at: Points) -> Tensor:
    sides = []
    for s in (-1, 1):
        path = (
            (s * 22.0, -52.0, 98.0),
            (s * 60.0, -50.0, 112.0),
            (s * 105.0, -22.0, 124.0),
            (s * 145.0, 4.0, 128.0),
        )
        sides.append(tubes(at, path, (8.0, 5.5, 5.5, 6.5)))
    return either(*sides)


def shoulder_blades(at: Points) -> Tensor:
    """Thin curved plates behind the ribs, with their spine and the joint."""
    sides = []
    for s in (-1, 1):
        dx, dz = s * at.x - 100, at.z - 62
        plate = 84 - 0.28 * dx - 0.0022 * dx.square()
        slab = (at.y - plate).abs() - 2.4
        outline = ellipse(dx + 0.28 * dz, dz, 30, 66)
        ridge = tube(at, (s * 78.0, 94.0, 96.0), (s * 150.0, 42.0, 122.0), 5.0, 7.0)
        sides.append(either(both(slab, outline), ridge))
    return either(*sides)


def humeral_heads(at: Points) -> Tensor:
    """The arms hang at the side of the field: their heads show on radiographs."""
    return either(*(ball(at, (s * 164.0, 14.0, 112.0), (23, 23, 24)) for s in (-1, 1)))


def muscles(at: Points, wall_mm: Tensor) -> Tensor:
    """Between the ribs, pectoral ones in front, those of the back, the latissimus at the side."""
    intercostal = (wall_mm - 6.5).abs() - 4.0
    pectoral = either(*(ball(at, (s * 68.0, -86.0, 48.0), (62, 15, 48)) for s in (-1, 1)))
    back = either(*(ellipse(at.x - s * 27, at.y - spine_y(at.z) - 36, 22, 14) for s in (-1, 1)))
    side = both((wall_mm - 16).abs() - 5.5, -at.y - 42, at.z - 90)
    blade = both((at.y - 84 + 0.28 * (at.x.abs() - 100)).abs() - 13, (at.z - 62).abs() - 70, 34 - at.x.abs())
    shoulder = 96 - at.z
    return either(intercostal, pectoral, back, side, blade, shoulder)

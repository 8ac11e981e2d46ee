"""
The full thorax as formulas: every organ's signed distance at canonical points (LPS mm, an ordinary adult).

The frame is `chest_anatomy`'s: the origin in the middle of the chest, +x the patient's left, +y posterior, +z
towards the head. Sizes are those of an adult at full inspiration; nothing is measured from a person.
"""

import torch
from torch import Tensor

from models.training.thorax_build import Build
from models.training.thorax_points import Points, ball, both, either, ellipse, tube, tubes

MIDLINE_X = 3.0
ASCENDING = ((4.0, -6.0, -14.0), (-8.0, -16.0, 8.0), (-12.0, -18.0, 28.0), (-8.0, -12.0, 46.0))
ARCH = ((-8.0, -12.0, 46.0), (6.0, 4.0, 58.0), (20.0, 24.0, 58.0), (25.0, 42.0, 44.0))
DESCENDING = ((25.0, 42.0, 44.0), (25.0, 46.0, 0.0), (19.0, 46.0, -70.0), (8.0, 46.0, -190.0))
PULMONARY_TRUNK = ((16.0, -32.0, -8.0), (20.0, -22.0, 12.0), (24.0, -6.0, 22.0))
LEFT_PULMONARY = ((24.0, -6.0, 22.0), (34.0, 8.0, 22.0), (46.0, 16.0, 10.0))
RIGHT_PULMONARY = ((22.0, -10.0, 18.0), (4.0, -2.0, 14.0), (-16.0, 2.0, 11.0), (-36.0, 8.0, 3.0))
VENA_CAVA = ((-20.0, -6.0, 104.0), (-24.0, -8.0, 40.0), (-25.0, -6.0, -8.0))
INFERIOR_CAVA = ((-18.0, 2.0, -50.0), (-18.0, 6.0, -90.0), (-14.0, 22.0, -190.0))
VEINS_TO_ATRIUM = (
    ((-12.0, 18.0, -18.0), (-42.0, 16.0, -16.0), 7.0),
    ((22.0, 20.0, -16.0), (46.0, 22.0, -12.0), 6.5),
)
OESOPHAGUS = (
    (1.0, 32.0, 190.0),
    (2.0, 34.0, 100.0),
    (6.0, 36.0, 40.0),
    (10.0, 38.0, -30.0),
    (22.0, 16.0, -90.0),
)
NECK_VESSELS = (
    ((-18.0, -4.0, 58.0), (-24.0, 0.0, 110.0), (-22.0, 4.0, 190.0)),
    ((4.0, 0.0, 58.0), (16.0, 2.0, 110.0), (22.0, 4.0, 190.0)),
    ((16.0, 18.0, 58.0), (30.0, 16.0, 105.0), (70.0, 4.0, 128.0)),
)


def wall(at: Points) -> Tensor:
    """The inner surface of the rib cage: a dome that closes at z = 138."""
    height = (at.z / 138).clamp(0, 0.9995)
    narrowing = (1 - height.pow(2.5)).sqrt()
    lower = 1 + 0.04 * ((-at.z) / 60).clamp(0, 1)
    return ellipse(at.x, at.y - 5, 124 * narrowing * lower, 87 * narrowing, boxy=0.25)


def torso(at: Points) -> Tensor:
    """The surface of the muscles below the fat: shoulders above z = 70, the neck above z = 135."""
    shoulder = ((at.z - 40) / 60).clamp(0, 1)
    neck = ((at.z - 120) / 55).clamp(0, 1)
    neck = neck * neck * (3 - 2 * neck)
    waist = ((-70 - at.z) / 80).clamp(0, 1)
    a = 146 + 26 * shoulder * (1 - neck) - 92 * neck - 6 * waist
    b = 104 + 2 * shoulder - 40 * neck - 3 * waist
    return ellipse(at.x, at.y - 6 + 4 * neck, a, b, boxy=0.25)


def breasts(at: Points, size_mm: float) -> Tensor:
    """Both of them, on the anterior wall."""
    z, y = -12.0, -88.0
    sides = [ball(at, (sign * 72.0, y, z), (52, 24 + size_mm, 46 + 0.3 * size_mm)) for sign in (-1, 1)]
    return either(*sides)


def diaphragm(at: Points, higher_mm: float) -> Tensor:
    """Negative above the two domes; the right one stands higher, on the liver."""
    z = at.z - higher_mm
    right = -56 - 50 * (((at.x + 62) / 82).square() + ((at.y + 10) / 84).square())
    left = -70 - 46 * (((at.x - 62) / 82).square() + ((at.y + 10) / 84).square())
    return 0.75 * (torch.maximum(right, left) - z)


def spine_y(z: Tensor) -> Tensor:
    """Where the middle of the vertebral bodies lies: a slight kyphosis."""
    return 70 - 5 * ((z - 25) / 110).square().clamp_max(2.0)


def heart(at: Points, size: float) -> Tensor:
    """Its outer surface: both ventricles to the left and front, the right atrium, the left one behind."""
    s = size
    left = ball(at, (34, -22, -48), (46 * s, 42 * s, 42 * s))
    right_ventricle = ball(at, (6, -34, -48), (42 * s, 34 * s, 40 * s))
    right_atrium = ball(at, (-18, -10, -38), (25 * s, 32 * s, 38 * s))
    left_atrium = ball(at, (6, 16, -18), (34 * s, 22 * s, 24 * s))
    outflow = ball(at, (18, -34, -14), (22 * s, 20 * s, 30 * s))
    return either(left, right_ventricle, right_atrium, left_atrium, outflow)


def chambers(at: Points, size: float) -> Tensor:
    """The blood within, all four; what lies between them and the surface is muscle."""
    s = size
    left = ball(at, (36, -20, -48), (33 * s, 29 * s, 29 * s))
    right_ventricle = ball(at, (2, -38, -50), (30 * s, 24 * s, 30 * s))
    right_atrium = ball(at, (-19, -10, -38), (21 * s, 28 * s, 34 * s))
    left_atrium = ball(at, (6, 17, -18), (31 * s, 19 * s, 21 * s))
    between = either(left, right_ventricle, right_atrium, left_atrium)
    # The septum between the ventricles lies across, thick as the wall of the left one.
    septum = (((at.x - 16) * 0.64 + (at.y + 34) * 0.77) - 0.0).abs() - 5
    ventricles = both(torch.maximum(at.z + 26, -at.z - 90), at.y + 8)
    return both(between, -both(septum, ventricles))


def great_vessels(at: Points) -> Tensor:
    """Aorta, pulmonary trunk and its branches, both caval veins and the veins to the left atrium."""
    veins = [tube(at, start, end, radius) for start, end, radius in VEINS_TO_ATRIUM]
    return either(
        aorta(at),
        tubes(at, PULMONARY_TRUNK, (15.0, 14.0, 13.0)),
        tubes(at, LEFT_PULMONARY, (11.5, 10.5, 8.0)),
        tubes(at, RIGHT_PULMONARY, (12.0, 11.0, 10.0, 7.5)),
        tubes(at, VENA_CAVA, 9.0),
        tubes(at, INFERIOR_CAVA, 11.0),
        *veins,
    )


def aorta(at: Points) -> Tensor:
    return either(
        tubes(at, ASCENDING, (15.5, 15.5, 15.0, 14.5)),
        tubes(at, ARCH, (14.5, 13.5, 13.0, 12.0)),
        tubes(at, DESCENDING, (12.0, 11.5, 11.0, 10.0)),
    )


def neck_vessels(at: Points) -> Tensor:
    return either(*(tubes(at, path, 5.0) for path in NECK_VESSELS))


def septum(at: Points) -> Tensor:
    """What divides the lungs: thick around trachea and spine, 4 mm at the anterior junction line."""
    half = 2 + 21 * torch.exp(-((at.y - 20) / 36).square()) + 15 * ((at.z - 50) / 70).clamp(0, 1)
    half = half + 12 * ((15 - at.z) / 60).clamp(0, 1)
    return (at.x - MIDLINE_X).abs() - half


def spine_sheath(at: Points) -> Tensor:
    return ellipse(at.x, at.y - spine_y(at.z) - 4, 23, 25)


def mediastinum(at: Points, build: Build) -> Tensor:
    """All that lies between the lungs, with the fat around it."""
    return either(
        septum(at),
        heart(at, build.heart) - 3.0,
        great_vessels_beside(at) - 1.5,
        spine_sheath(at),
    )


def great_vessels_beside(at: Points) -> Tensor:
    """Those that reach beyond the septum and make the outline of the mediastinum."""
    return either(
        tubes(at, ASCENDING[1:], 15.0),
        tubes(at, ARCH, (14.5, 13.5, 13.0, 12.0)),
        tubes(at, DESCENDING, (12.0, 11.5, 11.0, 10.0)),
        tubes(at, PULMONARY_TRUNK, (14.0, 14.0, 13.0)),
        tubes(at, VENA_CAVA, 9.0),
    )


def lungs(at: Points, build: Build) -> Tensor:
    """Both lungs, airways and vessels included; the side is the sign of x - MIDLINE_X."""
    return both(wall(at), diaphragm(at, build.diaphragm_mm), -mediastinum(at, build))


def oblique_fissure(at: Points) -> Tensor:
    """Negative above and in front of it, in both lungs: from high behind to low in front."""
    bulge = 6 * torch.sin(at.x / 38 + at.y / 60)
    right = at.x < MIDLINE_X
    level = torch.where(right, torch.full_like(at.x, 42.0), torch.full_like(at.x, 50.0))
    return -(at.z - (level + 0.80 * (at.y - 70)) - bulge) * 0.78


def horizontal_fissure(at: Points) -> Tensor:
    """Negative above it; in the right lung, in front of the oblique one."""
    return -(at.z - 12 - 4 * torch.cos((at.x + 70) / 45) - 0.08 * at.y) * 0.98


def lobe(at: Points) -> Tensor:
    """1 right upper, 2 right middle, 3 right lower, 4 left upper, 5 left lower: of any point."""
    right = at.x < MIDLINE_X
    above = oblique_fissure(at) < 0
    upper = horizontal_fissure(at) < 0
    of_right = torch.where(above, torch.where(upper, 1, 2), 3)
    return torch.where(right, of_right, torch.where(above, 4, 5)).to(torch.uint8)


def liver(at: Points, higher_mm: float) -> Tensor:
    """Below the right dome and across the middle, thinner to the left."""
    below = -diaphragm(at, higher_mm) + 3
    shape = ball(at, (-52, -4, -112), (86, 84, 66))
    left_lobe = ball(at, (20, -42, -104), (48, 30, 26))
    return both(below, either(shape, left_lobe), wall(at) + 3)


def spleen(at: Points, higher_mm: float) -> Tensor:
    return both(-diaphragm(at, higher_mm) + 3, ball(at, (78, 40, -118), (30, 40, 46)), wall(at) + 3)


def stomach(at: Points, higher_mm: float) -> Tensor:
    return both(-diaphragm(at, higher_mm) + 5, ball(at, (56, -20, -104), (38, 36, 34)), wall(at) + 4)

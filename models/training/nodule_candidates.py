"""
What the search of `nodule_ct` stops at in whole random chests, each candidate with its truth.

The cubes of `nodule_patches` are scenes by design; these are the spots that a filter is asked about at use,
cut out as it will see them. Of each chest its nodules are kept as well, also those that the search missed.

    patients = [look_at(seed) for seed in range(60)]
    patients[0].looks[0].cube       # (32, 32, 32) z, y, x, Hounsfield units on cubes of 1 mm
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from models.builtin.nodule_ct.features import Features, features_of
from models.builtin.nodule_ct.search import Airways, spots_of
from models.builtin.nodule_ct.spots import Spot, sampled
from models.chest.anatomy import Stages, find_chest
from models.training.lesions import Kind
from models.training.phantoms import Phantom
from models.training.random_chest import Variant, random_chest

EDGE, STEP_MM = 32, 1.0  #: of a cube
NONE, BESIDE = -1, -2  #: of `Look.nodule`: no nodule there; too near to one to be called none
_HIT_MM = 3.0  # a mark within so much of the middle is on the nodule, however small it is
_BESIDE_MM = 6.0
_ABOUT_MM = 24.0
_HEIGHT_MM = 285.0
_SIDE = 288


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """The voxels of the images around a nodule that the search stopped at."""

    hu: NDArray[np.int16]  #: (z, y, x)
    truth: NDArray[np.bool_]  #: of the nodule
    source_mm: tuple[float, float, float]
    spot: Spot  #: with its place in `hu`, not in all images


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One candidate."""

    cube: NDArray[np.int16]  #: (EDGE, EDGE, EDGE)
    features: Features
    at_mm: NDArray[np.float64]  #: (z, y, x) from the corner of the images
    radius_mm: float  #: of its scale
    nodule: int  #: index into `Patient.nodules`, or NONE or BESIDE
    around: Surroundings | None = None  #: of a nodule, where asked for


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """A nodule in a chest."""

    kind: Kind
    diameter_mm: float  #: of the ball of its volume
    at_mm: NDArray[np.float64]  #: (z, y, x) from the corner of the images


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """A chest as the search sees it."""

    seed: int
    nodules: tuple[Truth, ...]
    looks: tuple[Look, ...]


def look_at(
    seed: int, *, variant: Variant = "first", nodules: int | None = None, surroundings: bool = False
) -> Patient:
    """The candidates of the patient `seed` on slices of 2 to 3 mm; `nodules` as of `random_chest`."""
    random = np.random.default_rng([seed, 79])
    thick, wide = (float(random.choice(few)) for few in ((2.0, 2.5, 3.0), (1.1, 1.2, 1.3)))
    shape = (round(_HEIGHT_MM / thick), _SIDE, _SIDE)
    phantom = random_chest(seed, shape, (thick, wide, wide), nodules=nodules, variant=variant)
    return candidates_of(phantom, surroundings=surroundings)


def candidates_of(phantom: Phantom, *, surroundings: bool = False) -> Patient:
    """The candidates of a chest, each with the nodule that it lies in, if any."""
    chest = find_chest(phantom.volume, device=torch.device("cpu"))
    source = np.ascontiguousarray(chest.source)
    labels = chest.canonical.view(phantom.nodule_labels) if phantom.nodule_labels is not None else None
    source_mm = chest.canonical.spacing_mm
    truths, masks = [], []
    for one in phantom.nodules:
        if labels is None or not (mask := labels == one.label).any():
            continue  # smaller than a voxel
        middle = (np.array(ndimage.center_of_mass(mask)) + 0.5) * source_mm
        truths.append(Truth(one.nodule.kind, float((6 * one.volume_mm3 / np.pi) ** (1 / 3)), middle))
        masks.append(mask)
    looks = []
    airways = Airways.of(chest)
    for spot in spots_of(chest, Stages()):
        at = middle_mm(spot)
        which = _which(at, truths)
        around = (
            _surroundings(source, masks[which], at, source_mm, spot) if surroundings and which >= 0 else None
        )
        radius = spot.cutout.candidate.radius_mm
        features = features_of(spot, airways.from_edge_of(spot))
        looks.append(Look(cube_at(at, source, source_mm), features, at, radius, which, around))
    return Patient(phantom.seed, tuple(truths), tuple(looks))


def middle_mm(spot: Spot) -> NDArray[np.float64]:
    """(z, y, x) of a candidate, in mm from the corner of the images."""
    return np.asarray(spot.cutout.low_mm + np.array(spot.cutout.centre) * spot.cutout.step_mm)


def cube_at(
    at_mm: NDArray[np.float64],
    source: NDArray[np.generic],
    source_mm: tuple[float, float, float],
    step_mm: float = STEP_MM,
) -> NDArray[np.int16]:
    """(EDGE, EDGE, EDGE) around `at_mm`, Hounsfield units, linearly between the voxels of `source`."""
    offsets = (np.arange(EDGE) - (EDGE - 1) / 2) * step_mm
    hu = sampled(source, [(at_mm[axis] + offsets) / source_mm[axis] - 0.5 for axis in range(3)])
    return np.rint(hu).astype(np.int16)


def _which(at_mm: NDArray[np.float64], truths: Iterable[Truth]) -> int:
    """The nodule that a place lies in."""
    beside = NONE
    for index, one in enumerate(truths):
        away, radius = float(np.linalg.norm(at_mm - one.at_mm)), one.diameter_mm / 2
        if away <= max(_HIT_MM, radius):
            return index
        if away <= radius + _BESIDE_MM:
            beside = BESIDE
    return beside


def _surroundings(
    source: NDArray[np.generic],
    truth: NDArray[np.bool_],
    at_mm: NDArray[np.float64],
    source_mm: tuple[float, float, float],
    spot: Spot,
) -> Surroundings:
    low = [max(0, int((at - _ABOUT_MM) / mm)) for at, mm in zip(at_mm, source_mm, strict=True)]
    high = [int((at + _ABOUT_MM) / mm) + 1 for at, mm in zip(at_mm, source_mm, strict=True)]
    z, y, x = (slice(first, last) for first, last in zip(low, high, strict=True))
    cutout = replace(spot.cutout, low_mm=spot.cutout.low_mm - np.array(low) * source_mm)
    hu = np.asarray(source[z, y, x], np.int16).copy()
    return Surroundings(hu, truth[z, y, x].copy(), source_mm, replace(spot, cutout=cutout))

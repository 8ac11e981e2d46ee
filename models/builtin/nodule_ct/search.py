"""
From a chest to its nodules: the chapters in their order, as pure steps.

    chest          →  field: lungs on cubes of a millimetre, their outside dark
    field          →  candidates: round bright spots at seven scales
    candidate      →  spot: parted from vessels and wall  →  features  →  score
    spot           →  voxels of the images

It is done twice. The first look closes notches of the lungs up to 32 mm wide and finds nodules. The second
closes those up to 64 mm wide and looks, on coarser cubes and at larger scales, for masses: what is so large
and hangs on mediastinum, hilum or wall is no notch of 32 mm, and the first look sees its edge alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.builtin.nodule_ct.candidates import SIGMAS_MM, find_candidates
from models.builtin.nodule_ct.drawing import Drawn, draw
from models.builtin.nodule_ct.features import Features, features_of
from models.builtin.nodule_ct.field import STEP_MM, drawn_out, field_of, grids_of
from models.builtin.nodule_ct.rules import score_of
from models.builtin.nodule_ct.spots import Spot, cut_out, part_from_surroundings
from models.chest.anatomy import Chest, Stages
from models.prepare.morphology import Box, Mask, Spacing, box_of, close, depth_mm

_MARGIN_MM = 6.0
_FAR_MM = 15.0  # from the airways: farther is not the hilum
_SAME = 0.3  # of the smaller of two spots: what overlaps so far is one


@dataclass(frozen=True, slots=True)
class Look:
    """One search: how far the lungs are closed, how finely, at which scales, and what counts."""

    recess_mm: float  #: notches up to twice as wide belong to the lungs
    step_mm: float  #: of the cubes
    sigmas_mm: tuple[float, ...]
    least_mm: float  #: diameter
    least_score: float
    least_core_hu: float  #: what is darker is fat of the mediastinum, or no mass


NODULES = Look(16.0, STEP_MM, SIGMAS_MM, 0.0, 0.0, -math.inf)
MASSES = Look(32.0, 2.0, (9.0, 12.8, 18.0), 25.0, 0.5, -40.0)


@dataclass(frozen=True, slots=True)
class Nodule:
    """What was found in one place, on the source as (z, y, x)."""

    score: float
    features: Features
    drawn: Drawn
    spot: Spot


@dataclass(frozen=True, slots=True)
class Airways:
    """How far the large airways are, up to `_FAR_MM`."""

    box: Box | None  #: of the working grid, around the airways; None where there are none
    away_mm: NDArray[np.float32]
    spacing_mm: Spacing

    @classmethod
    def of(cls, chest: Chest) -> Self:
        mask = chest.airways.mask
        if not chest.airways.found or not mask.any():
            return cls(None, np.zeros((1, 1, 1), np.float32), chest.spacing_mm)
        box = box_of(mask, _FAR_MM, chest.spacing_mm)
        return cls(box, depth_mm(~mask[box], chest.spacing_mm), chest.spacing_mm)

    def from_edge_of(self, spot: Spot) -> float:
        """In mm; endless beyond the box."""
        if self.box is None:
            return math.inf
        at = np.argwhere(spot.mask) * spot.cutout.step_mm + spot.cutout.low_mm
        z, y, x = (
            np.floor(at[:, axis] / self.spacing_mm[axis]).astype(np.intp) - self.box[axis].start
            for axis in range(3)
        )
        within = np.logical_and.reduce(
            [(index >= 0) & (index < n) for index, n in zip((z, y, x), self.away_mm.shape, strict=True)]
        )
        return float(self.away_mm[z[within], y[within], x[within]].min()) if within.any() else math.inf


def search(chest: Chest, clock: Stages, *, least_score: float) -> tuple[Nodule, ...]:
    """What scores `least_score` at least, the highest first. Where two overlap, a mass goes before what is
    seen of its edge, and otherwise the higher score before the lower.
    """
    looks = (MASSES, NODULES)
    spots = [spots_of(chest, clock, look) for look in looks]
    with clock("spots"):
        airways = Airways.of(chest)
        masses, nodules = (
            _scored(one, chest, airways, max(least_score, look.least_score))
            for look, one in zip(looks, spots, strict=True)
        )
        return tuple(sorted(_once([*masses, *nodules]), key=_first))


def spots_of(chest: Chest, clock: Stages, look: Look = NODULES) -> tuple[Spot, ...]:
    """Every candidate of a look that is brighter than the lung around it, parted from it, before any rule."""
    with clock("field"):
        wide = _wide(chest, look.recess_mm)
        source = chest.source
        grids = grids_of(_source_box(wide, chest), chest.canonical.spacing_mm, look.step_mm)
        lungs = drawn_out(wide, source.shape, grids)
        field = field_of(source, grids, lungs, chest.device)
    with clock("candidates"):
        candidates = find_candidates(field, look.sigmas_mm)
    with clock("spots"):
        cutouts = (cut_out(candidate, source, grids, lungs) for candidate in candidates)
        parted = (part_from_surroundings(cutout) for cutout in cutouts)
        return tuple(
            spot
            for spot in parted
            if spot is not None and 2 * spot.radius_mm >= look.least_mm and spot.core_hu >= look.least_core_hu
        )


def _scored(spots: Sequence[Spot], chest: Chest, airways: Airways, least_score: float) -> list[Nodule]:
    """What scores enough, the highest first, with what overlaps."""
    found = []
    for spot in spots:
        features = features_of(spot, airways.from_edge_of(spot))
        points = score_of(features)
        if points >= least_score:
            drawn = draw(spot, chest.source, chest.canonical.spacing_mm)
            if drawn is not None:
                found.append(Nodule(points, features, drawn, spot))
    return sorted(found, key=_first)


def _first(one: Nodule) -> tuple[float, float]:
    return -one.score, -one.features.volume_mm3


def _wide(chest: Chest, recess_mm: float) -> Mask:
    """The lungs with their recesses filled, each for itself: what lies between the two is no lung."""
    right, left = (close(one, recess_mm, chest.spacing_mm) for one in (chest.right, chest.left))
    both = (right & ~left) | (left & ~right)
    return (both & ~chest.airways.mask) | chest.lungs


def _source_box(mask: Mask, chest: Chest) -> Box:
    """The voxels of the source that a box around `mask`, on the working grid, covers."""
    sides = []
    for side, few, many in zip(
        box_of(mask, _MARGIN_MM, chest.spacing_mm), mask.shape, chest.source.shape, strict=True
    ):
        sides.append(
            slice(int(np.floor(side.start * many / few)), min(many, int(np.ceil(side.stop * many / few))))
        )
    return sides[0], sides[1], sides[2]


def _once(found: Sequence[Nodule]) -> tuple[Nodule, ...]:
    """Without what another, higher one has for the most part."""
    kept: list[Nodule] = []
    for one in found:
        if not any(_same(one.drawn, other.drawn) for other in kept):
            kept.append(one)
    return tuple(kept)


def _same(one: Drawn, other: Drawn) -> bool:
    sizes: list[int] = [int(np.count_nonzero(drawn.mask)) for drawn in (one, other)]
    return _shared(one, other) >= _SAME * min(sizes)


def _shared(one: Drawn, other: Drawn) -> int:
    """Voxels of both."""
    low = [max(a.start, b.start) for a, b in zip(one.box, other.box, strict=True)]
    high = [min(a.stop, b.stop) for a, b in zip(one.box, other.box, strict=True)]
    if any(first >= last for first, last in zip(low, high, strict=True)):
        return 0
    parts: list[NDArray[np.bool_]] = []
    for drawn in (one, other):
        z, y, x = (slice(a - s.start, b - s.start) for a, b, s in zip(low, high, drawn.box, strict=True))
        parts.append(drawn.mask[z, y, x])
    return int(np.count_nonzero(parts[0] & parts[1]))

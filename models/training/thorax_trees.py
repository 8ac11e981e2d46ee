"""
The airways, arteries and veins of the full thorax: capsules in canonical coordinates.

Every fork obeys Murray's law, r0³ = r1³ + r2³: a branch that feeds n twigs has n^(1/3) times a twig's radius.
Arteries run with the airways, veins between them; airways end where their lumen would be below 0.8 mm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from models.training import thorax_anatomy as anatomy
from models.training.chest_trees import Capsule
from models.training.thorax_build import ADULT
from models.training.thorax_points import Points

ARTERY_TWIG_MM, VEIN_TWIG_MM = 0.62, 0.6
TWIGS = 190  #: of each tree of each lung
_WALL_SHARE = 0.28  #: of an airway's radius is its wall
_HILA = {
    "artery": ((-36.0, 8.0, 3.0), (46.0, 16.0, 10.0)),
    "vein": ((-42.0, 16.0, -16.0), (46.0, 22.0, -12.0)),
}
_CARINA = (1.0, 18.0, 40.0)
_BRONCHI = {  # parent, end: the named airways, on their way to the lobes
    "right main": (_CARINA, (-26.0, 22.0, 20.0), 7.2),
    "right upper": ((-26.0, 22.0, 20.0), (-48.0, 22.0, 34.0), 4.6),
    "right intermediate": ((-26.0, 22.0, 20.0), (-36.0, 26.0, -2.0), 5.6),
    "right middle": ((-36.0, 26.0, -2.0), (-58.0, -8.0, -20.0), 3.4),
    "right lower": ((-36.0, 26.0, -2.0), (-50.0, 38.0, -26.0), 4.8),
    "left main": (_CARINA, (38.0, 28.0, 10.0), 6.3),
    "left upper": ((38.0, 28.0, 10.0), (58.0, 12.0, 28.0), 4.6),
    "left lower": ((38.0, 28.0, 10.0), (56.0, 40.0, -24.0), 4.6),
}
_LOBES = {"right upper": 1, "right middle": 2, "right lower": 3, "left upper": 4, "left lower": 5}


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a vessel parts: what a detector likes to call a nodule."""

    at: tuple[float, float, float]
    radius_mm: float  #: of the parent


@dataclass(frozen=True, slots=True)
class Trees:
    """The trees of one patient, in canonical millimetres."""

    vessels: tuple[Capsule, ...]
    airways: tuple[Capsule, ...]  #: lumen
    forks: tuple[Fork, ...]

    def walls(self) -> tuple[Capsule, ...]:
        """The airways with their walls."""
        thick = 1 / (1 - _WALL_SHARE)
        return tuple(
            Capsule(
                one.start,
                one.end,
                min(one.start_mm * thick, one.start_mm + 1.4),
                min(one.end_mm * thick, one.end_mm + 1.4),
            )
            for one in self.airways
        )


@lru_cache(maxsize=4)
def trees(seed: int, twigs: int = TWIGS) -> Trees:
    """All trees of the patient `seed`."""
    random = np.random.default_rng([seed, 11])
    vessels: list[Capsule] = []
    forks: list[Fork] = []
    points = {lobe: _points_in_lobe(random, lobe, twigs) for lobe in range(1, 6)}
    for side in (0, 1):
        own = np.concatenate([points[lobe] for lobe in ((1, 2, 3) if side == 0 else (4, 5))])
        for tree, twig_mm in (("artery", ARTERY_TWIG_MM), ("vein", VEIN_TWIG_MM)):
            # Veins drain what lies between two arteries.
            ends = own if tree == "artery" else own + random.normal(0, 5, own.shape)
            vessels += _branches(np.array(_HILA[tree][side]), ends, twig_mm, random, forks)
    airways = [
        Capsule((0.0, 0.0, 260.0), (0.0, 2.0, 140.0), 9.0, 9.0),
        Capsule((0.0, 2.0, 140.0), _CARINA, 9.0, 8.6),
    ]
    for name, (start, end, radius) in _BRONCHI.items():
        airways.append(Capsule(start, end, radius, radius * 0.86))
        if (lobe := _LOBES.get(name)) is not None:
            some = points[lobe][:: max(1, len(points[lobe]) // 48)]
            twig = 0.86 * radius / len(some) ** (1 / 3)
            grown = _branches(np.array(end), some + random.normal(0, 3, some.shape), twig, random, [])
            airways += [one for one in grown if one.start_mm >= 0.8]
    return Trees(tuple(vessels), tuple(airways), tuple(forks))


def _points_in_lobe(random: np.random.Generator, lobe: int, twigs: int) -> NDArray[np.float64]:
    """(n, 3) points at least 5 mm inside the lobe, as many as its part of the lung asks for."""
    share = {1: 0.36, 2: 0.2, 3: 0.44, 4: 0.48, 5: 0.52}[lobe]
    wanted = max(4, round(share * twigs))
    kept = np.empty((0, 3))
    while len(kept) < wanted:
        tries = random.uniform((-128, -88, -120), (128, 98, 138), (wanted * 24, 3))
        at = Points(*(torch.from_numpy(tries[:, axis]) for axis in range(3)))
        inside = (anatomy.lungs(at, ADULT) < -5) & (anatomy.lobe(at) == lobe)
        kept = np.concatenate([kept, tries[inside.numpy()]])
    return kept[:wanted]


def _branches(
    root: NDArray[np.float64],
    points: NDArray[np.float64],
    twig_mm: float,
    random: np.random.Generator,
    forks: list[Fork],
) -> Iterator[Capsule]:
    """The tree from `root` (3,) to every one of `points` (n, 3); each branch keeps its radius to its fork."""
    radius = float(twig_mm * len(points) ** (1 / 3))
    if len(points) == 1:
        yield Capsule(_triple(root), _triple(points[0]), radius, 0.5 * radius)
        return
    middle = points.mean(0)
    fork = 0.58 * root + 0.42 * middle
    fork = fork + random.normal(0, 0.06, 3) * np.linalg.norm(middle - root)
    yield Capsule(_triple(root), _triple(fork), radius, radius)
    forks.append(Fork(_triple(fork), radius))
    # Halve the points across the direction in which they spread most, not quite evenly.
    centred = points - middle
    order = np.argsort(centred @ np.linalg.svd(centred, full_matrices=False)[2][0], kind="stable")
    half = int(np.clip(round(len(points) * random.uniform(0.35, 0.65)), 1, len(points) - 1))
    yield from _branches(fork, points[order[:half]], twig_mm, random, forks)
    yield from _branches(fork, points[order[half:]], twig_mm, random, forks)


def _triple(point: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])

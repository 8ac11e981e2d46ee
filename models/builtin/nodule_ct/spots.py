"""
One candidate cut out of a chest: a small cube of cubes around it, and what in it hangs together.

The cubes are as fine as the candidate is small, whatever the grid of the images, so a rule of shape reads the
same for 4 mm and for 30 mm. The spot is everything brighter than half way between its core and the lung
around it, without the vessels that lead to it: an opening with a ball that fits into the spot but not into
its vessels parts the two (Kuhnigk et al., IEEE TMI 2006). The closed lungs are its limit at the pleura.
All arrays are (z, y, x).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.builtin.nodule_ct.candidates import Candidate
from models.builtin.nodule_ct.field import Grids
from models.chest.lungs import GAS_HU
from models.prepare.morphology import FACES, Mask

_CUBES_MM = (0.6, 2.0)
_CUBES_PER_RADIUS = 4.5
_REACH = 2.3  # half the edge of the cut-out, in radii of the candidate
_REACH_MM = 5.0  # and so much more
_CORE = 0.6  # part of the radius in which the core is looked for
_BRIGHTEST_CORE_HU = 20.0  # calcium and contrast say nothing of where soft tissue ends
_LUNG_HU = (-1000.0, -550.0)
_LEAST_LUNG = 20  # cubes of lung around a candidate, to know how dark it is there
SOLID_CORE_HU = -250.0  #: a core that is brighter has a soft tissue edge
_THRESHOLDS_HU = (-780.0, -350.0)
_OPENINGS = (0.45, 0.6, 0.75)  # of the largest ball that fits into the spot
_LEAST_OPENING_MM = 0.7
_LONGEST = 2.4  # a spot that is so many times longer than its ball is thick is still tied to something


@dataclass(frozen=True, slots=True)
class Cutout:
    """The surroundings of a candidate on cubes of `step_mm`."""

    candidate: Candidate
    step_mm: float
    low_mm: NDArray[np.float64]  #: (3,) centre of the first cube, in mm from the corner of the source
    hu: NDArray[np.float32]
    lung: Mask  #: the closed lungs
    centre: tuple[int, int, int]  #: of the candidate

    @property
    def edge(self) -> int:
        """Cubes along each axis."""
        return int(self.hu.shape[0])


@dataclass(frozen=True, slots=True)
class Spot:
    """What was parted from its surroundings."""

    cutout: Cutout
    mask: Mask  #: the spot itself
    bright: Mask  #: all that is as bright, with vessels and what else hangs on it
    depth_mm: NDArray[np.float32]  #: of the bright part
    threshold_hu: float
    core_hu: float
    around_hu: float  #: of the lung around it
    ball_mm: float  #: radius of the largest ball that fits into it

    @property
    def volume_mm3(self) -> float:
        """By its cubes."""
        return float(np.count_nonzero(self.mask)) * self.cutout.step_mm**3

    @property
    def radius_mm(self) -> float:
        """Of the ball with its volume."""
        return float((3 * self.volume_mm3 / (4 * np.pi)) ** (1 / 3))


def cut_out(
    candidate: Candidate, source: NDArray[np.generic], grids: Grids, lungs: NDArray[np.float32]
) -> Cutout:
    """The cubes around `candidate`; `lungs` are the closed lungs on the cubes of the field, 0 … 1."""
    radius = candidate.radius_mm
    step = float(np.clip(radius / _CUBES_PER_RADIUS, *_CUBES_MM))
    half = int(np.ceil((_REACH * radius + _REACH_MM) / step))
    offsets = np.arange(-half, half + 1) * step
    at = np.array(candidate.at)
    source_mm = np.array(grids.source_mm)
    middle = (grids.to_source(at) + 0.5) * source_mm  # mm from the corner of the source
    hu = sampled(source, [(middle[axis] + offsets) / source_mm[axis] - 0.5 for axis in range(3)])
    lung = sampled(lungs, [at[axis] + offsets / grids.step_mm[axis] for axis in range(3)])
    return Cutout(candidate, step, middle - half * step, hu, lung > 0.5, (half, half, half))


def sampled(array: NDArray[np.generic], index: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """`array` at a box of points between its voxels, linearly; beyond its edges it goes on as there."""
    box = tuple(
        slice(max(0, min(int(np.floor(at[0])), n - 1)), max(1, min(int(np.ceil(at[-1])) + 1, n)))
        for at, n in zip(index, array.shape, strict=True)
    )
    field = np.asarray(array[box], np.float32)
    for axis, at in enumerate(index):
        inner = np.clip(at - box[axis].start, 0, field.shape[axis] - 1)
        low = np.minimum(np.floor(inner).astype(int), field.shape[axis] - 1)
        high = np.minimum(low + 1, field.shape[axis] - 1)
        part = (inner - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
        field = np.take(field, low, axis) * (1 - part) + np.take(field, high, axis) * part
    return field


def part_from_surroundings(cutout: Cutout) -> Spot | None:
    """The spot of a candidate; None where nothing in its place is brighter than lung, or where no lung is
    around it: gas of the stomach may have got into the outline.
    """
    step, radius = cutout.step_mm, cutout.candidate.radius_mm
    # Noise is smaller than the candidate: it is taken away at a third of the candidate's own scale.
    hu = ndimage.gaussian_filter(cutout.hu, min(1.0, cutout.candidate.sigma_mm / 3) / step)
    away = _distances(cutout)
    near = (away < max(_CORE * radius, 1.01 * step)) & cutout.lung
    if not near.any():
        return None
    core = float(np.percentile(hu[near], 75))
    dark = cutout.lung & (hu < _LUNG_HU[1]) & (away < 2.2 * radius + 4)
    lung_like = dark & (hu > _LUNG_HU[0])
    if np.count_nonzero(lung_like) < _LEAST_LUNG or float(np.median(hu[dark])) < GAS_HU:
        return None
    around = float(np.median(hu[lung_like]))
    threshold = float(np.clip((min(core, _BRIGHTEST_CORE_HU) + around) / 2, *_THRESHOLDS_HU))
    bright = (hu > threshold) & cutout.lung
    # The ball is measured within the lung: what lies on the pleura ends there.
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(bright, 1, mode="edge")), np.float32)
    depth = depth[1:-1, 1:-1, 1:-1] * step - step / 2
    reach = np.where(away < max(0.8 * radius, 1.5 * step), depth, 0)
    if reach.max() <= 0:
        return None
    seed = np.unravel_index(int(reach.argmax()), reach.shape)
    ball = float(reach.max())
    mask = bright
    for share in _OPENINGS:
        opening = max(share * ball, min(_LEAST_OPENING_MM, 0.8 * ball))
        mask = _opened(bright, depth, (int(seed[0]), int(seed[1]), int(seed[2])), opening, step)
        if not _is_tied(mask, ball, step):
            break
    return Spot(cutout, mask, bright, depth, threshold, core, around, ball)


def _opened(
    bright: Mask, depth: NDArray[np.float32], seed: tuple[int, int, int], opening: float, step: float
) -> Mask:
    """What a ball of radius `opening` mm reaches from `seed` within the bright part."""
    labels, _ = ndimage.label(depth >= opening, FACES)
    core = labels == labels[seed]
    if labels[seed] == 0:
        core = np.zeros_like(bright)
        core[seed] = True
    # The corners that no ball reaches come back, and of a vessel a stub as long as a cube.
    grown = ndimage.distance_transform_edt(~core) * step <= opening + 1.2 * step
    return np.asarray(grown & bright)


def _is_tied(mask: Mask, ball: float, step: float) -> bool:
    """Whether it still runs out of the cut-out, or far away from its ball."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    at_edge = any(side.start == 0 or side.stop == n for side, n in zip(box, mask.shape, strict=True))
    longest = max((side.stop - side.start) * step for side in box)
    return bool(at_edge or longest > _LONGEST * 2 * max(ball, step))


def _distances(cutout: Cutout) -> NDArray[np.float32]:
    """From the centre, in mm."""
    z, y, x = (
        ((np.arange(n) - c) * cutout.step_mm) ** 2
        for n, c in zip(cutout.hu.shape, cutout.centre, strict=True)
    )
    return np.asarray(np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :]), np.float32)

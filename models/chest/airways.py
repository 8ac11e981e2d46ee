"""
Trachea and main bronchi: air in the chest that is not lung.

The trachea is looked for from the cranial end: a round, dark spot near the middle of the body that stays in
its place over the next slices. From there air is followed at rising thresholds, and the last one before the
air of the lungs bursts in is kept ("explosion control": Mori et al., CAR 1996; as in Lo et al., IEEE TMI
2012). Where slices are thick, a main bronchus may be joined to the lung before it is reached: so tongues of
air as thin as a bronchus that begin at the carina are airways, too.
All arrays are (z, y, x) on the working grid, z towards the head.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.prepare.morphology import FACES, Mask, Spacing, box_of, components, depth_mm, dilate

_AIR_HU = -700.0  # A spot ends where it gets brighter: a trachea at its wall, the tip of a lung in the lung.
_DARK_HU = -880.0  # Air in a trachea, blurred by a working voxel, in the middle of the spot
_AREA_MM2 = (40.0, 900.0)
_ROUND = 2.2  # longer over shorter side
_OFF_MIDDLE_MM = 45.0
_STAYS_MM = 16.0  # over this height the spot must be found again, or it is gas of another kind
_THRESHOLDS_HU = tuple(range(-990, -855, 10))
_VOLUME_MAX_ML = 80.0  # trachea and bronchi of a large adult: about 50 ml
_BURST = 1.6  # the lungs have burst in where 10 HU more make the tree so many times larger
_BURST_FLOOR_ML = 25.0  # below it, growth is the trachea filling up
_BEGUN_ML = 5.0  # below it, what was kept is no trachea yet: even air fills it in one step
_TONGUE_MM = 7.5  # half as wide as the widest main bronchus
_REACH_MM = 55.0  # the left main bronchus is about 50 mm long
_TOUCH_MM = 5.0
_TONGUE_MAX_ML = 15.0
_CARINA_WIDE_MM = 30.0  # a trachea is never so wide
WALL_MM = 2.0  # added around the air: the wall, as thick as it looks on a working grid


@dataclass(frozen=True, slots=True)
class Airways:
    """What was found of the airways; both masks are empty where no trachea was."""

    mask: Mask  #: air and wall
    lumen: Mask  #: air alone
    seed: tuple[int, int, int] | None  #: a voxel (z, y, x) in the trachea
    carina: tuple[int, int, int] | None  #: where the trachea divides, or its lower end where that is not seen

    @property
    def found(self) -> bool:
        """Whether a trachea was seen."""
        return self.seed is not None


def find_airways(hu: NDArray[np.float32], body: Mask, air: Mask, spacing_mm: Spacing) -> Airways:
    """Air and wall of trachea and main bronchi; `air` is all air in `body`, lungs included."""
    none = np.zeros_like(body)
    seed = _trachea(hu, body, spacing_mm)
    if seed is None:
        return Airways(none, none, None, None)
    lumen = _grow(hu, body, seed, float(np.prod(spacing_mm)) / 1000)
    if lumen is None:
        return Airways(none, none, None, None)
    carina = _carina(lumen, seed[0], spacing_mm)
    lumen |= _tongues(hu, air & ~dilate(lumen, WALL_MM, spacing_mm), lumen, carina, spacing_mm)
    return Airways(dilate(lumen, WALL_MM, spacing_mm), lumen, seed, carina)


def _trachea(hu: NDArray[np.float32], body: Mask, spacing_mm: Spacing) -> tuple[int, int, int] | None:
    """A voxel in the trachea, from the cranial end of the images; None where there is none."""
    slices = np.flatnonzero(body.any(axis=(1, 2)))
    if slices.size == 0:
        return None
    lowest = slices[0] + (slices[-1] - slices[0]) // 3
    for z in range(slices[-1], lowest - 1, -1):
        for spot in _spots(hu[z], body[z], spacing_mm):
            steps = max(1, round(_STAYS_MM / spacing_mm[0]))
            if _stays(spot, hu, body, range(z - 1, max(z - steps, 0) - 1, -1), spacing_mm):
                y, x = np.argwhere(spot)[np.argmin(hu[z][spot])]
                return int(z), int(y), int(x)
    return None


def _spots(plane: NDArray[np.float32], body: Mask, spacing_mm: Spacing) -> list[Mask]:
    """The round dark spots near the middle of the body, walled off in their plane, darkest first: (y, x)."""
    _, step_y, step_x = spacing_mm
    labels, count = ndimage.label((plane < _AIR_HU) & body)
    if count == 0:
        return []
    columns = np.flatnonzero(body.any(axis=0))
    middle = (columns[0] + columns[-1]) / 2
    found = []
    for number, (rows, cols) in enumerate(ndimage.find_objects(labels), 1):
        height, width = (rows.stop - rows.start) * step_y, (cols.stop - cols.start) * step_x
        off = abs((cols.start + cols.stop - 1) / 2 - middle) * step_x
        if max(height, width) > _ROUND * min(height, width) or off > _OFF_MIDDLE_MM:
            continue
        spot = labels == number
        area = spot.sum() * step_y * step_x
        if _AREA_MM2[0] <= area <= _AREA_MM2[1] and float(np.percentile(plane[spot], 25)) < _DARK_HU:
            found.append(spot)
    return sorted(found, key=lambda spot: float(plane[spot].mean()))


def _stays(spot: Mask, hu: NDArray[np.float32], body: Mask, below: range, spacing_mm: Spacing) -> bool:
    """Whether every slice `below` has a spot that overlaps the one above it."""
    for z in below:
        overlapping = [
            next_spot for next_spot in _spots(hu[z], body[z], spacing_mm) if (next_spot & spot).any()
        ]
        if not overlapping:
            return False
        spot = overlapping[0]
    return True


def _grow(hu: NDArray[np.float32], body: Mask, seed: tuple[int, int, int], voxel_ml: float) -> Mask | None:
    """The air that hangs together with `seed` at the highest threshold at which it is still a tree."""
    box = box_of(body)
    inner, inside = hu[box], body[box]
    at = tuple(i - side.start for i, side in zip(seed, box, strict=True))
    kept: Mask | None = None
    kept_ml = 0.0
    for threshold in _THRESHOLDS_HU:
        labels, _ = components((inner < threshold) & inside, FACES)
        if labels[at] == 0:
            continue
        tree = labels == labels[at]
        tree_ml = float(tree.sum()) * voxel_ml
        burst = kept_ml > _BEGUN_ML and tree_ml > max(_BURST_FLOOR_ML, _BURST * kept_ml)
        if burst or tree_ml > _VOLUME_MAX_ML:
            break
        kept, kept_ml = tree, tree_ml
    if kept is None:
        return None
    lumen = np.zeros_like(body)
    lumen[box] = kept
    return lumen


def _tongues(
    hu: NDArray[np.float32], air: Mask, lumen: Mask, carina: tuple[int, int, int], spacing_mm: Spacing
) -> Mask:
    """Air that reaches from the end of `lumen` towards the lungs, is nowhere thicker than a bronchus, and is
    as dark as air: a thin tongue of lung between heart and aorta is not.
    """
    tongues = np.zeros_like(air)
    sphere = tuple(
        slice(max(0, at - round(_REACH_MM / step)), at + round(_REACH_MM / step) + 1)
        for at, step in zip(carina, spacing_mm, strict=True)
    )
    # The tongue hangs downwards and sideways from the carina: what lies above it is lung beside the trachea.
    box = (slice(sphere[0].start, carina[0] + round(10 / spacing_mm[0]) + 1), sphere[1], sphere[2])
    inner = air[box]
    if not inner.any():
        return tongues
    thick = depth_mm(np.pad(inner, 1, mode="edge"), spacing_mm)[1:-1, 1:-1, 1:-1] > _TONGUE_MM
    thin = inner & ~dilate(thick, _TONGUE_MM + max(spacing_mm) / 2, spacing_mm)
    start = dilate(lumen, _TOUCH_MM, spacing_mm)[box]
    if not thick.any():
        return tongues
    # A third of the way from the lung around to the air of the trachea: the walls of a bronchus brighten it.
    lung_hu = float(np.median(hu[box][thick]))
    dark = hu[box] < lung_hu + (float(np.median(hu[lumen])) - lung_hu) / 3
    labels, sizes = components(thin)
    limit = _TONGUE_MAX_ML * 1000 / float(np.prod(spacing_mm))
    for number in np.unique(labels[start & thin]):
        tongue = labels == number
        if not 0 < sizes[number] <= limit:
            continue
        # Of a tongue that is mostly lung, only the bronchi in it are taken.
        tongues[box] |= tongue if (tongue & dark).sum() >= sizes[number] / 4 else tongue & dark
    return tongues


def _carina(lumen: Mask, top: int, spacing_mm: Spacing) -> tuple[int, int, int]:
    """Where the trachea divides: the first plane below `top` with a wide airway, or its lower end."""
    lowest = int(np.flatnonzero(lumen.any(axis=(1, 2)))[0])
    for z in range(top, lowest - 1, -1):
        columns = np.flatnonzero(lumen[z].any(axis=0))
        if columns.size and (columns[-1] - columns[0] + 1) * spacing_mm[2] > _CARINA_WIDE_MM:
            break
    y, x = (round(float(axis.mean())) for axis in np.nonzero(lumen[z]))
    return z, y, x

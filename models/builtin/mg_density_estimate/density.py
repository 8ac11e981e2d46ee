"""
Dense or fat, on an image for presentation: one threshold for the whole breast, after the
rim has been brought to the level of the middle.

Otsu's threshold parts two classes wherever there is one; so it counts by itself only where the classes are
further apart than those of a single bell curve, and else lies outside the spread of the commonest tissue.
Where the two classes hardly differ, compared with what the breast differs from air, the breast is nearly all
of one kind, and no threshold can tell which: then nothing is said.
Planes are (row, column) on the working grid, brighter is denser.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from models.images.grid import Mask, Plane
from models.images.measures import otsu

_SKIN_MM = 2.0  # skin and its blur are neither fat nor dense tissue
_RIM_MM = 8.0  # so far from the skin it is darker for being thin, though the unit has made up for most of it
_RING_MM = 1.0
_FAT_QUANTILE = 0.1
_TWO_KINDS = 3.1  # distance of Otsu's classes; 2.65 for a single bell curve
_SPREAD = 3.0  # standard deviations of fat
_CONTRAST = 0.06  # between the two kinds, in parts of the step from air to the lower of them


@dataclass(frozen=True, slots=True)
class Density:
    """The dense part of the breast, and whether two kinds of tissue could be told apart."""

    dense: Mask
    told_apart: bool  #: False: nothing is known of how dense the breast is
    clear: bool  #: the two kinds are apart as two bell curves are


def find_dense(plane: Plane, breast: Mask, whole: Mask, *, air: float, step: float) -> Density:
    """The dense tissue in `breast`; `whole` is the breast with its muscle, which has no rim at the muscle.

    `air` is the value beside it, `step` the spacing in mm.
    """
    beyond = round(_RIM_MM / step) + 1
    deep = ndimage.distance_transform_edt(np.pad(whole, beyond, mode="edge"))[beyond:-beyond, beyond:-beyond]
    deep_mm = np.asarray(deep) * step
    seen = breast & (deep_mm > _SKIN_MM)
    level = plane - _rim(plane, seen, deep_mm)
    smooth = ndimage.gaussian_filter(level, 0.5 / step)
    values = smooth[seen]
    parting = otsu(np.clip(values, *np.percentile(values, (0.5, 99.5))))
    counts, edges = np.histogram(values, 64, range=tuple(np.percentile(values, (0.5, 99.5))))
    counts = np.asarray(ndimage.gaussian_filter1d(counts.astype(float), 1.5))
    peak = float(edges[int(counts.argmax())] + edges[int(counts.argmax()) + 1]) / 2
    below = values[values < peak]
    spread = float(np.sqrt(((below - peak) ** 2).mean())) if below.size else 0.0
    clear = parting.apart >= _TWO_KINDS
    threshold = parting.threshold if clear else max(parting.threshold, peak + _SPREAD * spread)
    above = values >= threshold
    if not above.any() or above.all():
        return Density(np.zeros_like(breast), told_apart=False, clear=False)
    low, high = float(values[~above].mean()), float(values[above].mean())
    if high - low < _CONTRAST * (low - air):
        return Density(np.zeros_like(breast), told_apart=False, clear=False)
    dense = np.asarray(ndimage.binary_opening(seen & (smooth >= threshold)))
    return Density(dense, told_apart=bool(dense.any()), clear=clear)


def _rim(plane: Plane, seen: Mask, deep_mm: np.ndarray) -> np.ndarray:
    """What to take off at each depth below the skin, so that fat has one level everywhere."""
    rings = np.arange(_SKIN_MM, _RIM_MM + _RING_MM, _RING_MM)
    levels = []
    for low in rings:
        ring = plane[seen & (deep_mm > low) & (deep_mm <= low + _RING_MM)]
        levels.append(float(np.quantile(ring, _FAT_QUANTILE)) if ring.size > 20 else np.nan)
    known = np.isfinite(levels)
    if known.sum() < 3:
        return np.zeros_like(plane)
    levels = np.interp(rings, rings[known], np.asarray(levels)[known])
    levels = ndimage.gaussian_filter1d(levels, 1.0, mode="nearest")
    # Behind a rim that was made up for, its neighbourhood is asked: further in, all may be dense.
    deeper = plane[seen & (deep_mm > _RIM_MM) & (deep_mm < 2 * _RIM_MM)]
    plateau = float(np.quantile(deeper, _FAT_QUANTILE)) if deeper.size > 20 else float(levels[-1])
    # A rim is only ever darker for being thin; where it is brighter, that is tissue.
    short = np.minimum(levels - min(plateau, float(levels.max())), 0.0)
    return np.where(deep_mm < _RIM_MM, np.interp(deep_mm, rings + _RING_MM / 2, short), 0.0)

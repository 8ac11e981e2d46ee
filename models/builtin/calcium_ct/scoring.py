"""
Agatston, volume and mass: the formulas, on slices of any thickness and for five tube voltages.

On every axial slice of 3 mm the pixels at or above the lowest limit form lesions, by sides and corners; a
lesion of at least 1 mm² counts with its area times a weight of 1 to 4, which its brightest pixel decides
(Agatston et al., J Am Coll Cardiol 1990). Thinner slices are averaged to about 3 mm first, and slices of
another increment, overlapping ones among them, count with increment / 3 mm, as scanners' own programs do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.prepare.morphology import Mask, Spacing

SLICE_MM = 3.0  #: what the score is defined on
THIN_MM = 2.5  #: thinner slices are averaged
_ALL_AROUND = np.ones((3, 3), np.bool_)

Limits = tuple[float, float, float, float]  #: HU from which a lesion has the weight 1, 2, 3, 4

#: Tube voltage (0018,0060) → limits. 120 kV is the definition itself; the others are those of Graeni et al.,
#: Eur Heart J Cardiovasc Imaging 2018, as CalciumScoring.jl has them. At 120 kV that table begins the weights
#: 2, 3 and 4 one HU below the definition (199, 299, 399), which would move scores of the ordinary case.
LIMITS_HU: Mapping[int, Limits] = {
    70: (207, 318, 477, 636),
    80: (177, 271, 408, 544),
    100: (145, 222, 334, 446),
    120: (130, 200, 300, 400),
    135: (119, 183, 274, 364),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What is in a region: `calcium` are its voxels, (z, y, x) like the image that was scored."""

    agatston: float
    lesions: int  #: counted slice by slice
    volume_mm3: float
    mean_hu: float  #: of the slices that were scored; 0 where there is nothing
    calcium: Mask

    def mass_mg(self, mg_per_mm3_and_hu: float) -> float:
        """By a calibration that the site measured: mean HU x volume x factor."""
        return self.mean_hu * self.volume_mm3 * mg_per_mm3_and_hu


def weight(peak_hu: float, limits_hu: Limits) -> int:
    """0 below the lowest limit, then 1 to 4."""
    return sum(peak_hu >= limit for limit in limits_hu)


def slabs(slices: int, increment_mm: float, thickness_mm: float) -> list[slice]:
    """Which slices are averaged to one: of thin slices as many as come closest to 3 mm, else one by one."""
    together = max(1, round(SLICE_MM / increment_mm)) if thickness_mm < THIN_MM else 1
    edges = [*range(0, slices, together), slices]
    return [slice(low, high) for low, high in pairwise(edges)]


def score(
    hu: NDArray[np.generic],
    region: Mask,
    *,
    spacing_mm: Spacing,
    thickness_mm: float,
    limits_hu: Limits,
    minimum_area_mm2: float = 1.0,
    too_bright_hu: float = float("inf"),
) -> Scored:
    """Score what lies in `region`, (z, y, x) like `hu`; `spacing_mm` is (increment, row, column).

    A lesion counts whole or not at all: where more than half of its pixels lie in the region. One with a
    pixel of `too_bright_hu` is metal and does not count.
    """
    increment_mm, *pixel = spacing_mm
    pixel_mm2 = float(np.prod(pixel))
    calcium = np.zeros(region.shape, np.bool_)
    agatston = volume_mm3 = total = 0.0
    lesions = 0
    for slab in slabs(region.shape[0], increment_mm, thickness_mm):
        inside = np.asarray(region[slab].any(axis=0))
        if not inside.any():
            continue
        height_mm = increment_mm * (slab.stop - slab.start)
        plane = np.asarray(hu[slab], np.float64).mean(axis=0)
        for where, lesion in _lesions(plane, inside, limits_hu[0]):
            values = plane[where][lesion]
            area_mm2 = values.size * pixel_mm2
            # A grid of 0.5 mm has pixels of 0.25 mm² but for the last bit.
            if area_mm2 < minimum_area_mm2 - 1e-9 or values.max() >= too_bright_hu:
                continue
            agatston += area_mm2 * weight(float(values.max()), limits_hu) * height_mm / SLICE_MM
            volume_mm3 += area_mm2 * height_mm
            total += float(values.sum()) * height_mm
            calcium[(slab, *where)] |= lesion
            lesions += 1
    mean_hu = total * pixel_mm2 / volume_mm3 if volume_mm3 else 0.0
    return Scored(agatston=agatston, lesions=lesions, volume_mm3=volume_mm3, mean_hu=mean_hu, calcium=calcium)


def _lesions(
    plane: NDArray[np.float64], inside: Mask, lowest_hu: float
) -> Sequence[tuple[tuple[slice, slice], Mask]]:
    """The boxes and shapes of what is bright in `plane` (y, x) and lies for more than half of it inside."""
    labels, count = ndimage.label(plane >= lowest_hu, _ALL_AROUND)
    if count == 0:
        return []
    pixels = np.bincount(labels.ravel(), minlength=count + 1)
    within = np.bincount(labels[inside], minlength=count + 1)
    boxes = ndimage.find_objects(labels)
    counted = [number for number in range(1, count + 1) if 2 * within[number] > pixels[number]]
    return [(boxes[number - 1], labels[boxes[number - 1]] == number) for number in counted]

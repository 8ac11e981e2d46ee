"""
What is measured of the lungs, and under which codes.

LAA-950 is the part of a lung's voxels at or below -950 HU (Gevenois 1995; full inspiration, thin slices).
Perc15 is the 15th percentile of its Hounsfield units (Parr 2006); density in g/l is that plus 1000. The high
attenuation area is the part between -600 and -250 HU (Lederer 2009; Podolanczuk, Eur Respir J 2016; in
healthy never-smokers of the MESA study the median was 4.3 %, the range 2.7 to 17.8 %: Easthausen 2020). None
has a code in DICOM, so all are private (`results.codes`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from models.chest.anatomy import AIRWAYS, LEFT, RIGHT
from models.chest.thirds import LOWER, MIDDLE, NAME, UPPER, Reach, heights_mm
from results import codes
from results.findings import Concept, Measurement, Segment

LABEL = {RIGHT: "Lung, right", LEFT: "Lung, left"}
SIDE = {RIGHT: codes.RIGHT, LEFT: codes.LEFT}
COLOUR_RGB = {RIGHT: (232, 124, 62), LEFT: (64, 148, 222)}  # apart for colour-blind readers, too
_SHADE = {UPPER: 1.0, MIDDLE: 0.8, LOWER: 0.6}

VOXEL_SUM = Concept("126030", "DCM", "Sum of segmented voxel method for volume")  # CID 7474
LAA_HU = -950.0
HAA_HU = (-600.0, -250.0)


@dataclass(frozen=True, slots=True)
class Whole:
    """One lung on the grid of the images: its voxels, and what may be said of them."""

    number: int
    hu: NDArray[np.float32]  #: (n,) of all its voxels, in the order of the grid
    voxel_ml: float
    thirds: NDArray[np.uint8] | None = None  #: (n,) UPPER, MIDDLE or LOWER; None where they are not known
    has_volume: bool = True  #: whether the outline is the whole lung

    @property
    def volume_ml(self) -> float:
        """Of the outline."""
        return self.hu.size * self.voxel_ml


def measure(lung: Whole) -> Segment:
    """The segment of `lung` with its measurements."""
    return Segment(
        number=lung.number,
        label=LABEL[lung.number],
        category=codes.ANATOMICAL_STRUCTURE,
        kind=codes.LUNG,
        laterality=SIDE[lung.number],
        colour_rgb=COLOUR_RGB[lung.number],
        measurements=(
            *([_volume(lung.hu, lung.voxel_ml)] if lung.has_volume else []),
            *_densities(lung.hu),
            *_by_third(lung),
        ),
    )


def airways() -> Segment:
    """The segment of trachea and main bronchi: air without wall. How much of it is seen says nothing."""
    return Segment(
        number=AIRWAYS,
        label="Trachea and main bronchi",
        category=codes.ANATOMICAL_STRUCTURE,
        kind=codes.TRACHEA_AND_BRONCHUS,
        colour_rgb=(24, 146, 135),
    )


def third_segments(lungs: Iterable[Whole], first: int) -> Iterator[Segment]:
    """Segments `first`, `first` + 1 … of layer 1: the thirds of each lung that has some, from above."""
    number = first
    for lung in lungs:
        for third in (UPPER, MIDDLE, LOWER) if lung.thirds is not None else ():
            hu = lung.hu[lung.thirds == third]
            red, green, blue = (round(value * _SHADE[third]) for value in COLOUR_RGB[lung.number])
            yield Segment(
                number=number,
                label=f"{LABEL[lung.number]}, {NAME[third]} third",
                category=codes.ANATOMICAL_STRUCTURE,
                kind=codes.LUNG,
                laterality=SIDE[lung.number],
                colour_rgb=(red, green, blue),
                measurements=(_volume(hu, lung.voxel_ml), *_densities(hu)) if hu.size else (),
                layer=1,
            )
            number += 1


def of_both(right: Whole, left: Whole) -> tuple[Measurement, ...]:
    """What both lungs are together; nothing where one of them is not whole."""
    if not (right.has_volume and left.has_volume):
        return ()
    total = right.volume_ml + left.volume_ml
    share = right.volume_ml / total
    mean, laa = (
        share * one + (1 - share) * other
        for one, other in ((_mean(right.hu), _mean(left.hu)), (_laa(right.hu), _laa(left.hu)))
    )
    return (
        Measurement(name=codes.VOLUME_OF_BOTH_LUNGS, value=total, unit=codes.MILLILITRE, method=VOXEL_SUM),
        Measurement(
            name=codes.ATTENUATION_OF_BOTH_LUNGS,
            value=mean,
            unit=codes.HOUNSFIELD_UNIT,
            derivation=codes.MEAN,
        ),
        Measurement(name=codes.LAA_950_OF_BOTH_LUNGS, value=laa, unit=codes.PERCENT),
    )


def lung_on(
    volume: hd.Volume, mask: NDArray[np.bool_], number: int, reach: Reach | None, *, has_volume: bool
) -> Whole:
    """Lung `number` where `mask` (slice, row, column) is; its thirds are parts of `reach`, if it has any."""
    thirds = None
    if reach is not None:
        along, rows, columns = heights_mm(np.asarray(volume.affine), mask.shape)
        in_plane = rows[0] + columns[0]
        thirds = np.concatenate(
            [
                reach.third(height + in_plane[inside])
                for height, inside in zip(along[:, 0, 0], mask, strict=True)
            ]
        )
    hu = volume.array[mask].astype(np.float32)
    return Whole(number, hu, volume.voxel_volume / 1000, thirds, has_volume)


def value_of(segment: Segment, name: Concept) -> float:
    """The value of the measurement `name`, which the segment has."""
    return next(measurement.value for measurement in segment.measurements if measurement.name == name)


def _volume(hu: NDArray[np.float32], voxel_ml: float) -> Measurement:
    return Measurement(name=codes.VOLUME, value=hu.size * voxel_ml, unit=codes.MILLILITRE, method=VOXEL_SUM)


def _densities(hu: NDArray[np.float32]) -> tuple[Measurement, ...]:
    high = 100 * float(((hu >= HAA_HU[0]) & (hu <= HAA_HU[1])).mean())
    return (
        Measurement(
            name=codes.ATTENUATION, value=_mean(hu), unit=codes.HOUNSFIELD_UNIT, derivation=codes.MEAN
        ),
        Measurement(name=codes.LAA_950, value=_laa(hu), unit=codes.PERCENT),
        Measurement(name=codes.PERC15, value=float(np.percentile(hu, 15)), unit=codes.HOUNSFIELD_UNIT),
        Measurement(name=codes.HAA, value=high, unit=codes.PERCENT),
    )


def _by_third(lung: Whole) -> Iterator[Measurement]:
    """Mean and LAA-950 of each third, from above: where emphysema is."""
    for third in (UPPER, MIDDLE, LOWER) if lung.thirds is not None else ():
        hu = lung.hu[lung.thirds == third]
        if hu.size:
            mean = Measurement(
                name=codes.ATTENUATION_OF_THIRD[NAME[third]],
                value=_mean(hu),
                unit=codes.HOUNSFIELD_UNIT,
                derivation=codes.MEAN,
            )
            yield mean
            yield replace(
                mean,
                name=codes.LAA_950_OF_THIRD[NAME[third]],
                value=_laa(hu),
                unit=codes.PERCENT,
                derivation=None,
            )


def _mean(hu: NDArray[np.float32]) -> float:
    return float(hu.mean(dtype=np.float64))


def _laa(hu: NDArray[np.float32]) -> float:
    return 100 * float((hu <= LAA_HU).mean())

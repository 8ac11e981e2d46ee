"""
What is measured of a nodule, and what it is called.

Everything is taken from the drawn voxels, so that whoever counts them finds the same. The mean diameter is
half the sum of the long and the short axis on the slice where the nodule is largest (Fleischner Society,
MacMahon et al., Radiology 2017), to 0.1 mm. What is solid is told from ground glass at -300 HU, calcium
begins at 200 HU; both are looked at within the nodule, as its rim is half lung in every image.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.prepare.morphology import Spacing
from results import codes
from results.findings import Concept, Measurement
from results.outline import diameters_mm

_SOLID_HU, _CALCIUM_HU = -300.0, 200.0
_PART_SOLID = (0.10, 0.80)  #: solid part of the inside: below it none, above it all
_CALCIFIED = 0.10  #: part of the voxels from which on a nodule is called calcified
_RIM = 1.5  # voxels: half lung in every image
_RIM_MOST = 0.6  # of the largest depth

NODULE = Concept("27925004", "SCT", "Nodule")
MASS = Concept("4147007", "SCT", "Mass")
MASS_MM = 30.0  #: what is larger is called a mass (Fleischner Society, Hansell et al., Radiology 2008)
DIAMETER = Concept("81827009", "SCT", "Diameter")
CALCIFIED_SHARE = Concept("112019", "DCM", "Calcification extent as percent of volume")


class Density(StrEnum):
    """What a nodule is made of."""

    SOLID = "solid"
    PART_SOLID = "part-solid"
    GROUND_GLASS = "non-solid (ground glass)"
    CALCIFIED = "calcified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One nodule in numbers."""

    volume_mm3: float
    long_mm: float
    short_mm: float
    mean_hu: float
    solid_share: float  #: 0 … 1 of the inside
    calcium_share: float  #: 0 … 1 of the voxels
    density: Density
    to_pleura_mm: float

    @property
    def mean_diameter_mm(self) -> float:
        """To 0.1 mm."""
        return round((self.long_mm + self.short_mm) / 2, 1)


def measure(
    mask: NDArray[np.bool_], hu: NDArray[np.float32], step_mm: Spacing, to_pleura_mm: float
) -> Measured:
    """`mask` and `hu` are (slice, row, column) of the images around the nodule, `step_mm` between them."""
    long, short = diameters_mm(mask, step_mm)
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=step_mm)[1:-1, 1:-1, 1:-1]
    rim = min(_RIM * float(np.prod(step_mm)) ** (1 / 3), _RIM_MOST * float(depth.max()))
    inner = hu[mask & (depth >= rim)]
    solid = float((inner > _SOLID_HU).mean())
    calcium = float((hu[mask] > _CALCIUM_HU).mean())
    return Measured(
        volume_mm3=float(np.count_nonzero(mask)) * float(np.prod(step_mm)),
        long_mm=long,
        short_mm=short,
        mean_hu=float(hu[mask].mean()),
        solid_share=solid,
        calcium_share=calcium,
        density=_density(solid, calcium),
        to_pleura_mm=to_pleura_mm,
    )


def _density(solid: float, calcium: float) -> Density:
    if calcium >= _CALCIFIED:
        return Density.CALCIFIED
    if solid <= _PART_SOLID[0]:
        return Density.GROUND_GLASS
    return Density.PART_SOLID if solid < _PART_SOLID[1] else Density.SOLID


def measurements(one: Measured) -> tuple[Measurement, ...]:
    """What the report says of it. Its volume and its two axes are added there, from the same voxels."""
    return (
        Measurement(name=DIAMETER, value=one.mean_diameter_mm, unit=codes.MILLIMETRE, derivation=codes.MEAN),
        Measurement(
            name=codes.ATTENUATION,
            value=round(one.mean_hu, 1),
            unit=codes.HOUNSFIELD_UNIT,
            derivation=codes.MEAN,
        ),
        Measurement(name=codes.SOLID_FRACTION, value=round(100 * one.solid_share, 1), unit=codes.PERCENT),
        Measurement(name=CALCIFIED_SHARE, value=round(100 * one.calcium_share, 1), unit=codes.PERCENT),
        Measurement(name=codes.TO_PLEURA, value=round(one.to_pleura_mm, 1), unit=codes.MILLIMETRE),
    )

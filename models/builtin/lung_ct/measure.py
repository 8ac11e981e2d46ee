"""
What is measured of each lung, and under which codes.

LAA-950 is the part of a lung's voxels at or below -950 HU (Gevenois 1995; full inspiration, thin slices).
Perc15 is the 15th percentile of its Hounsfield units (Parr 2006); density in g/l is that plus 1000. Neither
has a code in DICOM, so both are private (`results.codes`).
"""

import numpy as np
from numpy.typing import NDArray

from results import codes
from results.findings import Concept, Measurement, Segment

RIGHT, LEFT = 1, 2  #: segment numbers

LABEL = {RIGHT: "Lung, right", LEFT: "Lung, left"}
SIDE = {RIGHT: codes.RIGHT, LEFT: codes.LEFT}
COLOUR_RGB = {RIGHT: (232, 124, 62), LEFT: (64, 148, 222)}  # apart for colour-blind readers, too

VOXEL_SUM = Concept("126030", "DCM", "Sum of segmented voxel method for volume")  # CID 7474


def measure(number: int, hu: NDArray[np.float32], voxel_ml: float) -> Segment:
    """Segment `number` with its measurements; `hu` are the values of all its voxels on the source grid."""
    return Segment(
        number=number,
        label=LABEL[number],
        category=codes.ANATOMICAL_STRUCTURE,
        kind=codes.LUNG,
        laterality=SIDE[number],
        colour_rgb=COLOUR_RGB[number],
        measurements=(
            Measurement(name=codes.VOLUME, value=hu.size * voxel_ml, unit=codes.MILLILITRE, method=VOXEL_SUM),
            Measurement(
                name=codes.ATTENUATION,
                value=float(hu.mean(dtype=np.float64)),
                unit=codes.HOUNSFIELD_UNIT,
                derivation=codes.MEAN,
            ),
            Measurement(name=codes.LAA_950, value=100 * float((hu <= -950).mean()), unit=codes.PERCENT),
            Measurement(name=codes.PERC15, value=float(np.percentile(hu, 15)), unit=codes.HOUNSFIELD_UNIT),
        ),
    )


def value_of(segment: Segment, name: Concept) -> float:
    """The value of the measurement `name`, which every lung has."""
    return next(measurement.value for measurement in segment.measurements if measurement.name == name)

"""
What is measured of each lung, and under which codes.

DICOM has no code for LAA-950 and Perc15, so both come from the private scheme 99WETREAD, which results
declare in their Coding Scheme Identification Sequence (PS3.3 §C.12.1):

    LAA950   part of the lung's voxels at or below -950 HU (Gevenois 1995; on full inspiration, thin slices)
    PERC15   15th percentile of the lung's Hounsfield units (Parr 2006); density in g/l is this plus 1000
"""

import numpy as np
from numpy.typing import NDArray

from results.findings import Concept, Measurement, Segment

RIGHT, LEFT = 1, 2  #: segment numbers

ANATOMY = Concept("123037004", "SCT", "Anatomical Structure")
LUNG = Concept("39607008", "SCT", "Lung")
SIDE = {RIGHT: Concept("24028007", "SCT", "Right"), LEFT: Concept("7771000", "SCT", "Left")}
LABEL = {RIGHT: "Lung, right", LEFT: "Lung, left"}
COLOUR_RGB = {RIGHT: (232, 124, 62), LEFT: (64, 148, 222)}  # apart for colour-blind readers, too

VOLUME = Concept("118565006", "SCT", "Volume")
MEAN = Concept("373098007", "SCT", "Mean")
LAA950 = Concept("LAA950", "99WETREAD", "Low attenuation area at or below -950 HU")
PERC15 = Concept("PERC15", "99WETREAD", "15th percentile of attenuation")
VOXEL_SUM = Concept("126030", "DCM", "Sum of segmented voxel volumes")  # CID 7474 lists it for volumes

MILLILITRE = Concept("ml", "UCUM", "milliliter")
HOUNSFIELD = Concept("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Concept("%", "UCUM", "percent")


def measure(number: int, hu: NDArray[np.float32], voxel_ml: float) -> Segment:
    """Segment `number` with its measurements; `hu` are the values of all its voxels on the source grid."""
    return Segment(
        number=number,
        label=LABEL[number],
        category=ANATOMY,
        kind=LUNG,
        laterality=SIDE[number],
        colour_rgb=COLOUR_RGB[number],
        measurements=(
            Measurement(name=VOLUME, value=hu.size * voxel_ml, unit=MILLILITRE, method=VOXEL_SUM),
            Measurement(name=MEAN, value=float(hu.mean(dtype=np.float64)), unit=HOUNSFIELD),
            Measurement(name=LAA950, value=100 * float((hu <= -950).mean()), unit=PERCENT),
            Measurement(name=PERC15, value=float(np.percentile(hu, 15)), unit=HOUNSFIELD),
        ),
    )


def value_of(segment: Segment, name: Concept) -> float:
    """The value of the measurement `name`, which every lung has."""
    return next(measurement.value for measurement in segment.measurements if measurement.name == name)

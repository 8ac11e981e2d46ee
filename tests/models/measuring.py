"""How masks are compared, and what was found in a place."""

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from results.findings import Findings, Segment


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Twice the overlap over the sum: 1 is the same."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def at(
    findings: Findings, grid: hd.VolumeGeometry | hd.Volume, centre: tuple[float, float, float]
) -> Segment:
    """The segment that holds a point in the patient, LPS mm."""
    index = tuple(np.rint(grid.map_reference_to_indices(np.array([centre]))[0]).astype(int))
    assert findings.label_map is not None, findings.because
    number = int(findings.label_map[index])
    assert number, f"nothing was found at {centre}"
    return findings.segments[number - 1]

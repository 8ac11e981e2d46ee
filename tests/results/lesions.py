"""Lesions of every awkward shape, drawn on a small series."""

import numpy as np
from numpy.typing import NDArray

from ledger.job import Outcome
from results import codes
from results.findings import Findings, Measurement, Segment
from tests.results.series import KINDS, NODULE, Kind


def lesion(number: int, **more: object) -> Segment:
    values: dict[str, object] = {
        "number": number,
        "label": f"Nodule {number}",
        "category": codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        "kind": NODULE,
        "colour_rgb": (200, 40 * number, 90),
        "score": 0.5 + 0.1 * number,
    }
    return Segment(**(values | more))


def organ(number: int) -> Segment:
    return Segment(
        number=number,
        label="Left lung",
        category=codes.ANATOMICAL_STRUCTURE,
        kind=codes.LUNG,
        laterality=codes.LEFT,
        colour_rgb=(90, 160, 220),
        measurements=(Measurement(name=codes.LAA_950, value=12.5, unit=codes.PERCENT),),
    )


def oblong(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """1: an ellipsoid askew, largest on slice 4; 2: two parts and a hole, on slice 1; 3: a lung."""
    slices, rows, columns = np.indices(shape, dtype=float)
    labels = np.zeros(shape, np.uint8)
    u, v = (columns - 11) + (rows - 8) / 2, (rows - 8) - (columns - 11) / 2
    labels[((slices - 4) / 2.2) ** 2 + (u / 6.5) ** 2 + (v / 3.5) ** 2 < 1] = 1
    labels[1, 0:7, 22:30] = 2
    labels[1, 2:4, 24:27] = 0
    labels[1, 8:10, 26:29] = 2
    labels[5:9, 17:23, 3:25] = 3
    return labels


def lesions(kind: Kind | str = "axial CT", **more: object) -> Findings:
    """Two lesions, and a lung that is not to be drawn."""
    kind = KINDS[kind] if isinstance(kind, str) else kind
    values: dict[str, object] = {
        "outcome": Outcome.FOUND,
        "label_map": oblong(kind.shape),
        "segments": (lesion(1), lesion(2), organ(3)),
    }
    return Findings(**(values | more))

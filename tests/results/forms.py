"""The forms that a segmentation can have, and findings that take all of them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from results import codes
from results.findings import Concept, Findings, HeatMap
from results.profile import DEFAULT
from tests.results.series import KINDS, findings, geometry

BINARY = DEFAULT
LABEL_MAP = replace(DEFAULT, name="label map", segmentation="labelmap")
LABEL_MAP_RLE = replace(LABEL_MAP, name="label map, RLE", transfer_syntax="rle")
FRACTIONAL = replace(DEFAULT, name="fractions", segmentation="fractional")
FRACTIONAL_RLE = replace(FRACTIONAL, name="fractions, RLE", transfer_syntax="rle")
FORMS = {one.name: one for one in (BINARY, LABEL_MAP, LABEL_MAP_RLE, FRACTIONAL, FRACTIONAL_RLE)}

NO_UNITS = Concept("1", "UCUM", "no units")


def probability(kind: str, number: int) -> NDArray[np.float32]:
    """A smooth hill over segment `number` of `label_map`: of 0.5 and more where it is, and less around it."""
    labels = findings(KINDS[kind]).mask(number)
    place = geometry(KINDS[kind])
    index = np.indices(labels.shape).reshape(3, -1)
    at_mm = place.affine[:3, :3] @ index
    centre = at_mm[:, labels.reshape(-1)].mean(axis=1, keepdims=True)
    far = np.linalg.norm(at_mm - centre, axis=0).reshape(labels.shape)
    hill = np.exp(-((far / 4.0) ** 2)) * 0.49
    return np.where(labels, 1.0 - hill / 2, hill).astype(np.float32)


def with_probabilities(kind: str = "axial CT", *numbers: int) -> Findings:
    """Two lungs, and the probability of those of `numbers` (of both, if none is named)."""
    said = findings(KINDS[kind])
    maps = tuple(
        HeatMap(
            label=f"{segment.label} probability",
            quantity=codes.PROBABILITY,
            unit=NO_UNITS,
            values=probability(kind, segment.number),
            of=segment.label,
        )
        for segment in said.segments
        if segment.number in (numbers or (1, 2))
    )
    return replace(said, maps=maps)

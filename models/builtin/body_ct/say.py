"""What is said of each piece of the body: volume, mean attenuation, and of a slab its mean area."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.prepare.morphology import Mask, Spacing
from models.structures import CATEGORIES, STRUCTURES
from results import codes
from results.findings import Concept, Measurement, Segment

#: What no structure of the table is: a vertebra without a name, and fat, of which PS3.16 has one code.
_OURS = {
    "vertebra": (codes.ANATOMICAL_STRUCTURE, Concept("51282000", "SCT", "Vertebra"), (240, 228, 196)),
    "subcutaneous fat": (CATEGORIES["tissue"], Concept("55603005", "SCT", "Fat"), (255, 255, 159)),
    "other fat": (CATEGORIES["tissue"], Concept("55603005", "SCT", "Fat"), (195, 189, 141)),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the body that is measured; `structure` is a key of `models.structures`, or of `_OURS`."""

    label: str
    structure: str
    mask: Mask  #: (z, y, x) on the grid of the images
    area: bool = False  #: of a slab: its mean area is said, too


def segments_of(
    pieces: Sequence[Piece],
    labels: NDArray[np.uint8],
    source: NDArray[np.generic],
    spacing_mm: Spacing,
) -> tuple[Segment, ...]:
    """Draw the pieces into `labels`, where nothing is yet, and measure what was drawn; empty ones are left
    out. Where two overlap, the later one has the voxel.
    """
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    taken = np.zeros(labels.shape, np.bool_)
    found: list[tuple[Piece, Mask]] = []
    for piece in reversed(pieces):
        mask = piece.mask & ~taken
        if mask.any():
            taken |= mask
            found.append((piece, mask))
    segments = []
    for number, (piece, mask) in enumerate(reversed(found), 1):
        labels[mask] = number
        hu = source[mask].astype(np.float64)
        segments.append(_segment(number, piece, _measured(piece, mask, hu, voxel_ml, spacing_mm)))
    return tuple(segments)


def _measured(
    piece: Piece, mask: Mask, hu: NDArray[np.float64], voxel_ml: float, spacing_mm: Spacing
) -> tuple[Measurement, ...]:
    volume = Measurement(name=codes.VOLUME, value=hu.size * voxel_ml, unit=codes.MILLILITRE)
    mean = Measurement(
        name=codes.ATTENUATION,
        value=float(hu.mean()),
        unit=codes.HOUNSFIELD_UNIT,
        derivation=codes.MEAN,
    )
    if not piece.area:
        return mean, volume
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    tall_mm = (int(planes[-1]) - int(planes[0]) + 1) * spacing_mm[0]
    area = Measurement(
        name=codes.AREA,
        value=hu.size * voxel_ml * 1000 / tall_mm / 100,
        unit=codes.SQUARE_CENTIMETRE,
        derivation=codes.MEAN,
    )
    return volume, area, mean


def _segment(number: int, piece: Piece, measured: tuple[Measurement, ...]) -> Segment:
    if piece.structure in _OURS:
        category, kind, colour_rgb = _OURS[piece.structure]
        return Segment(
            number=number,
            label=piece.label,
            category=category,
            kind=kind,
            colour_rgb=colour_rgb,
            measurements=measured,
        )
    return STRUCTURES[piece.structure].segment(number, label=piece.label, measurements=measured)

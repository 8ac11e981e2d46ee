"""Runs whose profile asks for contours, presentation states, blendings and key images as well."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ledger.profile import DEFAULT, Profile
from ledger.result import Role
from results import codes
from results.findings import Findings, Segment
from results.source import Source
from tests.results.everything import everything, everything_on_an_image
from tests.results.images import IMAGES, image_source
from tests.results.made import Made, make
from tests.results.series import KINDS, NODULE, Kind, geometry, source

COMPANIONS = frozenset({Role.STRUCTURE_SET, Role.PRESENTATION, Role.BLENDING, Role.KEY_IMAGES})
EVERYTHING = Profile(name="everything", kinds=DEFAULT.kinds | COMPANIONS)

#: On a volume of seven slices of 13 x 11 pixels there is no room for the boxes of `everything`.
ROOMY = [name for name in KINDS if name != "odd-sized CT"]


@cache
def lesions(kind: Kind) -> NDArray[np.uint8]:
    """(slice, row, column): 1 is a shell with a hole through it, on the patient's right; 2 is in two parts
    that touch at a corner, on the left.
    """
    labels = np.zeros(kind.shape, np.uint8)
    x, y, z = _millimetres(kind)
    far = ((x + 3.3) / 2.9) ** 2 + ((y - 0.4) / 4.1) ** 2 + ((z - 1.2) / 6.0) ** 2
    labels[(far < 1) & ((x + 3.0) ** 2 + (y - 1.0) ** 2 + (z - 1.0) ** 2 > 2.2)] = 1
    left = np.argwhere((np.abs(x - 4.0) < 1.4) & (np.abs(y + 1.0) < 2.0) & (np.abs(z - 0.3) < 4.0))
    labels[tuple(left.T)] = 2
    (k, row, column) = left.max(axis=0)
    labels[k, row, column] = 0  # so that what is beyond the corner hangs by it alone
    return labels


def _millimetres(kind: Kind) -> NDArray[np.float64]:
    affine = geometry(kind).affine
    index = np.indices(kind.shape).reshape(3, -1)
    return np.asarray((affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *kind.shape))


def a_lesion(number: int, **changes: object) -> Segment:
    values: dict[str, object] = {
        "number": number,
        "label": f"Lesion {number}",
        "category": codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        "kind": NODULE,
        "laterality": (codes.RIGHT, codes.LEFT)[number - 1],
        "colour_rgb": (230, 60 * number, 90),
        "score": 0.4 + 0.2 * number,
    }
    return Segment(**(values | changes))


def with_lesions(kind: Kind | str = "axial CT", **changes: object) -> Findings:
    """Findings of every kind on a volume, whose segments are lesions."""
    kind = KINDS[kind] if isinstance(kind, str) else kind
    said = replace(everything(kind), label_map=lesions(kind), segments=(a_lesion(1), a_lesion(2)))
    if kind.name not in ROOMY:
        said = replace(said, boxes=(), points=())
    return replace(said, **changes)


def companions(folder: Path, kind: Kind | str = "axial CT", **headers: object) -> Made:
    """Everything that can be made of a volume of `kind`."""
    kind = KINDS[kind] if isinstance(kind, str) else kind
    return make(folder, kind, said=with_lesions(kind), of=source(kind, **headers), profile=EVERYTHING)


def image_companions(folder: Path, kind: str = "CR", **headers: object) -> Made:
    """The same of an image."""
    of: Source = image_source(IMAGES[kind], **headers)
    return make(folder, of=of, said=everything_on_an_image(), profile=EVERYTHING)

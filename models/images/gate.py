"""
What no model of single images can use, whatever it measures: the wrong modality, colour for grey, nothing.

Each refusal (`NotForThisModel`) is a sentence for whoever sent the image.
"""

from collections.abc import Mapping

import numpy as np

from models.contract import Image, NotForThisModel
from models.images.grid import Plane
from models.manifest import Input

_SMALLEST = 200  # pixels along the shorter side: below it nothing of what is asked here can be judged
_TALLEST = 4.0  # longer over shorter side: strips are stitched or cut
#: Correlation of neighbouring pixels, each a mean of 2 x 2. White noise has none; the noisiest photograph
#: that shows anything has more.
_NEIGHBOURS = 0.6


def refuse_unsuitable(given: Image, headers: Mapping[str, str], wanted: Input, *, colour: bool) -> Plane:
    """The pixels as floating point, (row, column) or (row, column, 3) where `colour` is wanted."""
    modality = headers.get("Modality", "").strip().upper()
    if modality not in wanted.modality:
        kinds = " or ".join(wanted.modality)
        raise NotForThisModel(
            f"This model reads images of modality {kinds}; the modality of this image is "
            f"{modality or 'not stated'}."
        )
    array = np.asarray(given.array)
    if colour and array.ndim != 3:
        raise NotForThisModel("This image is grey; this model reads colour photographs.")
    if not colour and array.ndim != 2:
        raise NotForThisModel("This image is in colour; this model reads grey radiographs.")
    rows, columns = array.shape[:2]
    if min(rows, columns) < _SMALLEST:
        raise NotForThisModel(
            f"The image has {rows} x {columns} pixels; at least {_SMALLEST} each way are needed."
        )
    if max(rows, columns) > _TALLEST * min(rows, columns):
        raise NotForThisModel(f"The image is a strip of {rows} x {columns} pixels.")
    pixels = array.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise NotForThisModel("Some pixels of the image are not numbers.")
    _refuse_nothing(pixels.mean(axis=2) if colour else pixels)
    return pixels


def _refuse_nothing(grey: Plane) -> None:
    low, high = np.percentile(grey, (0.5, 99.5))
    if high <= low:
        raise NotForThisModel("The image is blank: nearly all of its pixels have one value.")
    rows, columns = (side // 2 * 2 for side in grey.shape)
    pairs = np.clip(grey[:rows, :columns], low, high).reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))
    beside = np.corrcoef(pairs[:, 1:].ravel(), pairs[:, :-1].ravel())[0, 1]
    if not beside > _NEIGHBOURS:  # Not a number: one value everywhere but at the edge.
        raise NotForThisModel("The image is noise: neighbouring pixels have nothing to do with each other.")

"""A radiograph of any size, exposure and window becomes the one picture that the network sees.

Training goes through here too. Three steps, each of which takes away something that tells where a film comes
from and nothing about the lungs:

1. Grey values become ranks (histogram equalisation), taken again within what is left after the edges were
   cut. A strictly rising look-up table - window, VOI LUT, another exposure - changes no rank, so it changes
   no score.
2. Edges without anatomy (collimation, black or white bars, the margin of a film) are cut; small letters in
   them do not keep them.
3. What is left is brought to `SIDE` × `SIDE` pixels through a filter that no finer detail survives, so that
   a picture of 224 pixels and one of 3000 carry the same bands. The aspect ratio is not kept: both sources
   of the training images had lost it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn import functional

SIDE = 128  #: pixels of the standard picture, either way
LEAST_SIDE = 96  #: rows or columns below which there is too little to look at
_TABLE = 1 << 17  #: grey values that are counted one by one
_LOOK = 96  #: pixels of the small picture in which edges are searched
_FLAT = 0.06  #: spread of ranks (10th to 90th percentile) below which a line is an edge without anatomy
_DEEPEST = 0.22  #: of a side, what is cut away at most
_FINE = 4096.0  #: steps that ranks are told apart by after the filter
_BAND = 0.6  #: sigma of the common low-pass in pixels of the standard picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """A standard picture and where it came from."""

    picture: NDArray[np.uint8]  #: (SIDE, SIDE), ranks from 0 to 255
    box: tuple[int, int, int, int]  #: top, bottom, left, right of what is left, in pixels of the image


def standard(array: NDArray[Any]) -> Standard:
    """The standard picture of a grey image (row, column) in which brighter is more.

    Raises `ValueError` for an image of one grey value, of fewer than `LEAST_SIDE` rows or columns, or with
    values that are no numbers.
    """
    if array.ndim != 2 or min(array.shape) < LEAST_SIDE or not np.isfinite(array).all():
        raise ValueError("no grey image of a usable size")
    if array.min() == array.max():
        raise ValueError("one grey value")
    top, bottom, left, right = box = _without_edges(_small(ranks(array), _LOOK), array.shape)
    inner = array[top:bottom, left:right]
    if inner.min() == inner.max():
        raise ValueError("one grey value")
    soft = gaussian_filter(_small(ranks(inner), SIDE), _BAND)
    # The filter narrows the range a little, and by how much depends on the size before: ranked once more.
    last = ranks(np.rint(soft * _FINE))
    return Standard(picture=np.rint(last * 255).astype(np.uint8), box=box)


def ranks(array: NDArray[Any]) -> NDArray[np.float32]:
    """Share of pixels that are darker, ties counted half: 0 to 1. No strictly rising table changes it."""
    lowest = array.min()
    with np.errstate(invalid="ignore"):  # What no integer holds is not equal to it.
        whole: NDArray[Any] = array.astype(np.int32)
    if (whole == array).all() and int(array.max()) - int(lowest) <= _TABLE:
        places: NDArray[Any] = whole - int(lowest)
    else:
        places = np.unique(array, return_inverse=True)[1].reshape(array.shape)
    count = np.bincount(places.reshape(-1))
    share = ((np.cumsum(count) - 0.5 * count) / array.size).astype(np.float32)
    found: NDArray[np.float32] = share[places]
    return found


def _small(picture: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """To `side` × `side`, each pixel a triangle-weighted mean of what it covers."""
    given = torch.from_numpy(np.ascontiguousarray(picture))[None, None]
    found = functional.interpolate(given, (side, side), mode="bilinear", antialias=True)
    return np.asarray(found[0, 0].numpy(), np.float32)


def _without_edges(look: NDArray[np.float32], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right: rows and columns of one grey at either edge are left out."""
    rows, columns = _within(look), _within(look.T)
    height, width = shape[0] / _LOOK, shape[1] / _LOOK
    return (
        round(rows[0] * height),
        round(rows[1] * height),
        round(columns[0] * width),
        round(columns[1] * width),
    )


def _within(look: NDArray[np.float32]) -> tuple[int, int]:
    ordered = np.sort(look, axis=1)
    tenth = look.shape[1] // 10
    flat = ordered[:, -1 - tenth] - ordered[:, tenth] < _FLAT
    most = int(_DEEPEST * _LOOK)
    first, last = int(np.argmin(flat)), int(np.argmin(flat[::-1]))
    return min(first, most), _LOOK - min(last, most)

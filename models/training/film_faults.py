"""
What happens to a radiograph of a phantom before anybody looks at it: collimated, cut, turned, inverted,
unsharp. The film that comes back has the pixels that a unit would send.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.training.radiographs import Radiograph

Sides = tuple[int, int, int, int]  #: top, bottom, left, right, in pixels

_TOP = 4095  #: of 12 bits
_UNEXPOSED, _SCATTER = 3950.0, 12.0  #: behind a collimator: nearly nothing, and its noise
_PENUMBRA = 0.6  #: pixels


def collimated(
    film: Radiograph, margins: Sides, how: Literal["shutter", "unexposed"] = "shutter", *, seed: int = 0
) -> Radiograph:
    """Blades at `margins` from the edges: what they leave is drawn black by the unit, or left white."""
    rows, columns = film.pixels.shape
    top, bottom, left, right = margins
    inside = np.zeros(film.pixels.shape, np.bool_)
    inside[top : rows - bottom, left : columns - right] = True
    if how == "shutter":
        return replace(film, pixels=np.where(inside, film.pixels, 0).astype(np.uint16))
    random = np.random.default_rng([seed, 17])
    behind = _UNEXPOSED + _SCATTER * random.normal(size=film.pixels.shape)
    lit = ndimage.gaussian_filter(inside.astype(float), _PENUMBRA)
    return replace(film, pixels=_stored(film.pixels * lit + behind * (1 - lit)))


def cut(film: Radiograph, sides: Sides) -> Radiograph:
    """The film without `sides`: a patient who stood beside or above the detector."""
    rows, columns = film.pixels.shape
    top, bottom, left, right = sides
    part = film.pixels[top : rows - bottom, left : columns - right]
    return replace(film, pixels=np.ascontiguousarray(part))


def turned(film: Radiograph, degrees: Literal[0, 90, 180, 270]) -> Radiograph:
    """The film turned clockwise."""
    return replace(film, pixels=np.ascontiguousarray(np.rot90(film.pixels, -degrees // 90)))


def inverted(film: Radiograph) -> Radiograph:
    """Its greys the wrong way round, as of MONOCHROME1 that is called MONOCHROME2."""
    return replace(film, pixels=(_TOP - film.pixels).astype(np.uint16))


def unsharp(film: Radiograph, blur_mm: float) -> Radiograph:
    """Blurred by a bell curve of this standard deviation."""
    soft = ndimage.gaussian_filter(film.pixels.astype(np.float32), blur_mm / film.spacing_mm)
    return replace(film, pixels=_stored(soft))


def _stored(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    return np.asarray(np.clip(np.rint(values), 0, _TOP), np.uint16)

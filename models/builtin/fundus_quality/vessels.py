"""
Vessels of a fundus photograph: dark lines of any direction and of several widths on the green channel.

Where a line runs, the second derivative across it is large: the larger eigenvalue of the Hessian over several
scales, scaled by the square of each (Sato et al., Med Image Anal 2:143, 1998). Lines that stand out from the
texture of the ground are followed as far as they are half as clear (hysteresis), and are as wide as where
they are half as dark as in their middle.
Planes are (row, column) on a working grid on which the field of view is about 560 pixels wide.
"""

import numpy as np
from scipy import ndimage

from models.images.grid import Mask, Plane

_SCALES = (1.0, 1.6, 2.5, 4.0)  # pixels
_RIM = 0.05  # of the radius: the edge of the field is a line, too
_CLEAR, _FAINT = 5.0, 2.5  # of the spread of the response where there is no vessel
_DARKER = 0.025  # of the ground: the response to a line that can be seen with the eye
_SMALLEST = 40  # pixels: shorter pieces are texture
_ACROSS = 5.0  # pixels around a vessel's middle where its depth is looked for
_HALF = 0.5


def find_vessels(green: Plane, view: Mask, radius: float) -> Mask:
    """The vessels in `view`, whose radius is `radius` pixels."""
    inner = ndimage.binary_erosion(view, iterations=max(1, round(_RIM * radius)))
    ground = _ground(green, view, radius / 12)
    level = np.where(view, green / np.maximum(ground, 1.0), 1.0).astype(np.float32)
    line = np.zeros_like(level)
    for scale in _SCALES:
        line = np.maximum(line, _across(level, scale))
    values = line[inner]
    if values.size == 0:
        return np.zeros_like(view)
    spread = float(np.median(np.abs(values - np.median(values)))) / 0.6745
    least = float(np.median(values))
    clear = max(least + _CLEAR * spread, _DARKER)
    faint = max(least + _FAINT * spread, _DARKER / 2)
    strong = inner & (line > clear)
    labels, count = ndimage.label(inner & (line > faint), np.ones((3, 3)))
    if count == 0:
        return np.zeros_like(view)
    held = np.zeros(count + 1, np.bool_)
    held[np.unique(labels[strong])] = True
    held[0] = False
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    rough = (held & (sizes >= _SMALLEST))[labels]
    smooth = ndimage.gaussian_filter(level, 0.7)
    surround = ndimage.median_filter(smooth[::2, ::2], size=max(3, round(radius / 14)))
    surround = np.repeat(np.repeat(surround, 2, axis=0), 2, axis=1)[: level.shape[0], : level.shape[1]]
    dark = np.where(rough, surround - smooth, 0.0)
    deepest = ndimage.maximum_filter(dark, size=round(_ACROSS))
    near = ndimage.binary_dilation(rough)
    return np.asarray(near & inner & (surround - smooth > _HALF * deepest) & (deepest > 0))


def _ground(green: Plane, view: Mask, sigma: float) -> Plane:
    """The light of the ground, vessels smoothed away; the dark outside does not count."""
    weight = ndimage.gaussian_filter(view.astype(np.float32), sigma)
    light = ndimage.gaussian_filter(np.where(view, green, 0).astype(np.float32), sigma)
    return np.asarray(light / np.maximum(weight, 1e-3), np.float32)


def _across(level: Plane, scale: float) -> Plane:
    """The larger eigenvalue of the Hessian at `scale`, times its square: positive on dark lines."""
    yy = ndimage.gaussian_filter(level, scale, order=(2, 0))
    xx = ndimage.gaussian_filter(level, scale, order=(0, 2))
    xy = ndimage.gaussian_filter(level, scale, order=(1, 1))
    half = (yy + xx) / 2
    root = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    return np.asarray(scale**2 * (half + root), np.float32)

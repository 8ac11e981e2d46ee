"""
Numbers of a plane of grey values: where it parts in two, how noisy it is, how sharp.

Sources: Otsu, IEEE Trans SMC 9:62, 1979; Immerkaer, Fast noise variance
estimation, 1996.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.images.grid import Mask, Plane

_BINS = 256
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


@dataclass(frozen=True, slots=True)
class Parting:
    """A threshold that parts values in two classes, and how far apart these are."""

    threshold: float
    low_mean: float
    high_mean: float
    apart: float  #: distance of the means in standard deviations within the classes; 2.6 for one bell curve


def otsu(values: NDArray[np.float32]) -> Parting:
    """The threshold with the largest variance between the classes below and from it on (Otsu 1979)."""
    counts, edges = np.histogram(values, _BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    share = counts / counts.sum()
    below = np.cumsum(share)
    sums = np.cumsum(share * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((sums[-1] * below - sums) ** 2 / (below * (1 - below)))
    cut = int(between.argmax())
    threshold = float(edges[cut + 1])
    low, high = values[values < threshold], values[values >= threshold]
    if low.size == 0 or high.size == 0:
        mean = float(values.mean())
        return Parting(threshold, mean, mean, 0.0)
    within = math.sqrt((float(low.var()) + float(high.var())) / 2)
    means = float(low.mean()), float(high.mean())
    return Parting(threshold, *means, (means[1] - means[0]) / within if within > 0 else math.inf)


def noise(plane: Plane, where: Mask) -> float:
    """The standard deviation of the noise in `where`, in units of the plane (Immerkaer 1996).

    The filter does not see edges and slopes, but takes fine texture for noise.
    """
    filtered = ndimage.convolve(plane, _LAPLACIAN, mode="nearest")
    seen = np.abs(filtered[where])
    # The median of an absolute normal deviate is 0.6745 of its standard deviation; a mean would see edges.
    return float(np.median(seen)) / (0.6745 * 6.0) if seen.size else 0.0


def edge_width(plane: Plane, where: Mask, *, strongest: float = 0.02) -> float:
    """How wide the sharpest edges in `where` are, in pixels: the standard deviation of the blur.

    Blurring once more by a known amount weakens a sharp edge more than a soft one: of a step that was blurred
    by s, the gradient falls from 1/s to 1/sqrt(s² + 1) (Zhuo and Sim, Pattern Recognit 44:1852, 2011). The
    median over the `strongest` share of the gradients, not smaller than noise.
    """
    first = ndimage.gaussian_gradient_magnitude(plane, 1.0)
    second = ndimage.gaussian_gradient_magnitude(plane, math.sqrt(2.0))
    inside = first[where]
    if inside.size < 100:
        return math.nan
    strong = where & (first >= np.quantile(inside, 1 - strongest)) & (second > 0)
    ratio = float(np.median(first[strong] / second[strong]))
    if ratio <= 1.0:
        return math.inf
    # With s² = blur² + 1 of the first look: ratio = sqrt(s² + 1) / s.
    seen = 1 / (ratio * ratio - 1)
    return math.sqrt(max(seen - 1.0, 0.0))

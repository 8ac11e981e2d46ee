"""Range, clipping, contrast, noise and sharpness of a radiograph, in its field."""

from dataclasses import dataclass

import numpy as np

from models.images.grid import Mask, Plane
from models.images.measures import edge_width, noise

_SPIKE = 0.002  # at one value, at the end of the range: fewer pixels are no clipping


@dataclass(frozen=True, slots=True, kw_only=True)
class Greys:
    """Numbers of the field."""

    black: float  #: share of the lungs (of the field, where there are none) at the darkest value
    white: float  #: share of the field at the brightest value
    used: float | None  #: part of the steps that can be stored between the darkest and the brightest 0.1 %
    contrast: float  #: 5th to 95th percentile, in units of the pixels
    noise: float  #: its standard deviation, in the same units
    edge_pixels: float  #: blur of the sharpest edges; not finite where there are none

    @property
    def noise_ratio(self) -> float:
        """Contrast over noise; infinite without noise."""
        return self.contrast / self.noise if self.noise > 0 else float("inf")


def measure(field: Plane, middle: Plane, lungs: Mask | None, steps: float | None) -> Greys:
    """`field` may be coarser than `middle`, which is as fine as the image; `lungs` is a mask on `field`."""
    low, high = float(field.min()), float(field.max())
    least, five, ninety_five, most = (float(one) for one in np.percentile(field, (0.1, 5, 95, 99.9)))
    dark = field[lungs] if lungs is not None and lungs.any() else field
    inner = np.zeros(middle.shape, np.bool_)
    inner[2:-2, 2:-2] = True
    unclipped = inner & (middle > middle.min()) & (middle < middle.max())
    return Greys(
        black=_spike(float((dark <= low).mean())),
        white=_spike(float((field >= high).mean())),
        used=min(1.0, (most - least) / steps) if steps else None,
        contrast=ninety_five - five,
        noise=noise(middle, unclipped),
        edge_pixels=edge_width(middle, inner),
    )


def _spike(share: float) -> float:
    return share if share >= _SPIKE else 0.0

"""
What the rules look at: numbers of a spot, each of which a radiologist could point at.

A shell a little outside the spot is looked at: it is lung around a nodule, wall where the nodule sits on the
pleura, and as bright as the spot itself where vessels lead in and out.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from models.builtin.nodule_ct.spots import Spot

_SHELL = (1.0, 2.6)  # cubes outside the spot
_SHELL_MM = 1.0
_FULL = np.ones((3, 3, 3), np.bool_)
_LEAST_CONTRAST_HU = 50.0  # a fainter spot is as round as one of so much


@dataclass(frozen=True, slots=True)
class Features:
    """One spot in numbers."""

    response_hu: float  #: of the search
    diameter_mm: float  #: of the ball with the spot's volume
    volume_mm3: float
    contrast_hu: float  #: of the spot over the lung around it
    core_hu: float
    elongation: float  #: longest over middle axis of the ellipsoid of inertia
    flatness: float  #: middle over shortest
    vessels: float  #: part of the shell that is as bright as the spot
    wall: float  #: part of the shell that is outside the lungs
    bulge: float  #: its largest ball over the thickest that leads away from it; 4 at most
    through: float  #: thickness of the second of what leads away from it, over that of its largest ball
    to_airway_mm: (
        float  #: from its edge to the nearest large airway; endless where that is far or none was seen
    )
    crowd: float  #: part of the lung around it, as far as the cut-out goes, that is as bright as the spot

    @property
    def roundness(self) -> float:
        """The response for its contrast: about 0.3 in a ball, nothing in a tube."""
        return self.response_hu / max(self.contrast_hu, _LEAST_CONTRAST_HU)


def features_of(spot: Spot, to_airway_mm: float = math.inf) -> Features:
    """The numbers of `spot`; where the large airways are, only the chest as a whole knows."""
    cutout = spot.cutout
    step = cutout.step_mm
    away = ndimage.distance_transform_edt(~spot.mask) * step
    shell = (away >= max(_SHELL[0] * step, _SHELL_MM)) & (
        away < max(_SHELL[1] * step, _SHELL_MM + 1.6 * step)
    )
    size = max(1, int(np.count_nonzero(shell)))
    leading = shell & spot.bright
    labels, count = ndimage.label(leading, _FULL)
    thick = sorted(ndimage.maximum(spot.depth_mm, labels, range(1, count + 1)), reverse=True)
    thickest, second = (float(thick[k]) if k < count else 0.0 for k in (0, 1))
    around = cutout.lung & (away >= _SHELL[0] * step)
    long, middle, short = _axes_mm(spot)
    mean = float(cutout.hu[spot.mask].mean())
    return Features(
        response_hu=cutout.candidate.response,
        diameter_mm=2 * spot.radius_mm,
        volume_mm3=spot.volume_mm3,
        contrast_hu=mean - spot.around_hu,
        core_hu=spot.core_hu,
        elongation=long / middle,
        flatness=middle / short,
        vessels=float(np.count_nonzero(leading)) / size,
        wall=float(np.count_nonzero(shell & ~cutout.lung)) / size,
        bulge=min(4.0, spot.ball_mm / max(thickest, 0.25 * step)),
        through=min(1.0, second / max(spot.ball_mm, 0.25 * step)),
        to_airway_mm=to_airway_mm,
        crowd=float(np.count_nonzero(around & spot.bright)) / max(1, int(np.count_nonzero(around))),
    )


def _axes_mm(spot: Spot) -> tuple[float, float, float]:
    """Half axes of the ellipsoid with the same inertia, the longest first; none thinner than half a cube."""
    points = np.argwhere(spot.mask) * spot.cutout.step_mm
    if len(points) < 4:
        return (spot.cutout.step_mm,) * 3
    # A cube is not a point: it adds a twelfth of its square along every axis.
    values = np.linalg.eigvalsh(np.cov(points.T)) + spot.cutout.step_mm**2 / 12
    short, middle, long = np.sqrt(5 * np.maximum(values, 1e-6))
    return float(long), float(middle), float(short)

"""
The coronary arteries: where they run on the heart, so that calcium can be laid into them.

A path is given by directions from the middle of the heart; the artery lies where the ray leaves the muscle,
in the fat that fills the grooves.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from models.training import thorax_anatomy as anatomy
from models.training.lesions import Calcification, Point
from models.training.thorax_build import ADULT, Build
from models.training.thorax_points import Points

Artery = Literal["left main", "LAD", "LCX", "RCA"]

ARTERIES: tuple[Artery, ...] = ("left main", "LAD", "LCX", "RCA")
RADIUS_MM = 1.6
_MIDDLE = (12.0, -20.0, -40.0)
# Points near which an artery runs, canonical; each is moved along its ray to the surface of the heart.
_WAY: dict[Artery, tuple[Point, ...]] = {
    "left main": ((20.0, -14.0, -4.0), (32.0, -18.0, -4.0), (40.0, -24.0, -8.0)),
    "LAD": (
        (40.0, -24.0, -8.0),
        (44.0, -48.0, -16.0),
        (44.0, -60.0, -32.0),
        (46.0, -64.0, -50.0),
        (46.0, -62.0, -68.0),
    ),
    "LCX": ((40.0, -24.0, -8.0), (58.0, -8.0, -16.0), (66.0, 6.0, -32.0), (60.0, 14.0, -52.0)),
    "RCA": ((-6.0, -36.0, -8.0), (-26.0, -40.0, -20.0), (-34.0, -36.0, -44.0), (-28.0, -26.0, -66.0)),
}


@lru_cache(maxsize=16)
def path(artery: Artery, heart: float = 1.0) -> tuple[Point, ...]:
    """The artery's points, canonical, on the outside of a heart of that size."""
    way = np.array(_WAY[artery])
    steps = np.linspace(0, len(way) - 1, 4 * (len(way) - 1) + 1)
    dense = np.stack([np.interp(steps, np.arange(len(way)), way[:, axis]) for axis in range(3)], 1)
    ray = dense - np.array(_MIDDLE)
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    low, high = np.zeros(len(ray)), np.full(len(ray), 110.0)
    for _ in range(40):
        middle = (low + high) / 2
        at = np.array(_MIDDLE) + ray * middle[:, None]
        distance = anatomy.heart(Points(*(torch.from_numpy(at[:, axis]) for axis in range(3))), heart).numpy()
        inside = distance < RADIUS_MM
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    found = np.array(_MIDDLE) + ray * low[:, None]
    return tuple((float(p[0]), float(p[1]), float(p[2])) for p in found)


def on_coronary(artery: Artery, along: float, build: Build = ADULT) -> Point:
    """The point of the patient at the part `along` (0 … 1) of an artery."""
    points = np.array(path(artery, build.heart))
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    reached = np.concatenate([[0], np.cumsum(steps)])
    wanted = np.clip(along, 0, 1) * reached[-1]
    canonical = np.array([[np.interp(wanted, reached, points[:, axis]) for axis in range(3)]])
    x, y, z = build.patient(canonical)[0]
    return float(x), float(y), float(z)


def calcified(
    artery: Artery, along: float, mass_mg: float, density_mg_per_ml: float = 400.0, build: Build = ADULT
) -> Calcification:
    """Calcium of that mass in an artery."""
    return Calcification(
        centre_mm=on_coronary(artery, along, build),
        mass_mg=mass_mg,
        density_mg_per_ml=density_mg_per_ml,
        artery=artery,
    )

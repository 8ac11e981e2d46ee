"""
A radiograph of a phantom: what is left of the rays that went through it, PA or lateral.

The patient stands, arms away from the chest, 1.8 m from the tube. Every plane across the beam is magnified
as its distance says, and attenuates; scatter veils the image and quanta make it noisy. Brighter is denser, as
radiologists look at films.
"""

from dataclasses import dataclass, replace
from typing import Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.training.lesions import NoduleTruth
from models.training.scanners import Scanner
from models.training.thorax import Drawn, Patient, draw

View = Literal["PA", "LATERAL"]

_DISTANCE_MM, _WATER_PER_MM = 1800.0, 0.0193  #: tube to detector; water at about 70 keV
_BITS = 12
_EXTENT_MM = (330.0, 290.0, 400.0)  #: z, y, x of an adult
_SCATTER, _QUANTA = 0.06, 9000.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Radiograph:
    """Rows run from head to feet; columns to the patient's left (PA) or to the back (left lateral)."""

    pixels: NDArray[np.uint16]  #: 12 bits, dense is bright
    spacing_mm: float  #: on the detector
    view: View
    patient: Patient
    nodules: tuple[NoduleTruth, ...]
    drawn: Drawn  #: the thorax that the rays went through, axial slices from head to feet
    geometry: hd.VolumeGeometry


def radiograph(
    patient: Patient,
    view: View = "PA",
    *,
    pixel_mm: float = 1.0,
    voxel_mm: float = 2.0,
    kvp: float = 120.0,
    noise: float = 1.0,
    device: str = "cpu",
) -> Radiograph:
    """The radiograph of `patient`, who stands for it; `noise` scales that of the quanta."""
    from models.training.phantoms import grid  # noqa: PLC0415 (phantoms need no torch until asked)

    standing = replace(patient, erect=True, prone=False)
    x, y, z = patient.build.factors
    extent = [side * factor for side, factor in zip(_EXTENT_MM, (z, y, x), strict=True)]
    shape = (round(extent[0] / voxel_mm), round(extent[1] / voxel_mm), round(extent[2] / voxel_mm))
    geometry = grid(
        shape, (voxel_mm, voxel_mm, voxel_mm), frame_of_reference=f"2.25.{(1 << 102) + patient.seed}"
    )
    drawn = draw(standing, geometry, Scanner(kvp=kvp, kernel="sharp", noise_hu=0), device=device)
    density = np.maximum(1 + drawn.hu / 1000, 0).astype(np.float32) * np.float32(_WATER_PER_MM)
    along = 1 if view == "PA" else 2
    depth = _projected(density, along, voxel_mm, pixel_mm)
    return Radiograph(
        pixels=_developed(depth, pixel_mm, noise, patient.seed),
        spacing_mm=pixel_mm,
        view=view,
        patient=standing,
        nodules=drawn.nodules,
        drawn=drawn,
        geometry=geometry,
    )


def shadow_mm(film: Radiograph, where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far the rays that end on each pixel run through `where`, a mask on the grid of `film.drawn`."""
    voxel_mm = float(film.geometry.spacing[0])
    along = 1 if film.view == "PA" else 2
    return _projected(where.astype(np.float32), along, voxel_mm, film.spacing_mm)


def _projected(
    density: NDArray[np.float32], along: int, voxel_mm: float, pixel_mm: float
) -> NDArray[np.float32]:
    """Attenuation along the rays that end on each pixel of the detector: (rows, columns).

    PA: the detector touches the front of the chest, the tube is behind. Left lateral: it touches the left.
    """
    planes = np.moveaxis(density, along, 0)
    count = len(planes)
    # Distance of each plane from the detector: along y the front is first, along x the left side is last.
    order = np.arange(count) if along == 1 else count - 1 - np.arange(count)
    magnified = _DISTANCE_MM / (_DISTANCE_MM - (order + 0.5) * voxel_mm)
    # 3 % of the edge are left out: beyond them the farthest planes would show their border.
    size = [int(0.97 * n * voxel_mm * magnified.max() / pixel_mm) for n in planes.shape[1:]]
    total = np.zeros(size, np.float32)
    for plane, larger in zip(planes, magnified, strict=True):
        step = pixel_mm / voxel_mm / larger
        offset = [(n - 1) / 2 - (m - 1) / 2 * step for n, m in zip(plane.shape, size, strict=True)]
        total += ndimage.affine_transform(plane, [step, step], offset, size, order=1, mode="nearest")
    return np.asarray(total * voxel_mm)


def _developed(depth: NDArray[np.float32], pixel_mm: float, noise: float, seed: int) -> NDArray[np.uint16]:
    """From attenuation to 12 bits: scatter, quanta, logarithm, a little edge enhancement."""
    primary = np.exp(-depth)
    seen = primary + _SCATTER * ndimage.gaussian_filter(primary, 25 / pixel_mm)
    if noise:
        random = np.random.default_rng([seed, 81])
        quanta = seen * _QUANTA * 60 * pixel_mm**2 / noise**2
        seen = random.poisson(quanta).astype(np.float32) / (_QUANTA * 60 * pixel_mm**2 / noise**2)
    film = -np.log(np.maximum(seen, 1e-7))
    film = film + 0.5 * (film - ndimage.gaussian_filter(film, 6 / pixel_mm))
    low, high = np.percentile(film[depth > 0.4], (0.5, 99.7))
    scaled = (film - low) / (high - low)
    return np.asarray(np.clip(120 + scaled * 3800, 0, 2**_BITS - 1), np.uint16)

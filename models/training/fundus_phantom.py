"""
A photograph of a fundus drawn by rule, with its truth: field of view, disc, and where every vessel is.

Orange ground in a round field, a bright disc on the nasal side, a dark macula, and a tree of vessels that
leaves the disc in four arcades and divides by Murray's law (r0³ = r1³ + r2³). Blur, uneven light and noise
can be added. Seen as the camera sees it: the disc of a right eye is at the right of the image.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.images.grid import Mask
from models.training.image_series import common, item, save
from models.training.phantom_series import uid_of

Side = Literal["R", "L"]

_GROUND = np.array([196.0, 98.0, 42.0])
_VESSEL = np.array([0.82, 0.58, 0.62])  # of the ground, in the middle of a wide vessel
_DISC = np.array([238.0, 190.0, 120.0])


@dataclass(frozen=True, slots=True)
class FundusPhantom:
    """RGB of eight bits (row, column, 3), and what is true of it."""

    rgb: NDArray[np.uint8]
    view: Mask  #: the field of view
    vessels: Mask
    disc: tuple[float, float]  #: (row, column) of its centre
    side: Side
    blur_pixels: float
    seed: int

    @property
    def vessel_percent(self) -> float:
        """The share of vessels in the field of view."""
        return 100 * float((self.vessels & self.view).sum()) / float(self.view.sum())


def fundus(
    size: int = 640,
    *,
    side: Side = "R",
    vessels: float = 1.0,
    blur_pixels: float = 0.7,
    shade: float = 0.0,
    noise: float = 2.0,
    centred_on_disc: bool = False,
    seed: int = 0,
) -> FundusPhantom:
    """A photograph of `size` x `size` pixels, macula in the middle.

    `vessels` scales their width (0: none), `shade` (0 to 1) darkens one half, `noise` is in grey steps.
    """
    random = np.random.default_rng(seed)
    radius, middle = 0.47 * size, (size - 1) / 2
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    view = np.hypot(rows - middle, columns - middle) <= radius
    sign = 1.0 if side == "R" else -1.0
    offset = 0.0 if centred_on_disc else 0.6
    disc = (middle - 0.03 * radius, middle + sign * offset * radius)
    macula = (disc[0] + 0.05 * radius, disc[1] - sign * 0.6 * radius)
    ground = np.ones((size, size))
    ground -= 0.12 * (np.hypot(rows - middle, columns - middle) / radius) ** 2
    texture = ndimage.gaussian_filter(random.normal(size=(size, size)), size / 60)
    ground *= 1 + 0.02 * texture / texture.std()
    ground *= 1 - 0.3 * np.exp(-((np.hypot(rows - macula[0], columns - macula[1]) / (0.13 * radius)) ** 2))
    picture = ground[..., None] * _GROUND
    inside = np.hypot(rows - disc[0], (columns - disc[1]) * 1.1) <= 0.145 * radius
    soft = ndimage.gaussian_filter(inside.astype(float), size / 250)[..., None]
    picture = picture * (1 - soft) + _DISC * soft
    tree, depth = _tree(
        size, radius=radius, disc=disc, macula=macula, sign=sign, width=vessels, random=random
    )
    picture *= 1 - depth[..., None] * (1 - _VESSEL)
    light = 1 - shade * np.clip(0.5 + (columns - middle) / (2 * radius), 0, 1)
    picture *= light[..., None]
    picture = ndimage.gaussian_filter(picture * view[..., None], (blur_pixels, blur_pixels, 0))
    picture += noise * random.normal(size=picture.shape)
    picture = np.where(view[..., None], picture, np.abs(random.normal(2, 1, picture.shape)))
    rgb = np.clip(picture, 0, 255).astype(np.uint8)
    return FundusPhantom(rgb, view, tree & view, disc, side, blur_pixels, seed)


def _tree(
    size: int,
    *,
    radius: float,
    disc: tuple[float, float],
    macula: tuple[float, float],
    sign: float,
    width: float,
    random: np.random.Generator,
) -> tuple[Mask, NDArray[np.float64]]:
    """The vessels, and how much of its ground each of their pixels takes (0 … 1)."""
    depth = np.zeros((size, size))
    if width <= 0:
        return np.zeros((size, size), np.bool_), depth
    thick = width * radius / 62
    starts = [(angle, thick * scale) for angle, scale in ((-65, 1.0), (65, 1.0), (-115, 0.75), (115, 0.75))]
    starts += [(angle, 0.8 * thick) for angle in (-80, 80)]
    # (row, column, direction, radius, generation); temporal arcades bend around the macula
    waiting = [
        (disc[0], disc[1], np.deg2rad(angle if sign < 0 else 180 - angle), r, 0) for angle, r in starts
    ]
    while waiting:
        row, column, way, r, generation = waiting.pop()
        length = radius * random.uniform(0.28, 0.42) * (0.8**generation)
        bend = random.normal(0, 0.004)
        for _ in range(int(length)):
            towards = np.arctan2(macula[0] - row, macula[1] - column)
            far = np.hypot(macula[0] - row, macula[1] - column) / radius
            turn = np.sin(towards - way) * (0.006 if far > 0.35 else -0.03)
            bend = 0.9 * bend + random.normal(0, 0.004)
            way += turn + bend
            row, column = row + np.sin(way), column + np.cos(way)
            if not (r + 2 < row < size - r - 3 and r + 2 < column < size - r - 3):
                break
            _dot(depth, row, column, r)
        else:
            if generation < 5 and r > 0.55:
                share = random.uniform(0.3, 0.7)
                for part, side in ((share, 1), (1 - share, -1)):
                    angle = way + side * random.uniform(0.25, 0.6)
                    waiting.append((row, column, angle, r * part ** (1 / 3), generation + 1))
    return depth >= 0.5, depth


def _dot(depth: NDArray[np.float64], row: float, column: float, r: float) -> None:
    """A round dot with an edge of one pixel: 0.5 at distance `r`."""
    reach = int(r + 2)
    top, left = int(row) - reach, int(column) - reach
    box = (slice(max(0, top), int(row) + reach + 1), slice(max(0, left), int(column) + reach + 1))
    y, x = np.ogrid[box]
    dot = np.clip(r + 0.5 - np.hypot(y - row, x - column), 0, 1)
    depth[box] = np.maximum(depth[box], dot)


def write_fundus(phantom: FundusPhantom, path: Path, **attributes: object) -> Path:
    """The phantom as an Ophthalmic Photography 8 Bit Image (PS3.3 §A.41); `attributes` are set last."""
    image = common(phantom.rgb, "1.2.840.10008.5.1.4.1.1.77.1.5.1", "OP", f"{phantom.seed}{phantom.side}")
    image.StudyDescription = image.SeriesDescription = "Fundus phantom"
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.ImageLaterality = phantom.side
    image.PatientOrientation = ["L", "F"]
    image.AnatomicRegionSequence = [item("5665001", "SCT", "Retina")]
    image.AcquisitionDeviceTypeCodeSequence = [item("409898007", "SCT", "Fundus Camera")]
    image.AcquisitionDateTime = "20240105101500"
    image.BurnedInAnnotation, image.LossyImageCompression = "NO", "00"
    image.HorizontalFieldOfView, image.DetectorType = 45.0, "CCD"
    image.PatientEyeMovementCommanded, image.RefractiveStateSequence = "NO", []
    image.EmmetropicMagnification, image.IntraOcularPressure, image.PupilDilated = None, None, None
    image.IlluminationTypeCodeSequence, image.LightPathFilterTypeStackCodeSequence = [], []
    image.ImagePathFilterTypeStackCodeSequence, image.LensesCodeSequence = [], []
    image.AcquisitionContextSequence = []
    image.NumberOfFrames, image.FrameTime, image.FrameIncrementPointer = 1, 1, 0x00181063
    image.SynchronizationFrameOfReferenceUID = str(uid_of(str(image.StudyInstanceUID), "clock"))
    image.SynchronizationTrigger, image.AcquisitionTimeSynchronized = "NO TRIGGER", "N"
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    return save(image, path)

"""
A mammogram drawn by rule, with its truth: how large the breast is, how much of it is dense, where the muscle
is.

Half an ellipse of fat against the chest wall (cranio-caudal), or with an axillary tail and a wedge of
pectoral muscle (medio-lateral oblique). Dense tissue is a random field cut off where it fills exactly the
share asked for, denser behind the nipple. Thickness falls off at the rim as of a compressed breast;
attenuation is that of 20 keV, about 0.046 per mm of fat and 0.080 per mm of fibroglandular tissue or muscle
(Johns and Yaffe, Phys Med Biol 32:675, 1987). For processing the detector's linear exposure is stored, with
quantum noise; for presentation its negative logarithm with the thickness of the rim compensated, as
mammography units do.

Drawn with the chest wall at the left, as a left breast is hung; a right breast is its mirror.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence
from scipy import ndimage

from models.images.grid import Mask
from models.training.image_series import common, item, save

Side = Literal["L", "R"]
View = Literal["CC", "MLO"]
Intent = Literal["FOR PRESENTATION", "FOR PROCESSING"]

_FAT, _GLAND, _MUSCLE = 0.046, 0.080, 0.080  # per mm
_THICKNESS_MM = 50.0
_ROLL_OFF_MM = 18.0  # so far from the rim the breast is as thick as the paddle allows
_COMPENSATED = 0.9  # of the fat that is missing at the rim
_QUANTA = 4000.0  # in a pixel behind the breast, on the 0.1 mm of the detector; fewer is noisier
_VIEWS = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}


@dataclass(frozen=True, slots=True)
class BreastPhantom:
    """Stored values (row, column) and what is true of them; masks on the same grid."""

    stored: NDArray[np.uint16]  #: 12 bits (for presentation) or 14 (for processing)
    breast: Mask  #: without the pectoral muscle
    dense: Mask
    pectoral: Mask
    spacing_mm: float
    side: Side
    view: View
    intent: Intent
    seed: int

    @property
    def breast_mm2(self) -> float:
        """The area of the breast, without muscle."""
        return float(self.breast.sum()) * self.spacing_mm**2

    @property
    def percent_density(self) -> float:
        """The dense share of that area, in percent."""
        return 100 * float(self.dense.sum()) / float(self.breast.sum())


def mammogram(
    density: float = 0.3,
    *,
    view: View = "MLO",
    side: Side = "L",
    intent: Intent = "FOR PRESENTATION",
    shape: tuple[int, int] = (600, 460),
    spacing_mm: float = 0.4,
    size: float = 1.0,
    noise: float = 1.0,
    seed: int = 0,
) -> BreastPhantom:
    """A mammogram whose breast is dense in the share `density` of its area (0 to 0.9).

    `size` scales the breast, `noise` the quantum noise. `shape` is (rows, columns) of `spacing_mm`.
    """
    random = np.random.default_rng(seed)
    skin, muscle = _outlines(shape, spacing_mm, view, size)
    # As if the breast went on behind the chest wall and above the axilla: there is no rim there.
    beyond = round(_ROLL_OFF_MM / spacing_mm) + 1
    deep = np.asarray(ndimage.distance_transform_edt(np.pad(skin, beyond, mode="edge")))
    deep_mm = deep[beyond:-beyond, beyond:-beyond] * spacing_mm
    breast = skin & ~muscle
    dense, share = _dense(breast, deep_mm, density, spacing_mm, random)
    roll = np.clip(deep_mm / _ROLL_OFF_MM, 0, 1)
    thick_mm = np.where(skin, _THICKNESS_MM * np.sqrt(1 - (1 - roll) ** 2), 0)
    strands = _field(shape, 1.2 / spacing_mm, random)
    gland = np.clip(share + 0.03 * strands * (share == 0), 0, 1) * ~muscle
    soft = np.where(muscle, 0.75, gland)
    soft = ndimage.gaussian_filter(soft, 0.4 / spacing_mm)
    path = thick_mm * (_FAT * (1 - soft) + (_MUSCLE * muscle + _GLAND * ~muscle) * soft)
    quanta = _QUANTA * (spacing_mm / 0.1) ** 2
    exposure = np.exp(-path)
    exposure += noise * random.normal(size=shape) * np.sqrt(exposure / quanta)
    exposure = np.maximum(exposure, 1e-4)
    if intent == "FOR PROCESSING":
        stored = np.clip(exposure * 12_000, 1, 16_383)
    else:
        missing = _COMPENSATED * _FAT * (_THICKNESS_MM - thick_mm) * skin
        stored = np.where(skin, np.clip(-900 + 1000 * (-np.log(exposure) + missing), 150, 4095), 20)
    if side == "R":
        stored, breast, dense, muscle = (one[:, ::-1] for one in (stored, breast, dense, muscle))
    return BreastPhantom(
        np.ascontiguousarray(stored.astype(np.uint16)), breast, dense, muscle, spacing_mm, side, view, intent,
        seed,
    )  # fmt: skip


def _outlines(shape: tuple[int, int], spacing_mm: float, view: View, size: float) -> tuple[Mask, Mask]:
    """The breast with its muscle, and the muscle: chest wall at column 0."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] * spacing_mm
    height, width = shape[0] * spacing_mm, shape[1] * spacing_mm
    middle, half, reach = 0.5 * height, 0.37 * height * size, 0.5 * width * size
    if view == "CC":
        skin = ((rows - middle) / half) ** 2 + (columns / reach) ** 2 < 1
        return skin, np.zeros(shape, np.bool_)
    middle = 0.58 * height
    skin = ((rows - middle) / half) ** 2 + (columns / reach) ** 2 < 1
    # The axillary tail narrows towards the top of the image, where the arm begins.
    tail = (rows <= middle) & (columns < reach * (0.55 + 0.45 * (rows / middle) ** 2))
    skin |= tail
    at_top, at_wall = 0.42 * reach, middle - 0.1 * half
    muscle = columns / at_top + rows / at_wall < 1
    return skin, muscle & skin


def _dense(
    breast: Mask, deep_mm: NDArray[np.float64], density: float, spacing_mm: float, random: np.random.Generator
) -> tuple[Mask, NDArray[np.float64]]:
    """Where dense tissue fills exactly `density` of the breast, and its share of the thickness there."""
    if density <= 0:
        return np.zeros_like(breast), np.zeros(breast.shape)
    wide = _field(breast.shape, 9 / spacing_mm, random)
    fine = _field(breast.shape, 3 / spacing_mm, random)
    place = np.clip(deep_mm / 18, 0, 1) + 0.25 * wide + 0.12 * fine
    place = np.where(breast & (deep_mm > 2.5), place, -np.inf)
    order = np.sort(place[breast])[::-1]
    dense = place >= order[min(order.size - 1, round(density * order.size))]
    texture = _field(breast.shape, 2 / spacing_mm, random)
    share = np.where(dense, np.clip(0.55 + 0.1 * texture, 0.3, 0.9), 0.0)
    return dense, share


def _field(shape: tuple[int, ...], sigma: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Smooth noise of standard deviation 1; wide ones are made on a coarser grid, and enlarged."""
    step = max(1, int(sigma / 2))
    coarse = random.normal(size=tuple(side // step + 2 for side in shape))
    field = ndimage.zoom(ndimage.gaussian_filter(coarse, sigma / step), step, order=1)
    field = field[: shape[0], : shape[1]]
    return np.asarray(field / field.std())


def write_mammogram(phantom: BreastPhantom, path: Path, **attributes: object) -> Path:
    """The phantom as a Digital Mammography X-Ray Image (PS3.3 §A.27); `attributes` are set last."""
    presented = phantom.intent == "FOR PRESENTATION"
    sop_class = "1.2.840.10008.5.1.4.1.1.1.2" + ("" if presented else ".1")
    image = common(phantom.stored, sop_class, "MG", f"{phantom.seed}{phantom.side}{phantom.view}")
    image.StudyDescription = image.SeriesDescription = "Mammography phantom"
    image.BodyPartExamined = "BREAST"
    image.PresentationIntentType = phantom.intent
    image.ImageLaterality = phantom.side
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.PatientOrientation = ["A" if phantom.side == "L" else "P", "FR" if phantom.side == "L" else "FL"]
    if phantom.view == "CC":
        image.PatientOrientation = [
            "A" if phantom.side == "L" else "P",
            "R" if phantom.side == "L" else "L",
        ]
    code, meaning = _VIEWS[phantom.view]
    view = item(code, "SCT", meaning)
    view.ViewModifierCodeSequence = Sequence([])
    image.ViewCodeSequence = Sequence([view])
    image.AnatomicRegionSequence = Sequence([item("76752008", "SCT", "Breast")])
    image.OrganExposed, image.BreastImplantPresent, image.PartialView = "BREAST", "NO", "NO"
    image.PositionerType, image.PositionerPrimaryAngle = "MAMMOGRAPHIC", 0 if phantom.view == "CC" else 45
    image.KVP, image.DistanceSourceToDetector, image.DistanceSourceToPatient = 28, 660, 660
    image.EstimatedRadiographicMagnificationFactor = 1
    image.ImagerPixelSpacing = [phantom.spacing_mm] * 2
    image.BodyPartThickness, image.CompressionForce = round(_THICKNESS_MM), 100
    image.FocalSpots, image.AnodeTargetMaterial, image.FilterMaterial = 0.3, "MOLYBDENUM", "MOLYBDENUM"
    _as_digital_x_ray(image, presented=presented)
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    return save(image, path)


def _as_digital_x_ray(image: Dataset, *, presented: bool) -> None:
    """DX Image and Detector modules, which mammograms share with radiographs (PS3.3 §C.8.11.3, C.8.11.4)."""
    image.BitsStored = 12 if presented else 14
    image.HighBit = image.BitsStored - 1
    image.PixelIntensityRelationship = "LOG" if presented else "LIN"
    image.PixelIntensityRelationshipSign = -1 if presented else 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "US"
    image.PresentationLUTShape, image.BurnedInAnnotation, image.LossyImageCompression = "IDENTITY", "NO", "00"
    image.DetectorType, image.DetectorConfiguration = "DIRECT", "AREA"
    if presented:
        image.WindowCenter, image.WindowWidth = 2048, 4096
    image.AcquisitionContextSequence = Sequence([])
    image.DetectorDescription = "Phantom"

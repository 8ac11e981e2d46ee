"""
What arrives at a model that is not made for it: a corpus, made in code, as arrays and as DICOM files.

Every input has a `kind`; `OWN` says which kinds a built-in model may answer. All others it has to refuse with
a sentence. Headers are as misleading as they are in hospitals: where a body part would give the input away,
there is a twin without one, so that the pixels alone have to be enough.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    MRImageStorage,
    OphthalmicPhotography8BitImageStorage,
    PositronEmissionTomographyImageStorage,
    UltrasoundImageStorage,
    VLPhotographicImageStorage,
)
from scipy import ndimage

from models.contract import Given, Image
from models.training.phantom_series import uid_of, write

SOP_CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "MG": DigitalMammographyXRayImageStorageForPresentation,
    "OP": OphthalmicPhotography8BitImageStorage,
    "US": UltrasoundImageStorage,
    "XC": VLPhotographicImageStorage,
}

#: Fine enough for the strictest model of CT, and all of a body is in it.
SHAPE, SPACING_MM = (40, 240, 240), (5.0, 1.5, 1.5)
_SIDE = 320  # pixels of a single image: none is refused for its size alone

#: Which kinds of input a built-in model may answer. What is not here is refused; a model that is not here
#: refuses everything.
OWN: Mapping[str, frozenset[str]] = {
    "body_ct": frozenset({"chest CT"}),
    "calcium_ct": frozenset({"chest CT"}),
    "cxr_pneumonia": frozenset({"frontal chest radiograph"}),
    "cxr_quality": frozenset({"frontal chest radiograph", "lateral chest radiograph"}),
    "fundus_quality": frozenset({"fundus"}),
    "lung_ct": frozenset({"chest CT"}),
    "mg_density_estimate": frozenset({"mammogram"}),
    "nodule_ct": frozenset({"chest CT"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """One input; `make` gives the same every time."""

    name: str
    kind: str
    modality: str
    make: Callable[[], hd.Volume | Image]
    headers: Mapping[str, Any] = field(default_factory=dict)
    as_files: bool = True  #: whether DICOM can hold it

    @property
    def is_image(self) -> bool:
        """Whether it is one image, and no volume."""
        return self.modality in ("DX", "CR", "MG", "OP", "US", "XC")

    def given(self) -> tuple[Given, dict[str, str]]:
        """What a model would be given, and the headers in words."""
        given = self.make()
        said = {"Modality": self.modality, **{key: str(value) for key, value in self.headers.items()}}
        if isinstance(given, Image):
            given = Image(array=given.array, spacing_mm=given.spacing_mm, headers=said)
        return given, said


def strangers() -> tuple[Stranger, ...]:
    """All of them."""
    ct: dict[str, Any] = {"KVP": 120, "ConvolutionKernel": "STANDARD"}
    chest = {**ct, "BodyPartExamined": "CHEST"}
    return (
        Stranger(
            name="head CT",
            kind="head CT",
            modality="CT",
            make=head,
            headers={**ct, "BodyPartExamined": "HEAD"},
        ),
        Stranger(name="head CT said to be a chest", kind="head CT", modality="CT", make=head, headers=chest),
        Stranger(name="abdomen CT", kind="abdomen CT", modality="CT", make=abdomen, headers=ct),
        Stranger(name="lower legs CT", kind="legs CT", modality="CT", make=legs, headers=ct),
        Stranger(name="air CT", kind="nothing", modality="CT", make=lambda: flat(-1000), headers=chest),
        Stranger(name="water CT", kind="nothing", modality="CT", make=lambda: flat(0), headers=chest),
        Stranger(name="metal CT", kind="nothing", modality="CT", make=lambda: flat(3071), headers=chest),
        Stranger(name="noise CT", kind="noise", modality="CT", make=noise, headers=chest),
        Stranger(
            name="CT of no numbers",
            kind="broken",
            modality="CT",
            make=no_numbers,
            headers=chest,
            as_files=False,
        ),
        Stranger(
            name="chest CT with holes that are no numbers",
            kind="broken",
            modality="CT",
            make=holes,
            headers=chest,
            as_files=False,
        ),
        Stranger(
            name="CT of huge numbers",
            kind="broken",
            modality="CT",
            make=lambda: flat(3e38),
            headers=chest,
            as_files=False,
        ),
        Stranger(
            name="CT stretched by its rescale slope",
            kind="broken",
            modality="CT",
            make=abdomen,
            headers={**chest, "RescaleSlope": "1E30"},
        ),
        Stranger(name="one slice", kind="too few", modality="CT", make=lambda: cut(1), headers=chest),
        Stranger(name="two slices", kind="too few", modality="CT", make=lambda: cut(2), headers=chest),
        Stranger(name="three slices", kind="too few", modality="CT", make=lambda: cut(3), headers=chest),
        Stranger(name="a chest of a mouse", kind="wrong size", modality="CT", make=mouse, headers=chest),
        Stranger(
            name="a chest of an elephant", kind="wrong size", modality="CT", make=elephant, headers=chest
        ),
        Stranger(
            name="chest CT in colours",
            kind="colour",
            modality="CT",
            make=coloured,
            headers=chest,
            as_files=False,
        ),
        Stranger(
            name="MR of the brain",
            kind="MR",
            modality="MR",
            make=brain,
            headers={"BodyPartExamined": "BRAIN", "ScanningSequence": "GR"},
        ),
        Stranger(name="PET", kind="PT", modality="PT", make=blobs, headers={"Units": "BQML"}),
        Stranger(
            name="mammogram", kind="mammogram", modality="MG", make=breast, headers={"ImageLaterality": "L"}
        ),
        Stranger(
            name="mammogram said to be a chest radiograph",
            kind="mammogram",
            modality="DX",
            make=breast,
            headers={"BodyPartExamined": "CHEST"},
        ),
        Stranger(
            name="radiograph of a hand",
            kind="hand radiograph",
            modality="DX",
            make=hand,
            headers={"BodyPartExamined": "HAND"},
        ),
        Stranger(name="radiograph of who knows what", kind="hand radiograph", modality="CR", make=hand),
        Stranger(
            name="lateral chest radiograph",
            kind="lateral chest radiograph",
            modality="DX",
            make=lambda: radiograph(1),
            headers={"BodyPartExamined": "CHEST", "ViewPosition": "LL"},
        ),
        Stranger(
            name="lateral chest radiograph without a view",
            kind="lateral chest radiograph that nobody calls so",
            modality="CR",
            make=lambda: radiograph(1),
        ),
        Stranger(
            name="frontal chest radiograph",
            kind="frontal chest radiograph",
            modality="DX",
            make=lambda: radiograph(0),
            headers={"BodyPartExamined": "CHEST", "ViewPosition": "PA"},
        ),
        Stranger(
            name="blank radiograph",
            kind="nothing",
            modality="DX",
            make=lambda: grey(np.full((_SIDE, _SIDE), 700.0)),
            headers={"BodyPartExamined": "CHEST"},
        ),
        Stranger(
            name="radiograph of noise",
            kind="noise",
            modality="DX",
            make=lambda: grey(_random().normal(2000, 300, (_SIDE, _SIDE))),
            headers={"BodyPartExamined": "CHEST"},
        ),
        Stranger(
            name="radiograph of no numbers",
            kind="broken",
            modality="DX",
            make=lambda: grey(np.full((_SIDE, _SIDE), np.nan)),
            headers={"BodyPartExamined": "CHEST"},
            as_files=False,
        ),
        Stranger(
            name="radiograph of huge numbers",
            kind="broken",
            modality="DX",
            make=lambda: grey(_random().uniform(0, 3e38, (_SIDE, _SIDE))),
            headers={"BodyPartExamined": "CHEST"},
            as_files=False,
        ),
        Stranger(
            name="radiograph of one pixel",
            kind="broken",
            modality="DX",
            make=lambda: grey(np.ones((1, 1))),
            headers={"BodyPartExamined": "CHEST"},
        ),
        Stranger(
            name="noise said to be a mammogram",
            kind="noise",
            modality="MG",
            make=lambda: grey(_random().normal(2000, 300, (_SIDE, _SIDE))),
            headers={"ImageLaterality": "R", "BodyPartExamined": "BREAST"},
        ),
        Stranger(
            name="chest radiograph said to be a mammogram",
            kind="frontal chest radiograph",
            modality="MG",
            make=lambda: radiograph(0),
            headers={"ImageLaterality": "R", "BodyPartExamined": "BREAST"},
        ),
        Stranger(name="fundus photograph", kind="fundus", modality="OP", make=fundus),
        Stranger(name="photograph said to be of an eye", kind="photograph", modality="OP", make=photograph),
        Stranger(
            name="black photograph",
            kind="nothing",
            modality="OP",
            make=lambda: colours(np.zeros((_SIDE, _SIDE, 3))),
        ),
        Stranger(name="photograph", kind="photograph", modality="XC", make=photograph),
        Stranger(name="ultrasound", kind="ultrasound", modality="US", make=ultrasound),
    )


def accepts(model: str, stranger: Stranger) -> bool:
    """Whether the model may answer it: its kind and its modality are the model's own."""
    return stranger.kind in OWN.get(model, frozenset())


def write_files(stranger: Stranger, folder: Path) -> list[Path]:
    """The input as DICOM instances: one, or one for each slice."""
    folder.mkdir(parents=True, exist_ok=True)
    given = stranger.make()
    if isinstance(given, Image):
        image = _instance(stranger, np.asarray(given.array), 0)
        if given.spacing_mm is not None:
            image.ImagerPixelSpacing = list(given.spacing_mm)
        return [_save(image, folder / "image.dcm", stranger)]
    return [
        _save(image, folder / f"{k:04d}.dcm", stranger) for k, image in enumerate(_slices(stranger, given))
    ]


def _save(image: Dataset, path: Path, stranger: Stranger) -> Path:
    for keyword, value in stranger.headers.items():
        setattr(image, keyword, value)
    write(image, path)
    return path


def _slices(stranger: Stranger, volume: hd.Volume) -> Iterator[Dataset]:
    affine = volume.affine
    for k, plane in enumerate(np.asarray(volume.array)):
        stored = np.clip(plane.astype(np.float64) + 1024, 0, 65535)
        image = _instance(stranger, stored, k)
        image.ImagePositionPatient = [round(float(x), 4) for x in affine[:3, :3] @ [k, 0, 0] + affine[:3, 3]]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.PixelSpacing = [round(float(step), 4) for step in volume.pixel_spacing]
        image.SliceThickness = round(float(volume.spacing[0]), 4)
        image.RescaleIntercept, image.RescaleSlope = -1024, 1
        yield image


def _instance(stranger: Stranger, stored: np.ndarray, k: int) -> Dataset:
    name = stranger.name
    image = Dataset()
    image.SOPClassUID = SOP_CLASSES[stranger.modality]
    image.SOPInstanceUID, image.InstanceNumber = str(uid_of(name, str(k))), k + 1
    image.StudyInstanceUID, image.SeriesInstanceUID = str(uid_of(name, "study")), str(uid_of(name, "series"))
    image.FrameOfReferenceUID = str(uid_of(name, "frame"))
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Stranger", "S-1", "", "O"
    image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20240105", "101500", "", "1"
    image.ReferringPhysicianName, image.SeriesNumber = None, 1
    image.Modality, image.Manufacturer = stranger.modality, "Wetread phantoms"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if not stranger.is_image else ["ORIGINAL", "PRIMARY"]
    image.Rows, image.Columns = stored.shape[:2]
    colour = stored.ndim == 3
    image.SamplesPerPixel = 3 if colour else 1
    image.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        image.PlanarConfiguration = 0
    bits = 8 if colour else 16
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = bits, bits, bits - 1, 0
    pixels = np.clip(stored, 0, (1 << bits) - 1).astype(np.uint8 if colour else "<u2").tobytes()
    image.PixelData = pixels + b"\0" * (len(pixels) % 2)
    image["PixelData"].VR = "OB" if colour else "OW"
    return image


# ------------------------------------------------------------------------------------------- volumes


def volume(array: np.ndarray, spacing_mm: tuple[float, float, float] = SPACING_MM) -> hd.Volume:
    """An axial volume from head to feet around the origin."""
    step = np.zeros((3, 3))
    step[2, 0], step[1, 1], step[0, 2] = -spacing_mm[0], spacing_mm[1], spacing_mm[2]
    affine = np.eye(4)
    affine[:3, :3] = step
    affine[:3, 3] = -step @ ((np.array(array.shape[:3]) - 1) / 2)
    return hd.Volume(array, affine, "PATIENT", frame_of_reference_uid="2.25.77")


@cache
def _mm() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z, y, x of the voxels from the middle, in mm."""
    z, y, x = (
        (np.arange(n, dtype=np.float32) - (n - 1) / 2) * step
        for n, step in zip(SHAPE, SPACING_MM, strict=True)
    )
    return z[:, None, None], y[:, None], x


def _random() -> np.random.Generator:
    return np.random.default_rng(11)


def _ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    return sum(((a - c) / r) ** 2 for a, c, r in zip(_mm(), centre, radii, strict=True)) < 1


def _scanned(hu: np.ndarray, noise_hu: float = 10.0) -> hd.Volume:
    hu = hu + noise_hu * _random().standard_normal(hu.shape, np.float32)
    return volume(np.clip(np.rint(hu), -1024, 3071).astype(np.int16))


def head() -> hd.Volume:
    """Skin, skull, brain, ventricles, and the air of sinuses and airway."""
    hu = np.full(SHAPE, -1000, np.float32)
    for radii, value in (((110, 95, 78), 40), ((104, 89, 72), 1100), ((97, 82, 65), 35)):
        hu[_ball((5, 0, 0), radii)] = value
    hu[_ball((15, 5, 0), (20, 30, 14))] = 8
    hu[_ball((-45, -60, 0), (18, 16, 24))] = -1000
    hu[_ball((-85, 5, 0), (30, 9, 9))] = -1000
    return _scanned(hu)


def abdomen() -> hd.Volume:
    """Fat, muscle, liver, kidneys, spine, and gas in the bowel; no lung."""
    _, y, x = _mm()
    hu = np.full(SHAPE, -1000, np.float32)
    hu[np.broadcast_to((y / 120) ** 2 + (x / 165) ** 2 < 1, SHAPE)] = -100
    hu[np.broadcast_to((y / 95) ** 2 + (x / 140) ** 2 < 1, SHAPE)] = 50
    hu[np.broadcast_to((y / 82) ** 2 + (x / 125) ** 2 < 1, SHAPE)] = -95
    hu[_ball((50, -10, -60), (70, 65, 60))] = 60
    hu[_ball((0, 40, 65), (50, 24, 24))] = 35
    hu[_ball((0, 40, -65), (50, 24, 24))] = 35
    hu[np.broadcast_to(((y - 62) / 20) ** 2 + (x / 22) ** 2 < 1, SHAPE)] = 250
    for n in range(14):
        centre = (-70 + 9 * n, -45 + 7 * (n % 3), -60 + 9 * n)
        hu[_ball(centre, (16, 14, 14))] = 20
        hu[_ball((centre[0], centre[1] - 3, centre[2]), (9, 8, 9))] = -950
    return _scanned(hu)


def legs() -> hd.Volume:
    """Two lower legs: skin, muscle, tibia and fibula with their marrow."""
    _, y, x = _mm()
    hu = np.full(SHAPE, -1000, np.float32)
    for side in (-1, 1):
        for offset, radius, value in (
            ((0, 75), 58, -100), ((0, 75), 50, 55), ((-22, 62), 16, 1200), ((-22, 62), 9, -50),
            ((5, 100), 8, 1100),
        ):  # fmt: skip
            hu[np.broadcast_to((y - offset[0]) ** 2 + (x - side * offset[1]) ** 2 < radius**2, SHAPE)] = value
    return _scanned(hu)


def flat(value: float) -> hd.Volume:
    """The same everywhere."""
    return volume(np.full(SHAPE, value, np.int16 if abs(value) < 30_000 else np.float32))


def noise() -> hd.Volume:
    """Between air and bone, and nothing to do with its neighbours."""
    return volume(_random().integers(-1024, 1500, SHAPE).astype(np.int16))


def no_numbers() -> hd.Volume:
    """Not one of them."""
    return volume(np.full(SHAPE, np.nan, np.float32))


@cache
def _chest() -> np.ndarray:
    """A body with two lungs, a spine and a heart: (slice, row, column) in HU."""
    _, y, x = _mm()
    hu = np.full(SHAPE, -1000, np.float32)
    hu[np.broadcast_to((y / 115) ** 2 + (x / 165) ** 2 < 1, SHAPE)] = -90
    hu[np.broadcast_to((y / 100) ** 2 + (x / 145) ** 2 < 1, SHAPE)] = 45
    for side in (-1, 1):
        hu[_ball((0, 0, side * 75), (92, 82, 52))] = -860
    hu[np.broadcast_to(((y - 75) / 18) ** 2 + (x / 20) ** 2 < 1, SHAPE)] = 300
    return np.asarray(_scanned(hu).array)


def holes() -> hd.Volume:
    """A chest some of whose voxels are not numbers."""
    hu = _chest().astype(np.float32)
    hu[::7, ::50, ::50] = np.nan
    return volume(hu)


def cut(slices: int) -> hd.Volume:
    """A few slices from the middle of a chest."""
    return volume(_chest()[18 : 18 + slices])


def mouse() -> hd.Volume:
    """A chest of 4 cm."""
    return volume(_chest(), (0.5, 0.15, 0.15))


def elephant() -> hd.Volume:
    """A chest of 1.1 m on slices of 5 mm."""
    return volume(np.repeat(_chest(), 3, axis=0), (5.0, 4.5, 4.5))


def coloured() -> hd.Volume:
    """A chest whose voxels have three colours."""
    channels = {hd.RGB_COLOR_CHANNEL_DESCRIPTOR: list(hd.RGBColorChannels)}
    one = volume(_chest())
    rgb = np.repeat(np.clip(one.array[..., None] / 8 + 128, 0, 255).astype(np.uint8), 3, axis=3)
    return hd.Volume(rgb, one.affine, "PATIENT", channels=channels)


def brain() -> hd.Volume:
    """T1-like: white matter, grey matter, fluid, in units of nobody."""
    values = np.zeros(SHAPE, np.float32)
    for radii, value in (((105, 90, 74), 500), ((100, 85, 69), 90), ((93, 78, 62), 420), ((80, 66, 50), 620)):
        values[_ball((0, 0, 0), radii)] = value
    values[_ball((10, 0, 0), (18, 26, 12))] = 120
    return volume(np.abs(values + 15 * _random().standard_normal(SHAPE, np.float32)).astype(np.int16))


def blobs() -> hd.Volume:
    """Activity in a body: bright organs, a dim rest."""
    _, y, x = _mm()
    values = np.broadcast_to(200.0 * ((y / 110) ** 2 + (x / 160) ** 2 < 1), SHAPE).astype(np.float32)
    for centre, radii in (
        ((40, -20, -50), (60, 50, 50)),
        ((0, 30, 60), (30, 18, 18)),
        ((-60, 0, 0), (25, 25, 25)),
    ):
        values[_ball(centre, radii)] = 3000
    return volume(_random().poisson(values).astype(np.int16))


# -------------------------------------------------------------------------------------------- images


def grey(array: np.ndarray, spacing_mm: float | None = 0.8) -> Image:
    """A grey image."""
    return Image(
        array=array.astype(np.float32), spacing_mm=None if spacing_mm is None else (spacing_mm, spacing_mm)
    )


def colours(array: np.ndarray) -> Image:
    """An image in RGB."""
    return Image(array=np.clip(array, 0, 255).astype(np.uint8), spacing_mm=None)


@cache
def _across() -> tuple[np.ndarray, np.ndarray]:
    """Row and column from the middle, -1 to 1."""
    along = np.linspace(-1, 1, _SIDE, dtype=np.float32)
    return along[:, None], along


def _film(path: np.ndarray) -> Image:
    """What a detector stores of X-rays that went through `path` (attenuation): bone is bright."""
    noisy = path + 0.01 * _random().standard_normal(path.shape)
    low, high = np.percentile(noisy, (0.1, 99.9))
    return grey(4095 * np.clip((noisy - low) / (high - low), 0, 1))


def radiograph(axis: int) -> Image:
    """The chest by ray sums: from the front (0) or from the side (1)."""
    mu = np.clip(1 + _chest().astype(np.float32) / 1000, 0, 3)
    sums = mu.sum(axis=1 + axis) * 1.5 * 0.02
    rows = np.linspace(0, sums.shape[0] - 1, _SIDE)
    columns = np.linspace(0, sums.shape[1] - 1, _SIDE)
    return _film(ndimage.map_coordinates(sums, np.meshgrid(rows, columns, indexing="ij"), order=1))


def hand() -> Image:
    """A palm, five fingers, and their bones."""
    y, x = _across()
    path = 0.5 * (((y - 0.45) / 0.4) ** 2 + (x / 0.42) ** 2 < 1).astype(np.float32)
    for n, across in enumerate((-0.36, -0.18, 0.0, 0.18, 0.4)):
        top = -0.8 + 0.12 * abs(n - 2)
        finger = (np.abs(x - across) < 0.075) & (y > top) & (y < 0.5)
        path = np.maximum(path, 0.4 * finger)
        path = path + 0.8 * (
            (np.abs(x - across) < 0.035) & (y > top + 0.05) & (y < 0.8) & (np.sin(20 * y) > -0.95)
        )
    return _film(path)


def breast() -> Image:
    """Half a disc at the edge of the image, with brighter strands."""
    y, x = _across()
    inside = (y / 0.75) ** 2 + ((x + 1) / 1.1) ** 2 < 1
    strands = np.clip(np.sin(14 * x + 5 * np.sin(7 * y)), 0, 1)
    return _film(inside * (1.5 + 0.6 * strands * ((y / 0.5) ** 2 + ((x + 0.7) / 0.5) ** 2 < 1)))


def fundus() -> Image:
    """An orange disc on black with an optic disc and vessels."""
    y, x = _across()
    field_ = y**2 + x**2 < 0.85
    light = 1 - 0.3 * (y**2 + x**2)
    rgb = np.stack([190 * light, 95 * light, 45 * light], axis=-1)
    bright = ((y - 0.02) / 0.14) ** 2 + ((x - 0.4) / 0.13) ** 2 < 1
    rgb[bright] = (250, 210, 130)
    for bend in (-0.9, -0.45, 0.45, 0.9):
        vessel = np.abs(y - 0.02 - bend * np.sqrt(np.clip(0.4 - x, 0, None)) * 0.7) < 0.012
        rgb[vessel & (x < 0.4)] *= 0.55
    rgb += 4 * _random().standard_normal(rgb.shape)
    return colours(rgb * field_[..., None])


def photograph() -> Image:
    """A landscape: sky, hills, and a house."""
    y, x = _across()
    rgb = np.empty((_SIDE, _SIDE, 3), np.float32)
    rgb[:] = (110, 160, 230)
    rgb[y > 0.2 + 0.2 * np.sin(4 * x)] = (70, 130, 50)
    rgb[(np.abs(x) < 0.25) & (np.abs(y - 0.2) < 0.25)] = (170, 60, 50)
    return colours(rgb + 9 * _random().standard_normal(rgb.shape))


def ultrasound() -> Image:
    """A fan of speckle on black."""
    y, x = _across()
    far, angle = np.hypot(y + 1.1, x), np.arctan2(x, y + 1.1)
    fan = (far > 0.3) & (far < 1.9) & (np.abs(angle) < 0.6)
    speckle = _random().rayleigh(50, (_SIDE, _SIDE)) * np.exp(-0.6 * far)
    return colours(np.repeat((speckle * fan)[..., None], 3, axis=2))

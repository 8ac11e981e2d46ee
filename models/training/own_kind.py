"""
For every built-in model a phantom of its own kind, as the files that a scanner would send.

So a model can be tried the minute it is installed, by `wetread models test` and `wetread demo`, and a test
can ask the same of every one of them. The same model and seed give the same bytes.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation
from scipy import ndimage

from models.training.breast_phantom import mammogram, write_mammogram
from models.training.fundus_phantom import fundus, write_fundus
from models.training.phantom_series import uid_of, write, write_series
from models.training.phantoms import LEFT_LUNG, RIGHT_LUNG, Phantom, chest
from models.training.radiograph_dicom import write_radiograph
from models.training.radiographs import radiograph
from models.training.thorax import Patient

Write = Callable[[Path, int], list[Path]]
Ball = tuple[tuple[float, float, float], float, float]  #: centre in LPS mm, diameter in mm, HU

#: On the left and the right border of the heart, where its arteries run.
_ARTERIES = ((62.0, -44.0, -38.0), (-28.0, -24.0, -40.0))

_FILM_PIXELS = 384
_FILM_MM, _FILM_VOXEL_MM = 1.5, 3.4


def write_own_kind(model: str, folder: Path, *, seed: int = 0) -> list[Path]:
    """Write the phantom for the built-in `model` into `folder`. Raises `KeyError` for any other model."""
    folder.mkdir(parents=True, exist_ok=True)
    return OWN_KIND[model](folder, seed)


def with_balls(phantom: Phantom, *balls: Ball) -> Phantom:
    """The phantom with balls in it whose edges are as wide as a voxel."""
    geometry, hu = phantom.geometry, phantom.hu.astype(np.float32)
    edge = float(np.mean(geometry.spacing))
    for centre, diameter, value in balls:
        at = geometry.map_reference_to_indices(np.array([centre]))[0]
        reach = (diameter / 2 + edge) / np.array(geometry.spacing) + 1
        low = np.maximum(np.floor(at - reach), 0).astype(int)
        high = np.minimum(np.ceil(at + reach) + 1, hu.shape).astype(int)
        index = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1)
        points = geometry.map_indices_to_reference(index.reshape(-1, 3))
        away = np.linalg.norm(points - np.array(centre), axis=1).reshape(index.shape[:-1]) - diameter / 2
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        hu[box] += np.clip(0.5 - away / edge, 0, 1) * (value - hu[box])
    return replace(phantom, hu=np.rint(hu).astype(np.int16))


def write_film(stored: NDArray[np.uint16], path: Path) -> Path:
    """Stored values of 12 bits (row, column) as a Digital X-Ray Image of a chest, PA (PS3.3 §A.26)."""
    image, digest = Dataset(), hashlib.sha256(stored.tobytes()).hexdigest()
    image.SOPClassUID, image.SOPInstanceUID = (
        DigitalXRayImageStorageForPresentation,
        str(uid_of(digest, "instance")),
    )
    image.StudyInstanceUID, image.SeriesInstanceUID = (
        str(uid_of(digest, "study")),
        str(uid_of(digest, "series")),
    )
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID, image.PatientBirthDate = "Phantom^Film", "PHANTOM-3", "19600101"
    image.PatientSex, image.PatientAge, image.StudyID, image.AccessionNumber = "O", "064Y", "1", ""
    image.ReferringPhysicianName = None
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20240105"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "101500"
    image.Modality, image.SeriesNumber, image.InstanceNumber = "DX", 1, 1
    image.StudyDescription = image.SeriesDescription = "Chest film phantom"
    image.BodyPartExamined, image.ViewPosition, image.PatientOrientation = "CHEST", "PA", ["L", "F"]
    image.ImageLaterality, image.PresentationIntentType = "U", "FOR PRESENTATION"
    image.Manufacturer, image.ManufacturerModelName = "Wetread phantoms", "Film phantom"
    image.DeviceSerialNumber, image.SoftwareVersions = "1", "1"
    image.ImageType, image.ImagerPixelSpacing = ["ORIGINAL", "PRIMARY", ""], [1.0, 1.0]
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelIntensityRelationship, image.PixelIntensityRelationshipSign = "LOG", -1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "US"
    image.PresentationLUTShape, image.BurnedInAnnotation, image.LossyImageCompression = "IDENTITY", "NO", "00"
    image.WindowCenter, image.WindowWidth = 2048, 4096
    image.PixelData = stored.astype("<u2").tobytes()
    image["PixelData"].VR = "OW"
    write(image, path)
    return path


def _middle_of(phantom: Phantom, lung: int) -> tuple[float, float, float]:
    """The point of a lung that is farthest from its edge, in LPS mm."""
    deep = ndimage.distance_transform_edt(phantom.truth == lung, sampling=phantom.geometry.spacing)
    index = np.array([np.unravel_index(int(deep.argmax()), deep.shape)], float)
    x, y, z = (float(value) for value in phantom.geometry.map_indices_to_reference(index)[0])
    return x, y, z


def _chest(folder: Path, seed: int) -> list[Path]:
    return write_series(chest((75, 160, 160), seed=seed, emphysema=0.08), folder)


def _nodules(folder: Path, seed: int) -> list[Path]:
    """One solid nodule in each lung, of 14 and of 10 mm."""
    plain = chest((120, 192, 192), seed=seed)
    balls = ((_middle_of(plain, RIGHT_LUNG), 14.0, 40.0), (_middle_of(plain, LEFT_LUNG), 10.0, 40.0))
    return write_series(with_balls(plain, *balls), folder)


def _calcium(folder: Path, seed: int) -> list[Path]:
    """A gated scan of the heart with two calcifications."""
    narrow = chest((40, 128, 128), (3.0, 1.45, 1.45), seed=seed, noise_hu=6, centre_mm=(15.0, 0.0, -35.0))
    balls = tuple((place, 7.0, 500.0) for place in _ARTERIES)
    return write_series(
        with_balls(narrow, *balls), folder, CardiacSynchronizationTechnique="PROSPECTIVE", SliceThickness="3"
    )


def _trunk(folder: Path, seed: int) -> list[Path]:
    return write_series(chest((70, 128, 128), (4.0, 3.0, 3.0), seed=seed, noise_hu=8), folder)


def _film(folder: Path, seed: int) -> list[Path]:
    """The mean of the films that cxr_pneumonia was trained on, with a little grain: it is nobody's."""
    import torch  # noqa: PLC0415  # which the other phantoms do not need

    from models.builtin.cxr_pneumonia.gate import COARSE  # noqa: PLC0415
    from models.builtin.cxr_pneumonia.model import CxrPneumonia  # noqa: PLC0415
    from models.builtin.cxr_pneumonia.weights import read_weights  # noqa: PLC0415

    model = CxrPneumonia()
    mean = read_weights(model.folder, model.manifest, torch.device("cpu")).usual.mean.reshape(COARSE, COARSE)
    smooth = ndimage.zoom(mean, _FILM_PIXELS // COARSE, order=3, mode="nearest", grid_mode=True)
    grain = np.random.default_rng(seed).normal(0, 0.02, smooth.shape)
    return [
        write_film(np.clip((smooth + grain) * 3200 + 320, 0, 4095).astype(np.uint16), folder / "film.dcm")
    ]


def _radiograph(folder: Path, seed: int) -> list[Path]:
    """A chest by ray sums, PA, with the exposure that was aimed at."""
    film = radiograph(Patient(seed=seed), pixel_mm=_FILM_MM, voxel_mm=_FILM_VOXEL_MM)
    path = write_radiograph(film, folder, ExposureIndex="250", TargetExposureIndex="250", DeviationIndex="0")
    return [path]


def _mammogram(folder: Path, seed: int) -> list[Path]:
    return [write_mammogram(mammogram(seed=seed), folder / "mammogram.dcm")]


def _fundus(folder: Path, seed: int) -> list[Path]:
    return [write_fundus(fundus(seed=seed), folder / "fundus.dcm")]


#: Name of a built-in model → what writes its phantom.
OWN_KIND: Mapping[str, Write] = {
    "body_ct": _trunk,
    "calcium_ct": _calcium,
    "cxr_pneumonia": _film,
    "cxr_quality": _radiograph,
    "fundus_quality": _fundus,
    "lung_ct": _chest,
    "mg_density_estimate": _mammogram,
    "nodule_ct": _nodules,
}

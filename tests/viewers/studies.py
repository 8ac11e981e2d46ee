"""The studies that viewers are shown, of one chest: a CT, a coronal MR, an enhanced CT and a radiograph."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset

from ledger.result import Role
from models.training.chest_trees import CARINA
from models.training.phantom_enhanced import write_enhanced
from models.training.phantom_series import uid_of, write_series
from models.training.phantoms import LEFT_LUNG, RIGHT_LUNG
from results import codes
from results.findings import HeatMap
from results.making import ENCODERS
from results.source import Source
from tests.viewers.chest import NODULE, NODULE_AT, ONE, findings, half_of, phantom
from tests.viewers.corpus import EVERYTHING, Case, case_of

#: What makes two segmentation objects of the CT's: the right lung, and the left one with the nodule.
PART_FRAMES = 50


def ct(folder: Path) -> Case:
    """Single-frame CT, one instance for each slice."""
    made, labels = phantom("axial")
    paths = write_series(made, folder, accession="CT-1", StudyDescription="Chest CT")
    return _with_forms(
        _volume("CT", folder, [pydicom.dcmread(path) for path in paths], made.geometry, labels)
    )


def _with_forms(case: Case) -> Case:
    """The case with its segmentation in every other form as well."""
    labels = case.findings.label_map
    # Fractions are made of probabilities.
    probable = tuple(
        HeatMap(
            label=f"{one.label} probability",
            quantity=codes.PROBABILITY,
            unit=ONE,
            values=np.where(labels == one.number, np.float32(0.9), np.float32(0)),
            of=one.label,
        )
        for one in case.findings.segments
    )
    return replace(
        case,
        forms={
            "labelmap": _form(case, (), name="labelmap", segmentation="labelmap"),
            "fractional": _form(case, probable, name="fractional", segmentation="fractional"),
            "parts": _form(case, (), name="parts", frame_limit=PART_FRAMES),
        },
    )


def _form(case: Case, maps: tuple[HeatMap, ...], *, name: str, **asked: Any) -> tuple[Dataset, ...]:
    profile = replace(EVERYTHING, name=name, series_description=f"AI {name} {{what}} ({{status}})", **asked)
    said = replace(case.findings, maps=maps)
    return tuple(ENCODERS[Role.SEGMENTATION].build(replace(case.asked, profile=profile, findings=said)))


def enhanced(folder: Path) -> Case:
    """The same CT in one multi-frame instance, whose frames run against the slices."""
    made, labels = phantom("axial")
    paths = write_enhanced(made, folder, accession="CT-2", StudyDescription="Chest CT, enhanced")
    frames = tuple(range(labels.shape[0], 0, -1))
    return _volume("enhanced CT", folder, [pydicom.dcmread(paths[0])], made.geometry, labels, frames=frames)


def mr(folder: Path) -> Case:
    """Coronal MR: what is air in the CT is black, fat is bright."""
    made, labels = phantom("coronal")
    signal = np.interp(
        made.hu, [-1000, -700, -150, -100, 0, 60, 400, 1200], [8, 60, 800, 860, 420, 330, 90, 40]
    )
    paths = write_series(
        made, folder, accession="MR-1", StudyDescription="Chest MR", Modality="MR",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4", SeriesDescription="Chest phantom, coronal",
        ImageType=["ORIGINAL", "PRIMARY", "M"], ScanningSequence="SE", SequenceVariant="NONE", ScanOptions="",
        MRAcquisitionType="2D", EchoTime="10", EchoTrainLength="1", RepetitionTime="500",
        WindowCenter=430, WindowWidth=860,
    )  # fmt: skip
    images = [pydicom.dcmread(path) for path in paths]
    for image, plane in zip(images, signal, strict=True):
        image.PixelData = plane.astype("<u2").tobytes()
        for keyword in ("KVP", "RescaleIntercept", "RescaleSlope", "RescaleType", "ConvolutionKernel"):
            delattr(image, keyword)
    return _volume("MR", folder, images, made.geometry, labels)


def cr(folder: Path) -> Case:
    """A radiograph of the same chest: what X-rays leave of it, from the back to the front."""
    made, labels = phantom("coronal")
    depth_mm = made.geometry.spacing[0]
    absorbed = ((made.hu.astype(np.float32) + 1000) * (0.019 / 1000) * depth_mm).sum(axis=0)
    image = pydicom.dcmread(
        write_series(made, folder, accession="CR-1", StudyDescription="Chest radiograph")[0]
    )
    for keyword in (
        "FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient", "SliceThickness",
        "ImageOrientationPatient", "PatientPosition", "KVP", "RescaleIntercept", "RescaleSlope",
        "RescaleType", "ConvolutionKernel",
    ):  # fmt: skip
        delattr(image, keyword)
    image.ImagerPixelSpacing = image.PixelSpacing
    del image.PixelSpacing
    image.SOPClassUID, image.Modality = "1.2.840.10008.5.1.4.1.1.1", "CR"
    image.SOPInstanceUID = str(uid_of(str(image.SeriesInstanceUID), "radiograph"))
    image.SeriesInstanceUID = str(uid_of(str(image.SeriesInstanceUID), "radiographs"))
    image.InstanceNumber, image.SeriesDescription = 1, "Chest, PA"
    image.PatientOrientation, image.ViewPosition = ["L", "F"], "PA"
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.WindowCenter, image.WindowWidth = 2048, 4096
    low, high = float(absorbed.min()), float(absorbed.max())
    image.PixelData = ((absorbed - low) / (high - low) * 4000).astype("<u2").tobytes()
    flat = np.zeros((1, *labels.shape[1:]), np.uint8)
    for number in (RIGHT_LUNG, LEFT_LUNG, NODULE):
        flat[0][(labels == number).any(axis=0)] = number
    source = Source(datasets=(_header(image),), geometry=None)
    where = np.argwhere(flat == NODULE)
    middle = (where.min(0) + where.max(0)) / 2
    said = findings(flat, tuple(middle), (0.5, *half_of(where)[1:]), None, "radiograph")
    return case_of("CR", folder, source, (image,), said)


def _volume(
    name: str,
    folder: Path,
    images: list[Dataset],
    geometry: hd.VolumeGeometry,
    labels: NDArray[np.uint8],
    *,
    frames: tuple[int, ...] | None = None,
) -> Case:
    source = Source(datasets=tuple(_header(image) for image in images), geometry=geometry, frames=frames)
    inverse = np.linalg.inv(geometry.affine)
    nodule, carina = ((inverse @ (*place, 1))[:3] for place in (NODULE_AT, CARINA))
    half = half_of(np.argwhere(labels == NODULE))
    said = findings(labels, tuple(nodule), half, tuple(float(v) for v in carina), name)
    return case_of(name, folder, source, tuple(images), said)


def _header(image: Dataset) -> Dataset:
    header = Dataset()
    header.update({element.tag: element for element in image if element.keyword != "PixelData"})
    return header


CASES: dict[str, Callable[[Path], Case]] = {"CT": ct, "MR": mr, "enhanced CT": enhanced, "CR": cr}

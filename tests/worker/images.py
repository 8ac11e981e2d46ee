"""Single images as modalities write them, with known pixels."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    OphthalmicPhotography8BitImageStorage,
)

from tests.worker.series import save


def radiograph(stored: np.ndarray, *, instance: str = "2.25.301", **headers: Any) -> Dataset:
    """A chest radiograph with these stored values (row, column), or (frame, row, column)."""
    dataset = _image(instance, DigitalXRayImageStorageForPresentation)
    dataset.Modality, dataset.ImageType = "DX", ["ORIGINAL", "PRIMARY", ""]
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        dataset.NumberOfFrames = len(stored)
    dataset.BitsAllocated = dataset.BitsStored = stored.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    dataset["PixelData"].VR = "OW" if stored.itemsize > 1 else "OB"
    for keyword, value in headers.items():
        setattr(dataset, keyword, value)
    return dataset


def photograph(rgb: np.ndarray, *, instance: str = "2.25.302", **headers: Any) -> Dataset:
    """A photograph of a fundus: (row, column, 3) of eight bits."""
    dataset = _image(instance, OphthalmicPhotography8BitImageStorage)
    dataset.Modality, dataset.ImageType = "OP", ["ORIGINAL", "PRIMARY"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = rgb.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = rgb.tobytes() + b"\0" * (rgb.nbytes % 2)
    dataset["PixelData"].VR = "OB"
    for keyword, value in headers.items():
        setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset, folder: Path, name: str = "image.dcm") -> Path:
    """The path of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    return save(dataset, folder / name)


def _image(instance: str, sop_class: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID(instance)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.31", "2.25.32"
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 192", "Müller^Änne"
    dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "P1", "19700101", "O"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260101", "120000", "1"
    dataset.AccessionNumber, dataset.ReferringPhysicianName, dataset.SeriesNumber = "A1", "", 1
    dataset.InstanceNumber = 1
    return dataset

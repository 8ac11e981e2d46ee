"""What single images of phantoms share as DICOM instances: patient, study, equipment, pixels (PS3.3 §C.7)."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from models.training.phantom_series import uid_of, write


def common(stored: NDArray[Any], sop_class: str, modality: str, of: str) -> Dataset:
    """An instance of `stored` values, (row, column) or (row, column, 3) in RGB, without what is special to
    its kind. Its UIDs are functions of the pixels and of `of`, so that the same phantom is the same bytes.
    """
    voxels = hashlib.sha256(stored.tobytes()).hexdigest()
    image = Dataset()
    image.SOPClassUID = sop_class
    image.SOPInstanceUID = str(uid_of(voxels, of, sop_class, "instance"))
    image.StudyInstanceUID = str(uid_of(voxels, of, "study"))
    image.SeriesInstanceUID = str(uid_of(voxels, of, sop_class, "series"))
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID, image.PatientBirthDate = "Phantom^Image", "PHANTOM-2", "19600101"
    image.PatientSex, image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "O", "1", "", None
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20240105"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "101500"
    image.Modality, image.SeriesNumber, image.InstanceNumber = modality, 1, 1
    image.Manufacturer = "Wetread phantoms"  # "Wetread" alone is what our results say.
    image.ManufacturerModelName, image.DeviceSerialNumber, image.SoftwareVersions = "Image phantom", "1", "1"
    image.Rows, image.Columns = stored.shape[:2]
    colour = stored.ndim == 3
    image.SamplesPerPixel = 3 if colour else 1
    image.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        image.PlanarConfiguration = 0
    image.BitsAllocated = image.BitsStored = 8 * stored.itemsize
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, 0
    little = stored.astype(np.uint8 if stored.itemsize == 1 else "<u2")
    image.PixelData = little.tobytes() + b"\0" * (little.nbytes % 2)
    image["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
    return image


def item(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence (PS3.3 §8.8)."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def save(image: Dataset, path: Path) -> Path:
    """Write the instance; the path is given back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(image, path)
    return path

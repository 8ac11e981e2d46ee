"""
A radiograph as a modality would send it: Digital X-Ray Image Storage - For Presentation (PS3.3 §A.26) or
Computed Radiography Image Storage (§A.2), MONOCHROME1 or 2, with a window or a VOI LUT.
"""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation

from models.training.phantom_series import decimal, uid_of, write
from models.training.radiographs import Radiograph

Photometric = Literal["MONOCHROME1", "MONOCHROME2"]
_DATE, _TIME, _TOP = "20240105", "101500", 4095


def write_radiograph(
    film: Radiograph,
    folder: Path,
    *,
    modality: Literal["DX", "CR"] = "DX",
    photometric: Photometric = "MONOCHROME2",
    voi: Literal["window", "lut"] = "window",
    patient_name: str = "Phantom^Chest",
    patient_id: str = "PHANTOM-1",
    accession: str = "",
    **attributes: object,
) -> Path:
    """Write one instance into `folder`; its path. `attributes` (keyword=value) are set last."""
    folder.mkdir(parents=True, exist_ok=True)
    study = f"{patient_id}|{accession}|{film.patient.seed}|radiograph"
    stored = film.pixels if photometric == "MONOCHROME2" else _TOP - film.pixels
    instance = _patient_and_study(study, patient_name, patient_id, accession)
    name = f"{modality}|{film.view}|{photometric}|{voi}"
    instance.SeriesInstanceUID = str(uid_of(study, name, "series"))
    instance.SOPInstanceUID = str(
        uid_of(study, name, hashlib.sha256(film.pixels.tobytes()).hexdigest(), "instance")
    )
    instance.Modality = modality
    instance.ViewPosition = {"PA": "PA", "LATERAL": "LL"}[film.view]
    instance.PatientOrientation = ["L", "F"] if film.view == "PA" else ["P", "F"]
    instance.ImageType = ["ORIGINAL", "PRIMARY"]
    _pixels(instance, stored, film.spacing_mm, photometric, voi)
    if modality == "DX":
        instance.SOPClassUID = DigitalXRayImageStorageForPresentation
        _digital(instance, film, photometric)
    else:
        instance.SOPClassUID = ComputedRadiographyImageStorage
    for keyword, value in attributes.items():
        setattr(instance, keyword, value)
    path = folder / f"{modality}_{film.view}_{photometric}.dcm"
    write(instance, path)
    return path


def _patient_and_study(study: str, patient_name: str, patient_id: str, accession: str) -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.StudyInstanceUID = str(uid_of(study, "study"))
    header.PatientName, header.PatientID = patient_name, patient_id
    header.PatientBirthDate, header.PatientSex = "19600101", "O"
    header.StudyID, header.AccessionNumber = "1", accession
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = _DATE
    header.StudyTime = header.SeriesTime = header.AcquisitionTime = header.ContentTime = _TIME
    header.ReferringPhysicianName = None
    header.StudyDescription = "Chest radiograph"
    header.SeriesNumber = header.InstanceNumber = header.AcquisitionNumber = 1
    header.SeriesDescription = "Chest phantom"
    header.BodyPartExamined = "CHEST"
    header.Manufacturer = "Wetread phantoms"
    header.ManufacturerModelName = "Chest phantom"
    header.DeviceSerialNumber = header.SoftwareVersions = "1"
    header.KVP = 120
    return header


def _pixels(
    instance: Dataset, stored: np.ndarray, spacing_mm: float, photometric: Photometric, voi: str
) -> None:
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = photometric
    instance.Rows, instance.Columns = stored.shape
    instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 12, 11
    instance.PixelRepresentation = 0
    instance.ImagerPixelSpacing = [decimal(spacing_mm), decimal(spacing_mm)]
    if voi == "window":
        instance.WindowCenter, instance.WindowWidth = 2048, 4096
    else:
        table = Dataset()
        table.LUTDescriptor = [_TOP + 1, 0, 16]
        ramp = np.arange(_TOP + 1) / _TOP
        # A film's curve: flat at both ends, steep between.
        table.LUTData = (65535 / (1 + np.exp(-8 * (ramp - 0.5)))).astype("<u2").tobytes()
        table.LUTExplanation = "sigmoid"
        table["LUTData"].VR = "OW"
        table["LUTDescriptor"].VR = "US"
        instance.VOILUTSequence = Sequence([table])
    instance.PixelData = np.ascontiguousarray(stored.astype("<u2")).tobytes()


def _digital(instance: Dataset, film: Radiograph, photometric: Photometric) -> None:
    """What Digital X-Ray asks for beyond Computed Radiography."""
    instance.PresentationIntentType = "FOR PRESENTATION"
    instance.ImageLaterality = "U"
    instance.AnatomicRegionSequence = Sequence([_code("51185008", "Chest")])
    instance.PixelIntensityRelationship = "LOG"
    # 1: more X-rays make larger values.
    instance.PixelIntensityRelationshipSign = -1 if photometric == "MONOCHROME2" else 1
    instance.RescaleIntercept, instance.RescaleSlope, instance.RescaleType = 0, 1, "US"
    instance.PresentationLUTShape = "IDENTITY" if photometric == "MONOCHROME2" else "INVERSE"
    instance.LossyImageCompression = "00"
    instance.BurnedInAnnotation = "NO"
    instance.DetectorType = "DIRECT"
    instance.PositionerType = "NONE"
    instance.AcquisitionContextSequence = Sequence()
    view = {"PA": ("272479007", "postero-anterior"), "LATERAL": ("399173006", "left lateral")}[film.view]
    coded = _code(*view)
    coded.ViewModifierCodeSequence = Sequence()
    instance.ViewCodeSequence = Sequence([coded])


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code

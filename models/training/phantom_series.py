"""
A phantom as a scanner would send it: one CT Image Storage instance per slice (PS3.3 §A.3).

Every UID is a function of the phantom, the patient and the accession number: writing the same series twice
gives the same bytes, and two series of one patient and accession number share their study.
"""

import hashlib
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from ledger.identifiers import Uid
from models.training.phantoms import Phantom

RESCALE_INTERCEPT = -1024  # Stored values are unsigned 12 bit, as most scanners write them.
_DATE, _TIME = "20240105", "101500"


def write_series(
    phantom: Phantom,
    folder: Path,
    *,
    patient_name: str = "Phantom^Chest",
    patient_id: str = "PHANTOM-1",
    accession: str = "",
    series_number: int = 1,
    **attributes: object,
) -> list[Path]:
    """Write the series into `folder`, which is made if absent; the paths are in the order of the slices.

    Instance Number runs from the feet upwards for head-first positions, against the order of the slices:
    whoever sorts by it turns the patient upside down. `attributes` (keyword=value) are set last, on every
    instance, so that a test can ask for another kernel, description or, on purpose, nonsense.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = series_header(phantom, patient_name, patient_id, accession, series_number)
    positions = phantom.geometry.get_plane_positions()
    count = phantom.hu.shape[0]
    paths = []
    for k, position in enumerate(positions):
        instance = Dataset()
        instance.update(series)
        instance.SOPInstanceUID = str(uid_of(str(series.SeriesInstanceUID), str(k)))
        instance.InstanceNumber = count - k if phantom.position.startswith("HF") else k + 1
        instance.ImagePositionPatient = [decimal(value) for value in position[0].ImagePositionPatient]
        stored = (phantom.hu[k].astype(np.int32) - RESCALE_INTERCEPT).astype("<u2")
        instance.PixelData = stored.tobytes()
        for keyword, value in attributes.items():
            setattr(instance, keyword, value)
        paths.append(folder / f"IM{k + 1:04d}.dcm")
        write(instance, paths[-1])
    return paths


def series_header(
    phantom: Phantom, patient_name: str, patient_id: str, accession: str, series_number: int
) -> Dataset:
    """All attributes that the instances of the series share, Type 1 and 2 of the CT Image IOD complete."""
    study = f"{patient_id}|{accession}|{phantom.seed}"
    voxels = hashlib.sha256(phantom.hu.tobytes() + phantom.geometry.affine.tobytes()).hexdigest()
    geometry = phantom.geometry
    rows, columns = phantom.hu.shape[1:]

    header = Dataset()
    header.SOPClassUID = CTImageStorage
    header.StudyInstanceUID = str(uid_of(study, "study"))
    header.SeriesInstanceUID = str(uid_of(study, str(series_number), voxels, "series"))
    header.FrameOfReferenceUID = str(geometry.frame_of_reference_uid)
    header.PositionReferenceIndicator = None
    header.SpecificCharacterSet = "ISO_IR 192"

    header.PatientName = patient_name
    header.PatientID = patient_id
    header.PatientBirthDate = "19600101"
    header.PatientSex = "O"
    header.StudyID = "1"
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = _DATE
    header.StudyTime = header.SeriesTime = header.AcquisitionTime = header.ContentTime = _TIME
    header.AccessionNumber = accession
    header.ReferringPhysicianName = None
    header.StudyDescription = "Chest CT"

    header.Modality = "CT"
    header.SeriesNumber = series_number
    header.SeriesDescription = "Chest phantom"
    header.BodyPartExamined = "CHEST"
    header.PatientPosition = phantom.position
    header.Manufacturer = (
        "Wetread phantoms"  # "Wetread" alone is what our results say: those are never an input.
    )
    header.ManufacturerModelName = "Chest phantom"
    header.DeviceSerialNumber = "1"
    header.SoftwareVersions = "1"

    axial = abs(geometry.unit_vectors()[0][2]) > 0.9
    # Value 3 says "no localizer" (PS3.3 §C.8.2.1.1.1), whatever the plane.
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if axial else ["DERIVED", "SECONDARY", "AXIAL"]
    header.AcquisitionNumber = 1
    _acquisition(header, phantom)
    header.PixelSpacing = [decimal(value) for value in geometry.pixel_spacing]
    orientation = geometry.get_plane_orientation()[0].ImageOrientationPatient
    header.ImageOrientationPatient = [decimal(value) for value in orientation]

    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = rows, columns
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation = 0
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = RESCALE_INTERCEPT, 1, "HU"
    header.WindowCenter, header.WindowWidth = -500, 1500
    return header


def _acquisition(header: Dataset, phantom: Phantom) -> None:
    """How the scanner of the phantom worked; a plain chest's is 120 kV with a standard kernel."""
    scanner = phantom.scanner
    header.KVP = decimal(scanner.kvp) if scanner else 120
    header.ConvolutionKernel = scanner.kernel.upper() if scanner else "STANDARD"
    profile = scanner.slice_profile_mm if scanner else None
    header.SliceThickness = decimal(profile or phantom.geometry.spacing_between_slices)
    if phantom.contrast_hu:
        header.ContrastBolusAgent = "Iodine"


def decimal(value: float) -> DSfloat:
    """A Decimal String (PS3.5 §6.2): at most 16 characters."""
    return DSfloat(float(value), auto_format=True)


def uid_of(*parts: str) -> Uid:
    """A UID under 2.25 (PS3.5 §B.2) that depends on `parts` alone."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return Uid(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def write(instance: Dataset, path: Path) -> None:
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.save_as(path, enforce_file_format=True)

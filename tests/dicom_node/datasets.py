"""Small data sets for the receiving tests, made in code."""

import hashlib
import io
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498.77"


def ct_slice(
    number: int = 1,
    *,
    study: str = f"{ROOT}.1",
    series: str = f"{ROOT}.1.1",
    sop_instance: str | None = None,
    rows: int = 32,
    fill: int = 0,
    implicit_vr: bool = False,
) -> Dataset:
    """One CT slice of `rows` × `rows` pixels."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = sop_instance or f"{series}.{number}"
    ds.StudyDate = "20260101"
    ds.Modality = "CT"
    ds.PatientName = "ZZPHI^CANARY"
    ds.PatientID = "ZZMRN0815"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = series
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [0, 0, float(number)]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.Rows = ds.Columns = rows
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelSpacing = [1, 1]
    ds.PixelData = fill.to_bytes(2, "little") * rows * rows
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit_vr else ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def encoded(ds: Dataset) -> bytes:
    """The bytes of the data set alone, as a C-STORE carries them."""
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return data_set_of(buffer.getvalue())


def write(folder: Path, *slices: Dataset) -> list[Path]:
    """The slices as files of Part 10."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, ds in enumerate(slices):
        paths.append(folder / f"{index:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def data_set_of(part10: bytes) -> bytes:
    """What follows preamble, prefix and File Meta Information; all of it where there is none."""
    if part10[128:132] != b"DICM":
        return part10
    length = int.from_bytes(part10[140:144], "little")
    return part10[144 + length :]


def digest_of(data_set: bytes) -> str:
    return hashlib.sha256(data_set).hexdigest()


def digest_of_file(path: Path) -> str:
    """The digest of the data set in a file of Part 10."""
    return digest_of(data_set_of(path.read_bytes()))


def transfer_syntax_of(path: Path) -> str:
    return str(pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID)

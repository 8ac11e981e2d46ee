"""Small valid instances, whose data sets hold what a decoder would be tempted to write differently."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom.dsutils import split_dataset


def write_instance(
    folder: Path,
    *,
    sop_class: str = CTImageStorage,
    transfer_syntax: str = ExplicitVRLittleEndian,
    study: str = "1.2.826.0.1.3680043.8.498.1",
    series: str = "1.2.826.0.1.3680043.8.498.2",
    sop_instance: str | None = None,
    pixel_bytes: int = 2 * 64 * 64,
    change: Callable[[Dataset], None] = lambda dataset: None,
) -> Path:
    """A Part 10 file in `folder` with one sequence of undefined length."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = sop_instance or generate_uid()
    dataset.StudyDate = "20200101"
    dataset.Modality = "CT"
    dataset.PatientName = "Phantom^Chest"
    dataset.PatientID = "PHANTOM"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "39607008", "SCT", "Lung"
    dataset.AnatomicRegionSequence = Sequence([item])
    dataset["AnatomicRegionSequence"].is_undefined_length = True
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = bytes(index % 251 for index in range(pixel_bytes))
    dataset["PixelData"].VR = "OW"
    change(dataset)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def data_set_digest(path: Path) -> str:
    """The SHA-256 of what comes after the File Meta Information."""
    _, offset = split_dataset(path)
    return sha256(path.read_bytes()[offset:]).hexdigest()

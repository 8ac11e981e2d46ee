"""
A data set → a Part 10 file whose bytes depend on nothing but the data set.

No clock, no library version, no random UID: the same result written twice is the same file.
"""

from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from ledger.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def write(dataset: Dataset, path: Path) -> None:
    """Write `dataset` to `path` in Explicit VR Little Endian, which every archive takes; where its pixels are
    encapsulated they are RLE Lossless (PS3.5 §A.4.2).

    `dataset` keeps its own state, apart from the file meta information that it now has. The caller decides
    about fsync and about the name that the file gets in the end.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = UID(dataset.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    encapsulated = "PixelData" in dataset and dataset["PixelData"].is_undefined_length
    meta.TransferSyntaxUID = RLELossless if encapsulated else ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(str(IMPLEMENTATION_CLASS_UID))
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)

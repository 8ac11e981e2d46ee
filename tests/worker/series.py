"""A small series with known voxels, written as any scanner might write it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


@dataclass
class Series:
    """Stored values (slice, row, column) and where slice k lies: `first` + k × `step`."""

    stored: np.ndarray
    orientation: Sequence[float] = AXIAL
    first: Sequence[float] = (-100.0, -90.0, 30.0)
    step: Sequence[float] = (0.0, 0.0, 2.5)
    pixel_spacing: Sequence[float] = (0.8, 0.7)
    slope: float | None = 1.0
    intercept: float | None = -1024.0
    bits_stored: int = 16
    high_bit: int | None = None
    sop_class: str = CTImageStorage
    transfer_syntax: str = ExplicitVRLittleEndian
    headers: dict[str, Any] = field(default_factory=dict)

    def dataset(self, k: int) -> Dataset:
        """Slice k as a data set of its own."""
        stored = self.stored[k]
        dataset = self._common(instance=f"2.25.100{k}")
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [
            round(float(x), 9) for x in np.add(self.first, np.multiply(k, self.step))
        ]
        dataset.ImageOrientationPatient = list(self.orientation)
        dataset.PixelSpacing, dataset.SliceThickness = list(self.pixel_spacing), 2.5
        if self.slope is not None:
            dataset.RescaleSlope = self.slope
        if self.intercept is not None:
            dataset.RescaleIntercept = self.intercept
        dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
        dataset["PixelData"].VR = "OW" if stored.itemsize > 1 else "OB"
        for keyword, value in self.headers.items():
            setattr(dataset, keyword, value)
        return dataset

    def enhanced(self, order: Sequence[int] | None = None) -> Dataset:
        """All slices as one enhanced multi-frame image, its frames in `order`."""
        order = list(range(len(self.stored))) if order is None else list(order)
        dataset = self._common(instance="2.25.2000")
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
        dataset.NumberOfFrames = len(order)
        shared, orientation, measures = Dataset(), Dataset(), Dataset()
        orientation.ImageOrientationPatient = list(self.orientation)
        measures.PixelSpacing = list(self.pixel_spacing)
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
        dataset.SharedFunctionalGroupsSequence = [shared]
        frames = []
        for k in order:
            frame, position, values = Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = [
                round(float(x), 9) for x in np.add(self.first, np.multiply(k, self.step))
            ]
            values.RescaleSlope, values.RescaleIntercept, values.RescaleType = (
                self.slope,
                self.intercept,
                "HU",
            )
            frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [values]
            frames.append(frame)
        dataset.PerFrameFunctionalGroupsSequence = frames
        dataset.PixelData = self.stored[order].tobytes()
        dataset["PixelData"].VR = "OW"
        return dataset

    def write(self, folder: Path, change: Callable[[int, Dataset], None] | None = None) -> list[Path]:
        """One file per slice, after `change` has had its way with each."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for k in range(len(self.stored)):
            dataset = self.dataset(k)
            if change is not None:
                change(k, dataset)
            paths.append(save(dataset, folder / f"{k:03}.dcm"))
        return paths

    def _common(self, *, instance: str) -> Dataset:
        stored = self.stored
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(self.transfer_syntax)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(self.sop_class)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID(instance)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.7", "2.25.8"
        dataset.FrameOfReferenceUID = "2.25.9"
        dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 192", "Müller^Änne"
        dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "P1", "19700101", "O"
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260101", "120000", "1"
        dataset.AccessionNumber, dataset.ReferringPhysicianName, dataset.SeriesNumber = "A1", "", 1
        dataset.Rows, dataset.Columns = stored.shape[1:]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = stored.itemsize * 8
        dataset.BitsStored = min(self.bits_stored, dataset.BitsAllocated)
        dataset.HighBit = dataset.BitsStored - 1 if self.high_bit is None else self.high_bit
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
        return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write the data set as a DICOM file in its own transfer syntax."""
    implicit = dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    dataset.save_as(path, enforce_file_format=True, implicit_vr=implicit, little_endian=little)
    return path


def noise(
    shape: tuple[int, int, int] = (5, 6, 7), dtype: Any = np.int16, low: int = 0, high: int = 4000
) -> np.ndarray:
    """Stored values that are never twice the same by accident of position."""
    return np.random.default_rng(7).integers(low, high, shape).astype(dtype)

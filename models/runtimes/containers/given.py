"""
What a container is given: the image as DICOM or NIfTI, without a word of whose it is.

The instances are made anew from the voxels: name, identifiers and dates of the patient are not in them, and
their UIDs are those of nothing in any archive. What a model may need to know (modality, body part, how it was
imaged) is carried over.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from models.contract import BrokenModel, Context, Given
from models.manifest import Manifest

#: Of the headers, what says how it was imaged and nothing of whom.
CARRIED = (
    "Modality", "BodyPartExamined", "KVP", "ConvolutionKernel", "ContrastBolusAgent", "MagneticFieldStrength",
    "EchoTime", "RepetitionTime", "ScanningSequence", "SequenceVariant", "Manufacturer", "SliceThickness",
)  # fmt: skip


def write_dicom(given: Given, context: Context, manifest: Manifest, folder: Path) -> None:
    """One file for each slice, from the volume's first to its last."""
    volume = _volume(given, manifest)
    pixels, slope, intercept = _in_sixteen_bits(np.asarray(volume.array))
    modality = context.headers.get("Modality") or manifest.input.modality[0]
    sop_class = {"CT": CTImageStorage, "MR": MRImageStorage}.get(modality, SecondaryCaptureImageStorage)
    study, series, frame = (generate_uid(None) for _ in range(3))
    for number, plane in enumerate(pixels):
        dataset = Dataset()
        for keyword in CARRIED:
            if context.headers.get(keyword):
                setattr(dataset, keyword, context.headers[keyword])
        dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid(None)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
            study,
            series,
            frame,
        )
        dataset.Modality, dataset.PatientName, dataset.PatientID = modality, "Anonymous", "0"
        dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, number + 1
        place = volume.affine @ np.array([number, 0, 0, 1.0])
        dataset.ImagePositionPatient = [_ds(value) for value in place[:3]]
        dataset.ImageOrientationPatient = [_ds(value) for value in volume.direction_cosines]
        dataset.PixelSpacing = [_ds(value) for value in volume.pixel_spacing]
        dataset.SpacingBetweenSlices = dataset.SliceThickness = _ds(volume.spacing_between_slices)
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = _ds(slope), _ds(intercept)
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        dataset.PixelData = np.ascontiguousarray(plane).tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{number + 1:04d}.dcm", enforce_file_format=True)


def write_nifti(given: Given, manifest: Manifest, path: Path) -> None:
    """`image.nii.gz`: axes column, row, slice, and the affine to RAS mm, as every tool reads it."""
    volume = _volume(given, manifest)
    array = np.asarray(volume.array)
    array = array if array.dtype in (np.int16, np.uint8, np.float32) else array.astype(np.float32)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(volume.affine)[:, [2, 1, 0, 3]]
    path.write_bytes(gzip.compress(nifti_header(array, affine) + array.tobytes(), 1))


def nifti_header(array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> bytes:
    """NIfTI-1 (https://nifti.nimh.nih.gov/nifti-1), 352 bytes, of `array` (slice, row, column)."""
    header = np.zeros(1, NIFTI)
    header["sizeof_hdr"], header["magic"], header["vox_offset"] = 348, b"n+1", 352
    header["dim"][0, :4] = [3, *reversed(array.shape)]
    header["dim"][0, 4:] = 1
    code, bits = {np.dtype(np.uint8): (2, 8), np.dtype(np.int16): (4, 16), np.dtype(np.float32): (16, 32)}[
        array.dtype
    ]
    header["datatype"], header["bitpix"], header["scl_slope"] = code, bits, 1
    header["pixdim"][0, :4] = [1, *np.linalg.norm(affine[:3, :3], axis=0)]
    header["sform_code"], header["xyzt_units"] = 1, 2
    header["srow"] = affine[:3]
    return header.tobytes() + bytes(4)


NIFTI = np.dtype([
    ("sizeof_hdr", "<i4"), ("unused", "V36"), ("dim", "<i2", 8), ("intent", "V14"), ("datatype", "<i2"),
    ("bitpix", "<i2"), ("slice_start", "<i2"), ("pixdim", "<f4", 8), ("vox_offset", "<f4"),
    ("scl_slope", "<f4"), ("scl_inter", "<f4"), ("slice", "V3"), ("xyzt_units", "u1"),
    ("more", "V128"), ("qform_code", "<i2"),
    ("sform_code", "<i2"), ("quatern", "<f4", 6), ("srow", "<f4", (3, 4)),
    ("intent_name", "S16"), ("magic", "S4"),
])  # fmt: skip


def write_task(settings: dict[str, Any], identity: str, folder: Path) -> None:
    """Mercure's `task.json`: settings of the module, and nothing of the patient."""
    task = {"info": {"action": "process"}, "process": {"module_name": identity, "settings": settings}}
    (folder / "task.json").write_text(json.dumps(task))


def _volume(given: Given, manifest: Manifest) -> hd.Volume:
    if not isinstance(given, hd.Volume) or given.number_of_channel_dimensions:
        raise BrokenModel(
            f"model {manifest.identity}: a container is given a volume, and its manifest asks for more"
        )
    return given


def _in_sixteen_bits(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float, float]:
    """Stored values with slope and intercept: whole numbers that fit as they are, others over the whole
    range.
    """
    low, high = float(array.min()), float(array.max())
    if (
        low >= -32768
        and high <= 32767
        and (array.dtype.kind in "iu" or np.array_equal(array, np.rint(array)))
    ):
        return array.astype("<i2"), 1.0, 0.0
    slope = (high - low) / 65535 or 1.0
    stored = np.rint((array.astype(np.float64) - low) / slope) - 32768
    return stored.astype("<i2"), slope, low + 32768 * slope


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 §6.2)."""
    for digits in range(15, 5, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{float(value):.6g}"

"""Pictures as Secondary Capture: the modules and the pixels that every page and every overlay has."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate

from results.asked import Asked
from results.observer import PRODUCT
from results.provenance import MANUFACTURER
from results.run_length import encoded
from results.words import long_string


def captured(dataset: Dataset, asked: Asked) -> None:
    """SC Equipment and the parts of General Image that all pictures share (PS3.3 §C.8.6.1, §C.7.6.1)."""
    dataset.ConversionType = "WSD"
    dataset.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    dataset.SecondaryCaptureDeviceManufacturerModelName = PRODUCT
    dataset.SecondaryCaptureDeviceSoftwareVersions = long_string(asked.run.software_version)
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.ContentDate, dataset.ContentTime
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.LossyImageCompression = "00"  # `reference_source` says otherwise where the source lost something
    if "PatientOrientation" not in dataset and "FrameOfReferenceUID" not in dataset:
        dataset.PatientOrientation = None  # Type 2C


def pixels_of(dataset: Dataset, frames: Iterable[NDArray[np.uint8]], count: int, *, rle: bool) -> None:
    """`count` frames of one size, (row, column, 3) in RGB, and Image Pixel to say so.

    Frame after frame is packed away as it comes, so that no more than one lies beside the result.
    """
    whole, packed = bytearray(), []
    shape = (0, 0)
    for frame in frames:
        shape = frame.shape[:2]
        if rle:
            packed.append(encoded(frame))
        else:
            whole += frame.tobytes()
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    if str(dataset.SOPClassUID).endswith(".7.4"):
        dataset.NumberOfFrames = count
    if rle:
        dataset.PixelData = encapsulate(packed, has_bot=True)
        dataset["PixelData"].is_undefined_length = True
    else:
        dataset.PixelData = bytes(whole) + b"\0" * (len(whole) % 2)
    dataset["PixelData"].VR = "OB"

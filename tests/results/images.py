"""Sources that are no volume: radiographs, mammograms, photographs, ultrasound. And findings on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ledger.job import Outcome
from results import codes
from results.findings import Findings, Segment
from results.source import Source
from tests.results.series import NODULE, ROOT
from tests.results.series import source as series_source

ROWS, COLUMNS = 21, 17  # 357 pixels: a frame ends within a byte


@dataclass(frozen=True)
class ImageKind:
    """A way of being an image."""

    name: str
    modality: str
    sop_class: str
    frames: tuple[int, ...] | None = None
    colour: bool = False


IMAGES = {
    kind.name: kind
    for kind in (
        ImageKind("CR", "CR", "1.2.840.10008.5.1.4.1.1.1"),
        ImageKind("DX", "DX", "1.2.840.10008.5.1.4.1.1.1.1"),
        ImageKind("MG", "MG", "1.2.840.10008.5.1.4.1.1.1.2"),
        ImageKind("OP", "OP", "1.2.840.10008.5.1.4.1.1.77.1.5.1", colour=True),
        ImageKind("US", "US", "1.2.840.10008.5.1.4.1.1.6.1"),
        ImageKind("US cine", "US", "1.2.840.10008.5.1.4.1.1.3.1", frames=(3,)),
    )
}


def image_source(kind: ImageKind | str, **headers: object) -> Source:
    """One image of `kind`; `headers` replace or (None) remove attributes."""
    kind = IMAGES[kind] if isinstance(kind, str) else kind
    image = Dataset()
    image.update(series_source().first)
    for keyword in (
        "FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient",
        "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "PatientPosition", "KVP",
        "RescaleIntercept", "RescaleSlope", "RescaleType", "AcquisitionNumber",
    ):  # fmt: skip
        delattr(image, keyword)
    image.SOPClassUID, image.SOPInstanceUID, image.Modality = kind.sop_class, f"{ROOT}.3.1", kind.modality
    image.Rows, image.Columns = ROWS, COLUMNS
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    if kind.frames:
        image.NumberOfFrames = 5
    if kind.colour:
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
        image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    if kind.modality in ("CR", "DX", "MG"):
        image.ImagerPixelSpacing = ["0.2", "0.15"]
    for keyword, value in headers.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    return Source(datasets=(image,), geometry=None, frames=kind.frames)


def blob() -> NDArray[np.uint8]:
    """(1, row, column): 1 in a corner, 2 beside it; no flip maps it on itself."""
    labels = np.zeros((1, ROWS, COLUMNS), np.uint8)
    labels[0, 2:7, 3:9] = 1
    labels[0, 2, 3] = 0
    labels[0, 10:19, 11:15] = 2
    return labels


def image_findings(**changes: object) -> Findings:
    """Two nodules drawn on an image."""
    segments = tuple(
        Segment(
            number=number,
            label=f"Nodule {number}",
            category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            kind=NODULE,
            colour_rgb=(200, 40 * number, 90),
            score=0.5 + 0.1 * number,
        )
        for number in (1, 2)
    )
    values: dict[str, object] = {"outcome": Outcome.FOUND, "label_map": blob(), "segments": segments}
    return Findings(**(values | changes))

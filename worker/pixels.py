"""Stored values to modality values: what a pixel's bits mean (PS3.3 §C.7.6.3, PS3.5 §8.1.1, PS3.3 §C.11.1).

CT comes out in Hounsfield units, PT in its own units, MR as stored with its rescale applied where it has one.
Values are changed by nothing else: Pixel Padding Value, which CT often writes as -2000, stays a value like
any other, and MONOCHROME1 is not inverted, because that concerns display. Real World Value Maps are not
applied.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut

from worker.defects import Defect, NotAVolume, UnsafeInput
from worker.elements import has, value_of

#: More than any study; a header that claims more is damaged or means harm (3000 slices are 1.5 GiB).
SERIES_LIMIT = 8 << 30
#: No codec that DICOM knows makes medical images this much smaller; decoder bombs do.
EXPANSION_LIMIT = 2000

_INT16 = np.iinfo(np.int16)
CT_CLASSES = frozenset({
    "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """How one image stores a sample (Image Pixel Module)."""

    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    samples: int = 1  #: of a pixel: 3 in colour
    planar: int = 0  #: Planar Configuration (0028,0006), of three samples

    @property
    def stored(self) -> "np.dtype[np.signedinteger | np.unsignedinteger]":
        """The dtype of the container, in this machine's byte order."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, uncompressed."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8

    @property
    def stored_frame_bytes(self) -> int:
        """Bytes of one frame in an uncompressed file."""
        # Two pixels may share one pair of colour differences (PS3.3 §C.7.6.3.1.2).
        return self.frame_bytes * 2 // 3 if self.photometric == "YBR_FULL_422" else self.frame_bytes

    @property
    def needs_correction(self) -> bool:
        """Whether the container has bits that are not part of the value."""
        return self.bits_stored < self.bits_allocated

    def value_range(self) -> tuple[int, int]:
        """The least and the greatest value that can be stored."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1


def pixel_format(dataset: Dataset, name: str) -> PixelFormat:
    """The pixel format of an image that sentences call `name`. Raises `NotAVolume`."""
    samples, photometric = (
        integer_of(dataset, "SamplesPerPixel", name),
        str(value_of(dataset, "PhotometricInterpretation") or ""),
    )
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise NotAVolume(
            Defect.NOT_GREY,
            f"{name} is {photometric or 'of no photometric interpretation'} with {samples} samples.",
        )
    allocated, stored = integer_of(dataset, "BitsAllocated", name), integer_of(dataset, "BitsStored", name)
    high = integer_of(dataset, "HighBit", name, default=stored - 1)
    signed = integer_of(dataset, "PixelRepresentation", name)
    if allocated not in (8, 16, 32) or not 0 < stored <= high + 1 <= allocated or signed not in (0, 1):
        raise NotAVolume(
            Defect.NOT_GREY,
            f"{name} stores {stored} bits up to bit {high} of {allocated}: no grey-scale format.",
        )
    rows, columns = integer_of(dataset, "Rows", name), integer_of(dataset, "Columns", name)
    frames = integer_of(dataset, "NumberOfFrames", name, default=1)
    if rows < 1 or columns < 1 or frames < 1:
        raise NotAVolume(Defect.NO_PIXELS, f"{name} has {rows} rows, {columns} columns and {frames} frames.")
    return PixelFormat(
        rows=rows,
        columns=columns,
        frames=frames,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=bool(signed),
        photometric=photometric,
    )


def integer_of(dataset: Dataset, keyword: str, name: str, default: int | None = None) -> int:
    value = value_of(dataset, keyword)
    if value is None and default is not None:
        return default
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise NotAVolume(Defect.NO_PIXELS, f"{name} has no usable {keyword}.") from error


def check_size(format: PixelFormat, encoded: int, name: str) -> None:
    """Raise `UnsafeInput` unless decoding `format` from `encoded` bytes is a reasonable thing to do."""
    size = format.frame_bytes * format.frames
    if size > SERIES_LIMIT or size > EXPANSION_LIMIT * max(encoded, 1):
        raise UnsafeInput(
            f"{name} claims {format.frames} × {format.rows} × {format.columns} pixels ({size >> 20} MiB) "
            f"in {encoded} bytes: {SERIES_LIMIT >> 30} GiB or {EXPANSION_LIMIT} times the bytes is the limit."
        )


def correct_unused_bits(stored: NDArray[np.generic], format: PixelFormat) -> None:
    """Remove, in place, what is not part of the value: old overlays and plain garbage live in unused bits.

    Shifting the value's top bit to the top of the container and back also extends the sign (PS3.5 §8.1.1).
    """
    np.left_shift(stored, format.bits_allocated - 1 - format.high_bit, out=stored)
    np.right_shift(stored, format.bits_allocated - format.bits_stored, out=stored)


@dataclass(frozen=True, slots=True)
class Rescale:
    """Modality value = slope × stored value + intercept, or a look-up table where `table` is not None."""

    slope: float = 1.0
    intercept: float = 0.0
    table: Dataset | None = None  #: the data set whose Modality LUT Sequence applies

    def narrow(self) -> tuple[int, int] | None:
        """(slope, intercept) where both are integers that could bring 16-bit values to 16-bit values."""
        whole = self.slope.is_integer() and self.intercept.is_integer()
        if self.table is not None or not whole or max(abs(self.slope), abs(self.intercept)) > 65_535:
            return None
        return int(self.slope), int(self.intercept)

    def apply(self, stored: NDArray[np.generic]) -> NDArray[np.float64]:
        """Modality values in double precision: rounded once, when they are put into the volume."""
        if self.table is not None:
            return np.asarray(apply_modality_lut(stored, self.table), dtype=np.float64)
        values = stored.astype(np.float64)
        if self.slope != 1.0:
            values *= self.slope
        if self.intercept != 0.0:
            values += self.intercept
        return values


def rescale_of(dataset: Dataset, *, sop_class: str, name: str) -> Rescale:
    """The modality transform in `dataset`, which is a whole image or one Pixel Value Transformation item.

    CT without Rescale Intercept has no Hounsfield units, whatever its values look like (PS3.3 §C.8.2.1).
    """
    try:
        if has(dataset, "ModalityLUTSequence"):
            return Rescale(table=dataset)
        slope, intercept = value_of(dataset, "RescaleSlope"), value_of(dataset, "RescaleIntercept")
        if slope is None and intercept is None:
            if sop_class in CT_CLASSES:
                raise NotAVolume(
                    Defect.NO_UNITS,
                    f"{name} is CT without Rescale Intercept: its values have no Hounsfield units.",
                )
            return Rescale()
        found = Rescale(
            1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise NotAVolume(Defect.NO_UNITS, f"{name} has an unreadable Rescale Slope or Intercept.") from error
    if not math.isfinite(found.slope) or not math.isfinite(found.intercept) or found.slope == 0:
        raise NotAVolume(
            Defect.NO_UNITS,
            f"{name} has the Rescale Slope {found.slope:g} and the Intercept {found.intercept:g}.",
        )
    return found


def rescale_in_place(values: NDArray[np.int16], format: PixelFormat, slope: int, intercept: int) -> bool:
    """Turn stored values into modality values, or change nothing and return False where they do not fit.

    `values` holds the stored bits, whatever their sign. Arithmetic modulo 2¹⁶ is exact where the result fits,
    so unsigned containers need no wider copy.
    """
    stored: NDArray[np.generic] = values.view(format.stored)
    low, high = format.value_range()
    if not _fits(low, high, slope, intercept) and not _fits(
        int(stored.min()), int(stored.max()), slope, intercept
    ):
        return False
    unsigned = values.view(np.uint16)
    if slope != 1:
        np.multiply(unsigned, np.uint16(slope % 65_536), out=unsigned)
    if intercept != 0:
        np.add(unsigned, np.uint16(intercept % 65_536), out=unsigned)
    return True


def _fits(low: int, high: int, slope: int, intercept: int) -> bool:
    ends = (slope * low + intercept, slope * high + intercept)
    return _INT16.min <= min(ends) and max(ends) <= _INT16.max

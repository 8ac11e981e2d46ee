"""Stored values of one image to what a model is given: grey in modality units, colour in RGB.

Grey becomes larger where the image becomes brighter: MONOCHROME1, which is shown the other way round
(PS3.3 §C.7.6.3.1.2), is inverted here, within the range of what can be stored, so that it equals its twin in
MONOCHROME2. Windowing (VOI) is left to the model.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from worker.defects import CannotDecode, NotAnImage
from worker.elements import has, value_of
from worker.pixels import PixelFormat, Rescale, integer_of, pixel_format

#: As they are stored; whatever of it is colour comes out in RGB.
COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
PALETTE = "PALETTE COLOR"
_TABLES = ("Red", "Green", "Blue")
_INT16 = np.iinfo(np.int16)


def image_format(dataset: Dataset, name: str) -> PixelFormat:
    """The pixel format of a single image, grey or colour. Raises `NotAVolume` or `NotAnImage`."""
    photometric = str(value_of(dataset, "PhotometricInterpretation") or "").strip()
    if photometric not in COLOURS | {PALETTE}:
        return pixel_format(dataset, name)
    samples = integer_of(dataset, "SamplesPerPixel", name)
    allocated, stored = integer_of(dataset, "BitsAllocated", name), integer_of(dataset, "BitsStored", name)
    high = integer_of(dataset, "HighBit", name, default=stored - 1)
    signed = integer_of(dataset, "PixelRepresentation", name, default=0)
    rows, columns = integer_of(dataset, "Rows", name), integer_of(dataset, "Columns", name)
    frames = integer_of(dataset, "NumberOfFrames", name, default=1)
    planar = integer_of(dataset, "PlanarConfiguration", name, default=0)
    whole = stored == allocated and high == allocated - 1
    usable = (
        samples == (1 if photometric == PALETTE else 3)
        and allocated in (8, 16)
        and (whole or photometric == PALETTE)
        and 0 < stored <= high + 1 <= allocated
        and signed == 0
        and planar in (0, 1)
        and min(rows, columns, frames) > 0
    )
    if not usable or (photometric == "YBR_FULL_422" and columns % 2):
        raise NotAnImage(
            f"{name} is {photometric} of {rows} × {columns} pixels with {samples} samples of {stored} in "
            f"{allocated} bits: no colour format that is read here."
        )
    return PixelFormat(
        rows=rows,
        columns=columns,
        frames=frames,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=False,
        photometric=photometric,
        samples=samples,
        planar=planar,
    )


def from_stored(stored: bytes, format: PixelFormat) -> NDArray[Any]:
    """Uncompressed colour as it is stored in little endian, one frame: (row, column, 3) in RGB."""
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 - one of the slow imports

    options: dict[str, Any] = {
        "transfer_syntax_uid": ExplicitVRLittleEndian,
        "rows": format.rows,
        "columns": format.columns,
        "number_of_frames": 1,
        "samples_per_pixel": format.samples,
        "planar_configuration": format.planar,
        "bits_allocated": format.bits_allocated,
        "bits_stored": format.bits_stored,
        "pixel_representation": 0,
        "photometric_interpretation": format.photometric,
        "pixel_keyword": "PixelData",
    }
    array, _ = get_decoder(ExplicitVRLittleEndian).as_array(stored, raw=False, **options)
    return np.asarray(array)


def brighter_is_more(values: NDArray[Any], format: PixelFormat, rescale: Rescale) -> NDArray[Any]:
    """Modality values of MONOCHROME1 as they would be in MONOCHROME2; int16 where they fit, else float32."""
    if format.photometric != "MONOCHROME1":
        return values
    if rescale.table is not None:
        low, high = 0.0, float((1 << _bits_of_table(rescale.table)) - 1)
    else:
        low, high = (rescale.slope * end + rescale.intercept for end in format.value_range())
    inverted = (low + high) - values.astype(np.float64)
    whole = float(low + high).is_integer() and values.dtype == np.int16
    if whole and inverted.min() >= _INT16.min and inverted.max() <= _INT16.max:
        return inverted.astype(np.int16)
    return inverted.astype(np.float32)


def _bits_of_table(dataset: Dataset) -> int:
    """Bits of the output of a Modality LUT (PS3.3 §C.11.1.1.1)."""
    try:
        bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise NotAnImage("The Modality LUT of the image has no usable descriptor.") from error
    return bits if 0 < bits <= 16 else 16


def through_palette(indices: NDArray[Any], dataset: Dataset, name: str) -> NDArray[np.uint8]:
    """(row, column) of palette indices to (row, column, 3) in RGB of eight bits (PS3.3 §C.7.9).

    Raises `NotAnImage` for a palette that is not whole, or is packed in segments.
    """
    if has(dataset, "SegmentedRedPaletteColorLookupTableData"):
        raise NotAnImage(f"The palette of {name} is in segments, which are not read here.")
    colours = []
    for colour in _TABLES:
        entries, first, bits = _descriptor(dataset, f"{colour}PaletteColorLookupTableDescriptor", name)
        data = value_of(dataset, f"{colour}PaletteColorLookupTableData")
        table = _table(data, entries, bits, name)
        place = np.clip(indices.astype(np.int64) - first, 0, entries - 1)
        colours.append(table[place])
    return np.stack(colours, axis=-1)


def _descriptor(dataset: Dataset, keyword: str, name: str) -> tuple[int, int, int]:
    value = value_of(dataset, keyword)
    try:
        entries, first, bits = (int(number) for number in value)
    except (TypeError, ValueError) as error:
        raise NotAnImage(f"{name} has no usable {keyword}.") from error
    # 0 stands for 65,536, and some writers make a negative number of a large one.
    entries = entries & 0xFFFF or 65_536
    return entries, first, bits


def _table(data: object, entries: int, bits: int, name: str) -> NDArray[np.uint8]:
    if not isinstance(data, bytes) or bits not in (8, 16):
        raise NotAnImage(f"{name} has no usable palette.")
    if len(data) >= 2 * entries:
        wide = np.frombuffer(data, "<u2", entries)
        # Sixteen bits hold the colour in the upper eight; eight in sixteen hold it in the lower.
        return (wide >> 8 if bits == 16 else wide & 0xFF).astype(np.uint8)
    if bits == 8 and len(data) >= entries:
        return np.frombuffer(data, np.uint8, entries)
    raise CannotDecode(f"The palette of {name} has {len(data)} bytes for {entries} entries.")

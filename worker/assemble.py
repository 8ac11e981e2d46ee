"""Slices into one array: read or decoded, corrected, rescaled, each straight to its place.

Memory is the reason for this file's shape. An int16 volume is made where its pixels were read to, with
nothing beside it. A float32 volume has one frame per thread beside it; or the stored values, where they were
compressed or turn out too large for int16: 1.5 times the float volume at most.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from worker.decode import EncodedFile, decode
from worker.defects import CannotDecode
from worker.elements import value_of
from worker.files import ImageFile
from worker.pixels import PixelFormat, Rescale, correct_unused_bits, rescale_in_place

UNCOMPRESSED = frozenset({str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian), str(ExplicitVRBigEndian)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One slice of the volume: where its stored values are, and what they mean."""

    file: ImageFile
    frame: int  #: from 0
    format: PixelFormat
    rescale: Rescale
    name: str  #: what a sentence calls its image


#: Puts the stored values of slice k into an array of the slice's own dtype: (row, column).
Fill = Callable[[int, NDArray[Any]], None]


def assemble(
    slices: Sequence[Slice], *, cores: int, decode_limit_s: float
) -> NDArray[np.int16] | NDArray[np.float32]:
    """The modality values of all slices: (slice, row, column), int16 where they all fit, else float32.

    Raises `CannotDecode` and `UnsafeInput`.
    """
    compressed = slices[0].file.transfer_syntax not in UNCOMPRESSED
    fill = _decoded(slices, cores, decode_limit_s) if compressed else _stored(slices)
    with ThreadPoolExecutor(cores) as pool:
        if all(s.format.bits_allocated == 16 and s.rescale.narrow() is not None for s in slices):
            return _narrow(slices, fill, pool)
        return _wide(slices, fill, pool)


def _shape(slices: Sequence[Slice]) -> tuple[int, int, int]:
    return (len(slices), slices[0].format.rows, slices[0].format.columns)


def _narrow(
    slices: Sequence[Slice], fill: Fill, pool: ThreadPoolExecutor
) -> NDArray[np.int16] | NDArray[np.float32]:
    volume = np.empty(_shape(slices), dtype=np.int16)

    def place(k: int) -> bool:
        values, format = volume[k], slices[k].format
        stored = values.view(format.stored)
        fill(k, stored)
        if format.needs_correction:
            correct_unused_bits(stored, format)
        narrow = slices[k].rescale.narrow()
        assert narrow is not None
        return rescale_in_place(values, format, *narrow)

    fitted = list(pool.map(place, range(len(slices))))
    if all(fitted):
        return volume

    wide = np.empty(volume.shape, dtype=np.float32)

    def widen(k: int) -> None:
        wide[k] = volume[k] if fitted[k] else slices[k].rescale.apply(volume[k].view(slices[k].format.stored))

    list(pool.map(widen, range(len(slices))))
    return wide


def _wide(slices: Sequence[Slice], fill: Fill, pool: ThreadPoolExecutor) -> NDArray[np.float32]:
    volume = np.empty(_shape(slices), dtype=np.float32)

    def place(k: int) -> None:
        format = slices[k].format
        stored = np.empty(volume.shape[1:], dtype=format.stored)
        fill(k, stored)
        if format.needs_correction:
            correct_unused_bits(stored, format)
        with np.errstate(over="ignore"):  # An infinite result is looked for below.
            volume[k] = slices[k].rescale.apply(stored)
        if not np.isfinite(volume[k]).all():
            raise CannotDecode(f"Slice {k + 1} holds values that no single-precision number can hold.")

    list(pool.map(place, range(len(slices))))
    return volume


def _stored(slices: Sequence[Slice]) -> Fill:
    """From uncompressed files, by one positioned read per slice into the array itself."""

    def fill(k: int, stored: NDArray[Any]) -> None:
        file, size = slices[k].file, slices[k].format.frame_bytes
        assert file.pixel is not None
        start = slices[k].frame * size
        if file.inline is not None:
            big = stored.dtype.newbyteorder(">")
            stored[...] = np.frombuffer(file.inline, dtype=big, count=stored.size, offset=start).reshape(
                stored.shape
            )
            return
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            view, done = stored.data.cast("B"), 0
            while done < size:
                got = os.preadv(descriptor, [view[done:]], file.pixel.offset + start + done)
                if not got:
                    raise CannotDecode(f"The pixel data of {slices[k].name} ends after {start + done} bytes.")
                done += got
        finally:
            os.close(descriptor)

    return fill


def _decoded(slices: Sequence[Slice], cores: int, limit_s: float) -> Fill:
    """From compressed files, all decoded beforehand by other processes."""
    files: dict[int, EncodedFile] = {}
    for k, each in sorted(enumerate(slices), key=lambda pair: pair[1].frame):
        file = each.file
        assert file.pixel is not None
        known = files.get(id(file))
        files[id(file)] = EncodedFile(
            path=str(file.path),
            name=each.name,
            offset=file.pixel.offset,
            transfer_syntax=file.transfer_syntax,
            format=each.format,
            wanted=(*(known.wanted if known else ()), (each.frame, k)),
            offset_tables=offset_tables(file),
        )
    widest = max((each.format.stored for each in slices), key=lambda stored: stored.itemsize)
    decoded = decode(tuple(files.values()), _shape(slices), widest, processes=cores, limit_s=limit_s)

    def fill(k: int, stored: NDArray[Any]) -> None:
        # The same bits where signs differ between slices; the slice's own dtype says how to read them.
        stored[...] = decoded[k].astype(stored.dtype, copy=False)

    return fill


def offset_tables(file: ImageFile) -> tuple[str, str] | None:
    """Extended Offset Table and its lengths (PS3.3 §C.7.6.3.1.8), where there are both."""
    offsets = value_of(file.dataset, "ExtendedOffsetTable")
    lengths = value_of(file.dataset, "ExtendedOffsetTableLengths")
    if not isinstance(offsets, bytes) or not isinstance(lengths, bytes):
        return None
    return offsets.hex(), lengths.hex()

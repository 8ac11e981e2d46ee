"""DICOM files on disk: their headers without their pixels, and the digest of what was received.

A file is read in two steps, because most of it is pixels: a first chunk that nearly always holds the whole
header, and later the pixel bytes, straight to where they are wanted.
"""

import hashlib
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from ledger.identifiers import Digest
from worker.elements import HeaderUnreadable, MoreBytes, PixelElement, read_elements, read_file_meta, value_of

#: A CT header is 2 to 10 KiB.
FIRST_READ = 16 * 1024
#: The header of an enhanced image of some thousand frames is a few MiB.
HEADER_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One DICOM file (PS3.10): its header, and where its pixel data is."""

    path: Path
    size: int
    transfer_syntax: str
    dataset: Dataset  #: without pixel data; elements are decoded when asked for
    pixel: PixelElement | None
    inline: bytes | None = (
        None  #: the pixel data itself, where the encoding made it necessary to read it along
    )


def read_image_file(path: Path) -> ImageFile:
    """The header of the file at `path`. Raises `HeaderUnreadable` and `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        wanted = FIRST_READ
        while True:
            head = os.pread(descriptor, wanted, 0)
            try:
                return _parse(path, size, head, whole=len(head) >= size)
            except MoreBytes:
                if len(head) < wanted or wanted >= HEADER_LIMIT:
                    raise HeaderUnreadable(f"its header is larger than {HEADER_LIMIT >> 20} MiB") from None
                wanted *= 8
    except HeaderUnreadable as error:
        raise HeaderUnreadable(f"{path.name} cannot be read: {error}.") from error
    finally:
        os.close(descriptor)


def _parse(path: Path, size: int, head: bytes, *, whole: bool) -> ImageFile:
    meta, start = read_file_meta(head)
    transfer_syntax = str(value_of(meta, "TransferSyntaxUID") or "").strip()
    if not transfer_syntax:
        raise HeaderUnreadable("its file meta information names no transfer syntax")
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        # A few hundred KB inflate to gigabytes, and no scanner sends it; the node does not accept it either.
        raise HeaderUnreadable("it is in the Deflated transfer syntax, which is not accepted here")
    if transfer_syntax == ExplicitVRBigEndian:
        return _read_big_endian(path, size)
    dataset, pixel = read_elements(
        head, start, implicit=transfer_syntax == ImplicitVRLittleEndian, whole=whole
    )
    dataset.file_meta = meta
    return ImageFile(path=path, size=size, transfer_syntax=transfer_syntax, dataset=dataset, pixel=pixel)


def _read_big_endian(path: Path, size: int) -> ImageFile:
    """Retired in 2006 and rare: pydicom reads it whole."""
    try:
        dataset = pydicom.dcmread(BytesIO(path.read_bytes()))
        inline = dataset.get("PixelData")
        if inline is not None:
            if dataset["PixelData"].VR == "OW" and dataset.get("BitsAllocated") == 8:
                # Two samples share a word, and the word is turned round (PS3.5 §8.1.2).
                inline = np.frombuffer(inline[: len(inline) // 2 * 2], dtype=">u2").astype("<u2").tobytes()
            del dataset.PixelData
    except Exception as error:  # whatever a parser of hostile bytes may raise means the same here
        raise HeaderUnreadable(f"it is big endian and damaged: {error}") from error
    pixel = None if inline is None else PixelElement(0x7FE00010, 0, len(inline))
    return ImageFile(
        path=path, size=size, transfer_syntax=ExplicitVRBigEndian, dataset=dataset, pixel=pixel, inline=inline
    )


def digest_of(path: Path) -> Digest:
    """SHA-256 of the data set in the file at `path`: all that follows the file meta information.

    Preamble and file meta are ours and may be written anew; the data set is the sender's, and what the ledger
    counts. Raises `HeaderUnreadable` and `OSError`.
    """
    sha256 = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        length = file.readinto(buffer)
        try:
            _, start = read_file_meta(bytes(buffer[:length]))
        except (HeaderUnreadable, MoreBytes) as error:
            raise HeaderUnreadable(f"{path.name} has no readable file meta information") from error
        sha256.update(buffer[start:length])
        while length := file.readinto(buffer):
            sha256.update(buffer[:length])
    return Digest(sha256.hexdigest())

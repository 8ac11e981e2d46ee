"""
An object of ours for an archive that does not take it compressed: the same instance, written out.

RLE Lossless loses nothing, so it stays the same SOP Instance, and whatever refers to it stays true (PS3.3
§C.12.1.1.6 asks for a new UID only where something is lost). pydicom takes the runs apart; the check puts
them together again with our own encoder, and wants the very bytes that were refused.
"""

import copy

import numpy as np
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from ledger.errors import ModelError
from results.expect import expect
from results.run_length import encoded


class NotOurs(ModelError):
    """What was refused is not compressed as we compress."""


def uncompressed(compressed: Dataset) -> Dataset:
    """`compressed`, as read from its file, in explicit VR little endian, without file meta information.

    Raises `NotOurs`.
    """
    if compressed.file_meta.TransferSyntaxUID != RLELossless:
        raise NotOurs("what was refused is not in RLE Lossless")
    written_out = copy.deepcopy(compressed)
    written_out.decompress(generate_instance_uid=False)
    del written_out.file_meta
    return written_out


def check_uncompressed(plain: Dataset, compressed: Dataset) -> None:
    """Raise `CheckFailed` unless `plain`, as read back, is `compressed` to the last pixel."""
    what = "uncompressed form"
    expect(not plain.file_meta.TransferSyntaxUID.is_compressed, f"{what}: is compressed")
    mine, theirs = ({e.tag: e for e in one if e.keyword != "PixelData"} for one in (plain, compressed))
    other = sorted(str(tag) for tag in mine.keys() | theirs.keys() if mine.get(tag) != theirs.get(tag))
    expect(not other, f"{what}: differs in {', '.join(other)}")
    expect(plain.get("PlanarConfiguration", 0) == 0, f"{what}: its colours lie plane by plane")
    frames, samples = int(plain.get("NumberOfFrames", 1)), int(plain.SamplesPerPixel)
    shape = (frames, int(plain.Rows), int(plain.Columns), *([samples] if samples > 1 else []))
    kind = np.dtype(f"<u{int(plain.BitsAllocated) // 8}")
    size = int(np.prod(shape)) * kind.itemsize
    expect(len(plain.PixelData) == size + size % 2, f"{what}: {len(plain.PixelData)} bytes of pixels")
    pixels = np.frombuffer(plain.PixelData, kind, count=size // kind.itemsize).reshape(shape)
    there = generate_frames(compressed.PixelData, number_of_frames=frames)
    for number, (frame, runs) in enumerate(zip(pixels, there, strict=True), start=1):
        expect(encoded(frame) == runs, f"{what}: frame {number} is not the one that was compressed")

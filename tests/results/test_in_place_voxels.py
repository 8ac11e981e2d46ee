"""The binary segmentation that goes instead of a label map has all of its voxels, and takes little memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest

from results.expect import CheckFailed
from results.findings import Segment
from results.in_place import NotALabelMap, as_binary, check_as_binary
from results.write import write
from tests.results.forms import LABEL_MAP, LABEL_MAP_RLE
from tests.results.made import make
from tests.results.series import KINDS, Kind, codes, findings, label_map


@pytest.mark.parametrize("profile", [LABEL_MAP, LABEL_MAP_RLE], ids=["explicit", "rle"])
@pytest.mark.parametrize("kind", ["odd-sized CT", "enhanced MR"])
def test_every_voxel_is_there_also_where_frames_begin_within_a_byte(kind, profile, tmp_path: Path) -> None:
    original = make(tmp_path, kind, profile=profile).seg
    path = tmp_path / "binary.dcm"
    write(as_binary(original), path)
    binary = pydicom.dcmread(path)
    check_as_binary(binary, original)
    labels = label_map(KINDS[kind])
    assert int(binary.pixel_array.sum()) == np.count_nonzero(labels)
    # One bit of a frame that begins within a byte.
    bits = bytearray(binary.PixelData)
    bits[len(bits) // 2] ^= 8
    binary.PixelData = bytes(bits)
    with pytest.raises(CheckFailed, match="its voxels are not those of the label map"):
        check_as_binary(binary, original)


def test_what_is_binary_already_is_no_label_map(tmp_path: Path) -> None:
    with pytest.raises(NotALabelMap):
        as_binary(make(tmp_path).seg)


def test_many_segments_take_no_more_memory_than_their_bits(tmp_path: Path) -> None:
    kind = Kind("wide", shape=(4, 512, 512))
    labels = np.zeros(kind.shape, np.uint8)
    for number in range(60):
        row, column = divmod(number, 8)
        labels[:, row * 60 : row * 60 + 50, column * 60 : column * 60 + 50] = number + 1
    segments = tuple(
        Segment(
            number=number + 1,
            label=f"Part {number + 1}",
            category=codes.ANATOMICAL_STRUCTURE,
            kind=codes.LUNG,
            colour_rgb=(4 * number, 9, 8),
        )
        for number in range(60)
    )
    said = findings(kind, label_map=labels, segments=segments)
    original = make(tmp_path, kind, said=said, profile=LABEL_MAP).seg
    tracemalloc.start()
    try:
        binary = as_binary(original)
        check_as_binary(binary, original)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    bits = 240 * 512 * 512 // 8
    assert len(binary.PixelData) == bits
    assert peak < 5 * bits, f"{peak >> 20} MiB, and its 240 frames as bytes would be 60"

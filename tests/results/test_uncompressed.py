"""What an archive does not take compressed it gets written out: the same instance to the last pixel."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import RLELossless

from ledger.result import Role
from results.expect import CheckFailed
from results.uncompressed import NotOurs, check_uncompressed, uncompressed
from results.write import write
from tests.results.made import Made, make
from tests.results.pictured import PLAIN, Ramp
from tests.results.series import KINDS

FORMS = {"label map": Role.SEGMENTATION, "overlay": Role.OVERLAY}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    shows = replace(PLAIN, segmentation="labelmap", transfer_syntax="rle")
    pictures = Ramp(KINDS["odd-sized CT"].shape)
    return make(tmp_path_factory.mktemp("made"), "odd-sized CT", profile=shows, pictures=pictures)


def compressed(made: Made, form: str) -> Dataset:
    one = made.of(FORMS[form])[0]
    assert one.file_meta.TransferSyntaxUID == RLELossless
    return one


def plain(of: Dataset, folder: Path) -> Dataset:
    write(uncompressed(of), folder / "plain.dcm")
    return pydicom.dcmread(folder / "plain.dcm")


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_same_instance_with_the_same_pixels_and_twice_the_same_bytes(
    made: Made, tmp_path: Path, form: str
) -> None:
    of = compressed(made, form)
    written = plain(of, tmp_path)
    first = (tmp_path / "plain.dcm").read_bytes()
    check_uncompressed(written, of)
    assert written.SOPInstanceUID == of.SOPInstanceUID
    assert np.array_equal(written.pixel_array, of.pixel_array)
    assert of.file_meta.TransferSyntaxUID == RLELossless  # What was given stays as it is.
    plain(of, tmp_path)
    assert (tmp_path / "plain.dcm").read_bytes() == first


def test_what_is_not_compressed_as_we_compress_is_left_alone(made: Made) -> None:
    with pytest.raises(NotOurs, match="not in RLE Lossless"):
        uncompressed(made.sr)


def one_pixel(dataset: Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[len(pixels) // 2] ^= 1
    dataset.PixelData = bytes(pixels)


def two_frames_the_other_way_round(dataset: Dataset) -> None:
    size = len(dataset.pixel_array[0].tobytes())
    dataset.PixelData = b"".join(
        [*(dataset.PixelData[size * k : size * (k + 1)] for k in (1, 0)), dataset.PixelData[2 * size :]]
    )


def too_short(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-2]


def another_instance(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = "2.25.1"


def another_patient(dataset: Dataset) -> None:
    dataset.PatientID = "MRN-1"


def a_header_less(dataset: Dataset) -> None:
    del dataset.StudyDate


def compressed_after_all(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = RLELossless


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (one_pixel, "frame . is not the one that was compressed"),
        (two_frames_the_other_way_round, "frame 1 is not the one that was compressed"),
        (too_short, "bytes of pixels"),
        (another_instance, r"differs in \(0008,0018\)"),
        (another_patient, r"differs in \(0010,0020\)"),
        (a_header_less, r"differs in \(0008,0020\)"),
        (compressed_after_all, "is compressed"),
    ],
)
def test_what_differs_from_the_compressed_one_does_not_leave(
    made: Made, tmp_path: Path, form: str, change: Callable[[Dataset], None], says: str
) -> None:
    of = compressed(made, form)
    spoilt = plain(of, tmp_path)
    change(spoilt)
    with pytest.raises(CheckFailed, match=says):
        check_uncompressed(spoilt, of)

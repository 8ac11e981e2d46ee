"""What the model gave a probability for goes as fractions where a profile asks for them, and nothing else."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset

from ledger.result import Role
from results.check import CheckFailed
from results.grid import NotEncodable
from results.segmentation import build
from tests.patience import patient
from tests.peers.programs import find
from tests.results.dciodvfy import complaints
from tests.results.forms import FRACTIONAL, FRACTIONAL_RLE, probability, with_probabilities
from tests.results.images import image_findings, image_source
from tests.results.made import Made, asked, make
from tests.results.series import KINDS, findings, geometry, label_map, source

BOTH = pytest.mark.parametrize("profile", [FRACTIONAL, FRACTIONAL_RLE], ids=["explicit", "rle"])


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_22_highdicom_reads_the_probabilities_back(kind: str, profile, tmp_path: Path) -> None:
    made = make(tmp_path, kind, said=with_probabilities(kind), profile=profile)
    made.check()
    seg = hd.seg.segread(made.segmentation)
    assert (seg.SegmentationType, seg.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    read = seg.get_volume(combine_segments=False, rescale_fractional=True)
    whole = read.match_geometry(geometry(KINDS[kind])).array
    for number in (1, 2):
        assert np.abs(whole[..., number - 1] - probability(kind, number)).max() <= 0.5 / 255 + 1e-6


@BOTH
def test_9_dciodvfy_has_no_complaint(profile, tmp_path: Path) -> None:
    made = make(tmp_path, said=with_probabilities(), profile=profile)
    assert complaints(made.segmentation, "Segmentation") == []


@BOTH
def test_21_dcmqi_reads_the_same_fractions(profile, tmp_path: Path) -> None:
    made = make(tmp_path / "made", said=with_probabilities("axial CT"), profile=profile)
    program = [find("segimage2itkimage"), "--inputDICOM", made.segmentation, "--outputDirectory", tmp_path]
    subprocess.run([*program, "--outputType", "nrrd"], capture_output=True, check=True, timeout=patient(60))
    for number in (1, 2):
        values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd")))
        ours = np.rint(probability("axial CT", number) * 255)
        # dcmqi scales by the maximum, or not; it crops to the frames that are there; and it sorts them by
        # position. What is there is the same multiset of fractions.
        scale = 255.0 if float(values.max()) <= 1.0 else 1.0
        theirs = np.sort(np.rint(values[values > 0] * scale))
        assert np.array_equal(theirs, np.sort(ours[ours > 0]))


def test_segments_without_a_probability_stay_binary(tmp_path: Path) -> None:
    made = make(tmp_path, said=with_probabilities("axial CT", 2), profile=FRACTIONAL_RLE)
    made.check()
    fractions, mask = made.of(Role.SEGMENTATION)
    assert [str(item.SegmentLabel) for item in fractions.SegmentSequence] == ["Left lung"]
    assert [str(item.SegmentLabel) for item in mask.SegmentSequence] == ["Right lung"]
    assert (fractions.SegmentationType, mask.SegmentationType) == ("FRACTIONAL", "BINARY")
    assert fractions.file_meta.TransferSyntaxUID.is_compressed
    assert not mask.file_meta.TransferSyntaxUID.is_compressed
    whole = hd.seg.Segmentation.from_dataset(mask).get_volume().match_geometry(geometry(KINDS["axial CT"]))
    assert np.array_equal(whole.array[..., 0] != 0, label_map(KINDS["axial CT"]) == 1)


def test_without_probabilities_it_is_the_binary_object_of_everyone(tmp_path: Path) -> None:
    asked_for = make(tmp_path / "fractions", profile=FRACTIONAL_RLE)
    asked_for.check()
    assert asked_for.segmentation.read_bytes() == make(tmp_path / "binary").segmentation.read_bytes()


def test_a_profile_of_binary_takes_no_notice_of_probabilities(tmp_path: Path) -> None:
    made = make(tmp_path, said=with_probabilities())
    made.check()
    assert made.seg.SegmentationType == "BINARY"


def test_25_probabilities_that_share_a_voxel_overlap(tmp_path: Path) -> None:
    assert make(tmp_path, said=with_probabilities(), profile=FRACTIONAL).seg.SegmentsOverlap == "YES"


def test_fractions_of_an_image_lie_on_it(tmp_path: Path) -> None:
    said = image_findings()
    heat = np.where(said.mask(1), 0.8, 0.0).astype(np.float32)
    (like, *_) = with_probabilities().maps
    said = replace(said, maps=(replace(like, of="Nodule 1", values=heat),))
    made = make(tmp_path, of=image_source("DX"), said=said, profile=FRACTIONAL)
    made.check()
    assert [one.SegmentationType for one in made.of(Role.SEGMENTATION)] == ["FRACTIONAL", "BINARY"]
    assert set(np.unique(hd.seg.segread(made.segmentation).pixel_array)) == {0, 204}


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_what_is_no_probability_is_refused(value: float) -> None:
    said = with_probabilities("axial CT", 1)
    values = said.maps[0].values.copy()
    values[0, 0, 0] = value
    said = replace(said, maps=(replace(said.maps[0], values=values),))
    with pytest.raises(NotEncodable, match="no probability"):
        build(asked(said, source(), profile=FRACTIONAL))


def test_a_probability_of_nothing_is_refused() -> None:
    said = with_probabilities("axial CT", 1)
    flat = replace(said.maps[0], values=np.zeros_like(said.maps[0].values))
    with pytest.raises(NotEncodable, match="zero everywhere"):
        build(asked(replace(said, maps=(flat,)), source(), profile=FRACTIONAL))


def test_a_probability_of_another_size_is_refused() -> None:
    said = with_probabilities("axial CT", 1)
    small = replace(said.maps[0], values=np.ones((2, 2, 2), np.float32))
    with pytest.raises(NotEncodable, match="the source"):
        build(asked(replace(said, maps=(small,)), source(), profile=FRACTIONAL))


def _pixels(seg: Dataset) -> np.ndarray:
    return np.frombuffer(seg.PixelData, np.uint8)[: int(seg.NumberOfFrames) * seg.Rows * seg.Columns].reshape(
        -1, seg.Rows, seg.Columns
    )


def _put(seg: Dataset, pixels: np.ndarray) -> None:
    seg.PixelData = np.ascontiguousarray(pixels).tobytes() + b"\0" * (pixels.size % 2)


def one_step_more(seg: Dataset) -> None:
    pixels = _pixels(seg).copy()
    pixels[3, 4, 5] += 1
    _put(seg, pixels)


def mirror(seg: Dataset) -> None:
    _put(seg, _pixels(seg)[:, :, ::-1])


def the_rest_to_one(seg: Dataset) -> None:
    _put(seg, 255 - _pixels(seg))


def another_maximum(seg: Dataset) -> None:
    seg.MaximumFractionalValue = 100


def occupancy(seg: Dataset) -> None:
    seg.SegmentationFractionalType = "OCCUPANCY"


def swap_segments(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        item = group.SegmentIdentificationSequence[0]
        item.ReferencedSegmentNumber = 3 - item.ReferencedSegmentNumber


def lose_a_frame(seg: Dataset) -> None:
    _put(seg, _pixels(seg)[:-1])
    del seg.PerFrameFunctionalGroupsSequence[-1]
    seg.NumberOfFrames -= 1


def deny_overlap(seg: Dataset) -> None:
    seg.SegmentsOverlap = "NO"


MUTANTS = (
    one_step_more, mirror, the_rest_to_one, another_maximum, occupancy, swap_segments, lose_a_frame,
    deny_overlap,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("fractions"), said=with_probabilities(), profile=FRACTIONAL)


@pytest.mark.parametrize("mutate", MUTANTS)
def test_changed_fractions_stay_here(mutate: Callable[[Dataset], None], made: Made, tmp_path: Path) -> None:
    seg = made.seg
    mutate(seg)
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    with pytest.raises(CheckFailed):
        replace(made, segmentation=tmp_path / "seg.dcm").check()


def test_a_segment_that_should_be_fractions_is_not_taken_as_a_mask(tmp_path: Path) -> None:
    binary = make(tmp_path, said=findings())
    with pytest.raises(CheckFailed):
        replace(binary, findings=with_probabilities(), profile=FRACTIONAL).check()

"""A painted image is the image where nothing was found, and says which side is which."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from ledger.job import Outcome
from ledger.result import Role
from results import check_overlay, overlay
from results.asked import Asked
from results.expect import CheckFailed
from results.findings import Findings
from results.grid import NotEncodable, grid_of
from results.lettering import drawable
from results.profile import PROFILES
from results.sides import letters, sides_of
from results.strip import Strip
from results.write import write
from tests.results import dciodvfy
from tests.results.images import IMAGES
from tests.results.pictured import PLAIN, Ramp, pictured
from tests.results.series import KINDS, Kind, findings, nothing_found, source

RLE = replace(PLAIN, name="plain-pacs, packed", transfer_syntax="rle")


def _read(asked: Asked, folder: Path) -> list[Dataset]:
    read = []
    for index, dataset in enumerate(overlay.build(asked)):
        path = folder / f"overlay{index}.dcm"
        write(dataset, path)
        read.append(pydicom.dcmread(path))
    return read


def _frames(dataset: Dataset) -> np.ndarray:
    pixels = np.stack(list(check_overlay.decoded(dataset)))
    return pixels.astype(int)


@pytest.mark.parametrize("kind", [*KINDS, *IMAGES])
def test_every_kind_of_source_is_painted_as_the_model_drew(kind: str, tmp_path: Path) -> None:
    asked = pictured(kind)
    read = _read(asked, tmp_path)
    check_overlay.check(read, asked)
    # One of what was found, and one for each of the two maps.
    assert len(read) == 3
    assert len({one.SeriesInstanceUID for one in read}) == 3
    assert [one.SeriesNumber for one in read] == [9107, 9181, 9182]
    for one in read:
        assert one.BurnedInAnnotation == "YES"
        assert list(one.ImageType) == ["DERIVED", "SECONDARY"]
        assert one.Modality == "OT"
        assert one.BodyPartExamined == "CHEST"
        assert "Laterality" not in one


@pytest.mark.parametrize(
    "kind", ["axial CT", "oblique CT", "feet-first CT", "enhanced MR", "coronal MR", "CR"]
)
def test_point_09_dciodvfy_finds_no_error(kind: str, tmp_path: Path) -> None:
    iod = "SCImage" if kind in IMAGES else "MultiframeTrueColorSCImage"
    for index, _ in enumerate(_read(pictured(kind), tmp_path)):
        assert dciodvfy.complaints(tmp_path / f"overlay{index}.dcm", iod) == []


def test_the_patients_right_is_where_the_letter_says() -> None:
    for name, left, top in (
        ("axial CT", "R", "A"),
        ("feet-first CT", "L", "A"),
        ("coronal MR", "R", "H"),
    ):
        of = source(KINDS[name])
        sides = sides_of(of, grid_of(of))
        assert (sides.left, sides.top) == (left, top), name
    # 30 degrees between left and back: both letters, the nearer one first.
    assert letters((np.cos(np.pi / 6), np.sin(np.pi / 6), 0)) == "LP"
    assert letters((0, -1, 0)) == "A"


def test_a_radiograph_says_its_sides_itself_or_has_no_letters(tmp_path: Path) -> None:
    of = pictured("CR").source
    assert sides_of(of, grid_of(of)).left == ""
    of.first.PatientOrientation = ["L", "F"]
    sides = sides_of(of, grid_of(of))
    assert (sides.left, sides.right, sides.top, sides.bottom) == ("R", "L", "H", "F")


def test_the_letters_stand_at_the_edges_of_the_picture(tmp_path: Path) -> None:
    asked = pictured(said=findings())
    turned = pictured("feet-first CT", said=findings(KINDS["feet-first CT"]))
    (one,), (other,) = (_read(each, tmp_path) for each in (asked, turned))
    # At the left edge, halfway down: an R on the one and an L on the other, on the same ramp.
    halfway = slice(120, 145)
    first, second = (_frames(each)[2, halfway, :16] for each in (one, other))
    assert (first.max(axis=-1) > 220).any()
    assert (second.max(axis=-1) > 220).any()
    assert not np.array_equal(first.max(axis=-1) > 220, second.max(axis=-1) > 220)


def test_nothing_is_painted_where_there_is_nothing_to_see(tmp_path: Path) -> None:
    for said in (nothing_found(), Findings(outcome=Outcome.FOUND)):
        asked = pictured(said=said)
        assert overlay.build(asked) == []
        check_overlay.check([], asked)


def test_without_pixels_there_is_no_overlay_and_the_check_knows(tmp_path: Path) -> None:
    asked = replace(pictured(), pictures=None)
    assert overlay.build(asked) == []
    check_overlay.check([], asked)
    broken = replace(asked, pictures=Ramp(grid_of(asked.source).shape, broken_from=4))
    assert overlay.build(broken) == []
    check_overlay.check([], broken)
    with pytest.raises(CheckFailed, match="0 objects, expected 3"):
        check_overlay.check([], pictured())


def test_it_has_no_more_frames_than_a_viewer_can_hold_and_says_so(tmp_path: Path) -> None:
    assert overlay.frames_allowed(512, 512) == 85
    assert overlay.frames_allowed(5000, 6000) == 1
    assert overlay.frames_allowed(64, 64) == overlay.FRAMES_MAXIMUM
    kind = Kind("long CT", shape=(140, 10, 12))
    labels = np.zeros(kind.shape, np.uint8)
    labels[5:135, 2:6, 3:8] = 1
    labels[131:134, 7:9, 2:5] = 2
    asked = pictured(said=findings(kind=KINDS["axial CT"], label_map=labels), of=source(kind))
    (one,) = _read(asked, tmp_path)
    check_overlay.check([one], asked)
    assert one.NumberOfFrames <= overlay.FRAMES_MAXIMUM
    left_out = 130 - one.NumberOfFrames
    assert f"{left_out} of 130 slices are left out" in one.DerivationDescription
    shown = _planes(one)
    assert shown == sorted(set(shown))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_the_key_slices_are_among_those_that_are_kept(count: int) -> None:
    planes = list(range(10, 210))
    kept = overlay.spread(planes, [77, 13], count)
    assert len(kept) <= count
    assert list(kept) == sorted(set(kept))
    assert set(kept) >= set([77, 13][:count])
    if count > 10:
        assert max(np.diff(kept)) < 3 * 200 / count


@pytest.mark.parametrize("kind", ["axial CT", "CR"])
def test_packed_it_shows_the_same(kind: str, tmp_path: Path) -> None:
    plain, packed = pictured(kind), pictured(kind, profile=RLE)
    ones, others = _read(plain, tmp_path), _read(packed, tmp_path)
    check_overlay.check(others, packed)
    for one, other in zip(ones, others, strict=True):
        assert other.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
        assert len(other.PixelData) < len(one.PixelData)
        assert np.array_equal(_frames(one), _frames(other))
        assert np.array_equal(_frames(one).reshape(other.pixel_array.shape), other.pixel_array)
        assert one.SOPInstanceUID != other.SOPInstanceUID  # Other bytes, another name.


def test_point_05_made_again_it_is_the_same_to_the_byte(tmp_path: Path) -> None:
    for profile in (PLAIN, RLE):
        asked = pictured(profile=profile)
        for name in ("first", "second"):
            (tmp_path / name).mkdir(exist_ok=True)
            _read(asked, tmp_path / name)
        for path in (tmp_path / "first").iterdir():
            assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_lines_are_wide_enough_to_be_seen_on_a_radiograph() -> None:
    strip = Strip(3000, 2500, 4)
    assert strip.factor == 1
    assert strip.letter > 60
    assert Strip(24, 30, 4).width >= 320


def test_a_map_that_does_not_fit_the_images_is_not_painted(tmp_path: Path) -> None:
    asked = pictured()
    short = replace(asked.findings.maps[0], values=asked.findings.maps[0].values[:3])
    with pytest.raises(NotEncodable):
        overlay.build(replace(asked, findings=replace(asked.findings, maps=(short,))))


def test_what_the_font_cannot_draw_is_left_to_the_header() -> None:
    assert drawable("Lunge, mässig") == "Lunge, massig"
    assert drawable("Thorax 1.5 ≤ 3 mm") == "Thorax 1.5 <= 3 mm"
    for text in ("胸部", "가슴", "صدر", "Люкc", "CT 胸部"):
        assert drawable(text) == "(see the header)"
    assert drawable("Nodule?") == "Nodule?"


def test_other_profiles_have_no_pictures() -> None:
    for name, profile in PROFILES.items():
        assert (Role.OVERLAY in profile.kinds) == (name == "plain-pacs")


Mutants = Sequence[tuple[str, str]]


def _broken(read: list[Dataset], mutant: str) -> None:  # noqa: PLR0912 - one branch for each way of being wrong
    one = read[0]
    frames = np.frombuffer(one.PixelData, np.uint8)[: one.NumberOfFrames * one.Rows * one.Columns * 3]
    frames = frames.reshape(one.NumberOfFrames, one.Rows, one.Columns, 3).copy()
    grid = (24, 30)
    factor = one.Columns // grid[1]
    image = slice(0, grid[0] * factor)
    groups = one.PerFrameFunctionalGroupsSequence
    match mutant:
        case "mirrored":
            frames[:, image] = frames[:, image, ::-1]
        case "upside down":
            frames[:, image] = frames[:, image][:, ::-1]
        case "shifted by a column":
            frames[:, image] = np.roll(frames[:, image], factor, axis=2)
        case "shifted by a slice":
            frames[:] = np.roll(frames, 1, axis=0)
        case "colours swapped":
            frames[:] = frames[..., ::-1]
        case "nothing painted":
            for k, plane in enumerate(_planes(one)):
                grey = Ramp((10, *grid)).grey(plane).repeat(factor, 0).repeat(factor, 1)
                frames[k, image] = grey[..., None]
        case "painted without a tint":
            frames[:, image][(frames[:, image] == (80, 160, 220)).all(axis=-1)] = (81, 160, 220)
        case "no warning":
            frames[:, grid[0] * factor :] = 16
        case "one frame twice":
            one.SourceImageSequence[1] = one.SourceImageSequence[0]
        case "a frame in another place":
            groups[0].PlanePositionSequence, groups[1].PlanePositionSequence = (
                groups[1].PlanePositionSequence,
                groups[0].PlanePositionSequence,
            )
        case "another orientation":
            shared = one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
            shared.ImageOrientationPatient = ["-1", "0", "0", "0", "1", "0"]
        case "another spacing":
            one.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = ["0.75", "0.625"]
        case "another patient":
            one.PatientID = "MRN-0816"
        case "another frame of reference":
            one.FrameOfReferenceUID = "1.2.3"
        case "not said to be burned in":
            one.BurnedInAnnotation = "NO"
        case "an image that was not analysed":
            one.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
        case "a frame less":
            one.NumberOfFrames -= 1
            frames = frames[:-1]
            one.PerFrameFunctionalGroupsSequence = groups[:-1]
            one.SourceImageSequence = one.SourceImageSequence[:-1]
        case "maps swapped":
            read[1], read[2] = read[2], read[1]
        case "a map of another slice":
            read[1].PixelData = read[1].PixelData[1:] + b"\0"
        case _:
            raise AssertionError(mutant)
    one.PixelData = frames.tobytes() + b"\0" * (frames.size % 2)


def _planes(one: Dataset) -> list[int]:
    return [int(item.ReferencedSOPInstanceUID.split(".")[-1]) - 1 for item in one.SourceImageSequence]


@pytest.mark.parametrize(
    "mutant",
    [
        "mirrored", "upside down", "shifted by a column", "shifted by a slice", "colours swapped",
        "nothing painted", "painted without a tint", "no warning", "one frame twice",
        "a frame in another place", "another orientation", "another spacing", "another patient",
        "another frame of reference",
        "not said to be burned in", "an image that was not analysed", "a frame less", "maps swapped",
        "a map of another slice",
    ],
)  # fmt: skip
def test_a_wrong_overlay_does_not_leave(mutant: str, tmp_path: Path) -> None:
    asked = pictured()
    read = _read(asked, tmp_path)
    _broken(read, mutant)
    with pytest.raises((CheckFailed, ValueError)):
        check_overlay.check(read, asked)

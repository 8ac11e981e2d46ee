"""Above a frame limit whole segments go into further objects, and nothing is lost or torn on the way."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from ledger.job import Outcome
from ledger.result import Role
from results.check import CheckFailed
from results.content import references
from results.findings import Findings
from results.profile import DEFAULT
from results.segmentation import build
from tests.results.dciodvfy import complaints
from tests.results.forms import LABEL_MAP
from tests.results.made import Made, asked, make
from tests.results.series import KINDS, SHAPE, geometry, source
from tests.results.test_layers import segment


def at_most(frames: int, like=DEFAULT):
    return replace(like, name=f"at most {frames}", frame_limit=frames)


def five_regions() -> Findings:
    """Of 3, 4, 2, 6 and 1 slices."""
    labels = np.zeros(SHAPE, np.uint8)
    for number, slices in enumerate((3, 4, 2, 6, 1), start=1):
        labels[1 : 1 + slices, 3 * number : 3 * number + 2, 2:9] = number
    return Findings(outcome=Outcome.FOUND, label_map=labels, segments=tuple(segment(n) for n in range(1, 6)))


def labels_of(made: Made) -> list[list[str]]:
    return [[str(item.SegmentLabel) for item in one.SegmentSequence] for one in made.of(Role.SEGMENTATION)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("parts"), said=five_regions(), profile=at_most(7))


def test_parts_are_runs_of_whole_segments(made: Made) -> None:
    assert labels_of(made) == [["Region 1", "Region 2"], ["Region 3"], ["Region 4", "Region 5"]]
    assert [int(one.NumberOfFrames) for one in made.of(Role.SEGMENTATION)] == [7, 2, 7]


def test_the_check_passes_all_parts_together(made: Made) -> None:
    made.check()


def test_7_each_part_is_alone_in_its_series_and_says_which_it_is(made: Made) -> None:
    parts = made.of(Role.SEGMENTATION)
    assert len({one.SeriesInstanceUID for one in parts}) == len({one.SeriesNumber for one in parts}) == 3
    for number, one in enumerate(parts, start=1):
        assert f"part {number} of 3" in one.SeriesDescription
        assert len(one.SeriesDescription) <= 64
        assert one.ContentLabel == f"PART {number} OF 3"
        assert [int(item.SegmentNumber) for item in one.SegmentSequence] == list(
            range(1, len(one.SegmentSequence) + 1)
        )


def test_9_dciodvfy_has_no_complaint_about_any_part(made: Made) -> None:
    paths = [path for role, path in made.written if role is Role.SEGMENTATION]
    assert [complaints(path, "Segmentation") for path in paths] == [[], [], []]


def test_22_together_they_hold_every_voxel(made: Made) -> None:
    back = np.zeros(SHAPE, np.uint8)
    for one in made.of(Role.SEGMENTATION):
        read = hd.seg.Segmentation.from_dataset(one).get_volume(combine_segments=False)
        whole = read.match_geometry(geometry(KINDS["axial CT"])).array
        for index, item in enumerate(one.SegmentSequence):
            back[whole[..., index] != 0] = int(str(item.SegmentLabel).split()[-1])
    assert np.array_equal(back, five_regions().label_map)


def test_38_tracking_uids_stay_what_they_are_in_one_object(made: Made, tmp_path: Path) -> None:
    whole = make(tmp_path, said=five_regions())
    parts = [item.TrackingUID for one in made.of(Role.SEGMENTATION) for item in one.SegmentSequence]
    assert parts == [item.TrackingUID for item in whole.seg.SegmentSequence]


def test_37_the_report_refers_to_every_part(made: Made) -> None:
    named = {instance for instance, _ in references(made.sr)}
    assert {str(one.SOPInstanceUID) for one in made.of(Role.SEGMENTATION)} <= named


def test_a_segment_above_the_limit_stays_whole_and_says_so(tmp_path: Path) -> None:
    made = make(tmp_path, said=five_regions(), profile=at_most(5))
    made.check()
    assert labels_of(made) == [["Region 1"], ["Region 2"], ["Region 3"], ["Region 4"], ["Region 5"]]
    large = made.of(Role.SEGMENTATION)[3]
    assert large.NumberOfFrames == 6
    said = large.ContributingEquipmentSequence[-1].ContributionDescription
    assert "One segment of 6 frames, more than 5, and whole" in said


def test_a_limit_that_is_not_reached_changes_nothing(tmp_path: Path) -> None:
    limited = make(tmp_path / "limited", said=five_regions(), profile=at_most(16))
    usual = make(tmp_path / "usual", said=five_regions())
    assert limited.segmentation.read_bytes() == usual.segmentation.read_bytes()


def test_two_limits_that_give_the_same_parts_give_the_same_objects(tmp_path: Path) -> None:
    one, other = (build(asked(five_regions(), source(), profile=at_most(frames))) for frames in (9, 10))
    assert [part.SOPInstanceUID for part in one] == [part.SOPInstanceUID for part in other]


def test_other_parts_are_other_instances(tmp_path: Path) -> None:
    one, other = (build(asked(five_regions(), source(), profile=at_most(frames))) for frames in (7, 9))
    assert not {part.SOPInstanceUID for part in one} & {part.SOPInstanceUID for part in other}


def test_5_parts_made_again_are_the_same_bytes(made: Made, tmp_path: Path) -> None:
    again = make(tmp_path, said=five_regions(), profile=at_most(7))
    for (_, first), (_, second) in zip(made.written, again.written, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_a_label_map_counts_slices_and_not_segments(tmp_path: Path) -> None:
    made = make(tmp_path, said=five_regions(), profile=at_most(4, LABEL_MAP))
    made.check()
    assert labels_of(made) == [
        ["Background", "Region 1", "Region 2", "Region 3"],
        ["Background", "Region 4"],
        ["Background", "Region 5"],
    ]


def test_a_lost_part_is_noticed(made: Made) -> None:
    with pytest.raises(CheckFailed):
        replace(made, more=made.more[:-1]).check()


def test_a_part_that_is_there_twice_is_noticed(made: Made, tmp_path: Path) -> None:
    (role, path), *rest = made.more
    with pytest.raises(CheckFailed):
        replace(made, more=((role, path), (role, path), *rest)).check()


def test_parts_in_another_order_are_noticed(made: Made) -> None:
    (first, second) = [one for one in made.more if one[0] is Role.SEGMENTATION]
    rest = tuple(one for one in made.more if one[0] is not Role.SEGMENTATION)
    with pytest.raises(CheckFailed):
        replace(made, more=(second, first, *rest)).check()


def test_a_part_that_says_to_be_another_is_noticed(made: Made, tmp_path: Path) -> None:
    part = made.seg
    part.ContentLabel = "PART 2 OF 3"
    part.save_as(tmp_path / "part.dcm", enforce_file_format=True)
    with pytest.raises(CheckFailed, match="Content Label"):
        replace(made, segmentation=tmp_path / "part.dcm").check()


def test_more_frames_than_were_asked_for_are_noticed(made: Made) -> None:
    with pytest.raises(CheckFailed):
        replace(made, profile=at_most(6)).check()


def test_a_profile_words_the_labels(tmp_path: Path) -> None:
    profile = replace(DEFAULT, name="worded", segment_label="AI {label}")
    made = make(tmp_path, said=five_regions(), profile=profile)
    made.check()
    assert pydicom.dcmread(made.segmentation).SegmentSequence[0].SegmentLabel == "AI Region 1"

"""A lesion is drawn on its image with its diameters, and is measured alike in every object."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.result import Role
from results import codes
from results.check import CheckFailed
from results.content import name_of, numbers, references, uid_named, walk
from results.expect import as_code
from results.findings import Measurement
from results.profile import DEFAULT
from results.sentences import sentences
from tests.results.dciodvfy import complaints
from tests.results.images import IMAGES, image_findings, image_source
from tests.results.lesions import lesion, lesions, oblong
from tests.results.made import Made, make
from tests.results.series import KINDS, SPACING
from tests.results.test_findings_in_report import groups

AXES = (codes.LONG_AXIS, codes.SHORT_AXIS)


def number_of(group: Dataset, concept: codes.Concept) -> float:
    return next(value for (name, _), value in numbers(group).items() if name == as_code(concept))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"), said=lesions())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "odd-sized CT"])
def test_39_every_lesion_is_a_closed_outline_on_its_largest_slice_and_no_organ_is(
    kind: str, tmp_path: Path
) -> None:
    made = make(tmp_path, kind, said=lesions(kind))
    made.check()
    marks = pydicom.dcmread(made.marks)
    drawn = groups(marks)
    assert [*drawn] == ["Nodule 1", "Nodule 2"]
    for group, plane in zip(drawn.values(), (4, 1), strict=True):
        (region,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
        of = made.source
        image = of.datasets[0] if of.frames else of.datasets[plane]
        frame = of.frames[plane] if of.frames else None
        assert references(region) == [(str(image.SOPInstanceUID), frame)]
    assert complaints(made.marks, "ComprehensiveSR") == []
    assert complaints(made.report, "Comprehensive3DSR") == []


def test_38_a_lesion_has_one_tracking_uid_in_segmentation_report_and_marks(made: Made) -> None:
    everywhere = [
        {label: uid_named(group, codes.TRACKING_UID) for label, group in groups(one).items()}
        for one in (made.sr, pydicom.dcmread(made.marks))
    ]
    segments = {str(one.SegmentLabel): str(one.TrackingUID) for one in made.seg.SegmentSequence}
    for label in ("Nodule 1", "Nodule 2"):
        assert {one[label] for one in everywhere} == {segments[label]}


def test_38_a_lesion_that_was_matched_keeps_its_earlier_tracking_uid_everywhere(tmp_path: Path) -> None:
    earlier = Uid("2.25.4711")
    said = lesions()
    said = replace(said, segments=(replace(said.segments[0], tracked_as=earlier), *said.segments[1:]))
    made = make(tmp_path, said=said)
    made.check()
    for one in (made.sr, pydicom.dcmread(made.marks)):
        assert uid_named(groups(one)["Nodule 1"], codes.TRACKING_UID) == str(earlier)
    assert made.seg.SegmentSequence[0].TrackingUID == str(earlier)


def test_33_the_numbers_are_the_same_in_both_and_the_axes_are_lines_of_that_length(made: Made) -> None:
    report, marks = groups(made.sr), groups(pydicom.dcmread(made.marks))
    for label, group in marks.items():
        assert numbers(group) == numbers(report[label])
        lines = {
            name_of(item): np.reshape(list(item.ContentSequence[0].GraphicData), (2, 2))
            for item in group.ContentSequence
            if item.ValueType == "NUM" and "ContentSequence" in item and name_of(item) in map(as_code, AXES)
        }
        assert len(lines) == 2
        for concept in AXES:
            ends = lines[as_code(concept)] * (SPACING[2], SPACING[1])
            length = float(np.linalg.norm(ends[1] - ends[0]))
            assert length == pytest.approx(number_of(group, concept), rel=1e-4)
    assert not [item for item in walk(made.sr) if item.ValueType == "SCOORD"]


def test_27_a_lesion_has_the_volume_of_its_voxels_where_the_model_gives_none(made: Made) -> None:
    voxels = int((oblong(KINDS["axial CT"].shape) == 1).sum())
    said = number_of(groups(made.sr)["Nodule 1"], codes.VOLUME)
    assert said == pytest.approx(voxels * float(np.prod(SPACING)) / 1000, rel=1e-6)


def test_what_the_model_measured_itself_comes_instead_of_ours(tmp_path: Path) -> None:
    own = Measurement(name=codes.LONG_AXIS, value=9.5, unit=codes.MILLIMETRE)
    said = lesions()
    said = replace(said, segments=(replace(said.segments[0], measurements=(own,)), *said.segments[1:]))
    made = make(tmp_path, said=said)
    made.check()
    group = groups(pydicom.dcmread(made.marks))["Nodule 1"]
    assert number_of(group, codes.LONG_AXIS) == 9.5
    # It is not drawn, for nobody knows where it was measured; ours is, at right angles to what is not shown.
    assert len([item for item in walk(group) if item.ValueType == "SCOORD"]) == 2


@pytest.mark.parametrize("kind", IMAGES)
def test_on_an_image_without_a_place_a_lesion_is_outlined_and_not_measured(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, of=image_source(kind), said=image_findings())
    made.check()
    for group in groups(pydicom.dcmread(made.marks)).values():
        assert [name for (name, _) in numbers(group)] == [as_code(codes.CERTAINTY)]
    assert complaints(made.marks, "ComprehensiveSR") == []


def test_without_a_segmentation_the_values_are_in_the_report_all_the_same(tmp_path: Path) -> None:
    only = replace(DEFAULT, name="report only", kinds=frozenset({Role.REPORT}))
    made = make(tmp_path, said=lesions(), profile=only)
    made.check()
    assert made.segmentation is None
    assert number_of(groups(made.sr)["Nodule 1"], codes.LONG_AXIS) > 0
    assert [*groups(made.sr)] == ["Nodule 1", "Nodule 2", "Left lung"]


def test_a_line_says_how_large_a_lesion_is_and_on_which_image(made: Made) -> None:
    first, second = sentences(made.findings, made.source)
    assert first.startswith("Nodule 1: ")
    assert ", on image 5, volume " in first
    assert first.endswith("ml, certainty 60 %.")
    assert second.endswith("the largest of 2 parts there is outlined.")


def test_highdicom_reads_the_outlines(made: Made) -> None:
    content = hd.sr.srread(made.marks).content
    found = content.get_planar_roi_measurement_groups(finding_type=codes.coded(lesion(1).kind))
    assert len(found) == 2
    assert all(group.roi.GraphicType == "POLYLINE" for group in found)


def region(marks: Dataset) -> Dataset:
    return next(item for item in walk(marks) if item.ValueType == "SCOORD")


def axis(marks: Dataset, concept: codes.Concept) -> Dataset:
    return next(item for item in walk(marks) if name_of(item) == as_code(concept))


def shift(marks: Dataset) -> None:
    region(marks).GraphicData = [float(v) + 1.0 for v in region(marks).GraphicData]


def mirror(marks: Dataset) -> None:
    points = np.reshape(list(region(marks).GraphicData), (-1, 2))
    points[:, 0] = 30 - points[:, 0]
    region(marks).GraphicData = points.ravel().tolist()


def leave_open(marks: Dataset) -> None:
    region(marks).GraphicData = list(region(marks).GraphicData)[:-2]


def next_slice(marks: Dataset) -> None:
    region(marks).ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = references(
        groups(marks)["Nodule 2"]
    )[0][0]


def swap(marks: Dataset) -> None:
    one, two = groups(marks).values()
    uids = [next(i for i in walk(g) if name_of(i) == as_code(codes.TRACKING_UID)) for g in (one, two)]
    uids[0].UID, uids[1].UID = uids[1].UID, uids[0].UID


def longer(marks: Dataset) -> None:
    axis(marks, codes.LONG_AXIS).MeasuredValueSequence[0].NumericValue = "20"


def move_the_axis(marks: Dataset) -> None:
    line = axis(marks, codes.SHORT_AXIS).ContentSequence[0]
    line.GraphicData = [float(v) + 2.0 for v in line.GraphicData]


def tilt_the_axis(marks: Dataset) -> None:
    long, short = (axis(marks, concept).ContentSequence[0] for concept in AXES)
    short.GraphicData = list(long.GraphicData)


def lose_the_shape(marks: Dataset) -> None:
    group = groups(marks)["Nodule 2"]
    group.ContentSequence = [item for item in group.ContentSequence if item.ValueType != "SCOORD"]


def other_volume(marks: Dataset) -> None:
    value = axis(marks, codes.VOLUME).MeasuredValueSequence[0]
    value.NumericValue = f"{float(value.NumericValue) * 1.1:.6g}"


@pytest.mark.parametrize(
    "mutate",
    [
        shift, mirror, leave_open, next_slice, swap, longer, move_the_axis, tilt_the_axis, lose_the_shape,
        other_volume,
    ],
    ids=lambda f: f.__name__.replace("_", " "),
)  # fmt: skip
def test_39_a_lesion_that_is_drawn_or_measured_wrongly_stays_here(
    mutate: Callable[[Dataset], None], made: Made, tmp_path: Path
) -> None:
    marks = pydicom.dcmread(made.marks)
    mutate(marks)
    marks.save_as(tmp_path / "marks.dcm", enforce_file_format=True)
    with pytest.raises(CheckFailed):
        replace(made, marks=tmp_path / "marks.dcm").check()


@pytest.mark.parametrize("concept", [codes.LONG_AXIS, codes.VOLUME], ids=lambda c: c.meaning)
def test_27_a_wrong_size_in_the_report_stays_here(concept: codes.Concept, made: Made, tmp_path: Path) -> None:
    report = made.sr
    value = axis(report, concept).MeasuredValueSequence[0]
    value.NumericValue = f"{float(value.NumericValue) * 1.3:.6g}"
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    with pytest.raises(CheckFailed):
        replace(made, report=tmp_path / "report.dcm").check()

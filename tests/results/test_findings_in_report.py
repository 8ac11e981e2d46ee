"""Boxes, landmarks, verdicts and numbers in a report: where they are, how sure, and nothing else."""

import copy
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset

from ledger.errors import ModelError
from ledger.identifiers import Uid
from ledger.job import Outcome
from results import codes
from results.check import CheckFailed
from results.content import codes_named, name_of, numbers, references, walk
from results.expect import as_code
from results.findings import Box, Concept, Findings, Point
from results.grid import NotEncodable
from results.older_report import OLDER_FORMS, check_older_report, older_report
from results.report import build
from results.sentences import LINES_MAX, percent, sentences
from results.uids import tracking_uid
from results.write import write
from tests.patience import patient
from tests.peers.programs import find
from tests.results.dciodvfy import complaints
from tests.results.everything import boxes, everything, everything_on_an_image, only, points, verdicts
from tests.results.images import COLUMNS, IMAGES, image_source
from tests.results.made import Made, asked, make
from tests.results.series import KINDS, NODULE, SPACING, a_run, source

Mutant = Callable[[Dataset], None]
VOLUMES = ("axial CT", "oblique CT", "feet-first CT", "reversed CT", "coronal MR", "enhanced MR")


def groups(sr: Dataset) -> dict[str, Dataset]:
    """Tracking Identifier without the model's name → measurement group, the first of that name."""
    found = {}
    for item in walk(sr):
        if name_of(item) == as_code(codes.MEASUREMENT_GROUP):
            (text,) = [i.TextValue for i in item.ContentSequence if name_of(i) == ("112039", "DCM")]
            found.setdefault(text.removeprefix("lung_ct "), item)
    return found


def graphics(group: Dataset) -> list[Dataset]:
    return [item for item in walk(group) if item.ValueType == "SCOORD"]


def sentences_of(sr: Dataset) -> list[str]:
    return [item.TextValue for item in walk(sr) if name_of(item) == as_code(codes.COMMENT)]


@pytest.mark.parametrize("kind", VOLUMES)
def test_a_report_with_every_kind_of_finding_passes_the_check_and_dciodvfy(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind, said=everything(kind))
    made.check()
    assert complaints(made.report, "Comprehensive3DSR") == []


@pytest.mark.parametrize("kind", IMAGES)
def test_findings_on_an_image_pass_the_check_and_dciodvfy(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, of=image_source(kind), said=everything_on_an_image())
    made.check()
    assert complaints(made.report, "Comprehensive3DSR") == []
    assert made.maps == ()
    assert any(line.startswith("Map Grad-CAM: not kept") for line in sentences_of(made.sr))
    frames = {
        frame for group in groups(made.sr).values() for _, frame in references(group) if graphics(group)
    }
    assert frames == ({3} if kind == "US cine" else {None})


@pytest.mark.parametrize("kind", ["boxes", "points", "verdicts", "measurements", "maps"])
def test_findings_of_one_kind_alone_are_a_whole_report(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, said=only(kind))
    made.check()
    assert made.segmentation is None
    assert complaints(made.report, "Comprehensive3DSR") == []


@pytest.mark.parametrize("kind", VOLUMES)
def test_a_box_lies_in_the_patient_where_the_model_found_it(kind: str, tmp_path: Path) -> None:
    """From the images' own headers: the corners of all its rectangles are those of the box."""
    made = make(tmp_path, kind, said=everything(kind))
    of = made.source
    corners = []
    for item in graphics(groups(made.sr)["Nodule 1"]):
        ((uid, frame),) = references(item)
        image = next(i for i in of.datasets if i.SOPInstanceUID == uid)
        holder = image
        if frame is not None:
            per_frame = image.PerFrameFunctionalGroupsSequence[frame - 1]
            holder = Dataset()
            for one in (image.SharedFunctionalGroupsSequence[0], per_frame):
                for group in one:
                    holder.update(group.value[0])
        along_row, along_column = np.reshape(np.array(holder.ImageOrientationPatient, float), (2, 3))
        down, across = (float(v) for v in holder.PixelSpacing)
        for column, row in np.reshape(np.array(item.GraphicData, float), (-1, 2)):
            # Graphics count from the corner of the first pixel, positions are those of its centre.
            place = np.array(holder.ImagePositionPatient, float)
            corners.append(place + (column - 0.5) * across * along_row + (row - 0.5) * down * along_column)
    box = boxes()[0]
    index = (np.linalg.inv(of.geometry.affine) @ np.c_[corners, np.ones(len(corners))].T)[:3].T
    assert index.min(axis=0) == pytest.approx([2.0, *box.low[1:]], abs=1e-4)
    assert index.max(axis=0) == pytest.approx([4.0, *box.high[1:]], abs=1e-4)
    sizes = numbers(groups(made.sr)["Nodule 1"])
    for axis, name in enumerate((codes.DEPTH, codes.HEIGHT, codes.WIDTH)):
        length = (box.high[axis] - box.low[axis]) * SPACING[axis]
        assert sizes[as_code(name), as_code(codes.MILLIMETRE)] == pytest.approx(length)


def test_a_rectangle_is_closed_and_inside_its_image(tmp_path: Path) -> None:
    sr = make(tmp_path, said=everything()).sr
    shapes = [item for label in ("Nodule 1", "Nodule 2") for item in graphics(groups(sr)[label])]
    assert len(shapes) == 4  # three slices, and one
    for item in shapes:
        xy = np.reshape(np.array(item.GraphicData, float), (-1, 2))
        assert xy.shape == (5, 2)
        assert np.array_equal(xy[0], xy[-1])
        assert (xy >= 0).all()
        assert (xy <= (30, 24)).all()


def test_highdicom_reads_boxes_landmarks_and_verdicts(tmp_path: Path) -> None:
    content = hd.sr.srread(make(tmp_path, said=everything()).report).content
    planar = [group.tracking_identifier for group in content.get_planar_roi_measurement_groups()]
    volumetric = [group.tracking_identifier for group in content.get_volumetric_roi_measurement_groups()]
    whole = [group.tracking_identifier for group in content.get_image_measurement_groups()]
    assert planar == ["lung_ct Nodule 2", "lung_ct Carina", "lung_ct Carina, lower end"]
    assert volumetric == ["lung_ct Nodule 1", "lung_ct Right lung", "lung_ct Left lung"]
    assert whole == [
        f"lung_ct {label}"
        for label in ("Pneumothorax", "Effusion", "Nodule probability", "Grad-CAM", "series")
    ]


def test_a_verdict_says_present_or_absent_and_whether_its_number_is_a_probability(tmp_path: Path) -> None:
    sr = make(tmp_path, said=only("verdicts")).sr
    present, absent = groups(sr)["Pneumothorax"], groups(sr)["Effusion"]
    percent_ = as_code(codes.PERCENT)
    assert numbers(present) == {
        (as_code(codes.PROBABILITY), percent_): 93.4,
        (as_code(codes.THRESHOLD), percent_): 30.0,
    }
    assert numbers(absent) == {
        (as_code(codes.CERTAINTY), percent_): 0.04,
        (as_code(codes.THRESHOLD), percent_): 50.0,
    }
    assert codes_named(present, as_code(verdicts()[0].finding)) == [as_code(codes.PRESENT)]
    assert codes_named(absent, as_code(verdicts()[1].finding)) == [as_code(codes.ABSENT)]
    assert codes_named(present, as_code(codes.CALIBRATION)) == [as_code(codes.CALIBRATED)]
    assert codes_named(absent, as_code(codes.CALIBRATION)) == [as_code(codes.NOT_CALIBRATED)]


@pytest.mark.parametrize("present", [True, False])
def test_a_verdict_that_is_unsure_is_called_neither_present_nor_absent(tmp_path: Path, present: bool) -> None:
    unsure = replace(verdicts()[0], present=present, unsure=True, probability=0.365)
    said = Findings(outcome=Outcome.FOUND, verdicts=(unsure,))

    sr = make(tmp_path, said=said).sr

    assert codes_named(groups(sr)["Pneumothorax"], as_code(unsure.finding)) == [as_code(codes.EQUIVOCAL)]
    assert "Pneumothorax: unsure, probability 36 % (calibrated; present from 30 %)." in sentences_of(sr)


def test_everything_is_said_in_plain_sentences_too(tmp_path: Path) -> None:
    assert sentences_of(make(tmp_path, said=everything()).sr)[1:] == [
        "Pneumothorax: present, probability 93 % (calibrated; present from 30 %).",
        "Effusion: absent, score 0.04 % (not calibrated: no probability; present from 50 %).",
        "Nodule 1: certainty 93 %, 1.88 x 4.12 x 7.5 mm, on images 3 to 5.",
        "Nodule 2: certainty 50 %, 2.5 x 16.5 x 0.5 mm, on image 6.",
        "Carina: on image 4, certainty 75 %, +/- 1.2 mm.",
        "Carina, lower end: on image 5.",
        "Map Nodule probability: fractional probabilistic segmentation of every voxel.",
        "Map Grad-CAM: what Pneumothorax was decided from. An explanation, not diagnostic.",
        "Caution: The lung bases are cut off.",
    ]


def test_images_are_called_by_the_numbers_that_viewers_show() -> None:
    (line, *_) = sentences(only("boxes"), source(KINDS["reversed CT"]))
    assert line.endswith("on images 6 to 8.")  # Instance numbers run against the slices.
    (line, *_) = sentences(only("boxes"), source(KINDS["enhanced CT"]))
    assert line.endswith("on frames 6 to 8.")
    (line, *_) = sentences(only("boxes"), source(InstanceNumber=None))
    assert line.endswith(" mm.") or "on images" in line


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50 %"),
        (0.934, "93 %"),
        (0.996, "99.6 %"),
        (0.0004, "0.04 %"),
        (1e-9, "less than 0.01 %"),
        (1 - 1e-9, "more than 99.99 %"),
    ],
)
def test_a_share_is_never_rounded_to_certainty(share: float, text: str) -> None:
    assert percent(share) == text


def test_a_hundred_boxes_are_told_in_as_many_lines_as_anybody_reads() -> None:
    many = tuple(replace(boxes()[0], label=f"Nodule {number}") for number in range(1, 101))
    lines = sentences(Findings(outcome=Outcome.FOUND, boxes=many), source())
    assert len(lines) == LINES_MAX + 1
    assert lines[-1] == f"{100 - LINES_MAX} more findings, with their values below."


def test_the_names_of_findings_are_stable_between_runs_except_where_numbering_may_change() -> None:
    of = source()
    run, again = a_run(of), a_run(of, settings={"erode": 3})
    for kind in ("segment", "box", "point", "verdict", "map"):
        assert tracking_uid(run, "Nodule 1", kind) == tracking_uid(again, "Nodule 1", kind)
    late = replace(run, inputs=(*run.inputs, Uid("1.2.3")))
    for kind in ("segment", "point", "verdict", "map"):
        assert tracking_uid(run, "Carina", kind) == tracking_uid(late, "Carina", kind)
    # With one image more, another nodule may be the second one.
    assert tracking_uid(run, "Nodule 2", "box") != tracking_uid(late, "Nodule 2", "box")
    assert len({tracking_uid(run, "Nodule 1", kind) for kind in ("segment", "box", "point")}) == 3
    views = [replace(run, image=Uid(f"1.2.{number}")) for number in (1, 2)]
    assert len({tracking_uid(one, "Carina", "point") for one in (run, *views)}) == 3


def test_the_same_findings_make_the_same_bytes(tmp_path: Path) -> None:
    for kind in ("axial CT", "enhanced MR"):
        first = make(tmp_path / f"{kind} first", kind, said=everything(kind))
        second = make(tmp_path / f"{kind} second", kind, said=everything(kind))
        for one, other in zip(first.files, second.files, strict=True):
            assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("form", list(OLDER_FORMS))
def test_an_older_form_of_the_report_says_all_of_it(form: str, tmp_path: Path) -> None:
    report = make(tmp_path, said=everything()).sr
    older = older_report(report, OLDER_FORMS[form])
    write(older, tmp_path / "older.dcm")
    check_older_report(older, report, OLDER_FORMS[form])
    name = {"comprehensive": "ComprehensiveSR", "enhanced": "EnhancedSR"}[form]
    assert complaints(tmp_path / "older.dcm", name) == []


def test_dcmtk_prints_and_renders_it(tmp_path: Path) -> None:
    report = make(tmp_path, said=everything()).report
    printed = subprocess.run([find("dsrdump"), "+Pl", report], capture_output=True, text=True, check=True)
    assert "(POLYLINE,6/4.75,9/4.75,9/10.25,6/10.25,6/4.75)" in printed.stdout
    assert '"Probability")="93.4" (%,UCUM,"percent")' in printed.stdout
    subprocess.run([find("dsr2html"), report, tmp_path / "report.html"], check=True, timeout=patient(60))
    page = (tmp_path / "report.html").read_text(encoding="latin-1")
    assert "Pneumothorax: present, probability 93 %" in page


def test_a_box_beside_the_images_is_no_finding_on_them() -> None:
    box = Box(label="Nodule 1", kind=NODULE, low=(20.0, 1.0, 1.0), high=(22.0, 2.0, 2.0), score=0.5)
    with pytest.raises(NotEncodable, match="beside the images"):
        _encode(Findings(outcome=Outcome.FOUND, boxes=(box,)))
    box = replace(box, low=(2.0, 1.0, 60.0), high=(3.0, 2.0, 62.0))
    with pytest.raises(NotEncodable, match="beside the images"):
        _encode(Findings(outcome=Outcome.FOUND, boxes=(box,)))


def test_a_landmark_beside_the_images_is_no_finding_on_them() -> None:
    with pytest.raises(NotEncodable, match="beside the images"):
        _encode(Findings(outcome=Outcome.FOUND, points=(replace(points()[0], at=(3.0, -1.0, 2.0)),)))


def test_two_findings_of_one_kind_with_one_label_are_refused() -> None:
    twice = (boxes()[0], replace(boxes()[1], label="Nodule 1"))
    with pytest.raises(ModelError, match="same label"):
        _encode(Findings(outcome=Outcome.FOUND, boxes=twice))


def test_a_box_without_extent_and_a_point_that_is_nowhere_are_no_findings() -> None:
    with pytest.raises(ValueError, match="reaches from low"):
        Box(label="x", kind=NODULE, low=(1, 1, 1), high=(2, 1, 2), score=0.5)
    with pytest.raises(ValueError, match="is somewhere"):
        Point(label="x", site=codes.LUNG, at=(0.0, float("nan"), 0.0))


def _encode(said: Findings) -> Dataset:
    of = source()
    return build(asked(said, of))[0]


def _of(sr: Dataset, label: str) -> Dataset:
    return groups(sr)[label]


def mirror_box(sr: Dataset) -> None:
    for item in graphics(_of(sr, "Nodule 1")):
        xy = np.reshape(np.array(item.GraphicData, float), (-1, 2))
        item.GraphicData = [float(v) for v in np.c_[30 - xy[:, 0], xy[:, 1]].reshape(-1)]


def nudge_box(sr: Dataset) -> None:
    item = graphics(_of(sr, "Nodule 1"))[1]
    item.GraphicData = [float(v) + 0.5 for v in item.GraphicData]


def swap_axes(sr: Dataset) -> None:
    for item in graphics(_of(sr, "Nodule 1")):
        item.GraphicData = [float(v) for v in np.reshape(item.GraphicData, (-1, 2))[:, ::-1].reshape(-1)]


def shift_box_by_a_slice(sr: Dataset) -> None:
    shapes = graphics(_of(sr, "Nodule 1"))
    images = [copy.deepcopy(item.ContentSequence[0].ReferencedSOPSequence) for item in shapes]
    beyond = copy.deepcopy(images[-1])
    beyond[0].ReferencedSOPInstanceUID = source().datasets[5].SOPInstanceUID
    for item, image in zip(shapes, [*images[1:], beyond], strict=True):
        item.ContentSequence[0].ReferencedSOPSequence = image


def lose_a_slice(sr: Dataset) -> None:
    group = _of(sr, "Nodule 1")
    group.ContentSequence.remove(graphics(group)[0])


def box_as_points(sr: Dataset) -> None:
    for item in graphics(_of(sr, "Nodule 1")):
        item.GraphicType = "MULTIPOINT"


def swap_boxes(sr: Dataset) -> None:
    first, second = (_of(sr, label) for label in ("Nodule 1", "Nodule 2"))
    uids = [next(i for i in group.ContentSequence if i.ValueType == "UIDREF") for group in (first, second)]
    uids[0].UID, uids[1].UID = uids[1].UID, uids[0].UID


def _number(group: Dataset, name: Concept) -> Dataset:
    (item,) = [i for i in walk(group) if name_of(i) == as_code(name)]
    return item.MeasuredValueSequence[0]


def wrong_score(sr: Dataset) -> None:
    _number(_of(sr, "Nodule 1"), codes.CERTAINTY).NumericValue = "93.5"


def wrong_size(sr: Dataset) -> None:
    _number(_of(sr, "Nodule 1"), codes.WIDTH).NumericValue = "1.9"


def score_as_a_share(sr: Dataset) -> None:
    unit = _number(_of(sr, "Nodule 1"), codes.CERTAINTY).MeasurementUnitsCodeSequence[0]
    unit.CodeValue, unit.CodeMeaning = "1", "no units"


def other_kind(sr: Dataset) -> None:
    (item,) = [i for i in walk(_of(sr, "Nodule 1")) if name_of(i) == as_code(codes.FINDING)]
    item.ConceptCodeSequence[0].CodeValue = "4147007"


def other_side(sr: Dataset) -> None:
    (item,) = [i for i in walk(_of(sr, "Nodule 1")) if name_of(i) == as_code(codes.LATERALITY)]
    item.ConceptCodeSequence[0].CodeValue = codes.LEFT.value


def no_site(sr: Dataset) -> None:
    group = _of(sr, "Carina")
    group.ContentSequence = [i for i in group.ContentSequence if name_of(i) != as_code(codes.FINDING_SITE)]


def move_landmark(sr: Dataset) -> None:
    (item,) = graphics(_of(sr, "Carina"))
    item.GraphicData = [12.0, 8.75]


def landmark_on_the_next_image(sr: Dataset) -> None:
    (item,) = graphics(_of(sr, "Carina"))
    reference = item.ContentSequence[0].ReferencedSOPSequence[0]
    reference.ReferencedSOPInstanceUID = source().datasets[4].SOPInstanceUID


def on_the_plane(sr: Dataset) -> None:
    group = _of(sr, "Carina, lower end")
    group.ContentSequence = [i for i in group.ContentSequence if i.ValueType != "NUM"]


def surer_of_its_place(sr: Dataset) -> None:
    _number(_of(sr, "Carina"), codes.STANDARD_DEVIATION).NumericValue = "0.1"


def flip_verdict(sr: Dataset) -> None:
    for item in walk(_of(sr, "Effusion")):
        if name_of(item) == as_code(verdicts()[1].finding):
            item.ConceptCodeSequence[0].CodeValue = codes.PRESENT.value


def flip_verdict_in_words(sr: Dataset) -> None:
    for item in walk(sr):
        if item.ValueType == "TEXT" and str(item.TextValue).startswith("Effusion: absent"):
            item.TextValue = str(item.TextValue).replace("absent", "present")


def call_it_a_probability(sr: Dataset) -> None:
    for item in walk(_of(sr, "Effusion")):
        if name_of(item) == as_code(codes.CERTAINTY):
            name = item.ConceptNameCodeSequence[0]
            name.CodeValue, name.CodeMeaning = codes.PROBABILITY.value, codes.PROBABILITY.meaning


def call_it_calibrated(sr: Dataset) -> None:
    for item in walk(_of(sr, "Effusion")):
        if name_of(item) == as_code(codes.CALIBRATION):
            item.ConceptCodeSequence[0].CodeValue = codes.CALIBRATED.value


def other_threshold(sr: Dataset) -> None:
    _number(_of(sr, "Pneumothorax"), codes.THRESHOLD).NumericValue = "50"


def no_verdict(sr: Dataset) -> None:
    (container,) = [i for i in walk(sr) if name_of(i) == as_code(codes.IMAGING_MEASUREMENTS)]
    container.ContentSequence = list(container.ContentSequence)[1:]


def other_age(sr: Dataset) -> None:
    _number(_of(sr, "series"), Concept("BONEAGE", codes.PRIVATE_SCHEME, "")).NumericValue = "12.25"


def swap_maps(sr: Dataset) -> None:
    first, second = (
        next(i for i in _of(sr, label).ContentSequence if i.ValueType == "IMAGE")
        for label in ("Nodule probability", "Grad-CAM")
    )
    first.ReferencedSOPSequence, second.ReferencedSOPSequence = (
        second.ReferencedSOPSequence,
        first.ReferencedSOPSequence,
    )


def other_maximum(sr: Dataset) -> None:
    (item,) = [i for i in walk(_of(sr, "Grad-CAM")) if i.ValueType == "NUM"]
    item.MeasuredValueSequence[0].NumericValue = "0.76"


MUTANTS: tuple[Mutant, ...] = (
    mirror_box, nudge_box, swap_axes, shift_box_by_a_slice, lose_a_slice, box_as_points, swap_boxes,
    wrong_score, wrong_size, score_as_a_share, other_kind, other_side, no_site, move_landmark,
    landmark_on_the_next_image, on_the_plane, surer_of_its_place, flip_verdict, flip_verdict_in_words,
    call_it_a_probability, call_it_calibrated, other_threshold, no_verdict, other_age, swap_maps,
    other_maximum,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"), said=everything())


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda f: f.__name__.replace("_", " "))
def test_a_report_that_says_something_else_stays_here(mutate: Mutant, made: Made, tmp_path: Path) -> None:
    sr = made.sr
    mutate(sr)
    sr.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    with pytest.raises(CheckFailed):
        replace(made, report=tmp_path / "report.dcm").check()


def _on_an_image() -> Iterator[Mutant]:
    def wide(sr: Dataset) -> None:
        for item in graphics(_of(sr, "Nodule 1")):
            xy = np.reshape(np.array(item.GraphicData, float), (-1, 2))
            item.GraphicData = [float(v) for v in np.c_[COLUMNS - xy[:, 0], xy[:, 1]].reshape(-1)]

    def frame(sr: Dataset) -> None:
        for item in graphics(_of(sr, "Carina")):
            item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber = 2

    yield wide
    yield frame


@pytest.mark.parametrize("mutate", [*_on_an_image()], ids=["mirrored", "another frame"])
def test_a_report_of_an_image_that_says_something_else_stays_here(mutate: Mutant, tmp_path: Path) -> None:
    made = make(tmp_path, of=image_source("US cine"), said=everything_on_an_image())
    sr = made.sr
    mutate(sr)
    sr.save_as(made.report, enforce_file_format=True)
    with pytest.raises(CheckFailed):
        made.check()

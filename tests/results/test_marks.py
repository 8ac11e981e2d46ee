"""What can be drawn of a report is a document that viewers draw: the same groups, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import pydicom
import pytest
from pydicom import Dataset

from results.check import CheckFailed
from results.content import walk
from tests.results.dciodvfy import complaints
from tests.results.everything import everything, everything_on_an_image, only
from tests.results.images import IMAGES, image_source
from tests.results.made import Made, make
from tests.results.series import findings
from tests.results.test_findings_in_report import graphics, groups


@pytest.mark.parametrize("kind", ["axial CT", "oblique CT", "enhanced MR"])
def test_it_draws_all_that_lies_on_an_image_and_has_no_group_that_would_blank_a_viewer(
    kind: str, tmp_path: Path
) -> None:
    made = make(tmp_path, kind, said=everything(kind))
    made.check()
    marks = pydicom.dcmread(made.marks)
    assert [*groups(marks)] == ["Nodule 1", "Nodule 2", "Carina", "Carina, lower end"]
    assert all(graphics(group) for group in groups(marks).values())
    assert all(group == groups(made.sr)[label] for label, group in groups(marks).items())
    assert marks.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert marks.SeriesDescription == "AI not verified: marks, lung_ct 1.0.0"
    assert complaints(made.marks, "ComprehensiveSR") == []


@pytest.mark.parametrize("kind", IMAGES)
def test_marks_on_an_image_pass_the_check_and_dciodvfy(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, of=image_source(kind), said=everything_on_an_image())
    made.check()
    assert complaints(made.marks, "ComprehensiveSR") == []


def test_highdicom_reads_it_as_a_measurement_report(tmp_path: Path) -> None:
    content = hd.sr.srread(make(tmp_path, said=everything()).marks).content
    assert len(content.get_planar_roi_measurement_groups()) == 3
    assert len(content.get_volumetric_roi_measurement_groups()) == 1


@pytest.mark.parametrize("kind", ["verdicts", "measurements", "maps"])
def test_where_nothing_lies_on_an_image_there_are_no_marks(kind: str, tmp_path: Path) -> None:
    assert make(tmp_path, said=only(kind)).marks is None
    assert make(tmp_path / "segments", said=findings()).marks is None


def lose_a_group(marks: Dataset) -> None:
    marks.ContentSequence[-2].ContentSequence = list(marks.ContentSequence[-2].ContentSequence)[1:]


def nudge(marks: Dataset) -> None:
    item = next(item for item in walk(marks) if item.ValueType == "SCOORD")
    item.GraphicData = [float(v) + 0.5 for v in item.GraphicData]


def retitle(marks: Dataset) -> None:
    marks.ConceptNameCodeSequence[0].CodeValue = "126001"


def other_patient(marks: Dataset) -> None:
    marks.PatientID = "MRN-0816"


def verified(marks: Dataset) -> None:
    marks.VerificationFlag = "VERIFIED"


def same_series(marks: Dataset) -> None:
    marks.SeriesInstanceUID = "1.2.3"


def no_evidence(marks: Dataset) -> None:
    marks.CurrentRequestedProcedureEvidenceSequence = []


def no_caution(marks: Dataset) -> None:
    marks.ContentSequence[-1].ContentSequence = list(marks.ContentSequence[-1].ContentSequence)[:-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"), said=everything())


@pytest.mark.parametrize(
    "mutate",
    [lose_a_group, nudge, retitle, other_patient, verified, same_series, no_evidence, no_caution],
    ids=lambda f: f.__name__.replace("_", " "),
)
def test_marks_that_are_not_those_of_the_report_stay_here(
    mutate: Callable[[Dataset], None], made: Made, tmp_path: Path
) -> None:
    marks = pydicom.dcmread(made.marks)
    mutate(marks)
    marks.save_as(tmp_path / "marks.dcm", enforce_file_format=True)
    with pytest.raises(CheckFailed):
        replace(made, marks=tmp_path / "marks.dcm").check()


def test_marks_that_are_missing_are_noticed(made: Made) -> None:
    with pytest.raises(CheckFailed, match="do not go together"):
        replace(made, marks=None).check()

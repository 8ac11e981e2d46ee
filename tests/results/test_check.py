"""The check stops every result that is not what the model said of these images: each mutant here must die."""

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.errors import ModelError
from results import codes
from results.check import CheckFailed
from results.segmentation import build
from tests.results.made import Made, asked, make
from tests.results.series import KINDS, a_run, findings, not_analysed, nothing_found, source


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path, said=findings(cautions=("The lung bases are cut off.",)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_from_the_findings_passes(kind: str, tmp_path: Path) -> None:
    make(tmp_path, kind).check()


@pytest.mark.parametrize("said", [nothing_found(), not_analysed()], ids=["nothing", "refused"])
def test_a_report_without_segments_passes(said, tmp_path: Path) -> None:
    made = make(tmp_path, said=said)
    assert made.segmentation is None
    made.check()


def test_a_model_that_confuses_left_and_right_is_stopped(tmp_path: Path) -> None:
    said = findings()
    right, left = said.segments
    confused = (replace(right, laterality=codes.LEFT), replace(left, laterality=codes.RIGHT))
    with pytest.raises(CheckFailed, match="lies to the patient's left"):
        make(tmp_path, said=replace(said, segments=confused)).check()


def test_a_model_whose_volume_is_not_that_of_its_voxels_is_stopped(tmp_path: Path) -> None:
    said = findings()
    first = said.segments[0]
    wrong = replace(first.measurements[0], value=first.measurements[0].value * 1.01)
    segments = (replace(first, measurements=(wrong, *first.measurements[1:])), said.segments[1])
    with pytest.raises(CheckFailed, match="volume of 'Right lung'"):
        make(tmp_path, said=replace(said, segments=segments)).check()


def test_results_of_another_patient_are_stopped_without_naming_anybody(made: Made) -> None:
    other = source(name="Other^Patient", PatientID="MRN-9999")
    with pytest.raises(CheckFailed) as stopped:
        replace(made, source=other).check()
    assert "Doe" not in str(stopped.value)
    assert "Other" not in str(stopped.value)
    assert "MRN" not in str(stopped.value)


def test_results_of_another_version_are_stopped(made: Made) -> None:
    with pytest.raises(CheckFailed, match="does not derive from this run"):
        replace(made, run=a_run(made.source, version="1.0.1")).check()


def test_a_missing_segmentation_is_noticed(made: Made) -> None:
    with pytest.raises(CheckFailed, match="there is no segmentation"):
        replace(made, segmentation=None).check()


def test_a_file_cut_short_is_noticed(made: Made) -> None:
    assert made.segmentation is not None
    made.segmentation.write_bytes(made.segmentation.read_bytes()[:-40])
    with pytest.raises(CheckFailed):
        made.check()


def test_a_file_that_is_no_dicom_is_noticed(made: Made) -> None:
    made.report.write_bytes(b"not a report")
    with pytest.raises(CheckFailed, match="cannot be read back"):
        made.check()


def test_a_report_that_calls_a_refusal_a_finding_is_stopped(tmp_path: Path) -> None:
    made = make(tmp_path, said=not_analysed())
    with pytest.raises(CheckFailed, match="outcome"):
        replace(made, findings=replace(nothing_found(), because=made.findings.because)).check()


def test_a_failed_check_is_the_models_fault(tmp_path: Path) -> None:
    assert issubclass(CheckFailed, ModelError)


def test_the_label_map_may_hold_no_voxel_without_a_segment(tmp_path: Path) -> None:
    labels = findings().label_map.copy()
    labels[0, 0, 0] = 7
    said = findings(label_map=labels)
    of = source()
    with pytest.raises(ModelError, match="has a voxel of 7"):
        build(asked(said, of))


def test_an_image_that_moved_after_loading_is_not_encoded(tmp_path: Path) -> None:
    of = source()
    of.datasets[3].ImagePositionPatient = [0, 0, 99]
    with pytest.raises(ModelError, match="beside its own images"):
        build(asked(findings(), of))

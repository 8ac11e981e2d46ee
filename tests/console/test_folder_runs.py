"""What one run of a model is, in a folder of images: a series, an image, a study, a patient's timeline."""

from pathlib import Path

import pydicom
import pytest

from console.folder import look_into
from console.folder_runs import FolderRun, NotTaken, runs_of
from models.contract import BrokenModel
from models.manifest import Input
from models.registry import open_model
from tests.worker.images import radiograph, written
from tests.worker.test_run_inputs import GREY, channels, ct, mr

MODELS = "tests.worker.input_models"


def runs(model: str, folder: Path) -> tuple[list[FolderRun], list[NotTaken]]:
    manifest = open_model(f"{MODELS}:{model}", allow_python=True).manifest
    return runs_of(manifest, look_into(folder).series)


def test_every_image_is_a_run_of_a_model_of_images(tmp_path):
    for k in range(3):
        written(radiograph(GREY, instance=f"2.25.30{k}"), tmp_path / "in", f"{k}.dcm")
    ct(tmp_path / "in", 1, "20260101")

    made, left = runs("Opacity", tmp_path / "in")

    assert [run.files.inputs for run in made] == [(str(tmp_path / "in" / f"{k}.dcm"),) for k in range(3)]
    assert [run.folder for run in made] == ["series-1-image-1", "series-1-image-2", "series-1-image-3"]
    assert [one.because for one in left] == ["modality is CT, opacity takes DX"]


def test_a_study_that_has_every_input_is_one_run(tmp_path):
    paths = channels(tmp_path / "in")
    mr(tmp_path / "in", 3, level=7)

    (run,), left = runs("Subtraction", tmp_path / "in")

    assert {name: set(files) for name, files in run.files.named.items()} == {
        name: {str(path) for path in files} for name, files in paths.items()
    }
    assert set(run.reference) == set(paths["t1c"])
    assert [one.because for one in left] == [
        "t1c: a contrast medium is not named, rule asks one; flair: SequenceVariant is 'NONE', rule asks /IR/"
    ]


def test_a_study_that_lacks_an_input_is_no_run_and_says_which(tmp_path):
    mr(tmp_path / "in", 1, level=100, ContrastBolusAgent="Gadovist")

    made, left = runs("Subtraction", tmp_path / "in")

    assert made == []
    assert [one.because for one in left] == ["it would be t1c, but no series is flair"]


def test_the_latest_study_of_a_patient_is_the_one_of_a_timeline(tmp_path):
    for number, day in ((1, "20240101"), (2, "20260101"), (3, "20250101")):
        ct(tmp_path / "in", number, day)

    (run,), left = runs("Growth", tmp_path / "in")

    assert all("/2/" in path for path in run.files.inputs)
    assert ["/3/" in paths[0] for paths in run.files.earlier] == [True, False]
    assert run.files.earlier_asked == 2
    assert left == []


def test_two_patients_are_two_timelines(tmp_path):
    ct(tmp_path / "in", 1, "20240101")
    for path in ct(tmp_path / "other", 2, "20260101"):
        dataset = pydicom.dcmread(path)
        dataset.PatientBirthDate = "19990101"
        dataset.save_as(tmp_path / "in" / f"other{Path(path).name}")

    made, _ = runs("Growth", tmp_path / "in")

    assert sorted(len(run.files.earlier) for run in made) == [0, 0]


def test_a_manifest_that_asks_the_impossible_is_told_by_its_name(tmp_path):
    channels(tmp_path / "in")
    manifest = open_model(f"{MODELS}:Subtraction", allow_python=True).manifest
    wrong = manifest.model_copy(
        update={"inputs": (manifest.inputs[0], Input(name="x", modality=("MR",), description="("))}
    )
    with pytest.raises(BrokenModel, match=r"subtraction@1\.0\.0, input x"):
        runs_of(wrong, look_into(tmp_path / "in").series)

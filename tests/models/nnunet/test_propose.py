"""What a folder is proposed as to whoever adds it."""

import json
from pathlib import Path

import pytest

from models.manifest import Manifest
from models.runtimes.nnunet import propose
from models.structures import STRUCTURES
from models.totalsegmentator import number_of, task_of, tasks
from tests.models.nnunet.cases import Case
from tests.models.nnunet.folders import write_folder

TRAINER = "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"


def downloaded(root: Path, *numbers: int) -> Path:
    """Folders by the names of TotalSegmentator's, with networks of chance."""
    for number in numbers:
        write_folder(root / f"Dataset{number:03}_x_1559subj" / TRAINER, Case())
    return root


def manifest(proposed: dict) -> Manifest:
    """The proposal, completed with what only a person can say."""
    said = {"version": "1", "intended_use": "tests", "limits": (), "time_limit_s": 60, "memory_mib": 1}
    return Manifest.model_validate(said | proposed["manifest"])


def test_the_five_parts_of_total_become_one_label_map_of_117(tmp_path) -> None:
    proposed = propose(downloaded(tmp_path, 291, 292, 293, 294, 295))
    made = manifest(proposed)
    assert [part["first"] for part in made.options["parts"]] == [0, 24, 50, 68, 91]
    assert [part["keep"] for part in made.options["parts"]] == [24, 26, 18, 23, 26]
    assert len(made.segments) == 117
    assert [made.segments[n].structure for n in (0, 51, 116)] == ["spleen", "aorta", "costal_cartilages"]
    assert made.options["orientation"] == "RAS"
    assert made.options["mirror"] is False
    assert (made.licence, made.licence_key, made.name) == ("Apache-2.0", False, "totalsegmentator_total")
    assert proposed["missing"] == []


def test_a_coarse_model_draws_the_whole_task_alone(tmp_path) -> None:
    made = manifest(propose(downloaded(tmp_path, 297)))
    assert len(made.segments) == 117
    assert "parts" not in made.options
    assert made.title.endswith("at 3 mm")


def test_a_part_that_is_not_there_is_missed(tmp_path) -> None:
    proposed = propose(downloaded(tmp_path, 291, 293))
    assert len(manifest(proposed).segments) == 24 + 18
    assert "data set 292, 294, 295 is not here" in proposed["missing"][0]
    assert manifest(proposed).segments[24].value == 51


def test_a_part_alone_keeps_its_own_numbers(tmp_path) -> None:
    made = manifest(propose(downloaded(tmp_path, 293)))
    assert [(one.number, one.value) for one in made.segments][:2] == [(1, 1), (2, 2)]
    assert made.segments[0].structure == "heart"


def test_a_task_with_a_licence_key_says_so(tmp_path) -> None:
    proposed = propose(downloaded(tmp_path, 301))
    made = manifest(proposed)
    assert made.licence_key
    assert any("only with a licence key" in one for one in proposed["missing"])
    assert any("only around heart" in one for one in proposed["missing"])


def test_every_licensed_task_is_known_as_such() -> None:
    keyed = {name for name, task in tasks().items() if task.licence_key}
    assert keyed >= {
        "heartchambers_highres", "appendicular_bones", "appendicular_bones_mr", "tissue_types",
        "tissue_types_mr", "tissue_4_types", "brain_structures", "face", "face_mr", "thigh_shoulder_muscles",
        "coronary_arteries", "aortic_sinuses",
    }  # fmt: skip
    assert not tasks()["total"].licence_key
    assert tasks()["brain_aneurysm"].licence == "CC BY-NC 4.0"


def test_no_data_set_belongs_to_two_tasks() -> None:
    sets = [number for task in tasks().values() for number in (*task.parts, *task.whole)]
    assert len(sets) == len(set(sets)) > 50


@pytest.mark.parametrize(
    ("path", "number"), [("a/Dataset291_TotalSegmentator_part1/b", 291), ("Task291", None)]
)
def test_the_number_is_in_the_name(path, number) -> None:
    assert number_of(path) == number
    assert task_of(999) is None


def test_somebody_elses_folder_is_as_good_as_its_labels(tmp_path) -> None:
    case = Case(labels=(("background", 0), ("Liver", 1), ("left kidney", 3), ("flux capacitor", 2)))
    proposed = propose(write_folder(tmp_path / "model", case).parent)
    by_value = {one["number"]: one for one in proposed["manifest"]["segments"]}
    assert by_value[1]["structure"] == "liver"
    assert by_value[2] == {
        "number": 2, "value": 3, "label": STRUCTURES["kidney_left"].label, "structure": "kidney_left"
    }  # fmt: skip
    assert any("flux capacitor" in one for one in proposed["missing"])
    assert any("Which way did the training images lie" in one for one in proposed["missing"])


def test_regions_and_channels_are_proposed(tmp_path) -> None:
    case = Case(labels=(("background", 0), ("whole", [1, 2]), ("core", 2)), regions=(1, 2),
                normalisers=("ZScoreNormalization",) * 2, masked=(True, True))  # fmt: skip
    folder = write_folder(tmp_path / "model", case)
    described = json.loads((folder / "dataset.json").read_text())
    described["channel_names"] = {"0": "T1", "1": "FLAIR"}
    (folder / "dataset.json").write_text(json.dumps(described))
    proposed = propose(folder)["manifest"]
    assert proposed["segments"][0]["region"] == [1, 2]
    assert [one["name"] for one in proposed["inputs"]] == ["T1", "FLAIR"]
    assert proposed["inputs"][0]["modality"] == ["MR"]
    assert proposed["given"] == "series"


def test_folders_of_two_tasks_are_two_models(tmp_path) -> None:
    proposed = propose(downloaded(tmp_path, 291, 299))
    assert "several tasks of TotalSegmentator (body, total)" in proposed["missing"][0]


def test_a_folder_without_plans_is_none(tmp_path) -> None:
    assert "no plans.json" in propose(tmp_path)["missing"][0]
    assert propose(tmp_path)["manifest"]["runtime"] == "nnunet"


def test_files_that_are_not_there_are_missed(tmp_path) -> None:
    folder = write_folder(tmp_path / "model", Case())
    (folder / "fold_0/checkpoint_final.pth").unlink()
    assert any("no fold_X/checkpoint_final.pth" in one for one in propose(folder)["missing"])

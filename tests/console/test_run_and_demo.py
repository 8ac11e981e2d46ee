"""A folder in and results out; and the whole journey, shown."""

import json
import re
from pathlib import Path

import pydicom
import pytest

from console.reading import read_report
from console.run import settings_said
from ledger.errors import SiteError
from models.training.phantom_series import write_series
from models.training.phantoms import chest
from tests.console.conftest import ROOT, Wetread
from tests.patience import patient

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def phantom():
    return chest((40, 128, 128), seed=7, emphysema=0.1)


def test_a_folder_becomes_results_with_the_phantoms_own_values(
    wetread: Wetread, tmp_path: Path, phantom
) -> None:
    write_series(phantom, tmp_path / "in")
    write_series(chest((3, 64, 64)), tmp_path / "in" / "scout", series_number=2, accession="other")
    (tmp_path / "in" / "README.txt").write_text("not DICOM")

    done = wetread("run", "lung_ct", "in", "-o", "out", timeout_s=patient(120))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "refused: There are 3 slices; lung_ct@1.1.0 is made for at least 20." in done.stdout
    assert "1 file is no complete DICOM instance" in done.stdout
    out = tmp_path / "out" / "series-1"
    assert (out / "overlay.png").read_bytes().startswith(PNG)
    assert pydicom.dcmread(out / "segmentation.dcm").Modality == "SEG"
    volumes = {
        value.about: value.value for value in read_report(out / "report.dcm").values if value.name == "Volume"
    }
    truths = {"right": phantom.right.volume_ml, "left": phantom.left.volume_ml}
    assert len(volumes) == 2
    for about, volume in volumes.items():
        truth = next(value for side, value in truths.items() if side in about.lower())
        assert volume == pytest.approx(truth, rel=0.03)
        assert f"{volume:,.0f}".replace(",", " ") in done.stdout


def test_a_setting_of_the_model_can_be_given_as_a_rule_would(
    wetread: Wetread, tmp_path: Path, phantom
) -> None:
    write_series(phantom, tmp_path / "in")

    done = wetread(
        "run", "lung_ct", "in", "-o", "out", "--set", "thirds_as_segments=true", timeout_s=patient(120)
    )

    assert done.returncode == 0, done.stdout + done.stderr
    labels = {
        str(one.SegmentLabel) for one in pydicom.dcmread(tmp_path / "out/segmentation.dcm").SegmentSequence
    }
    assert {"Lung, right, upper third", "Lung, left, lower third"} <= labels


def test_a_setting_that_the_model_does_not_have_is_said(wetread: Wetread, tmp_path: Path, phantom) -> None:
    write_series(phantom, tmp_path / "in")

    done = wetread("run", "lung_ct", "in", "-o", "out", "--set", "colour=red", timeout_s=patient(120))

    assert done.returncode == 1
    assert "lung_ct cannot use the settings of this rule" in " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("said", ["thirds_as_segments", "=6", ""])
def test_what_sets_nothing_is_said(said: str) -> None:
    with pytest.raises(SiteError, match="sets nothing: write name=value"):
        settings_said([said])


def test_values_of_settings_are_read_as_toml_reads_them_and_other_words_are_text() -> None:
    said = ["n=6", "size=4.5", "on=true", 'name="a=b"', "word=liver", "path=a/b c", "list=[1]"]
    assert settings_said(said) == {
        "n": 6, "size": 4.5, "on": True, "name": "a=b", "word": "liver", "path": "a/b c", "list": "[1]",
    }  # fmt: skip


def test_a_folder_with_nothing_for_the_model_ends_with_the_reason(wetread: Wetread, tmp_path: Path) -> None:
    write_series(chest((24, 64, 64)), tmp_path / "in", Modality="MR")

    done = wetread("run", "lung_ct", "in", "-o", "out")

    assert done.returncode == 1
    assert "modality is MR, lung_ct takes CT" in done.stdout
    assert "no series in" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"StudyInstanceUID": ""}, "2 DICOM files have no Study Instance UID"),
        ({"SOPClassUID": "1.2.3.x"}, "2 DICOM files have no SOP Class UID"),
    ],
)
def test_files_without_a_uid_are_told_from_files_that_are_not_dicom(
    wetread: Wetread, tmp_path: Path, attributes: dict[str, str], said: str
) -> None:
    for path in write_series(chest((2, 32, 32)), tmp_path / "in"):
        dataset = pydicom.dcmread(path)
        dataset.update(attributes)
        dataset.save_as(path, enforce_file_format=False)
    (tmp_path / "in" / "a.txt").write_text("not DICOM")

    done = wetread("run", "lung_ct", "in", "-o", "out")

    assert said in done.stdout
    assert "1 file is no complete DICOM instance" in done.stdout


REFUSED = {
    "gantrytilting": "The gantry is tilted by 14.0 degrees",
    "notavolume": "4 images at the same position",
    "sliceincrement": "A gap of 10.0 mm after slice 1, others are 5.0 mm: 1 slice missing",
    "sliceorientation": "modality is MR, lung_ct takes CT",
}


@pytest.mark.real
@pytest.mark.parametrize("folder", REFUSED)
def test_a_series_that_is_no_volume_is_refused_with_its_own_reason(
    wetread: Wetread, tmp_path: Path, folder: str
) -> None:
    real = ROOT.parent / "shared" / "data" / "geometry_failing_dicom2nifti" / folder
    if not real.is_dir():
        pytest.skip("the real images are not here")
    assert REFUSED[folder] in wetread("run", "lung_ct", real, "-o", "out").stdout


def test_code_of_ones_own_runs_without_a_setting(wetread: Wetread, tmp_path: Path) -> None:
    write_series(chest((24, 64, 64)), tmp_path / "in")

    done = wetread("run", "tests.worker.fault_models.models:Fine", "in", "-o", "out", timeout_s=patient(120))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.dcm").exists()


@pytest.mark.parametrize("device", ["cuda:77", "banana"])
def test_a_device_that_is_not_there_is_said_before_anything_is_read(
    wetread: Wetread, tmp_path: Path, device: str
) -> None:
    done = wetread("run", "lung_ct", ".", "-o", "out", "--device", device)

    assert done.returncode == 1
    assert f"there is no device '{device}' that could be used here, only cpu" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_model_refuses_gets_a_report_and_a_failure(wetread: Wetread, tmp_path: Path) -> None:
    legs = chest((24, 96, 96), spacing_mm=(3.0, 3.0, 3.0), centre_mm=(0.0, 0.0, -600.0))
    write_series(legs, tmp_path / "in")

    done = wetread("run", "lung_ct", "in", "-o", "out", timeout_s=patient(120))

    assert done.returncode == 1
    assert "refused: " in done.stdout
    assert (tmp_path / "out" / "report.dcm").exists()
    assert not (tmp_path / "out" / "segmentation.dcm").exists()


def test_an_unknown_model_is_named(wetread: Wetread, tmp_path: Path) -> None:
    done = wetread("run", "lung_tc", ".", "-o", "out")
    assert done.returncode == 1
    assert "there is no model 'lung_tc' here" in done.stderr


@pytest.mark.journey
@pytest.mark.peer
def test_the_demo_is_true_from_scanner_to_archive(wetread: Wetread, tmp_path: Path) -> None:
    done = wetread("demo", "--keep", "kept", timeout_s=patient(180))

    assert done.returncode == 0, done.stdout + done.stderr
    stages = re.findall(r"^ok +(\S+)", done.stdout, re.MULTILINE)
    begun, made = ["images", "started", "sent"], ["results", "delivered", "re-read"]
    assert stages == [*begun, "received", "closed", "routed", "queued", "running", *made]
    assert "All of it is true." in done.stdout
    kept = tmp_path / "kept"
    assert sorted(path.name for path in (kept / "archive").iterdir()) == ["SEG-1.dcm", "SR-1.dcm"]
    assert (kept / "overlay.png").read_bytes().startswith(PNG)
    # The same site can be looked at afterwards.
    shown = wetread("show", "--config", kept / "wetread.toml", "DEMO-1").stdout
    assert "lung_ct has a result, and archive has it." in shown

    # And when the ledger is lost, the spool still has every image.
    for path in (kept / "wetread-data").glob("ledger.sqlite*"):
        path.unlink()
    rebuilt = wetread("rebuild", "--config", kept / "wetread.toml")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "200 instances are in the ledger again" in rebuilt.stdout
    assert "What is lost" in rebuilt.stdout
    again = wetread("rebuild", "--config", kept / "wetread.toml").stdout
    assert "the ledger already had every instance" in again
    assert "What is lost" not in again
    status = json.loads(wetread("status", "--json", "--config", kept / "wetread.toml").stdout)
    assert status["counts"]["instances"] == 200


def test_the_demo_wants_a_folder_of_its_own(wetread: Wetread, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "thesis.doc").write_text("mine")

    done = wetread("demo", "--keep", "kept")
    assert done.returncode == 1
    assert "is not empty" in done.stderr


@pytest.mark.peer
def test_a_folder_that_no_model_takes_fails_the_demo_with_the_reason(
    wetread: Wetread, tmp_path: Path
) -> None:
    write_series(chest((12, 64, 64)), tmp_path / "in")

    done = wetread("demo", "--dicom", "in", "--keep", "kept", timeout_s=patient(120))
    assert done.returncode == 1
    assert "12 images, rule asks at least 20" in done.stderr

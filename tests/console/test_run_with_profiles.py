"""`wetread run --profile` and `--with`: the objects of a profile, in a folder."""

from collections import Counter
from pathlib import Path

import pydicom
import pytest

from models.training.phantom_series import write_series
from models.training.phantoms import chest
from tests.console.conftest import Wetread
from tests.patience import patient


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_series(chest((40, 96, 96)), folder)
    return folder


def _names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.dcm")}


def test_a_plain_pacs_gets_pages_and_pictures_that_open_and_one_report(
    wetread: Wetread, tmp_path: Path, images: Path
) -> None:
    done = wetread("run", "lung_ct", images, "-o", "out", "--profile", "plain-pacs", timeout_s=patient(120))
    assert done.returncode == 0, done.stdout + done.stderr
    assert _names(tmp_path / "out") == {"segmentation", "overlay", "summary", "document", "report"}
    made = [pydicom.dcmread(path) for path in (tmp_path / "out").glob("*.dcm")]
    assert Counter(one.Modality for one in made) == {"SEG": 1, "OT": 2, "DOC": 1, "SR": 1}
    report = next(one for one in made if one.Modality == "SR")
    named = {str(e.value) for e in report.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    assert {str(one.SOPInstanceUID) for one in made if one is not report} <= named


def test_kinds_come_beside_those_of_the_profile(wetread: Wetread, tmp_path: Path, images: Path) -> None:
    done = wetread(
        "run",
        "lung_ct",
        images,
        "-o",
        "out",
        "--with",
        "structure-set",
        "--with",
        "summary",
        timeout_s=patient(120),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"segmentation", "structure set", "summary", "report"} <= _names(tmp_path / "out")
    assert "overlay" not in _names(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--profile", "osirix"),
            "there is no profile 'osirix': take ohif, slicer, weasis, plain-pacs, air",
        ),
        (("--with", "hologram"), "'hologram' is no kind"),
    ],
)
def test_what_is_not_known_is_said_before_anything_is_read(
    wetread: Wetread, tmp_path: Path, images: Path, options: tuple[str, ...], says: str
) -> None:
    done = wetread("run", "lung_ct", images, "-o", "out", *options)
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()

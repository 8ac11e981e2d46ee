"""Fundus photographs: vessels and field against phantoms with a known truth, faults, refusals."""

import subprocess

import numpy as np
import pydicom
import pytest

from ledger.job import Outcome
from ledger.result import Role
from models.builtin.fundus_quality.model import FundusQuality
from models.contract import Context, Image, SettingsNotUnderstood
from models.training.fundus_phantom import FundusPhantom, fundus, write_fundus
from results import codes
from results.findings import Concept, Findings
from tests.peers.programs import find
from worker.exchange import RunRequest
from worker.load_image import load_image
from worker.run import analyse


@pytest.fixture(scope="module")
def model() -> FundusQuality:
    return FundusQuality()


@pytest.fixture(scope="module")
def right_eye() -> FundusPhantom:
    return fundus(400, seed=1)


def look(model: FundusQuality, array: np.ndarray, **headers: str) -> Findings:
    said = {"Modality": "OP", "ImageLaterality": "R"} | headers
    return model.run(Image(array=array, spacing_mm=None, headers=said), Context(headers=said))


def value(findings: Findings, name: Concept) -> float:
    return next(one.value for one in findings.measurements if one.name == name)


def grade(findings: Findings, label: str) -> Concept:
    return next(one.value for one in findings.grades if one.label == label)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def test_field_and_vessels_are_those_of_the_phantom(model) -> None:
    phantom = fundus(640, seed=2)

    findings = look(model, phantom.rgb)

    assert findings.outcome is Outcome.FOUND, findings.because
    assert dice(findings.mask(1)[0], phantom.view) > 0.98
    assert dice(findings.mask(2)[0], phantom.vessels) > 0.7
    assert value(findings, codes.VESSEL_DENSITY) == pytest.approx(phantom.vessel_percent, abs=2.5)


def test_a_good_photograph_is_inconspicuous(right_eye, model) -> None:
    findings = look(model, right_eye.rgb)

    assert {one.value for one in findings.grades} == {codes.INCONSPICUOUS}
    assert findings.cautions == ("Quality and vessel density only: no grade and no diagnosis.",)


def test_a_photograph_out_of_focus_is_unsharp(model) -> None:
    findings = look(model, fundus(400, blur_pixels=4, seed=1).rgb)

    assert grade(findings, "Sharpness") == codes.UNSHARP
    assert any("vessel density is too low" in caution for caution in findings.cautions)


def test_a_shadow_over_one_half_is_uneven_light(model) -> None:
    findings = look(model, fundus(400, shade=0.85, seed=1).rgb)

    assert grade(findings, "Light") == codes.UNEVEN


def test_a_dark_photograph_is_under_exposed(right_eye, model) -> None:
    findings = look(model, (right_eye.rgb * 0.18).astype(np.uint8))

    assert grade(findings, "Light") == codes.UNDER_EXPOSED


def test_a_disc_on_the_wrong_side_contradicts_the_headers(right_eye, model) -> None:
    findings = look(model, right_eye.rgb, ImageLaterality="L")
    mirrored = look(model, np.ascontiguousarray(right_eye.rgb[:, ::-1]))

    assert grade(findings, "Side") == grade(mirrored, "Side") == codes.SIDE_CONTRADICTED
    assert any("headers say left eye" in caution for caution in findings.cautions)


def test_a_disc_in_the_middle_says_nothing_of_the_side(model) -> None:
    findings = look(model, fundus(400, centred_on_disc=True, seed=1).rgb)

    assert grade(findings, "Side") == codes.NOT_JUDGED


def test_without_a_side_in_the_headers_none_is_guessed(right_eye, model) -> None:
    findings = look(model, right_eye.rgb, ImageLaterality="")

    assert grade(findings, "Side") == codes.NOT_JUDGED
    assert all(segment.laterality is None for segment in findings.segments)


def orange() -> np.ndarray:
    """A fruit on a dark table: round and of the right colours."""
    y, x = np.mgrid[:300, :300]
    fruit = np.hypot(y - 150, x - 150) < 130
    noise = np.random.default_rng(0).normal(0, 2, (300, 300, 3))
    return np.clip(fruit[..., None] * np.array([220, 120, 30]) + noise, 0, 255).astype(np.uint8)


def landscape() -> np.ndarray:
    sky = np.zeros((300, 400, 3))
    sky[:150] = (110, 150, 220)
    sky[150:] = (90, 130, 60)
    return np.clip(sky + np.random.default_rng(1).normal(0, 4, sky.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("array", "headers", "says"),
    [
        (orange(), {}, "No vessels are seen"),
        (landscape(), {}, "round edge"),
        (np.full((300, 300, 3), 9, np.uint8), {}, "blank"),
        (np.random.default_rng(0).integers(0, 255, (300, 300, 3)).astype(np.uint8), {}, "noise"),
        (np.zeros((300, 300), np.uint8), {}, "grey"),
        (np.zeros((120, 120, 3), np.uint8), {}, "120 x 120 pixels"),
        (orange(), {"Modality": "XC"}, "modality"),
        (np.ascontiguousarray(fundus(300, seed=1).rgb[..., ::-1]), {}, "colours of a fundus"),
    ],
    ids=["orange", "landscape", "blank", "noise", "grey", "tiny", "modality", "blue"],
)
def test_what_is_no_colour_fundus_is_refused_with_the_reason(array, headers, says, model) -> None:
    findings = look(model, array, **headers)

    assert findings.outcome is Outcome.REFUSED
    assert says in findings.because


def test_a_setting_is_not_ignored(right_eye, model) -> None:
    with pytest.raises(SettingsNotUnderstood):
        model.run(
            Image(array=right_eye.rgb, spacing_mm=None),
            Context(headers={"Modality": "OP"}, settings={"any": 1}),
        )


def test_a_photograph_on_disk_becomes_a_segmentation_and_a_report(right_eye, tmp_path) -> None:
    path = write_fundus(right_eye, tmp_path / "in" / "image.dcm")
    assert (load_image(path).image.array == right_eye.rgb).all()
    out = tmp_path / "out"
    out.mkdir()

    reply = analyse(
        RunRequest(model="fundus_quality", inputs=(str(path),), out=str(out), at=1e9, device="cpu")
    )

    assert reply.outcome is Outcome.FOUND, reply.because
    files = {one.role: pydicom.dcmread(one.path) for one in reply.files}
    labels = [str(one.SegmentLabel) for one in files[Role.SEGMENTATION].SegmentSequence]
    assert labels == ["Field of view", "Vessels"]
    said = [str(one.value) for one in files[Role.REPORT].iterall() if one.keyword == "TextValue"]
    assert any("no grade and no diagnosis" in text for text in said)


@pytest.mark.peer
def test_the_phantom_is_an_ophthalmic_photograph_of_the_standard(right_eye, tmp_path) -> None:
    path = write_fundus(right_eye, tmp_path / "image.dcm")

    checked = subprocess.run([find("dciodvfy"), "-new", path], capture_output=True, text=True, check=False)

    assert "Error" not in checked.stdout + checked.stderr

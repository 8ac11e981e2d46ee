"""Calcium in the region of the heart: phantoms with lesions painted into them, and what is refused."""

import numpy as np
import pydicom
import pytest

from ledger.job import Outcome
from models.builtin.calcium_ct.model import CalciumCT
from models.contract import Context, SettingsNotUnderstood
from models.training.phantom_series import write_series
from models.training.phantoms import Phantom, chest
from results import codes
from worker.exchange import RunRequest
from worker.run import analyse

HEADERS = {"Modality": "CT", "KVP": "120", "SliceThickness": "3"}
GATED = {**HEADERS, "CardiacSynchronizationTechnique": "PROSPECTIVE"}
LAD, RCA, AORTA = (62.0, -44.0, -38.0), (-28.0, -24.0, -40.0), (36.0, 44.0, -40.0)


@pytest.fixture(scope="module")
def model() -> CalciumCT:
    model = CalciumCT()
    model.load("cpu")
    return model


@pytest.fixture(scope="module")
def heart() -> Phantom:
    """As narrow as a gated scan of the heart is."""
    return chest((40, 128, 128), (3.0, 1.45, 1.45), seed=3, noise_hu=6, centre_mm=(15.0, 0.0, -35.0))


def painted(phantom: Phantom, *lesions: tuple[tuple[float, float, float], int]) -> tuple[Phantom, np.ndarray]:
    """The phantom's voxels with blocks of 3 slices, 4 rows and 5 columns at places in LPS mm, and where."""
    hu, where = phantom.hu.copy(), np.zeros(phantom.hu.shape, np.bool_)
    for place, value in lesions:
        k, i, j = np.round(phantom.geometry.map_reference_to_indices(np.array([place]))[0]).astype(int)
        hu[k : k + 3, i : i + 4, j : j + 5] = value
        where[k : k + 3, i : i + 4, j : j + 5] = True
    return phantom.geometry.with_array(hu), where


def block_score(weight: int, pixel_mm: float = 1.45) -> float:
    return 3 * 4 * 5 * pixel_mm**2 * weight


def value(findings, name) -> float:
    (segment,) = findings.segments
    return next(one.value for one in segment.measurements if one.name == name)


def test_lesions_on_the_heart_have_the_score_that_one_counts_by_hand(model, heart) -> None:
    volume, where = painted(heart, (LAD, 250), (RCA, 450))

    findings = model.run(volume, Context(headers=GATED))

    assert findings.outcome is Outcome.FOUND, findings.because
    assert value(findings, codes.CALCIUM_SCORE) == pytest.approx(block_score(2) + block_score(4))
    assert value(findings, codes.VOLUME) == pytest.approx(where.sum() * heart.geometry.voxel_volume)
    assert (findings.mask(1) == where).all()
    assert findings.grades[0].value.value == "CACDRSA3"
    assert findings.grades[0].inputs[0].value == value(findings, codes.CALCIUM_SCORE)


def test_mass_is_said_only_with_a_calibration_of_the_site(model, heart) -> None:
    volume, where = painted(heart, (LAD, 250))

    without = model.run(volume, Context(headers=GATED))
    calibrated = model.run(volume, Context(headers=GATED, settings={"mass_mg_per_mm3_hu": 0.0008}))

    assert codes.CALCIUM_MASS not in {one.name for one in without.segments[0].measurements}
    expected = 250 * where.sum() * heart.geometry.voxel_volume * 0.0008
    assert value(calibrated, codes.CALCIUM_MASS) == pytest.approx(expected)


def test_calcium_of_the_aorta_beside_the_spine_is_not_coronary(model, heart) -> None:
    volume, _ = painted(heart, (AORTA, 450))

    findings = model.run(volume, Context(headers=GATED))

    assert findings.outcome is Outcome.NOTHING
    assert findings.grades[0].value.value == "CACDRSA0"
    assert findings.measurements[0].value == 0


def test_without_gating_only_the_category_is_said(model, heart) -> None:
    volume, _ = painted(heart, (LAD, 250))

    findings = model.run(volume, Context(headers=HEADERS))

    names = {one.name for one in findings.segments[0].measurements}
    assert names == {codes.VOLUME}
    assert findings.grades[0].inputs == ()
    assert findings.grades[0].value.value == "CACDRSA2"
    assert any("without gating" in caution for caution in findings.cautions)


def test_another_tube_voltage_has_other_limits(model, heart) -> None:
    volume, _ = painted(heart, (LAD, 280))

    scores = {
        kvp: value(model.run(volume, Context(headers={**GATED, "KVP": kvp})), codes.CALCIUM_SCORE)
        for kvp in ("80", "120", "135")
    }

    assert scores == {
        "80": pytest.approx(block_score(2)),
        "120": pytest.approx(block_score(2)),
        "135": pytest.approx(block_score(3)),
    }


def test_the_order_of_the_slices_changes_nothing(model, heart) -> None:
    volume, where = painted(heart, (LAD, 250))

    findings = model.run(volume.flip_spatial(0), Context(headers=GATED))

    assert value(findings, codes.CALCIUM_SCORE) == pytest.approx(block_score(2))
    assert (np.flip(findings.label_map, 0).astype(bool) == where).all()


def test_blood_that_is_bright_is_refused_whatever_the_headers_say(model, heart) -> None:
    hu = heart.hu.copy()
    x, y, z = np.moveaxis(
        heart.geometry.map_indices_to_reference(np.argwhere(np.ones(hu.shape, bool))), 1, 0
    ).reshape(3, *hu.shape)
    hu[(x - 22) ** 2 + (y + 18) ** 2 + (z + 42) ** 2 < 22**2] = 280

    findings = model.run(heart.geometry.with_array(hu), Context(headers=GATED))

    assert findings.outcome is Outcome.REFUSED
    assert "blood seems to be enhanced" in findings.because


def test_noise_that_would_be_scored_is_refused(model, heart) -> None:
    noise = np.random.default_rng(1).normal(0, 60, heart.hu.shape)

    findings = model.run(
        heart.geometry.with_array((heart.hu + noise).astype(np.int16)), Context(headers=GATED)
    )

    assert findings.outcome is Outcome.REFUSED
    assert "too noisy" in findings.because


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({**GATED, "Modality": "MR"}, "modality"),
        ({**GATED, "KVP": ""}, "tube voltage"),
        ({**GATED, "ContrastBolusAgent": "Iohexol"}, "Contrast medium was given"),
        ({**GATED, "SliceThickness": "8"}, "more than 5 mm"),
    ],
    ids=str,
)
def test_headers_that_make_a_score_wrong_are_refused(headers, says, model, heart) -> None:
    findings = model.run(heart.volume, Context(headers=headers))

    assert findings.outcome is Outcome.REFUSED
    assert says in findings.because


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((40, 60, 60), -1000, np.int16), "nothing but air"),
        (np.full((40, 60, 60), 40, np.int16), "spine"),
        (np.full((40, 60, 60), np.nan, np.float32), "not numbers"),
        (np.zeros((3, 60, 60), np.int16), "3 slices"),
        (np.random.default_rng(0).normal(0, 500, (40, 60, 60)).astype(np.float32), "."),
    ],
    ids=["air", "water", "not numbers", "scout", "noise"],
)
def test_what_shows_no_heart_is_refused(array, says, model, heart) -> None:
    import highdicom as hd

    volume = hd.Volume(
        array, np.array([[0, 0, 1.4, 0], [0, 1.4, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]]), "PATIENT"
    )

    findings = model.run(volume, Context(headers=GATED))

    assert findings.outcome is Outcome.REFUSED
    assert says in findings.because


def test_slices_that_are_not_axial_are_refused(model) -> None:
    findings = model.run(chest((40, 60, 60), (1.4, 1.4, 1.4), plane="coronal").volume, Context(headers=GATED))

    assert "not axial" in findings.because


def test_settings_that_make_no_sense_are_the_sites_fault(model, heart) -> None:
    with pytest.raises(SettingsNotUnderstood, match="limits_hu rise"):
        model.run(heart.volume, Context(headers=GATED, settings={"limits_hu": [200, 130, 300, 400]}))


def test_limits_of_the_site_are_said_beside_the_score(model, heart) -> None:
    volume, _ = painted(heart, (LAD, 250))
    settings = {"limits_hu": [120.0, 180.0, 240.0, 400.0]}

    findings = model.run(volume, Context(headers={**GATED, "KVP": "140"}, settings=settings))

    assert value(findings, codes.CALCIUM_SCORE) == pytest.approx(block_score(3))
    assert any("limits that this site set" in caution for caution in findings.cautions)


@pytest.mark.parametrize("lesions", [((LAD, 250),), ()], ids=["calcium", "none"])
def test_a_series_becomes_checked_results_with_score_and_category(lesions, heart, tmp_path) -> None:
    from dataclasses import replace

    volume, _ = painted(heart, *lesions)
    phantom = replace(heart, hu=volume.array)
    paths = write_series(phantom, tmp_path / "series", CardiacSynchronizationTechnique="PROSPECTIVE")
    (tmp_path / "out").mkdir()

    reply = analyse(
        RunRequest(
            model="calcium_ct",
            inputs=tuple(map(str, paths)),
            out=str(tmp_path / "out"),
            at=1.7e9,
            device="cpu",
        )
    )

    assert reply.outcome is (Outcome.FOUND if lesions else Outcome.NOTHING), reply.because
    report = str(pydicom.dcmread(reply.files[-1].path))
    assert "Coronary artery calcium score" in report
    assert ("CAC-DRS A2" if lesions else "CAC-DRS A0") in report
    assert any("CAC-DRS" in line for line in reply.lines), reply.lines

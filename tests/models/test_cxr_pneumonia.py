"""`cxr_pneumonia`: one film gives one answer however it was stored, and what is no chest film gives none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset

from ledger.job import Outcome
from ledger.result import Role
from models.builtin.cxr_pneumonia import ages
from models.builtin.cxr_pneumonia.gate import COARSE
from models.builtin.cxr_pneumonia.model import LABEL, CxrPneumonia
from models.builtin.cxr_pneumonia.standard import SIDE, ranks, standard
from models.contract import BrokenModel, Context, Image, SettingsNotUnderstood
from models.explain.explained import explained
from models.explain.settings import ExplainSettings
from models.registry import open_model, provenance_of
from models.training.radiographs import radiograph as radiograph_of
from models.training.thorax import Patient
from results.codes import ABSENT, EQUIVOCAL, PRESENT
from results.findings import Findings
from tests.models import real
from tests.worker.images import radiograph, written
from worker.exchange import RunRequest
from worker.load_image import load_image
from worker.run import analyse

CHEST = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientAge": "004Y"}
SQUARE = 384


@pytest.fixture(scope="module")
def model() -> CxrPneumonia:
    opened = CxrPneumonia()
    opened.load("cpu")
    return opened


@pytest.fixture(scope="module")
def film(model: CxrPneumonia) -> np.ndarray:
    """The mean of all training films, with a little grain: what passes the gate if anything does. 8 bits."""
    weights = model._ready()
    coarse = torch.from_numpy(weights.usual.mean.reshape(1, 1, COARSE, COARSE)).float()
    smooth = torch.nn.functional.interpolate(coarse, (SQUARE, SQUARE), mode="bicubic")[0, 0].numpy()
    grain = np.random.default_rng(1).normal(0, 0.02, smooth.shape)
    return np.clip((smooth + grain) * 200 + 20, 0, 255).astype(np.uint8)


def ask(model: CxrPneumonia, grey: np.ndarray, **headers: str) -> Findings:
    image = Image(array=grey.astype(np.float32), spacing_mm=None, headers={**CHEST, **headers})
    return model.run(image, Context())


def probability(findings: Findings) -> float:
    (verdict,) = findings.verdicts
    return verdict.probability


def test_the_answer_has_a_probability_a_threshold_and_a_reading(model, film):
    findings = ask(model, film)

    assert findings.outcome is Outcome.FOUND, findings.because
    (verdict,) = findings.verdicts
    assert verdict.label == LABEL
    assert verdict.finding.value == "233604007"
    assert verdict.present == (verdict.probability >= verdict.threshold)
    (grade,) = findings.grades
    assert verdict.unsure == (grade.value == EQUIVOCAL)
    assert grade.value in (ABSENT, EQUIVOCAL, PRESENT)
    assert grade.about == (LABEL,)


def test_the_same_film_gives_the_same_answer_every_time(model, film):
    other = CxrPneumonia()
    other.load("cpu")

    assert probability(ask(model, film)) == probability(ask(model, film)) == probability(ask(other, film))


def stored(tmp_path: Path, dataset: Dataset) -> np.ndarray:
    return load_image(written(dataset, tmp_path)).image.array


@pytest.mark.parametrize("twin", ["monochrome1", "twelve bits", "another exposure", "voi lut"])
def test_a_twin_that_looks_the_same_scores_the_same(model, film, tmp_path, twin):
    if twin == "monochrome1":
        dataset = radiograph(255 - film, PhotometricInterpretation="MONOCHROME1")
    elif twin == "twelve bits":
        dataset = radiograph(film.astype(np.uint16) * 13 + 200, BitsStored=12, HighBit=11)
    elif twin == "another exposure":
        curve = np.rint(np.sqrt(np.arange(256) / 255) * 60_000).astype(np.uint16)
        dataset = radiograph(curve[film])
    else:  # A look-up table that gives the film back is to be applied for display.
        dataset = radiograph((film.astype(np.uint16) ** 2 // 16 + film) % 4096, BitsStored=12, HighBit=11)
        table = Dataset()
        table.LUTDescriptor, table.LUTData = [256, 0, 8], np.arange(256, dtype=np.uint16).tobytes()
        dataset.VOILUTSequence = [table]

    plain = ask(model, stored(tmp_path, radiograph(film)))

    assert probability(ask(model, stored(tmp_path, dataset))) == probability(plain)


def test_a_film_stored_as_its_own_negative_is_read_the_other_way_round_and_says_so(model, film):
    findings = ask(model, 255 - film)

    assert probability(findings) == pytest.approx(probability(ask(model, film)), abs=0.02)
    assert any("grey scale" in caution for caution in findings.cautions)


def test_black_and_white_bars_at_the_edges_are_cut(film):
    framed = np.zeros((SQUARE + 80, SQUARE + 60), np.uint8)
    framed[40:-40, 30:-30] = film
    framed[:, -10:] = 255

    top, bottom, left, right = standard(framed).box

    assert 30 <= top <= 48
    assert SQUARE + 30 <= bottom <= SQUARE + 50
    assert 20 <= left <= 38
    assert SQUARE + 20 <= right <= SQUARE + 40


def test_ranks_do_not_change_with_a_rising_table_and_count_ties_half():
    grey = np.array([[3.0, 1.0], [3.0, 7.0]])

    assert ranks(grey).tolist() == [[0.5, 0.125], [0.5, 0.875]]
    assert (ranks(grey) == ranks(np.exp(grey))).all()


def _shapes() -> dict[str, np.ndarray]:
    chance = np.random.default_rng(5)
    r, c = np.mgrid[0:256, 0:256] / 255.0
    hand = sum(
        (np.abs(c - 0.2 - 0.15 * k) < 0.04) & (r > 0.1 + 0.05 * abs(k - 2)) & (r < 0.6) for k in range(5)
    ) + ((r > 0.55) & (r < 0.95) & (np.abs(c - 0.5) < 0.35))
    head = (np.hypot(r - 0.5, c - 0.5) < 0.42) * 0.9 - (np.hypot(r - 0.5, c - 0.5) < 0.36) * 0.4
    breast = (np.hypot(r - 0.5, c) < 0.45) * (0.5 + 0.4 * chance.random((256, 256)))
    return {
        "blank": np.full((256, 256), 80.0),
        "noise": chance.normal(0, 1, (256, 256)),
        "ramp": r + 0.001 * chance.random((256, 256)),
        "stripes": np.sin(40 * c),
        "checks": np.sign(np.sin(20 * c) * np.sin(20 * r)) + 0.01 * chance.random((256, 256)),
        "hand": hand + 0.05 * chance.random((256, 256)),
        "slice of a head": head + 0.02 * chance.random((256, 256)),
        "breast": breast + 0.01 * chance.random((256, 256)),
        "disc": (np.hypot(r - 0.5, c - 0.5) < 0.3) + 0.02 * chance.random((256, 256)),
        "tiny": chance.random((40, 40)),
        "not numbers": np.full((256, 256), np.nan),
    }


@pytest.mark.parametrize("name", sorted(_shapes()))
def test_what_is_no_chest_film_is_refused(model, name):
    findings = ask(model, _shapes()[name])

    assert findings.outcome is Outcome.REFUSED
    assert findings.because.endswith(".")


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Modality": "CT"}, "modality of this image is CT"),
        ({"Modality": "MG"}, "modality of this image is MG"),
        ({"BodyPartExamined": "HAND"}, "body part of this one is HAND"),
        ({"BodyPartExamined": "ABDOMEN"}, "body part of this one is ABDOMEN"),
        ({"ViewPosition": "LL"}, "view of this one is LL"),
    ],
)
def test_what_the_header_says_is_something_else_is_refused(model, film, headers, why):
    findings = ask(model, film, **headers)

    assert findings.outcome is Outcome.REFUSED
    assert why in findings.because


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_film_that_does_not_stand_upright_is_refused(model, film, turns):
    assert ask(model, np.rot90(film, turns)).outcome is Outcome.REFUSED


def test_a_phantom_is_read_from_the_front_and_refused_from_the_side_though_no_header_says_so(model):
    seen = {
        view: radiograph_of(Patient(seed=77), view, pixel_mm=2.0, voxel_mm=4.5).pixels
        for view in ("PA", "LATERAL")
    }
    said = {
        view: ask(model, pixels, BodyPartExamined="", ViewPosition="", PatientAge="040Y")
        for view, pixels in seen.items()
    }

    assert said["PA"].outcome is Outcome.FOUND, said["PA"].because
    assert said["LATERAL"].outcome is Outcome.REFUSED
    assert "frontal view" in said["LATERAL"].because


def test_a_photograph_is_refused(model):
    assert ask(model, np.zeros((256, 256, 3))).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("headers", "years"),
    [
        ({"PatientAge": "004Y"}, 4),
        ({"PatientAge": "62"}, 62),
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "148"}, None),
        ({"PatientAge": "?"}, None),
        ({"PatientBirthDate": "20200105", "StudyDate": "20240105"}, 4),
        ({"PatientBirthDate": "20250105", "StudyDate": "20240105"}, None),
    ],
)
def test_the_age_is_read_from_the_header_or_not_known(headers, years):
    assert ages.years(headers) == (None if years is None else pytest.approx(years, abs=0.01))


@pytest.mark.parametrize(("age", "cautioned"), [("004Y", 0), ("040Y", 0), ("010Y", 1), ("003M", 1), ("", 1)])
def test_an_age_outside_the_training_set_is_said(model, film, age, cautioned):
    said = [one for one in ask(model, film, PatientAge=age).cautions if "patient" in one.lower()]

    assert len(said) == cautioned


def test_settings_that_it_does_not_have_are_refused(model, film):
    image = Image(array=film, spacing_mm=None, headers=CHEST)

    with pytest.raises(SettingsNotUnderstood, match="threshold"):
        model.run(image, Context(settings={"threshold": 0.2}))


def test_other_weights_than_the_manifest_names_are_not_loaded(model, tmp_path):
    other = CxrPneumonia()
    other.folder = tmp_path
    (tmp_path / "weights.safetensors").write_bytes(b"0" * other.manifest.files[0].size)

    with pytest.raises(BrokenModel, match="is not the file that its manifest names"):
        other.load("cpu")


def test_the_evidence_of_all_places_is_the_answer_and_the_explanation_shows_it(model, film):
    image = Image(array=film, spacing_mm=None, headers=CHEST)
    subject = model.explainable(image, Context())
    net = model._ready().net

    assert float(net.spoken(subject.given[None]).sum()) == pytest.approx(
        float(net(subject.given[None])), abs=1e-3
    )

    findings = explained(
        model, image, Context(), model.run(image, Context()), ExplainSettings(explain="grad_cam")
    )
    (heat,) = findings.maps
    assert heat.values.shape == (1, SQUARE, SQUARE)
    assert heat.values.max() == 1
    assert heat.explains == LABEL


def test_it_runs_from_dicom_to_a_checked_report_with_its_explanation(film, tmp_path):
    path = str(written(radiograph(film, PatientAge="004Y"), tmp_path / "in"))
    out = tmp_path / "out"
    out.mkdir()

    reply = analyse(
        RunRequest(
            model="cxr_pneumonia", inputs=(path,), out=str(out), at=1e9, device="cpu",
            settings={"explain": "grad_cam"},
        )
    )  # fmt: skip

    assert reply.outcome is Outcome.FOUND, reply.because
    assert Role.REPORT in {one.role for one in reply.files}


def test_the_registry_finds_it_and_its_results_name_its_weights():
    opened = open_model("cxr_pneumonia")

    assert provenance_of(opened, {}).weights_digest == opened.weights_digest is not None


def test_a_standard_picture_has_one_size_whatever_the_film_had(film):
    large = np.kron(film, np.ones((4, 4), np.uint8))

    assert standard(large).picture.shape == (SIDE, SIDE)
    close = np.abs(standard(large).picture.astype(int) - standard(film).picture.astype(int))
    assert close.mean() < 8


def test_a_real_radiograph_and_its_negative_give_one_score(model):
    images = [load_image(path).image for path in sorted(real.folder("cxr_dicom_rsna1").glob("*.dcm"))]
    first, second = (model.run(image, Context(headers=image.headers)) for image in images)

    assert first.outcome is second.outcome is Outcome.FOUND, (first.because, second.because)
    assert probability(first) == pytest.approx(probability(second), abs=0.02)

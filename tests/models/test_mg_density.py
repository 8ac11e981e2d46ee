"""Breast area and percent density: against phantoms with a known truth, and when the model says nothing."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

from ledger.job import Outcome
from ledger.result import Role
from models.builtin.mg_density_estimate import facts
from models.builtin.mg_density_estimate.model import DensityEstimate
from models.contract import Context, Image, SettingsNotUnderstood
from models.training.breast_phantom import BreastPhantom, mammogram, write_mammogram
from results import codes
from results.findings import Findings
from tests.models import real
from tests.peers.programs import find
from worker.exchange import RunRequest
from worker.load_image import load_image
from worker.run import analyse

#: SNOMED RT to SNOMED CT, as PS3.16 has it.
RETIRED = mapping["SRT"]
SMALL = {"shape": (300, 230), "spacing_mm": 0.8}
HEADERS = {
    "Modality": "MG",
    "ViewCodeSequence": "399368009",
    "PresentationIntentType": "FOR PRESENTATION",
    "ImageLaterality": "L",
    "PatientOrientation": "A\\FR",
}


@pytest.fixture(scope="module")
def model() -> DensityEstimate:
    return DensityEstimate()


@pytest.fixture(scope="module")
def phantom() -> BreastPhantom:
    return mammogram(0.3, **SMALL)


def measured(model: DensityEstimate, phantom: BreastPhantom, folder: Path, **attributes: object) -> Findings:
    loaded = load_image(write_mammogram(phantom, folder / "image.dcm", **attributes))
    return model.run(loaded.image, Context(headers=loaded.headers))


def given(array: np.ndarray, **headers: str) -> tuple[Image, Context]:
    said = HEADERS | headers
    return Image(array=array, spacing_mm=(0.8, 0.8), headers=said), Context(headers=said)


def codes_of(context_group: int) -> dict[str, str]:
    """Code value and meaning in SNOMED CT."""
    keywords = cid_concepts[context_group]["SCT"]
    return {
        code: meaning
        for keyword in keywords
        for code, (meaning, groups) in concepts["SCT"][keyword].items()
        if context_group in groups
    }


def density_of(findings: Findings) -> float:
    return next(one.value for one in findings.measurements if one.name == codes.PERCENT_DENSITY)


def area_of(findings: Findings, label: str) -> float:
    segment = next(one for one in findings.segments if one.label == label)
    return next(one.value for one in segment.measurements if one.name == codes.AREA)


@pytest.mark.parametrize(
    "drawn",
    [
        {"density": 0.05, "view": "CC", "side": "R", "intent": "FOR PRESENTATION"},
        {"density": 0.2, "view": "MLO", "side": "L", "intent": "FOR PRESENTATION"},
        {"density": 0.5, "view": "MLO", "side": "R", "intent": "FOR PRESENTATION"},
    ],
    ids=lambda drawn: " ".join(str(value) for value in drawn.values()),
)
def test_area_and_density_are_those_of_the_phantom(drawn, model, tmp_path) -> None:
    phantom = mammogram(**drawn, seed=3, **SMALL)

    findings = measured(model, phantom, tmp_path)

    assert findings.outcome is Outcome.FOUND, findings.because
    assert area_of(findings, "Breast") == pytest.approx(phantom.breast_mm2, rel=0.05)
    assert density_of(findings) == pytest.approx(phantom.percent_density, abs=4.0)
    assert findings.segments[0].laterality == (codes.RIGHT if phantom.side == "R" else codes.LEFT)


def test_the_pectoral_muscle_is_no_breast_and_not_dense(phantom, model, tmp_path) -> None:
    findings = measured(model, phantom, tmp_path)

    muscle = findings.mask(3)[0]
    overlap = 2 * (muscle & phantom.pectoral).sum() / (muscle.sum() + phantom.pectoral.sum())
    assert overlap > 0.9
    assert not (findings.mask(2)[0] & muscle).any()
    assert not any("muscle" in caution for caution in findings.cautions)


def test_dense_tissue_is_drawn_where_it_is(phantom, model, tmp_path) -> None:
    dense = measured(model, phantom, tmp_path).mask(2)[0]

    assert 2 * (dense & phantom.dense).sum() / (dense.sum() + phantom.dense.sum()) > 0.9


def test_a_breast_of_one_kind_of_tissue_gets_an_area_and_no_density(model, tmp_path) -> None:
    phantom = mammogram(0.0, view="CC", **SMALL)

    findings = measured(model, phantom, tmp_path)

    assert area_of(findings, "Breast") == pytest.approx(phantom.breast_mm2, rel=0.05)
    assert findings.measurements == ()
    assert any("No percent density is given" in caution for caution in findings.cautions)


def test_a_breast_that_is_mostly_dense_is_measured(model, tmp_path) -> None:
    phantom = mammogram(0.8, view="CC", seed=1, **SMALL)

    findings = measured(model, phantom, tmp_path)

    assert density_of(findings) == pytest.approx(phantom.percent_density, abs=4.0)


def test_a_breast_that_is_nearly_all_dense_is_never_called_fatty(model, tmp_path) -> None:
    phantom = mammogram(0.9, seed=2, **SMALL)

    findings = measured(model, phantom, tmp_path)

    assert findings.measurements == ()
    assert any("fat or dense" in caution for caution in findings.cautions)


def test_codes_of_views_are_those_of_the_standard() -> None:
    views = codes_of(4014)
    assert facts._OBLIQUE | facts._CRANIO_CAUDAL | {facts._SPECIMEN} <= views.keys()
    assert {code for code in facts._OTHER if code.isdigit()} <= views.keys()
    assert {"oblique" in views[code] for code in facts._OBLIQUE} == {True}
    assert {"cranio-caudal" in views[code] for code in facts._CRANIO_CAUDAL} == {True}
    for code, name in facts._MODIFIERS.items():
        assert codes_of(4015)[code].lower() == name
    assert {old: RETIRED[old] for old in facts._RETIRED} == facts._RETIRED


def test_an_old_image_has_its_view_in_snomed_rt(phantom, model) -> None:
    oblique, laterally = (
        model.run(*given(phantom.stored, ViewCodeSequence=code)) for code in ("R-10226", "R-10224")
    )

    assert density_of(oblique) == pytest.approx(phantom.percent_density, abs=4.0)
    assert "medio-lateral;" in laterally.because


def test_a_mirrored_image_is_told_by_its_chest_wall(phantom, model, tmp_path) -> None:
    mirrored = replace(phantom, stored=np.ascontiguousarray(phantom.stored[:, ::-1]))

    findings = measured(model, mirrored, tmp_path)

    assert density_of(findings) == pytest.approx(phantom.percent_density, abs=4.0)
    assert any("chest wall is at the right" in caution for caution in findings.cautions)


def test_without_a_pixel_size_the_share_is_given_and_no_area(phantom, model) -> None:
    image, context = given(phantom.stored)

    findings = model.run(replace(image, spacing_mm=None), context)

    assert density_of(findings) == pytest.approx(phantom.percent_density, abs=4.0)
    assert all(segment.measurements == () for segment in findings.segments)
    assert any("mm2 are left out" in caution for caution in findings.cautions)


def test_an_image_for_processing_gives_areas_and_says_where_density_is_measured(model, tmp_path) -> None:
    phantom = mammogram(0.3, intent="FOR PROCESSING", **SMALL)

    one = measured(model, phantom, tmp_path)
    # The same stored exposure, shown the other way round: it is inverted when it is read.
    other = measured(model, phantom, tmp_path, PhotometricInterpretation="MONOCHROME1")

    assert area_of(one, "Breast") == area_of(other, "Breast")
    assert area_of(one, "Breast") == pytest.approx(phantom.breast_mm2, rel=0.05)
    assert area_of(one, "Pectoral muscle") == pytest.approx(float(phantom.pectoral.sum()) * 0.64, rel=0.15)
    assert one.measurements == ()
    assert any("for processing" in caution for caution in one.cautions)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"Modality": "CR"}, "modality"),
        ({"BreastImplantPresent": "YES"}, "implant"),
        ({"PartialView": "YES"}, "a part of the breast"),
        ({"ViewModifierCodeSequence": "399055006"}, "spot compression"),
        ({"ViewModifierCodeSequence": "R-102D1"}, "axillary tail"),
        ({"ViewCodeSequence": "", "ViewPosition": "FB"}, "caudo-cranial;"),
        ({"ViewModifierCodeSequence": "442581004\\399163009"}, "magnification"),
        ({"EstimatedRadiographicMagnificationFactor": "1.8"}, "magnified 1.8 times"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.3"}, "tomosynthesis"),
        ({"ImageType": "DERIVED\\PRIMARY\\STEREO\\LEFT"}, "stereotactic"),
        ({"ImageType": "DERIVED\\PRIMARY\\TOMOSYNTHESIS\\GENERATED_2D"}, "tomosynthesis"),
        ({"ViewCodeSequence": "127457009"}, "specimen"),
        ({"ViewCodeSequence": "399260004"}, "medio-lateral;"),
        ({"ViewCodeSequence": ""}, "which view"),
        ({"QualityControlImage": "YES"}, "quality control"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "follow the exposure"),
    ],
)
def test_what_the_headers_rule_out_is_refused_with_the_reason(attributes, says, phantom, model) -> None:
    image, context = given(phantom.stored, **attributes)

    findings = model.run(image, context)

    assert findings.outcome is Outcome.REFUSED
    assert says in findings.because


def chest() -> np.ndarray:
    y, x = np.mgrid[:300, :260]
    body = 3000 * (np.abs(x - 130) < 115) + 10.0
    for middle in (80, 180):
        body[((x - middle) / 38) ** 2 + ((y - 140) / 95) ** 2 < 1] = 800
    return body


def hand() -> np.ndarray:
    plane = np.full((300, 260), 20.0)
    plane[170:300, 60:200] = 2500
    for finger in range(4):
        plane[30:180, 65 + 35 * finger : 88 + 35 * finger] = 2500
    return plane


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (chest(), "no standard mammogram"),
        (hand(), "no standard mammogram"),
        (np.full((300, 260), 7.0), "blank"),
        (np.random.default_rng(0).normal(2000, 300, (300, 260)), "noise"),
        (np.zeros((300, 260, 3), np.uint8), "colour"),
        (np.zeros((100, 100)), "100 x 100 pixels"),
        (np.zeros((2000, 300)), "strip"),
        (np.full((300, 260), np.nan), "not numbers"),
    ],
    ids=["chest", "hand", "blank", "noise", "colour", "tiny", "strip", "not numbers"],
)
def test_an_image_that_shows_no_breast_is_refused(array, says, model) -> None:
    findings = model.run(*given(array))

    assert findings.outcome is Outcome.REFUSED
    assert says in findings.because


def test_a_setting_that_nobody_knows_is_no_wish_that_nobody_hears(phantom, model) -> None:
    image, context = given(phantom.stored)
    with pytest.raises(SettingsNotUnderstood):
        model.run(image, replace(context, settings={"threshold": 3}))


def test_a_mammogram_on_disk_becomes_a_segmentation_and_a_report(phantom, tmp_path) -> None:
    path = write_mammogram(phantom, tmp_path / "in" / "image.dcm")
    out = tmp_path / "out"
    out.mkdir()

    reply = analyse(
        RunRequest(model="mg_density_estimate", inputs=(str(path),), out=str(out), at=1e9, device="cpu")
    )

    assert reply.outcome is Outcome.FOUND, reply.because
    files = {one.role: pydicom.dcmread(one.path) for one in reply.files}
    labels = [str(one.SegmentLabel) for one in files[Role.SEGMENTATION].SegmentSequence]
    assert labels == ["Breast", "Dense tissue", "Pectoral muscle"]
    said = [str(one.value) for one in files[Role.REPORT].iterall() if one.keyword == "TextValue"]
    assert any("no BI-RADS category" in text for text in said)


@pytest.mark.peer
@pytest.mark.parametrize("intent", ["FOR PRESENTATION", "FOR PROCESSING"])
def test_the_phantom_is_a_mammogram_of_the_standard(intent, tmp_path) -> None:
    path = write_mammogram(mammogram(0.2, intent=intent, **SMALL), tmp_path / "image.dcm")

    checked = subprocess.run([find("dciodvfy"), "-new", path], capture_output=True, text=True, check=False)

    assert "Error" not in checked.stdout + checked.stderr
    assert "Warning" not in checked.stdout + checked.stderr


@pytest.mark.real
def test_a_real_oblique_view_is_measured_and_a_stereotactic_one_is_refused(model) -> None:
    folder = real.folder("mg_fodicom")
    oblique, stereotactic = (load_image(folder / name) for name in ("GH133.dcm", "OutOfBoundsOverlay.dcm"))

    findings = model.run(oblique.image, Context(headers=oblique.headers))
    refused = model.run(stereotactic.image, Context(headers=stereotactic.headers))

    # Looked at: the outline follows the skin, the line the muscle, the fold below the breast is left out.
    assert 15_000 < area_of(findings, "Breast") < 20_000
    assert 5 < density_of(findings) < 20
    assert "stereotactic" in refused.because

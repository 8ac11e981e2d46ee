"""Chest radiographs: which way up, view, collimation, exposure, greys, against phantoms; faults; refusals."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

from benchmarks.chest_lie import fit
from ledger.job import Outcome
from ledger.result import Role
from models.builtin.cxr_quality import facts
from models.builtin.cxr_quality.lie import COMPARISONS, WEIGHTS
from models.builtin.cxr_quality.model import ChestQuality
from models.contract import Context, Image, SettingsNotUnderstood
from models.training.film_faults import collimated, cut, inverted, turned, unsharp
from models.training.radiograph_dicom import write_radiograph
from models.training.radiographs import Radiograph, radiograph, shadow_mm
from models.training.thorax import Patient
from results import codes
from results.findings import Concept, Findings
from tests.models import real
from worker.exchange import RunRequest
from worker.load_image import load_image
from worker.run import analyse

MM = 1.2
COARSE = {"pixel_mm": MM, "voxel_mm": 3.4}


@pytest.fixture(scope="module")
def model() -> ChestQuality:
    return ChestQuality()


@pytest.fixture(scope="module")
def frontal() -> Radiograph:
    return radiograph(Patient(), **COARSE)


@pytest.fixture(scope="module")
def lateral() -> Radiograph:
    return radiograph(Patient(), "LATERAL", **COARSE)


def look(model: ChestQuality, film: Radiograph | np.ndarray, **headers: str) -> Findings:
    stated = {
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "BitsStored": "12",
    } | headers
    pixels, mm = (film.pixels, film.spacing_mm) if isinstance(film, Radiograph) else (film, MM)
    return model.run(Image(array=pixels, spacing_mm=(mm, mm), headers=stated), Context(headers=stated))


def grade(findings: Findings, label: str) -> Concept:
    assert findings.outcome is Outcome.FOUND, findings.because
    return next(one.value for one in findings.grades if one.label == label)


def value(findings: Findings, name: Concept) -> float:
    return next(one.value for one in findings.measurements if one.name == name)


def said(findings: Findings, words: str) -> bool:
    return any(words in caution for caution in findings.cautions)


def test_a_faultless_film_has_nothing_conspicuous_but_its_coarse_pixels(frontal, model) -> None:
    findings = look(model, frontal)

    assert grade(findings, "View, by the headers") == codes.POSTERO_ANTERIOR
    assert grade(findings, "View, by the picture") == codes.FRONTAL
    for label in ("View", "Orientation and greys", "Collimation"):
        assert grade(findings, label) == codes.INCONSPICUOUS
    assert findings.cautions[0] == "Image quality only: no diagnosis."


@pytest.mark.parametrize("negative", [False, True], ids=["positive", "negative"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_of_eight_ways_to_lie_the_right_one_is_named(degrees, negative, frontal, model) -> None:
    film = turned(frontal, degrees)
    findings = look(model, inverted(film) if negative else film)

    wanted = codes.GREYS_INVERTED if negative else codes.TURNED if degrees else codes.INCONSPICUOUS
    assert grade(findings, "Orientation and greys") == wanted
    assert said(findings, "inverted") == negative
    assert said(findings, "upside down") == (degrees == 180)
    assert said(findings, f"turned by {degrees} degrees clockwise") == (degrees in (90, 270))


def test_of_a_turned_film_no_lungs_are_drawn(frontal, model) -> None:
    findings = look(model, turned(frontal, 180))

    assert [one.label for one in findings.segments] == ["Field"]
    assert grade(findings, "Collimation") == codes.NOT_JUDGED


@pytest.mark.parametrize("how", ["shutter", "unexposed"])
def test_the_edges_of_the_field_are_found_to_a_pixel(how, frontal, model) -> None:
    margins = (22, 14, 34, 40)

    findings = look(model, collimated(frontal, margins, how))

    for side, lines in zip(("upper", "lower", "left", "right"), margins, strict=True):
        assert value(findings, codes.MARGIN_OF_IMAGE[side]) == pytest.approx(MM * lines, abs=MM), side
    rows, columns = frontal.pixels.shape
    share = (rows - 36) * (columns - 74) / (rows * columns)
    assert value(findings, codes.FIELD_SHARE) == pytest.approx(100 * share, abs=1.5)


def test_letters_in_a_margin_do_not_make_it_a_part_of_the_field(frontal, model) -> None:
    film = collimated(frontal, (40, 0, 40, 40))
    film.pixels[8:20, 60:80] = 4095

    assert value(look(model, film), codes.MARGIN_OF_IMAGE["upper"]) == pytest.approx(48, abs=MM)


def test_lungs_are_as_far_from_the_edges_as_their_shadows(frontal, model) -> None:
    findings = look(model, frontal)

    shadow = shadow_mm(frontal, frontal.drawn.lobes > 0) > 60
    rows, columns = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    left = value(findings, codes.MARGIN_OF_IMAGE["left"]) + value(findings, codes.LUNGS_TO_EDGE["left"])
    assert value(findings, codes.LUNGS_TO_EDGE["upper"]) == pytest.approx(MM * rows[0], abs=25)
    assert left == pytest.approx(MM * columns[0], abs=12)


@pytest.mark.parametrize(
    ("sides", "part"),
    [
        ((75, 0, 0, 0), "the apices"),
        ((0, 84, 0, 0), "the bases"),
        ((0, 0, 100, 0), "the lung at the left of the image"),
        ((0, 0, 0, 100), "the lung at the right of the image"),
    ],
    ids=["above", "below", "left", "right"],
)
def test_a_lung_that_the_film_cuts_off_is_named(sides, part, frontal, model) -> None:
    findings = look(model, cut(frontal, sides))

    assert grade(findings, "Collimation") == codes.CUT_OFF
    assert said(findings, part)


def test_air_that_runs_from_a_lung_out_of_the_image_is_no_lung_that_is_cut_off(frontal, model) -> None:
    pixels = frontal.pixels.copy()
    pixels[150:190, :110] = 0  # as between arm and chest

    assert grade(look(model, replace(frontal, pixels=pixels)), "Collimation") == codes.INCONSPICUOUS


def test_a_lateral_film_is_not_judged_as_a_frontal_one(lateral, model) -> None:
    findings = look(model, lateral, ViewPosition="LL")

    assert grade(findings, "View, by the headers") == codes.LATERAL
    assert grade(findings, "View, by the picture") == codes.NOT_FRONTAL
    assert grade(findings, "Orientation and greys") == codes.NOT_JUDGED
    assert [one.label for one in findings.segments] == ["Field"]


def test_a_view_that_the_picture_contradicts_is_doubted(frontal, lateral, model) -> None:
    not_lateral = look(model, frontal, ViewPosition="LL")
    not_frontal = look(model, lateral, ViewPosition="PA")

    assert grade(not_lateral, "View") == grade(not_frontal, "View") == codes.VIEW_CONTRADICTED
    assert said(not_lateral, "looks like a frontal chest")
    assert said(not_frontal, "does not look like a usual one")


def test_pa_or_ap_is_not_guessed(frontal, model) -> None:
    findings = look(model, frontal, ViewPosition="")

    assert grade(findings, "View, by the headers") == codes.NOT_STATED
    assert said(findings, "was not guessed")


def test_the_code_of_the_view_counts_before_its_position(frontal, model) -> None:
    findings = look(model, frontal, ViewPosition="PA", ViewCodeSequence="R-10206")

    assert grade(findings, "View, by the headers") == codes.ANTERO_POSTERIOR


def test_codes_of_views_are_those_of_the_standard() -> None:
    views = {
        code: meaning
        for keyword in cid_concepts[4010]["SCT"]
        for code, (meaning, groups) in concepts["SCT"][keyword].items()
        if 4010 in groups
    }
    words = {"PA": "postero-anterior", "AP": "antero-posterior", "frontal": "frontal", "lateral": "lateral"}

    for code, view in facts._VIEWS.items():
        assert not code.isdigit() or views[code].endswith(words[view])
    assert {old: mapping["SRT"][old] for old in facts._RETIRED} == facts._RETIRED


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"ExposureIndex": "800", "TargetExposureIndex": "400"}, (3.01, codes.OVER_EXPOSED, "2.0 times")),
        ({"ExposureIndex": "100", "TargetExposureIndex": "400"}, (-6.02, codes.UNDER_EXPOSED, "1/4.0 of")),
        ({"DeviationIndex": "-3.5", "ExposureIndex": "100"}, (-3.5, codes.UNDER_EXPOSED, "-3.5")),
        ({"DeviationIndex": "1.2"}, (1.2, codes.INCONSPICUOUS, "no diagnosis")),
    ],
)
def test_exposure_is_judged_by_the_deviation_index(headers, wanted, frontal, model) -> None:
    deviation, word, sentence = wanted
    findings = look(model, frontal, **headers)

    assert value(findings, codes.DEVIATION_INDEX) == pytest.approx(deviation, abs=0.02)
    assert grade(findings, "Exposure") == word
    assert said(findings, sentence)


@pytest.mark.parametrize("broken", ["", "nan", "none", "-1"])
def test_an_exposure_index_that_is_no_number_is_left_out(broken, frontal, model) -> None:
    findings = look(model, frontal, ExposureIndex=broken)

    assert all(one.name != codes.EXPOSURE_INDEX for one in findings.measurements)
    assert grade(findings, "Exposure") == codes.NOT_JUDGED


def test_lungs_that_were_clipped_to_black_are_told(frontal, model) -> None:
    clipped = replace(frontal, pixels=np.maximum(frontal.pixels, np.uint16(1500)))

    findings = look(model, clipped)

    assert grade(findings, "Exposure") == codes.CLIPPED
    assert value(findings, codes.CLIPPED_BLACK) > 5


def test_the_used_part_of_the_range_is_that_of_the_bits(frontal, model) -> None:
    assert value(look(model, frontal, BitsStored="14"), codes.USED_RANGE) == pytest.approx(
        value(look(model, frontal), codes.USED_RANGE) / 4, rel=0.01
    )


def test_more_blur_is_measured_as_more_and_said(frontal, model) -> None:
    seen = [look(model, unsharp(frontal, mm)) for mm in (0.0, 2.0, 4.0)]
    blurs = [value(one, codes.EDGE_BLUR) for one in seen]

    assert all(b > a for a, b in pairwise(blurs))
    assert blurs[2] > 4
    assert grade(seen[2], "Noise and sharpness") == codes.UNSHARP


def test_a_noisy_film_is_told(frontal, model) -> None:
    grain = np.random.default_rng(3).normal(0, 450, frontal.pixels.shape)
    noisy = replace(frontal, pixels=np.clip(frontal.pixels + grain, 0, 4095).astype(np.uint16))

    findings = look(model, noisy)

    assert grade(findings, "Noise and sharpness") == codes.NOISY
    assert value(findings, codes.CONTRAST_TO_NOISE) < value(look(model, frontal), codes.CONTRAST_TO_NOISE)


@pytest.mark.parametrize("modality", ["DX", "CR"])
def test_monochrome1_and_a_voi_lut_change_nothing_that_is_measured(
    modality, frontal, model, tmp_path
) -> None:
    paths = [
        write_radiograph(frontal, tmp_path / voi, modality=modality, photometric=photometric, voi=voi)
        for photometric, voi in (("MONOCHROME2", "window"), ("MONOCHROME1", "lut"))
    ]
    two, one = (load_image(path) for path in paths)
    findings = [model.run(film.image, Context(headers=film.headers)) for film in (two, one)]

    assert findings[0].measurements == findings[1].measurements
    assert [grade(each, "Greys, by the headers").value for each in findings] == ["MONOCHROME2", "MONOCHROME1"]
    assert grade(findings[1], "Orientation and greys") == codes.INCONSPICUOUS


def test_a_film_called_by_the_wrong_monochrome_is_told(frontal, model, tmp_path) -> None:
    path = write_radiograph(frontal, tmp_path, modality="CR", PhotometricInterpretation="MONOCHROME1")
    film = load_image(path)

    findings = model.run(film.image, Context(headers=film.headers))

    assert grade(findings, "Orientation and greys") == codes.GREYS_INVERTED


def test_headers_that_contradict_each_other_are_told(frontal, model) -> None:
    shape = look(model, frontal, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY")
    mirrored = look(model, frontal, PatientOrientation="R\\F")

    assert said(shape, "MONOCHROME1 with the Presentation LUT Shape IDENTITY")
    assert grade(mirrored, "Side") == codes.SIDE_CONTRADICTED
    assert not said(look(model, frontal, PatientOrientation="L\\F"), "mirrored")


def test_without_a_pixel_size_shares_are_given_and_no_millimetres(frontal, model) -> None:
    headers = {"Modality": "CR", "ViewPosition": "PA"}
    findings = model.run(
        Image(array=frontal.pixels, spacing_mm=None, headers=headers), Context(headers=headers)
    )

    units = {one.unit for one in findings.measurements}
    assert codes.MILLIMETRE not in units
    assert codes.PIXEL in units
    assert findings.segments[0].measurements == ()


def hand() -> np.ndarray:
    plane = np.full((400, 400), 20.0)
    plane[230:390, 140:260] = 2500
    for finger in range(4):
        plane[60:250, 145 + 30 * finger : 165 + 30 * finger] = 2500
    return plane + np.random.default_rng(2).normal(0, 30, plane.shape)


def slope() -> np.ndarray:
    return np.asarray(np.mgrid[:300, :260][1], float)


@pytest.mark.parametrize(
    ("array", "headers", "words"),
    [
        (hand(), {"BodyPartExamined": ""}, "25 % of the image show"),
        (hand(), {"BodyPartExamined": "HAND"}, "body part is said to be hand"),
        (np.random.default_rng(0).normal(2000, 300, (300, 260)), {}, "noise"),
        (np.full((300, 260), 7.0), {}, "blank"),
        (slope(), {}, "does not look like a frontal chest"),
        (np.zeros((100, 100)), {}, "100 x 100 pixels"),
        (np.zeros((300, 260, 3), np.uint8), {}, "colour"),
        (np.full((300, 260), np.nan), {}, "not numbers"),
        (np.zeros((300, 260)), {"Modality": "MG"}, "modality"),
        (slope(), {"ViewPosition": "LLD"}, "decubitus"),
        (slope(), {"NumberOfFrames": "3"}, "several frames"),
    ],
    ids=[
        "hand", "hand by name", "noise", "blank", "slope", "tiny", "colour", "not numbers", "modality",
        "decubitus", "frames",
    ],
)  # fmt: skip
def test_what_is_no_chest_radiograph_is_refused_with_the_reason(array, headers, words, model) -> None:
    findings = look(model, array, **headers)

    assert findings.outcome is Outcome.REFUSED
    assert words in findings.because


def test_a_lateral_film_that_nobody_calls_so_is_refused(lateral, model) -> None:
    assert "which view this is" in look(model, lateral, ViewPosition="").because


def test_a_setting_that_nobody_knows_is_refused(frontal, model) -> None:
    with pytest.raises(SettingsNotUnderstood, match="threshold"):
        model.run(
            Image(array=frontal.pixels, spacing_mm=None),
            Context(headers={"Modality": "DX"}, settings={"threshold": 1}),
        )


def test_the_weights_of_the_comparisons_are_fitted_again_by_the_same_steps() -> None:
    random = np.random.default_rng(1)
    looks = random.normal(size=(200, 8, WEIGHTS.size))
    looks[:, 0, 0] += 3  # the first comparison alone tells which way is right

    weights = fit(looks)

    assert weights[0] > 3 * np.abs(weights[1:]).max()
    assert len(COMPARISONS) + 1 == WEIGHTS.size


def test_a_radiograph_on_disk_becomes_a_segmentation_and_a_report(frontal, tmp_path) -> None:
    path = write_radiograph(frontal, tmp_path / "in", DeviationIndex="4.0")
    out = tmp_path / "out"
    out.mkdir()

    reply = analyse(RunRequest(model="cxr_quality", inputs=(str(path),), out=str(out), at=1e9, device="cpu"))

    assert reply.outcome is Outcome.FOUND, reply.because
    files = {one.role: pydicom.dcmread(one.path) for one in reply.files}
    labels = [str(one.SegmentLabel) for one in files[Role.SEGMENTATION].SegmentSequence]
    assert labels == ["Field", "Lungs, roughly"]
    texts = [str(one.value) for one in files[Role.REPORT].iterall() if one.keyword == "TextValue"]
    assert any("no diagnosis" in text for text in texts)
    assert any("2.5 times the exposure" in text for text in texts)


@pytest.mark.real
def test_of_a_real_film_and_its_negative_twin_the_twin_is_told(model) -> None:
    folder = real.folder("cxr_dicom_rsna1")
    twins = {"MONO" in path.name: load_image(path) for path in sorted(folder.glob("*.dcm"))}
    seen = {
        negative: model.run(film.image, Context(headers=film.headers)) for negative, film in twins.items()
    }

    assert grade(seen[False], "Orientation and greys") == codes.INCONSPICUOUS
    assert grade(seen[True], "Orientation and greys") == codes.GREYS_INVERTED
    assert grade(seen[False], "Collimation") == codes.INCONSPICUOUS


@pytest.mark.real
def test_real_adults_lie_as_they_should(model) -> None:
    films = sorted((real.folder("cxr_nih11") / "images").glob("*.png"))[:4]
    for path in films:
        with Picture.open(path) as picture:
            findings = look(model, np.asarray(picture.convert("L"))[::2, ::2], BitsStored="8")
        assert grade(findings, "Orientation and greys") == codes.INCONSPICUOUS, Path(path).name
        assert grade(findings, "View, by the picture") == codes.FRONTAL

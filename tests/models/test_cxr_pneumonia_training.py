"""How the weights of `cxr_pneumonia` are made, on films drawn here: small, seeded, and split by patient."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.cxr_films import as_dicom, chosen, every_film
from models.builtin.cxr_pneumonia.network import SEEN
from models.builtin.cxr_pneumonia.standard import SIDE, standard
from models.training.cxr_pneumonia.__main__ import BRANCHES, Training
from models.training.cxr_pneumonia.descend import Descent, answers, descend
from models.training.cxr_pneumonia.disguise import disguise
from models.training.cxr_pneumonia.films import ADULT, CHILD, Films, folds, weights
from models.training.cxr_pneumonia.fit import Recipe, features, regress, shown, with_filters
from models.training.cxr_pneumonia.left_out import other_frames
from models.training.cxr_pneumonia.strangers import KINDS, SIDE_DRAWN, drawings, front
from models.training.cxr_pneumonia.sum_up import calibrate, calibration_error
from models.training.cxr_pneumonia.tell_frontal import Lessons, limit, others, teach
from models.training.roc import auc
from tests.models import real
from worker.load_image import load_image


def drawn(count: int = 48) -> Films:
    """Noise with a soft bright spot at the right of those that are ill."""
    chance = np.random.default_rng(3)
    label = np.arange(count) % 2
    r, c = np.mgrid[0:SIDE, 0:SIDE]
    spot = 90 * np.exp(-((r - 80) ** 2 + (c - 90) ** 2) / 200)
    pictures = chance.normal(100, 20, (count, SIDE, SIDE)) + label[:, None, None] * spot
    adult = np.arange(count) % 3 == 0
    return Films(
        pictures=np.clip(pictures, 0, 255).astype(np.uint8),
        label=label,
        group=np.where(adult, ADULT, CHILD),
        patient=np.array([f"p{number // 2}" for number in range(count)]),
        view=np.where(adult, np.where(np.arange(count) % 5 < 3, "AP", "PA"), ""),
        name=np.array([str(number) for number in range(count)]),
    )


def test_no_patient_is_in_two_folds_and_every_film_is_in_one():
    films = drawn()
    fold = folds(films, 4, 1)

    assert set(fold) == {0, 1, 2, 3}
    assert all(len(set(fold[films.patient == one])) == 1 for one in set(films.patient))


def test_neither_source_nor_view_tells_the_label_as_the_films_are_counted():
    films = drawn(240)
    often = weights(films, adults=0.35)

    for group, part in ((CHILD, 0.65), (ADULT, 0.35)):
        for label in (0, 1):
            here = (films.group == group) & (films.label == label)
            assert often[here].sum() == pytest.approx(part / 2)
            if group == ADULT:
                assert often[here & (films.view == "AP")].sum() == pytest.approx(part / 4)


def test_a_spot_is_learned_and_the_same_seed_gives_the_same_weights():
    films, recipe = drawn(), Recipe(patches=600, rounds=2, films_for_filters=12, iterations=15, pull=0.01)
    nets = [with_filters(films, recipe) for _ in range(2)]
    rows = [features(net, shown(films)) for net in nets]
    lines = [regress([one], films, recipe) for one in rows]

    assert (rows[0] == rows[1]).all()
    assert (lines[0].weight == lines[1].weight).all()
    assert auc(films.label, lines[0].logits(rows[0])) > 0.95


def test_the_second_branch_learns_the_spot_too_and_the_same_seed_gives_the_same_weights():
    films = drawn()
    short = [descend(films, Descent(steps=2, batch=4), 0, lambda _: None).state_dict() for _ in range(2)]
    assert all(torch.equal(short[0][key], short[1][key]) for key in short[0])

    net = descend(films, Descent(steps=20, batch=16), 0, lambda _: None)
    assert auc(films.label, answers(net, shown(films))) > 0.9


def test_a_disguised_film_keeps_its_range_and_another_draw_gives_another_one():
    pictures = torch.from_numpy(drawn(8).pictures)
    first, again, other = (disguise(pictures, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))

    assert first.shape == (8, 1, SEEN, SEEN)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", [*KINDS, front], ids=lambda kind: kind.__name__)
def test_drawings_of_a_kind_are_pictures_and_no_two_are_alike(kind):
    made = drawings((kind,), 3, seed=1)

    assert made.shape == (3, SIDE_DRAWN, SIDE_DRAWN)
    assert np.isfinite(made).all()
    assert (made.std((1, 2)) > 0).all()
    assert not (made[0] == made[1]).all()


FEW = Lessons(steps=3, phantoms=1, of_each_kind=2, fronts=4, batch=0.1, asked=1)


@pytest.fixture(scope="module")
def beside():
    return others(FEW)


def test_phantoms_are_shown_to_the_gate_from_both_sides(beside):
    front_dark, side_dark = (one[0, 0, 24:32].mean(0) for one in (beside.frontal, beside.lateral))

    middle = slice(28, 36)  # The spine is bright from the front; from the side lungs and heart are there.
    assert front_dark[middle].mean() > front_dark[16:24].mean() + 0.1
    assert front_dark[middle].mean() > side_dark[middle].mean()


def test_the_gate_can_be_taught_and_is_the_same_every_time(beside):
    films = drawn()
    nets = [teach(films, FEW, beside) for _ in range(2)]

    assert (nets[0].asked(films.pictures) == nets[1].asked(films.pictures)).all()


def test_the_gate_lets_nearly_all_films_pass_that_it_was_not_taught(beside):
    films, said = drawn(), []
    least = limit(films, FEW, beside, said.append)

    assert least <= 0  # It was hardly taught here: what it takes for strange has to lower the limit.
    assert [line for line in said if "drawings of other kinds" in line]
    assert [line for line in said if "films of adults not taught" in line]


def test_training_prints_its_figures_and_writes_weights_that_the_model_can_read(tmp_path, capsys, beside):
    recipe = Recipe(patches=600, rounds=1, films_for_filters=12, iterations=4, folds=2, variants=1)
    # What a run that was broken off had made is taken as it is.
    there = descend(drawn(), Descent(steps=1, batch=4), 0, lambda _: None).state_dict()
    save_file({key: one.contiguous() for key, one in there.items()}, tmp_path / "deep-all.safetensors")
    gate = teach(drawn(), FEW, beside).state_dict() | {"least": torch.tensor(-0.5, dtype=torch.float64)}
    save_file({key: one.contiguous() for key, one in gate.items()}, tmp_path / "frontal.safetensors")
    net = Training(drawn(112), tmp_path, recipe, Descent(steps=2, batch=4)).weights(FEW)

    said = capsys.readouterr().out
    for branch in BRANCHES:
        assert f"{branch}, patients not trained on: children AUC" in said
        assert f"{branch}, the same, disguised: children AUC" in said
    assert "if views were as elsewhere" in said
    assert "sha256" in said
    tensors = load_file(tmp_path / "weights.safetensors")
    assert set(net.state_dict()) == {key.removeprefix("net.") for key in tensors if key.startswith("net.")}
    assert torch.equal(tensors["net.deep.speak.weight"], there["speak.weight"].half())
    assert float(tensors["least_frontal"]) == -0.5
    assert {"usual.limits", "calibration.children", "calibration.adults"} <= set(tensors)


def test_a_kind_that_is_left_out_is_asked_about_by_networks_without_it(tmp_path, capsys):
    recipe = Recipe(patches=600, rounds=1, films_for_filters=12, iterations=2, folds=2, variants=0)
    Training(drawn(), tmp_path, recipe, Descent(steps=1, batch=4)).left_out()

    said = capsys.readouterr().out
    assert "both, one fold, in other frames: children AUC" in said
    assert "both, adults, after children alone: adults AUC" in said
    assert "both, children, after adults alone: children AUC" in said


def test_a_film_in_another_frame_keeps_what_lies_inside_and_wears_one_of_the_other_label():
    films = drawn(12)
    bright = replace(
        films, pictures=np.full_like(films.pictures, 10) + 100 * films.label[:, None, None].astype(np.uint8)
    )
    framed = other_frames(bright, 1).pictures

    assert (framed[:, 60:70, 60:70] == bright.pictures[:, 60:70, 60:70]).all()
    assert (framed[:, :10] == 120 - bright.pictures[:, :10]).all()


def test_views_are_weighed_as_they_are_elsewhere():
    label, score = np.array([1, 1, 0, 0]), np.array([2.0, 0.0, 1.0, 3.0])

    assert auc(label, score, np.array([1.0, 0.0, 1.0, 0.0])) == 1
    assert auc(label, score, np.array([3.0, 1.0, 1.0, 1.0])) == pytest.approx(3 / 8)


def test_the_area_under_the_curve_counts_ties_half():
    assert auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.5, 0.5, 0.9])) == pytest.approx(0.875)


def test_calibration_gives_frequencies_and_a_band_around_the_threshold():
    chance = np.random.default_rng(4)
    logit = chance.normal(0, 2, 4000)
    label = (chance.random(4000) < 1 / (1 + np.exp(-(0.5 * logit - 1)))).astype(np.int64)
    fitted = calibrate(label, logit, np.ones(4000), np.arange(4000) % 5)

    assert fitted.slope == pytest.approx(0.5, abs=0.1)
    assert fitted.offset == pytest.approx(-1, abs=0.15)
    assert fitted.error <= fitted.by_chance < 0.05
    assert sum(fitted.said_ill) == pytest.approx(1)
    assert fitted.said_ill[2] > fitted.said_well[2]
    assert fitted.unsure[0] < fitted.threshold < fitted.unsure[1]
    assert calibration_error(np.array([0, 1] * 10), np.full(20, 0.5), np.ones(20)) == 0
    # Who counts for nothing changes nothing.
    extra = np.append(np.ones(4000), np.zeros(500))
    again = calibrate(
        np.append(label, np.zeros(500, np.int64)),
        np.append(logit, np.full(500, 9.0)),
        extra,
        np.arange(4500) % 5,
    )
    assert again.threshold == pytest.approx(fitted.threshold)
    assert again.unsure == pytest.approx(fitted.unsure)


def test_a_probability_that_is_not_one_is_worse_than_chance_allows():
    chance = np.random.default_rng(4)
    said = chance.random(2000)
    label = (chance.random(2000) < np.where(said < 0.5, 0.5 - said, 1.5 - said)).astype(np.int64)
    fitted = calibrate(label, np.log(said / (1 - said)), np.ones(2000), np.arange(2000) % 5)

    assert fitted.error > fitted.by_chance


def test_a_film_written_as_dicom_and_read_again_is_the_film(tmp_path: Path):
    grey = np.random.default_rng(2).integers(0, 255, (225, 223)).astype(np.uint8)
    as_dicom(grey, tmp_path / "film.dcm")

    assert (load_image(tmp_path / "film.dcm").image.array == grey).all()


def test_the_real_films_standardised_from_dicom_are_those_of_the_picture_itself(tmp_path: Path):
    films = list(chosen(every_film(real.folder("cxr_kermany_train").parent)))
    assert len({film.patient for film in films if film.group == CHILD and film.label}) == 1635
    for film in (films[0], films[2000], films[-1]):
        with Image.open(film.path) as picture:
            grey = np.asarray(picture.convert("L"))
        as_dicom(grey, tmp_path / "film.dcm")
        read = standard(load_image(tmp_path / "film.dcm").image.array)
        assert (read.picture == standard(grey).picture).all()

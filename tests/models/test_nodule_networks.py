"""The filter and the outline for nodules that phantoms teach: seeded, small, and measured by marks."""

import numpy as np
import pytest
import torch

from benchmarks.froc import AT, Marks, cpm, marks_of, sensitivity
from models.builtin.nodule_ct.candidates import Candidate
from models.builtin.nodule_ct.features import Features
from models.builtin.nodule_ct.field import Grids
from models.builtin.nodule_ct.spots import cut_out, part_from_surroundings
from models.training.lesions import Nodule
from models.training.nodule_candidates import (
    BESIDE,
    EDGE,
    NONE,
    Look,
    Patient,
    Truth,
    candidates_of,
    cube_at,
)
from models.training.nodule_fpr import (
    PART,
    Cubes,
    Recipe,
    kept,
    read_filter,
    together,
    train,
    train_filter,
)
from models.training.nodule_nets import Lessons, asked, varied
from models.training.nodule_seg import Outlined, outline, outlined, train_outline
from models.training.phantoms import chest
from models.training.roc import auc

LUNG_HU, TISSUE_HU = -860.0, 40.0


def silent(_: str) -> None:
    """Says nothing."""


def drawn(count: int, seed: int, edge: int = EDGE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cubes (n, z, y, x) with a ball in the middle, or a tube through it; if balls; diameters."""
    random = np.random.default_rng(seed)
    axis = np.arange(edge) - (edge - 1) / 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    ball = np.arange(count) % 2 == 0
    diameter = random.uniform(5, 10, count)
    along = random.normal(0, 1, (count, 3))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    cubes = []
    for is_ball, mm, (a, b, c) in zip(ball, diameter, along, strict=True):
        away = z**2 + y**2 + x**2 - (0 if is_ball else (a * z + b * y + c * x) ** 2)
        share = np.clip(0.5 - (np.sqrt(np.maximum(away, 0)) - mm / 2), 0, 1)
        cubes.append(LUNG_HU + share * (TISSUE_HU - LUNG_HU) + random.normal(0, 20, share.shape))
    return np.rint(np.array(cubes)).astype(np.int16), ball, (diameter * ball).astype(np.float32)


def cubes(count: int, seed: int) -> Cubes:
    hu, ball, diameter = drawn(count, seed)
    return Cubes(hu, ball, diameter, np.where(ball, 1.0, -1.0).astype(np.float32))


@pytest.fixture(scope="module")
def taught_filter():
    few = cubes(48, 1)
    return few, train_filter((few, few), Lessons(batches=20, size=8), silent)


def features(diameter_mm: float = 8.0) -> Features:
    return Features(
        response_hu=100.0,
        diameter_mm=diameter_mm,
        volume_mm3=np.pi * diameter_mm**3 / 6,
        contrast_hu=800.0,
        core_hu=40.0,
        elongation=1.1,
        flatness=1.1,
        through=0.0,
        to_airway_mm=np.inf,
        crowd=0.0,
        vessels=0.0,
        wall=0.0,
        bulge=4.0,
    )


def look(at: tuple[float, float, float], nodule: int = NONE, diameter_mm: float = 8.0) -> Look:
    cube = np.zeros((EDGE,) * 3, np.int16)
    return Look(cube, features(diameter_mm), np.array(at), diameter_mm / 2, nodule)


def test_a_ball_scores_above_a_tube_that_was_never_shown(taught_filter):
    _, (network, losses) = taught_filter
    unseen = cubes(24, 2)

    said = asked(network, torch.from_numpy(unseen.hu))[:, 0].numpy()

    assert losses[-1] < losses[0]
    assert auc(unseen.nodule, said) > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_one_others(taught_filter):
    few, _ = taught_filter
    nets = [
        train_filter((few, few), Lessons(batches=2, size=4, seed=seed), silent)[0].state_dict()
        for seed in (5, 5, 6)
    ]

    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])
    assert any(not torch.equal(nets[0][key], nets[2][key]) for key in nets[0])


def test_training_goes_on_from_its_cubes_and_writes_what_can_be_read(tmp_path, capsys):
    recipe = Recipe(scenes=1, chests=1, kept_back=1, lessons=Lessons(batches=10, size=4))
    folder = tmp_path / "cubes"
    folder.mkdir()
    for number, name in enumerate(("scenes-700", "chest-1000", "chest-1001")):
        kept(folder / f"{name}.npz", lambda number=number: cubes(12, number))

    train(tmp_path, recipe)

    said = capsys.readouterr().out
    assert "12 scenes, 12 candidates of 1 chests, 12 kept back" in said
    assert "sha256" in said
    network, weight = read_filter(tmp_path / "nodule_fpr.safetensors")
    assert asked(network, torch.from_numpy(drawn(2, 3)[0])).shape == (2, 2)
    assert weight[0] > 0  # the points of the rules tell these balls from tubes


def test_what_was_made_is_not_made_again(tmp_path):
    made = cubes(2, 1)
    kept(tmp_path / "one.npz", lambda: made)

    def never() -> Cubes:
        raise AssertionError("made again")

    assert (kept(tmp_path / "one.npz", never).hu == made.hu).all()
    assert PART % 32 == 0  # of the scenes that are drawn at once, or their seeds would change


def test_an_outline_is_learned_and_drawn_on_the_voxels_of_the_images():
    hu, ball, diameter = drawn(96, 4, edge=16)
    axis = np.arange(16) - 7.5
    away = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    truth = away[None] < diameter[:, None, None, None] / 2
    network, losses = train_outline(
        Outlined(hu[ball], truth[ball]), Lessons(batches=60, size=8, rate=1e-2), silent
    )

    shape, source_mm = (32, 48, 48), (1.5, 0.8, 0.8)
    grid = np.meshgrid(
        *((np.arange(n) + 0.5) * mm - n * mm / 2 for n, mm in zip(shape, source_mm, strict=True)),
        indexing="ij",
    )
    distance = np.sqrt(sum(a**2 for a in grid)) - 4.5
    source = LUNG_HU + np.clip(0.5 - distance, 0, 1) * (TISSUE_HU - LUNG_HU)
    grids = Grids((slice(0, 32), slice(0, 48), slice(0, 48)), source_mm, (48, 38, 38))
    candidate = Candidate(200.0, 4.5 / np.sqrt(3), (23.5, 18.5, 18.5))
    spot = part_from_surroundings(cut_out(candidate, source, grids, np.ones(grids.shape, np.float32)))
    assert spot is not None
    mask = outline(network, spot, source, source_mm)

    assert losses[-1] < 0.7 * losses[0]
    shared = 2 * (mask & (distance < 0)).sum() / (mask.sum() + (distance < 0).sum())
    assert shared > 0.75


def test_scenes_for_the_outline_have_a_nodule_in_the_middle():
    scenes = outlined(3, 2)

    assert scenes.hu.shape == (2, EDGE, EDGE, EDGE)
    assert scenes.nodule[:, 12:20, 12:20, 12:20].any((1, 2, 3)).all()


def test_cubes_and_their_labels_are_turned_alike():
    hu = np.where(drawn(4, 1)[0] > -400, 500, -900).astype(np.int16)
    hu[:, :16] = -900  # half a shape: turning is seen
    labels = torch.from_numpy(hu > 0)
    for seed in range(4):
        random = torch.Generator().manual_seed(seed)
        seen_hu, turned = varied(torch.from_numpy(hu), random, labels)
        assert turned is not None
        assert ((seen_hu > -300) == (turned > 0.5)).float().mean() > 0.999


def test_a_cube_is_cut_around_its_place_whatever_the_voxels():
    source = np.full((20, 40, 40), -860, np.int16)
    source[10, 20, 20] = 1000
    at = np.array([10.5 * 2.0, 20.5 * 1.0, 20.5 * 1.0])

    cube = cube_at(at, source, (2.0, 1.0, 1.0))

    brightest = np.argwhere(cube == cube.max())
    assert np.abs(brightest.mean(0) - 15.5).max() < 0.6


def test_the_candidates_of_a_chest_know_which_nodule_they_lie_in():
    place = (-75.0, 5.0, 30.0)
    slab = {"spacing_mm": (2.5, 2.8, 2.8), "centre_mm": (0.0, 0.0, 20.0)}
    phantom = chest((32, 128, 128), seed=3, nodules=(Nodule(centre_mm=place, diameter_mm=16.0),), **slab)

    patient = candidates_of(phantom, surroundings=True)

    assert len(patient.nodules) == 1
    assert patient.nodules[0].diameter_mm == pytest.approx(16, abs=0.5)
    inside = [one for one in patient.looks if one.nodule == 0]
    assert inside
    assert all(one.around is not None and one.around.truth.any() for one in inside)
    assert all(np.linalg.norm(one.at_mm - patient.nodules[0].at_mm) <= 8.1 for one in inside)
    best = min(inside, key=lambda one: float(np.linalg.norm(one.at_mm - patient.nodules[0].at_mm)))
    assert best.cube[13:19, 13:19, 13:19].mean() > -150
    apart = [
        np.linalg.norm(one.at_mm - patient.nodules[0].at_mm) for one in patient.looks if one.nodule == NONE
    ]
    assert all(mm > 8 + 6 for mm in apart)


def test_marks_that_overlap_count_once_and_those_beside_a_nodule_neither_way():
    nodules = (Truth("solid", 10.0, np.zeros(3)), Truth("solid", 3.0, np.full(3, 200.0)))
    looks = (
        look((0, 0, 0), 0),
        look((1, 1, 1), 0),  # the same once more
        look((8, 0, 0), BESIDE),
        look((50, 0, 0)),
        look((52, 0, 0)),  # of the same false mark
        look((200, 200, 200), 1),  # too small to count
    )

    marks = marks_of(Patient(1, nodules, looks), [2.0, 3.0, 1.0, 0.5, 0.7, 9.0])

    assert marks.nodules.tolist() == [3.0]
    assert marks.false.tolist() == [0.7]


def test_sensitivity_is_counted_at_so_many_false_marks_a_scan():
    first = Marks(np.array([5.0, 1.0]), np.array([4.0, 2.0]))
    second = Marks(np.array([3.0, -np.inf]), np.array([0.5]))

    assert sensitivity((first, second), 0.25) == pytest.approx(0.25)
    assert sensitivity((first, second), 0.5) == pytest.approx(0.5)
    assert sensitivity((first, second), 1.0) == pytest.approx(0.75)
    assert sensitivity((first, second), AT[-1]) == pytest.approx(
        0.75
    )  # what was never a candidate stays missed
    assert cpm((first, second)) == pytest.approx((0.25 * 2 + 0.5 + 0.75 * 4) / 7)


def test_rules_and_network_together_get_the_weights_that_made_the_truth():
    random = np.random.default_rng(1)
    points, said = random.normal(0, 2, (2, 20000)).astype(np.float32)
    chance = 1 / (1 + np.exp(-(0.5 * points + 1.5 * said - 1)))

    weight = together(points, said, random.random(20000) < chance)

    assert weight.tolist() == pytest.approx([0.5, 1.5, -1.0], abs=0.1)

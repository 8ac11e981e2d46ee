"""The steps of the search for nodules, each on shapes whose answer is known."""

import numpy as np
import pytest
import torch

from models.builtin.nodule_ct.candidates import Candidate, eigenvalues, find_candidates, smooth
from models.builtin.nodule_ct.features import features_of
from models.builtin.nodule_ct.field import Field, Grids, drawn_out
from models.builtin.nodule_ct.measure import Density, measure
from models.builtin.nodule_ct.rules import RULES, points_taken, score_of
from models.builtin.nodule_ct.spots import cut_out, part_from_surroundings

LUNG_HU, TISSUE_HU = -860.0, 40.0
N = 60
AXIS = np.arange(N) - N / 2 + 0.5
Z, Y, X = np.meshgrid(AXIS, AXIS, AXIS, indexing="ij")
GRIDS = Grids((slice(0, N),) * 3, (1.0, 1.0, 1.0), (N, N, N))
LUNGS = np.ones((N, N, N), np.float32)


def lung_with(*distances: np.ndarray) -> np.ndarray:
    """Lung on cubes of 1 mm with what lies within signed distances as soft tissue, edges 1 mm wide."""
    alpha = np.clip(0.5 - np.minimum.reduce(distances), 0, 1)
    return np.asarray(LUNG_HU + alpha * (TISSUE_HU - LUNG_HU), np.float32)


def ball(diameter: float) -> np.ndarray:
    return np.sqrt(X**2 + Y**2 + Z**2) - diameter / 2


def vessel(diameter: float) -> np.ndarray:
    return np.sqrt(X**2 + Y**2) - diameter / 2


def field(hu: np.ndarray) -> Field:
    return Field(GRIDS, torch.from_numpy(hu), torch.ones(hu.shape, dtype=torch.bool), LUNG_HU)


def features(hu: np.ndarray, diameter: float, lungs: np.ndarray = LUNGS):
    middle = (N / 2 - 0.5,) * 3
    near = [one.response for one in find_candidates(field(hu)) if np.ptp([*one.at, N / 2 - 0.5]) < 4]
    candidate = Candidate(max(near, default=20.0), diameter / 2 / np.sqrt(3), middle)
    spot = part_from_surroundings(cut_out(candidate, hu, GRIDS, lungs))
    assert spot is not None
    return features_of(spot)


def test_eigenvalues_in_closed_form_are_those_of_the_solver() -> None:
    random = np.random.default_rng(5)
    matrices = random.normal(0, 100, (200, 3, 3))
    matrices = matrices + matrices.swapaxes(1, 2)
    matrices[0] = np.diag([7.0, 7.0, 7.0])
    six = [matrices[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]

    found = eigenvalues(torch.from_numpy(np.stack(six)))

    expected = np.linalg.eigvalsh(matrices)
    np.testing.assert_allclose(torch.stack(found).numpy(), expected.T[::-1], atol=1e-4)


def test_smoothing_keeps_what_is_even_and_spreads_a_point_by_sigma() -> None:
    point = torch.zeros(41, 41, 41)
    point[20, 20, 20] = 1.0

    spread = smooth(point, 3.0)

    x = torch.arange(41) - 20.0
    assert float(spread.sum()) == pytest.approx(1, abs=1e-4)
    assert float((spread.sum((0, 1)) * x**2).sum()) == pytest.approx(9, rel=0.03)
    assert torch.allclose(smooth(torch.full((9, 9, 9), 5.0), 2.0), torch.tensor(5.0))


@pytest.mark.parametrize("diameter", [5.0, 8.0, 14.0, 24.0])
def test_a_ball_is_a_candidate_of_its_own_size(diameter) -> None:
    first, *_ = find_candidates(field(lung_with(ball(diameter))))

    assert np.linalg.norm(np.array(first.at) - (N / 2 - 0.5)) < 2.5  # cubes of 2 mm at most
    assert 2 * first.radius_mm == pytest.approx(diameter, rel=0.4)


def test_a_vessel_and_a_fissure_respond_far_less_than_a_ball() -> None:
    (strongest, *_) = find_candidates(field(lung_with(ball(8))))

    for other in (vessel(6), np.abs(X) - 1.0):
        found = find_candidates(field(lung_with(other)))
        assert all(one.response < 0.4 * strongest.response for one in found)


@pytest.mark.parametrize("diameter", [6.0, 10.0, 20.0])
def test_a_vessel_that_leads_to_a_nodule_is_parted_from_it(diameter) -> None:
    alone = features(lung_with(ball(diameter)), diameter)
    fed = features(lung_with(ball(diameter), vessel(0.3 * diameter)), diameter)

    assert alone.volume_mm3 == pytest.approx(np.pi * diameter**3 / 6, rel=0.2)
    assert fed.volume_mm3 == pytest.approx(alone.volume_mm3, rel=0.25)
    assert score_of(fed) > 0.6


@pytest.mark.parametrize("diameter", [4.0, 6.0, 9.0])
def test_a_vessel_is_not_even_a_candidate(diameter) -> None:
    assert find_candidates(field(lung_with(vessel(diameter)))) == ()


def test_a_fork_of_vessels_is_no_nodule() -> None:
    other = np.sqrt((X - 0.8 * np.abs(Z)) ** 2 + Y**2) - 2.5
    third = np.sqrt((Y - 0.8 * np.abs(Z)) ** 2 + X**2) - 2.5

    assert score_of(features(lung_with(vessel(6), other, third), 7)) < 0.5


def test_a_nodule_on_the_pleura_ends_at_the_lung() -> None:
    lungs = np.ones_like(LUNGS)
    lungs[:, :, : N // 2 - 3] = 0  # chest wall, 3 mm beside the middle of the nodule
    hu = np.where(lungs > 0, lung_with(ball(12)), np.float32(TISSUE_HU))

    one = features(hu, 12, lungs)

    assert one.volume_mm3 < 0.95 * np.pi * 12**3 / 6
    assert score_of(one) > 0.5


def test_every_rule_can_take_all_its_points_and_says_why() -> None:
    best = features(lung_with(ball(14)), 14)

    assert points_taken(best) == {}
    assert score_of(best) == pytest.approx(0.994, abs=0.001)
    for rule in RULES:
        assert rule.because
        assert rule.points > 0


def test_masks_are_drawn_out_to_cubes_over_the_same_millimetres() -> None:
    coarse = np.zeros((5, 10, 10), bool)
    coarse[:, :5] = True
    grids = Grids((slice(0, 10), slice(0, 40), slice(0, 40)), (2.0, 0.5, 0.5), (20, 20, 20))

    fine = drawn_out(coarse, (10, 40, 40), grids)

    assert fine.shape == (20, 20, 20)
    assert (fine[:, :9] > 0.5).all()
    assert (fine[:, 11:] < 0.5).all()


@pytest.mark.parametrize(
    ("core", "rim", "density"),
    [
        (40.0, 40.0, Density.SOLID),
        (-600.0, -600.0, Density.GROUND_GLASS),
        (40.0, -600.0, Density.PART_SOLID),
        (600.0, 40.0, Density.CALCIFIED),
    ],
    ids=str,
)
def test_density_classes(core, rim, density) -> None:
    mask = ball(20) < 0
    hu = np.where(ball(12) < 0, core, rim).astype(np.float32)

    one = measure(mask, hu, (1.0, 1.0, 1.0), 5.0)

    assert one.density is density
    assert one.mean_diameter_mm == pytest.approx(20, abs=1)
    assert one.volume_mm3 == mask.sum()


def test_what_lies_in_gas_is_no_nodule() -> None:
    # The stomach beside a lung: gas is darker than any half of a lung.
    hu = np.where(lung_with(ball(12)) > -400, np.float32(TISSUE_HU), np.float32(-1000.0))
    candidate = Candidate(200.0, 6 / np.sqrt(3), (N / 2 - 0.5,) * 3)

    assert part_from_surroundings(cut_out(candidate, hu, GRIDS, LUNGS)) is None

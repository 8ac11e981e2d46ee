"""Cubes for training: labelled as they are drawn, the same for the same seed, two generators apart."""

import pytest
import torch

from models.training.nodule_patches import BACKGROUND, SOLID, SUBSOLID, nodule_patches

SMALL = {"size": 24, "spacing_mm": 1.0}


@pytest.fixture(scope="module", params=["first", "second"])
def patches(request):
    return nodule_patches(5, 24, variant=request.param, **SMALL)


def test_a_nodule_lies_in_the_middle_where_the_label_says_so(patches) -> None:
    middle = patches.labels[:, 8:16, 8:16, 8:16].flatten(1)
    shown = ((middle == SOLID) | (middle == SUBSOLID)).any(1)

    assert patches.hu.shape == patches.labels.shape == (24, 24, 24, 24)
    assert 4 < patches.nodule.sum() < 20
    assert shown[patches.nodule].float().mean() > 0.9
    assert not shown[~patches.nodule].any()
    assert (patches.labels == BACKGROUND).float().mean() > 0.5


def test_the_diameter_is_that_of_what_was_drawn(patches) -> None:
    inside = ((patches.labels == SOLID) | (patches.labels == SUBSOLID)).sum((1, 2, 3)).float()
    ball = (6 * inside / torch.pi) ** (1 / 3)
    large = patches.nodule & (patches.diameter_mm > 6)

    assert (patches.diameter_mm[~patches.nodule] == 0).all()
    assert (ball[large] - patches.diameter_mm[large]).abs().max() < 2.5


def test_densities_are_those_of_a_scanner(patches) -> None:
    assert patches.hu.dtype == torch.float32
    assert -1024 <= patches.hu.min() < -700 < patches.hu.max() <= 1500


def test_the_same_seed_makes_the_same_cubes_and_another_others() -> None:
    one, again, other = (nodule_patches(seed, 4, **SMALL) for seed in (1, 1, 2))

    assert torch.equal(one.hu, again.hu)
    assert torch.equal(one.labels, again.labels)
    assert not torch.equal(one.hu, other.hu)


def test_all_or_none_may_be_nodules() -> None:
    assert nodule_patches(3, 4, nodules=1.0, **SMALL).nodule.all()
    assert not nodule_patches(3, 4, nodules=0.0, **SMALL).nodule.any()


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        nodule_patches(0, 0)
    with pytest.raises(ValueError, match="part of nodules"):
        nodule_patches(0, 2, nodules=1.5)

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import nn

from models.explain.uncertainty import agreement, ask, flipped, flips
from tests.models.explain.subjects import of_classifier, of_segmenter, segmenter


def test_a_volume_is_mirrored_in_eight_ways_and_an_image_in_four() -> None:
    assert flips((40, 48)) == ((), (2,), (3,), (2, 3))
    assert flips((1, 40, 48)) == ((), (3,), (4,), (3, 4))
    assert len(set(flips((5, 6, 7)))) == 8


@pytest.mark.parametrize("mirrored", flips((5, 6, 7)))
def test_a_network_that_knows_no_sides_answers_the_same_mirrored(mirrored) -> None:
    pointwise = nn.Conv3d(1, 2, 1)
    images = torch.randn(1, 1, 5, 6, 7)

    assert torch.allclose(flipped(pointwise, mirrored, dense=True)(images), pointwise(images), atol=1e-6)


@given(answers=st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=6))
def test_the_numbers_are_scipys_and_numpys(answers) -> None:
    probabilities = np.array(answers) / np.sum(answers, 1, keepdims=True)
    tensors = [torch.from_numpy(one)[None, :, None].float() for one in probabilities]

    mean, unsure = agreement(tensors, "entropy")
    _, deviation = agreement(tensors, "deviation")

    expected = entropy(probabilities.mean(0)) / np.log(3)
    assert mean[0, :, 0].numpy() == pytest.approx(probabilities.mean(0), abs=1e-5)
    assert float(unsure) == pytest.approx(expected, abs=1e-4)
    assert float(deviation) == pytest.approx(probabilities.std(0).max(), abs=1e-4)


def test_certain_is_zero_and_even_is_one() -> None:
    certain, even = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])

    assert float(agreement([certain], "entropy")[1]) == 0
    assert float(agreement([even], "entropy")[1]) == pytest.approx(1)
    assert float(agreement([certain, certain.flip(1)], "entropy")[1]) == pytest.approx(1)
    assert float(agreement([torch.tensor([[0.5]])], "entropy")[1]) == pytest.approx(1)  # one sigmoid
    assert float(agreement([torch.tensor([[0.99, 0.98]])], "entropy")[1]) < 0.2


def test_an_image_asked_mirrored_has_the_mean_of_the_answers() -> None:
    subject = of_classifier(2)
    with torch.no_grad():
        answers = [
            subject.network(subject.given[None].flip(f) if f else subject.given[None]).softmax(1)
            for f in flips((40, 48))
        ]

    asked = ask(subject, "flips")

    assert torch.allclose(asked.mean, torch.cat(answers).mean(0), atol=1e-6)
    assert asked.uncertainty.shape == ()
    assert 0 < float(asked.uncertainty) <= 1


@pytest.mark.parametrize("window", [(), (16, 16, 16)])
def test_a_volume_has_an_uncertainty_at_every_voxel(window) -> None:
    subject = of_segmenter(window=window)

    asked = ask(subject, "flips", "deviation")

    assert asked.mean.shape == (3, 24, 16, 20)
    assert torch.allclose(asked.mean.sum(0), torch.ones(24, 16, 20), atol=1e-4)
    assert asked.uncertainty.shape == (24, 16, 20)
    assert 0 < float(asked.uncertainty.max()) <= 1


def test_an_ensemble_of_equals_is_as_sure_as_one() -> None:
    alone = of_segmenter()
    twins = of_segmenter(others=(segmenter(), segmenter()))

    one, three = ask(alone, "ensemble"), ask(twins, "ensemble")

    assert torch.allclose(one.uncertainty, three.uncertainty, atol=1e-5)
    assert float(ask(twins, "ensemble", "deviation").uncertainty.max()) == pytest.approx(0, abs=1e-5)
    different = of_segmenter(others=(nn.Conv3d(1, 3, 1),))
    assert float(ask(different, "ensemble", "deviation").uncertainty.max()) > 0.01


def test_somebody_has_to_be_asked() -> None:
    with pytest.raises(ValueError, match="nobody"):
        agreement([], "entropy")

import numpy as np
import pytest
import torch
from monai.transforms import (
    NormalizeIntensity,
    ScaleIntensity,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
)

from models.prepare import intensity
from models.prepare.grid import Grid
from models.prepare.transform import Chain, Voxels
from tests.models.prepare.networks import smooth

VALUES = smooth(2, 12, 13, 14) * 300


def run(**step) -> torch.Tensor:
    chain = Chain.of([step])
    before = VALUES.clone()
    after = chain.apply(Voxels(VALUES, Grid((12, 13, 14), np.eye(4)))).voxels.values
    assert torch.equal(VALUES, before)  # A volume is looked at by others too.
    return after


@pytest.mark.parametrize("clip", [True, False])
def test_a_window_is_monais(clip: bool) -> None:
    theirs = ScaleIntensityRange(-200, 400, -1, 1, clip=clip)(VALUES)

    assert torch.allclose(run(step="window", low=-200, high=400, to=(-1, 1), clip=clip), theirs, atol=1e-6)


def test_a_window_without_a_width_only_shifts() -> None:
    assert torch.equal(intensity.window(VALUES, 5.0, 5.0), VALUES - 5)


@pytest.mark.parametrize("nonzero", [True, False])
def test_a_z_score_is_monais(nonzero: bool) -> None:
    some = VALUES.clamp(min=0)
    theirs = NormalizeIntensity(nonzero=nonzero, channel_wise=True)(some.clone())

    assert torch.allclose(intensity.z_score(some, nonzero=nonzero), theirs, atol=1e-5)


def test_a_z_score_with_the_training_sets_numbers_is_a_formula() -> None:
    assert torch.allclose(run(step="z_score", mean=40.0, deviation=250.0), (VALUES - 40) / 250)


def test_a_constant_channel_has_a_z_score_of_zero() -> None:
    assert not intensity.z_score(torch.full((1, 4, 4, 4), 7.0)).any()
    assert not intensity.z_score(torch.zeros(1, 4, 4, 4), nonzero=True).any()


def test_the_smallest_and_largest_value_are_monais() -> None:
    theirs = ScaleIntensity(0, 1, channel_wise=True)(VALUES)

    assert torch.allclose(run(step="min_max"), theirs, atol=1e-6)


@pytest.mark.parametrize("clip", [True, False])
def test_percentiles_are_monais(clip: bool) -> None:
    theirs = ScaleIntensityRangePercentiles(1, 99, 0, 1, clip=clip, channel_wise=True)(VALUES)

    assert torch.allclose(run(step="percentiles", low=1, high=99, clip=clip), theirs, atol=1e-5)


@pytest.mark.parametrize("q", [0, 0.5, 37.3, 99.5, 100])
def test_a_percentile_is_numpys_for_large_volumes_too(monkeypatch, q: float) -> None:
    expected = np.percentile(VALUES.numpy(), q)
    assert intensity.percentile(VALUES, q) == pytest.approx(expected, rel=1e-5)

    monkeypatch.setattr(intensity, "_QUANTILE_MOST", 10)
    assert intensity.percentile(VALUES, q) == pytest.approx(expected, rel=1e-5)


def test_values_are_cut_off() -> None:
    cut = run(step="clip", low=-10, high=20)

    assert (float(cut.min()), float(cut.max())) == (-10, 20)

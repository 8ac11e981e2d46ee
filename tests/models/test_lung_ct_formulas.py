"""The densities of lung_ct on voxels whose values are known by hand."""

import numpy as np
import pytest

from models.builtin.lung_ct.measure import Whole, measure, of_both, value_of
from models.chest.anatomy import LEFT, RIGHT
from models.chest.thirds import LOWER, MIDDLE, UPPER
from results import codes


def lung(number: int, *hu: float, voxel_ml: float = 0.5, thirds: list[int] | None = None) -> Whole:
    return Whole(
        number,
        np.array(hu, np.float32),
        voxel_ml,
        None if thirds is None else np.array(thirds, np.uint8),
    )


def test_a_voxel_of_exactly_950_below_zero_is_emphysema_and_one_unit_above_is_not() -> None:
    segment = measure(lung(RIGHT, -1000, -951, -950, -949, -900, -850, -800, -700, -700, -700))

    assert value_of(segment, codes.LAA_950) == pytest.approx(30)
    assert value_of(segment, codes.VOLUME) == pytest.approx(5)
    assert value_of(segment, codes.ATTENUATION) == pytest.approx(-850)


def test_the_fifteenth_percentile_is_that_of_the_sorted_densities() -> None:
    segment = measure(lung(LEFT, *np.arange(-1000, -899)[::-1]))  # 101 values, one for each percent

    assert value_of(segment, codes.PERC15) == pytest.approx(-985)


def test_high_attenuation_has_both_its_limits_within() -> None:
    segment = measure(lung(RIGHT, -601, -600, -599, -251, -250, -249, 0, 40, -850, -850))

    assert value_of(segment, codes.HAA) == pytest.approx(40)


def test_each_third_is_measured_by_itself() -> None:
    one = lung(RIGHT, -960, -960, -900, -940, -960, -800, thirds=[UPPER, UPPER, MIDDLE, MIDDLE, LOWER, LOWER])
    segment = measure(one)

    assert [value_of(segment, codes.LAA_950_OF_THIRD[name]) for name in ("upper", "middle", "lower")] == [
        100, 0, 50,
    ]  # fmt: skip
    assert value_of(segment, codes.ATTENUATION_OF_THIRD["middle"]) == pytest.approx(-920)


def test_both_lungs_together_count_by_their_volumes() -> None:
    right, left = lung(RIGHT, -960, -800, -800), lung(LEFT, -960)

    volume, mean, laa = of_both(right, left)

    assert volume.value == pytest.approx(2)
    assert mean.value == pytest.approx(-880)
    assert laa.value == pytest.approx(50)

"""Patients drawn by lot: complete, the same for the same seed, and of two generators."""

import numpy as np
import pytest

from models.training.random_chest import random_chest

SMALL = {"shape": (24, 56, 56), "spacing_mm": (6.5, 3.4, 3.4)}


@pytest.mark.parametrize("variant", ["first", "second"])
def test_a_patient_has_the_nodules_asked_for_within_the_lungs(variant) -> None:
    phantom = random_chest(11, (48, 110, 110), (6.5, 3.4, 3.4), nodules=3, healthy=True, variant=variant)

    assert [truth.label for truth in phantom.nodules] == [1, 2, 3]
    for truth in phantom.nodules:
        assert 3 <= truth.nodule.diameter_mm <= 30
        assert 0 < truth.short_axis_mm <= truth.long_axis_mm < 2.5 * truth.nodule.diameter_mm
        z, y, x = np.round(phantom.geometry.map_reference_to_indices(np.array([truth.centre_mm]))[0]).astype(
            int
        )
        near = phantom.truth[z - 1 : z + 2, y - 2 : y + 3, x - 2 : x + 3]
        assert near.any()
    assert not np.any(phantom.disease)


def test_the_same_seed_is_the_same_patient() -> None:
    one, again = (random_chest(5, **SMALL) for _ in range(2))

    assert (one.hu == again.hu).all()
    assert one.nodules == again.nodules


def test_patients_differ_in_build_and_scanner() -> None:
    one, other = random_chest(1, nodules=0, **SMALL), random_chest(2, nodules=0, **SMALL)

    assert abs(one.right.volume_ml - other.right.volume_ml) > 20
    assert one.scanner != other.scanner
    assert one.mimics != other.mimics

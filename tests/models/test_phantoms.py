import numpy as np
import pytest

from models.training.phantoms import LEFT_LUNG, RIGHT_LUNG, chest, grid


def test_the_same_arguments_make_the_same_voxels_with_any_number_of_threads() -> None:
    one, other = chest((30, 64, 64), seed=7, threads=1), chest((30, 64, 64), seed=7, threads=2)

    assert (one.hu == other.hu).all()
    assert (one.truth == other.truth).all()


def test_another_seed_makes_another_patient() -> None:
    assert (chest((30, 64, 64), seed=1).hu != chest((30, 64, 64), seed=2).hu).any()


@pytest.mark.parametrize(
    "view",
    [
        {},
        {"position": "FFS"},
        {"position": "HFP"},
        {"plane": "coronal"},
        {"plane": "sagittal"},
        {"tilt_deg": 14.0},
    ],
    ids=str,
)
def test_the_right_lung_is_on_the_patients_right_and_larger_from_whatever_side(view) -> None:
    phantom = chest((60, 96, 96), **view)

    centre = {
        lung: phantom.geometry.map_indices_to_reference(np.argwhere(phantom.truth == lung)).mean(0)
        for lung in (RIGHT_LUNG, LEFT_LUNG)
    }
    assert centre[RIGHT_LUNG][0] < -50 < 50 < centre[LEFT_LUNG][0]  # LPS: +x is the patient's left
    assert phantom.right.volume_ml == pytest.approx(2360, rel=0.02)
    assert phantom.left.volume_ml == pytest.approx(2080, rel=0.02)


def test_emphysema_takes_the_part_of_the_lungs_that_was_asked_for() -> None:
    phantom = chest((60, 128, 128), emphysema=0.2, noise_hu=0)

    lung = phantom.hu[phantom.truth > 0]
    assert (lung <= -950).mean() == pytest.approx(0.2, abs=0.04)
    assert chest((60, 128, 128), noise_hu=0).right.laa950_percent < 0.5


def test_the_truth_is_what_the_voxels_say() -> None:
    phantom = chest((40, 96, 96))

    right = phantom.hu[phantom.truth == RIGHT_LUNG]
    assert phantom.right.volume_ml == pytest.approx(right.size * phantom.geometry.voxel_volume / 1000)
    assert phantom.right.mean_hu == pytest.approx(right.mean())
    assert phantom.right.perc15_hu == pytest.approx(np.percentile(right, 15))


def test_a_grid_beside_the_lungs_has_no_lungs() -> None:
    phantom = chest((20, 64, 64), (3, 3, 3), centre_mm=(0, 0, -300))

    assert phantom.right is None
    assert phantom.left is None


def test_there_is_gas_in_the_stomach_that_is_no_lung() -> None:
    phantom = chest((60, 128, 128), noise_hu=0)

    z, y, x = np.round(phantom.geometry.map_reference_to_indices(np.array([[58.0, -22.0, -97.0]]))[0]).astype(
        int
    )
    assert phantom.hu[z, y, x] < -950
    assert phantom.truth[z, y, x] == 0


def test_axial_slices_run_from_head_to_feet_as_highdicom_sorts_them() -> None:
    geometry = grid((10, 8, 8), (2, 1, 1))

    assert geometry.affine[:3, 0] == pytest.approx([0, 0, -2])
    assert geometry.center_position == pytest.approx((0, 0, 0))

import numpy as np
import pytest
from scipy import ndimage

from ledger.job import Outcome
from models.builtin.lung_ct.measure import value_of
from models.chest.anatomy import LEFT, RIGHT
from models.contract import Context
from models.training.phantoms import chest
from results.codes import ATTENUATION, LAA_950, PERC15, VOLUME
from tests.models.measuring import dice


@pytest.mark.parametrize(
    "view",
    [
        {},
        {"position": "FFS"},
        {"position": "HFP"},
        {"position": "FFP"},
        {"plane": "coronal"},
        {"plane": "sagittal"},
        {"tilt_deg": 15.0},
        {"emphysema": 0.25},
        {"noise_hu": 45.0},
    ],
    ids=str,
)
def test_each_lung_is_found_on_its_own_side_from_whatever_side_one_looks(view, lung_ct, ct) -> None:
    phantom = chest((75, 128, 128), seed=2, **view)

    findings = lung_ct.run(phantom.volume, ct)

    assert findings.outcome is Outcome.FOUND, findings.because
    lungs = np.isin(findings.label_map, (RIGHT, LEFT))
    assert dice(lungs, phantom.truth > 0) > 0.98
    assert dice(findings.mask(RIGHT), phantom.truth == RIGHT) > 0.98
    assert dice(findings.mask(LEFT), phantom.truth == LEFT) > 0.98


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_stored_the_other_way_round_has_the_same_lungs(axis, whole_chest, lung_ct, ct) -> None:
    turned = whole_chest.volume.flip_spatial(axis)

    findings = lung_ct.run(turned, ct)

    assert (
        np.flip(findings.label_map, axis) == lung_ct.run(whole_chest.volume, ct).label_map
    ).mean() > 0.9999


def test_measurements_are_those_of_the_truth(lung_ct, ct) -> None:
    phantom = chest((150, 160, 160), seed=4, emphysema=0.1)

    right, left, _ = lung_ct.run(phantom.volume, ct).segments

    for segment, truth in ((right, phantom.right), (left, phantom.left)):
        assert value_of(segment, VOLUME) == pytest.approx(truth.volume_ml, rel=0.02)
        assert value_of(segment, ATTENUATION) == pytest.approx(truth.mean_hu, abs=6)
        assert value_of(segment, LAA_950) == pytest.approx(truth.laa950_percent, abs=0.5)
        assert value_of(segment, PERC15) == pytest.approx(truth.perc15_hu, abs=4)


def test_measurements_are_those_of_the_drawn_voxels(whole_chest, lung_ct, ct) -> None:
    findings = lung_ct.run(whole_chest.volume, ct)

    for segment in findings.segments[:2]:
        hu = whole_chest.hu[findings.mask(segment.number)]
        assert value_of(segment, VOLUME) == pytest.approx(hu.size * whole_chest.geometry.voxel_volume / 1000)
        assert value_of(segment, ATTENUATION) == pytest.approx(hu.mean(), abs=0.01)
        assert value_of(segment, LAA_950) == pytest.approx(100 * (hu <= -950).mean())


def test_segments_say_what_they_are_in_codes_and_colours(whole_chest, lung_ct, ct) -> None:
    right, left, airways = lung_ct.run(whole_chest.volume, ct).segments

    assert (airways.label, airways.kind.value) == ("Trachea and main bronchi", "110726009")
    assert (right.label, left.label) == ("Lung, right", "Lung, left")
    assert (right.laterality.value, left.laterality.value) == ("24028007", "7771000")
    assert right.kind == left.kind
    assert right.kind.value == "39607008"
    assert right.colour_rgb != left.colour_rgb


def test_airways_and_the_gas_of_the_stomach_are_no_lung(whole_chest, lung_ct, ct) -> None:
    findings = lung_ct.run(whole_chest.volume, ct)

    inside = np.isin(findings.label_map, (RIGHT, LEFT)) & whole_chest.airways
    # What is left are ends of lobar bronchi: at 4 mm, their walls make them as bright as lung.
    assert inside.sum() < 0.10 * whole_chest.airways.sum()
    at = whole_chest.geometry.map_reference_to_indices(np.array([[58.0, -22.0, -97.0]]))[0]
    assert findings.label_map[tuple(np.round(at).astype(int))] == 0


def test_a_tongue_of_lung_between_heart_and_aorta_is_no_bronchus(lung_ct, ct) -> None:
    phantom = chest((150, 200, 200), seed=3)

    findings = lung_ct.run(phantom.volume, ct)

    missed, _ = ndimage.label(
        ndimage.binary_erosion((phantom.truth > 0) & ~np.isin(findings.label_map, (RIGHT, LEFT)))
    )
    largest_ml = np.bincount(missed.ravel())[1:].max(initial=0) * np.prod(phantom.geometry.spacing) / 1000
    assert largest_ml < 0.5


def test_lungs_that_touch_in_front_of_the_heart_are_told_apart(lung_ct, ct) -> None:
    phantom = chest((75, 160, 160), seed=1)
    hu = phantom.hu.copy()
    x, y, z = np.moveaxis(
        phantom.geometry.map_indices_to_reference(np.argwhere(np.ones(hu.shape, bool))), 1, 0
    ).reshape(3, *hu.shape)
    hu[(abs(x - 3) < 9) & (abs(y + 65) < 7) & (abs(z - 32) < 13)] = -860  # no septum here

    findings = lung_ct.run(phantom.geometry.with_array(hu), ct)

    assert findings.outcome is Outcome.FOUND, findings.because
    assert dice(findings.mask(RIGHT), phantom.truth == RIGHT) > 0.98
    assert dice(findings.mask(LEFT), phantom.truth == LEFT) > 0.98


def test_a_nodule_at_the_pleura_belongs_to_the_lung(lung_ct, ct) -> None:
    phantom = chest((150, 160, 160), seed=1)
    hu = phantom.hu.copy()
    x, y, z = np.moveaxis(
        phantom.geometry.map_indices_to_reference(np.argwhere(np.ones(hu.shape, bool))), 1, 0
    ).reshape(3, *hu.shape)
    nodule = ((x + 116) ** 2 + (y - 5) ** 2 + z**2 < 6**2) & (phantom.truth == RIGHT)
    hu[nodule] = 30

    findings = lung_ct.run(phantom.geometry.with_array(hu), ct)

    assert findings.mask(RIGHT)[nodule].mean() > 0.9


def test_the_edge_follows_the_source_and_not_the_working_grid(lung_ct, ct) -> None:
    phantom = chest((40, 384, 384), (7.5, 1.0, 1.0), seed=5, noise_hu=0)

    findings = lung_ct.run(phantom.volume, ct)

    # Away from the hila, where the drawn edge is a convention, nothing is more than a pixel off.
    wrong = np.isin(findings.label_map, (RIGHT, LEFT)) != (phantom.truth > 0)
    x = phantom.geometry.map_indices_to_reference(np.argwhere(wrong))[:, 0]
    assert (abs(x) > 70).sum() < 0.004 * (phantom.truth > 0).sum()


def test_two_runs_give_the_same_voxels(whole_chest, lung_ct, ct) -> None:
    one, again = (lung_ct.run(whole_chest.volume, ct) for _ in range(2))

    assert (one.label_map == again.label_map).all()
    assert one.segments == again.segments


def test_a_setting_changes_the_outline(whole_chest, lung_ct) -> None:
    headers = {"Modality": "CT"}
    tight = lung_ct.run(whole_chest.volume, Context(headers=headers, settings={"closing_mm": 0.0}))
    wide = lung_ct.run(whole_chest.volume, Context(headers=headers, settings={"closing_mm": 16.0}))

    assert np.isin(tight.label_map, (RIGHT, LEFT)).sum() < np.isin(wide.label_map, (RIGHT, LEFT)).sum()


def test_the_estimate_grows_with_the_study_and_bounds_it(lung_ct) -> None:
    small, large = (lung_ct.estimate((slices, 512, 512)).host for slices in (50, 1000))

    assert 50 * 512 * 512 < small < large < 3 * 2**30

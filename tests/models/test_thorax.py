"""The full thorax: its anatomy is in place, its lesions measure what their formulas say, from any grid."""

from math import pi

import numpy as np
import pytest

from models.training.coronaries import calcified
from models.training.lesions import Calcification, Disease, Nodule
from models.training.phantoms import chest, grid
from models.training.scanners import Scanner
from models.training.thorax_build import Build
from models.training.thorax_layers import Tissue
from models.training.thorax_trees import trees

COARSE = (60, 112, 112)


@pytest.fixture(scope="module")
def whole():
    return chest(COARSE, full=True, noise_hu=0)


def _quiet(kvp: float) -> Scanner:
    return Scanner(kvp=kvp, noise_hu=0)


def _centre(phantom, mask):
    return phantom.geometry.map_indices_to_reference(np.argwhere(mask)).mean(0)


def test_organs_lie_on_the_side_where_a_radiologist_looks_for_them(whole) -> None:
    centre = {
        tissue: _centre(whole, whole.tissue == tissue) for tissue in Tissue if (whole.tissue == tissue).any()
    }

    assert centre[Tissue.MYOCARDIUM][0] > 5  # LPS: +x is the patient's left
    assert centre[Tissue.LIVER][0] < -30
    assert centre[Tissue.SPLEEN][0] > 50
    assert centre[Tissue.GAS][0] > 30
    assert centre[Tissue.AORTA][0] > 0
    assert centre[Tissue.LIVER][2] < centre[Tissue.MYOCARDIUM][2] < centre[Tissue.LUNG][2]


def test_every_tissue_has_its_density(whole) -> None:
    for tissue, low, high in (
        (Tissue.FAT, -115, -80),
        (Tissue.MUSCLE, 35, 75),
        (Tissue.LIVER, 50, 70),
        (Tissue.SPLEEN, 40, 65),
        (Tissue.BLOOD, 30, 60),
        (Tissue.BONE, 150, 700),
        (Tissue.LUNG, -870, -830),
        (Tissue.OUTSIDE, -1010, -980),
    ):
        assert low < np.median(whole.hu[whole.tissue == tissue]) < high, tissue.name


def test_five_lobes_share_the_lungs_as_they_should(whole) -> None:
    volume_ml = [(whole.lobes == lobe).sum() * whole.geometry.voxel_volume / 1000 for lobe in range(1, 6)]

    assert set(np.unique(whole.lobes)) == {0, 1, 2, 3, 4, 5}
    assert volume_ml[1] < min(volume_ml[0], volume_ml[2])  # the middle lobe is the smallest
    assert sum(volume_ml[:3]) == pytest.approx(whole.right.volume_ml)
    assert whole.right.volume_ml > whole.left.volume_ml


def test_every_fork_of_a_vessel_obeys_murrays_law() -> None:
    vessels = trees(3).vessels
    children: dict[tuple[float, float, float], list[float]] = {}
    for one in vessels:
        children.setdefault(one.start, []).append(one.start_mm)

    forks = [(one.start_mm, children[one.end]) for one in vessels if len(children.get(one.end, [])) == 2]
    assert len(forks) > 300
    for parent, both in forks:
        assert parent**3 == pytest.approx(sum(radius**3 for radius in both))


@pytest.mark.parametrize(
    ("kind", "diameter_mm"),
    [("solid", 4.0), ("solid", 9.0), ("part-solid", 14.0), ("ground glass", 12.0), ("calcified", 8.0)],
)
def test_the_volume_of_a_nodule_on_the_voxels_is_that_of_the_formula(kind, diameter_mm) -> None:
    centre = (-75.0, -30.0, 46.0)
    nodule = Nodule(centre_mm=centre, diameter_mm=diameter_mm, kind=kind, hu=400.0)
    where = {"spacing_mm": (1.0, 0.7, 0.7), "centre_mm": centre, "noise_hu": 0.0}

    with_it = chest((32, 40, 40), nodules=(nodule,), **where)
    without = chest((32, 40, 40), full=True, **where)

    (truth,) = with_it.nodules
    assert truth.volume_mm3 == pytest.approx(pi * diameter_mm**3 / 6, rel=0.002)
    if kind != "part-solid":
        gained = (with_it.hu.astype(float) - without.hu).sum() * with_it.geometry.voxel_volume
        assert gained / (400 - np.median(without.hu[without.lobes > 0])) == pytest.approx(
            truth.volume_mm3, rel=0.04
        )
    labelled = (with_it.nodule_labels == 1).sum() * with_it.geometry.voxel_volume
    assert labelled == pytest.approx(truth.volume_mm3, rel=0.12 if diameter_mm < 6 else 0.05)
    assert truth.short_axis_mm <= truth.mean_diameter_mm <= truth.long_axis_mm
    assert truth.solid_fraction == {"part-solid": 0.35, "ground glass": 0.0}.get(kind, 1.0)


def test_an_attached_nodule_lies_where_it_is_attached_and_the_pleura_cuts_it() -> None:
    where = {"spacing_mm": (1.0, 0.8, 0.8), "centre_mm": (-100.0, 0.0, 10.0), "noise_hu": 0.0}
    nodule = Nodule(centre_mm=(-100.0, 0.0, 10.0), diameter_mm=12, attached="pleura")

    phantom = chest((32, 60, 60), nodules=(nodule,), **where)

    (truth,) = phantom.nodules
    assert truth.volume_mm3 < 0.95 * pi * 12**3 / 6
    drawn = (phantom.nodule_labels == 1).sum() * phantom.geometry.voxel_volume
    assert drawn == pytest.approx(truth.volume_mm3, rel=0.06)
    assert ((phantom.nodule_labels == 1) & (phantom.lobes == 0)).sum() < 0.03 * (
        phantom.nodule_labels == 1
    ).sum()


@pytest.mark.parametrize(("kvp", "mass_mg"), [(120.0, 1.5), (120.0, 60.0), (80.0, 12.0)])
def test_the_mass_of_a_calcification_on_the_voxels_is_that_of_the_formula(kvp, mass_mg) -> None:
    scanner = Scanner(kvp=kvp, noise_hu=0)
    calcium = calcified("LAD", 0.4, mass_mg, 400.0)
    # The same ball a hundred times lighter: what differs is the calcium alone, not the blood around it.
    light = calcified("LAD", 0.4, mass_mg / 100, 4.0)
    where = {"spacing_mm": (1.0, 0.6, 0.6), "centre_mm": calcium.centre_mm, "scanner": scanner}

    with_it, without = (chest((28, 40, 40), calcifications=(one,), **where) for one in (calcium, light))

    (truth,) = with_it.calcium
    assert truth.added_hu == pytest.approx(400 * scanner.hu_per_mg_per_ml)
    gained = (with_it.hu.astype(float) - without.hu).sum() * with_it.geometry.voxel_volume / 1000
    assert gained / scanner.hu_per_mg_per_ml == pytest.approx(0.99 * mass_mg, rel=0.03)


def test_calcium_and_contrast_shine_more_at_a_lower_voltage() -> None:
    assert Scanner(kvp=120).hu_per_mg_per_ml == pytest.approx(1.3)
    assert Scanner(kvp=80).hu_per_mg_per_ml == pytest.approx(1.3 * 177 / 130)
    assert Scanner(kvp=70).iodine_factor == pytest.approx(1.9)
    assert Scanner(kvp=140).hu_per_mg_per_ml < Scanner(kvp=135).hu_per_mg_per_ml
    aorta = {
        kvp: np.median(p.hu[p.tissue == Tissue.AORTA])
        for kvp in (80.0, 120.0)
        if (p := chest((8, 32, 32), (3, 2, 2), centre_mm=(24, 46, 0), contrast_hu=250, scanner=_quiet(kvp)))
    }
    assert aorta[120.0] == pytest.approx(42 + 250, abs=3)
    assert aorta[80.0] > aorta[120.0] + 80


@pytest.mark.parametrize("kind", ["emphysema", "consolidation", "ground glass", "effusion"])
def test_a_disease_takes_the_part_of_the_lung_that_was_asked_for(kind, whole) -> None:
    disease = Disease(kind=kind, where="right", extent=0.25)

    ill, well = chest(COARSE, diseases=(disease,), noise_hu=0), whole

    right = well.truth == 1
    code = {"emphysema": 1, "consolidation": 2, "effusion": 3, "ground glass": 5}[kind]
    assert (ill.disease[right] == code).mean() == pytest.approx(0.25, abs=0.05)
    assert not (ill.disease[well.truth == 2] > 0).any()
    if kind == "effusion":
        assert ill.right.volume_ml == pytest.approx(0.75 * well.right.volume_ml, rel=0.08)
        assert _centre(ill, ill.disease == 3)[1] > _centre(well, right)[1] + 20  # it lies behind
    else:
        assert ill.right.volume_ml == pytest.approx(well.right.volume_ml, rel=0.01)


@pytest.mark.parametrize("view", [{"plane": "coronal"}, {"tilt_deg": 12.0}, {"position": "FFS"}], ids=str)
def test_the_same_patient_is_seen_from_any_grid(view, whole) -> None:
    other = chest((60, 60, 60), (5.6, 6.4, 6.4), full=True, noise_hu=0, **view)

    assert other.left.volume_ml == pytest.approx(whole.left.volume_ml, rel=0.02)
    assert other.left.perc15_hu == pytest.approx(whole.left.perc15_hu, abs=8)
    inside = other.geometry.map_reference_to_indices(
        np.array([whole.geometry.map_indices_to_reference(np.argwhere(whole.tissue == Tissue.LIVER)).mean(0)])
    )
    z, y, x = np.round(inside[0]).astype(int)
    assert other.tissue[z, y, x] == Tissue.LIVER


def test_the_same_arguments_make_the_same_thorax_and_another_seed_another() -> None:
    one, again, other = (chest((12, 24, 24), seed=seed, full=True) for seed in (0, 0, 1))

    assert (one.hu == again.hu).all()
    assert (one.tissue == again.tissue).all()
    inside = one.lobes > 0
    assert (one.hu[inside] != other.hu[inside]).mean() > 0.5


def test_a_child_has_smaller_lungs_in_the_same_places(whole) -> None:
    child = chest(COARSE, (3.4, 2.4, 2.4), build=Build(scale=0.6), noise_hu=0)

    assert child.right.volume_ml == pytest.approx(0.6**3 * whole.right.volume_ml, rel=0.05)
    assert _centre(child, child.tissue == Tissue.LIVER)[0] < -15


def test_noise_is_as_strong_as_the_dose_says_and_no_kernel_moves_a_density() -> None:
    where = {"spacing_mm": (2.0, 0.8, 0.8), "centre_mm": (-62.0, 20.0, -100.0)}  # in the liver
    quiet = {
        k: chest((8, 48, 48), scanner=Scanner(kernel=k, noise_hu=0), **where) for k in ("smooth", "sharp")
    }
    noisy = chest((8, 48, 48), scanner=Scanner(noise_hu=20, dose=0.25), **where)

    assert quiet["smooth"].hu.mean() == pytest.approx(quiet["sharp"].hu.mean(), abs=0.5)
    assert noisy.hu.std() == pytest.approx(40 * 0.9, rel=0.15)


def test_nonsense_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="must measure 1 to 60 mm"):
        Nodule(centre_mm=(0, 0, 0), diameter_mm=90)
    with pytest.raises(ValueError, match="mass and a density above zero"):
        Calcification(centre_mm=(0, 0, 0), mass_mg=0)
    with pytest.raises(ValueError, match="extent"):
        Disease(kind="effusion", extent=1.5)
    with pytest.raises(ValueError, match="70 to 140 kV"):
        Scanner(kvp=20)
    with pytest.raises(ValueError, match="adult's size"):
        Build(scale=3)


def test_a_grid_beside_the_nodule_does_not_meet_it() -> None:
    nodule = Nodule(centre_mm=(-75, -30, 46), diameter_mm=8)

    phantom = chest((8, 32, 32), (2, 2, 2), nodules=(nodule,), centre_mm=(60, 0, -40))

    assert not phantom.nodule_labels.any()
    assert phantom.nodules[0].volume_mm3 == pytest.approx(pi * 8**3 / 6, rel=0.002)
    assert grid((8, 8, 8)).spatial_shape == (8, 8, 8)

"""Lungs that are not whole: what is outlined stays, what would be wrong of it is left out, and it is said."""

from collections.abc import Callable

import highdicom as hd
import numpy as np
import pytest

from ledger.job import Outcome
from models.builtin.lung_ct.measure import value_of
from models.builtin.lung_ct.quality import density_cautions
from models.chest.anatomy import LEFT, RIGHT
from models.chest.thirds import LOWER, UPPER, reach_of
from models.contract import Context
from models.training.lesions import Disease
from models.training.phantoms import Phantom, chest
from results.codes import LAA_950, LAA_950_OF_THIRD, VOLUME, VOLUME_OF_BOTH_LUNGS
from results.findings import Findings
from tests.models.measuring import dice

CT = Context(headers={"Modality": "CT"})
Place = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return chest((60, 96, 96), seed=6, emphysema=0.1)


@pytest.fixture(scope="module")
def xyz(phantom: Phantom) -> np.ndarray:
    """LPS millimetres of every voxel: (3, slice, row, column)."""
    index = np.argwhere(np.ones(phantom.hu.shape, np.bool_))
    return np.moveaxis(phantom.geometry.map_indices_to_reference(index), 1, 0).reshape(3, *phantom.hu.shape)


def filled(phantom: Phantom, xyz: np.ndarray, side: int, where: Place, *, hu: float) -> hd.Volume:
    """The phantom with what lies in `where` of one lung as dense as `hu`."""
    place = where(*xyz) & (phantom.truth == side)
    return phantom.geometry.with_array(np.where(place, hu, phantom.hu).astype(np.int16))


def names(findings: Findings, side: int) -> set:
    return {measurement.name for measurement in findings.segments[side - 1].measurements}


def test_ordinary_lungs_are_said_to_be_whole(phantom, lung_ct) -> None:
    findings = lung_ct.run(phantom.volume, CT)

    assert not any("lung" in caution and "slices" not in caution for caution in findings.cautions)
    assert {VOLUME, LAA_950, *LAA_950_OF_THIRD.values()} <= names(findings, RIGHT) & names(findings, LEFT)


@pytest.mark.parametrize(
    ("side", "where", "hu", "says"),
    [
        (RIGHT, lambda x, y, z: y > 45, 12, "dense tissue lie between the right lung and the ribs"),
        (LEFT, lambda x, y, z: y > 45, 12, "dense tissue lie between the left lung and the ribs"),
        (RIGHT, lambda x, y, z: (x + 105) ** 2 + (y - 5) ** 2 + z**2 < 40**2, 45, "right lung and the ribs"),
        (RIGHT, lambda x, y, z: z < -45, 20, "right lung ends"),
    ],
    ids=["effusion on the right", "effusion on the left", "consolidation at the wall", "base filled"],
)
def test_a_lung_that_gives_way_to_dense_tissue_has_no_volume(
    side, where, hu, says, *, phantom, xyz, lung_ct
) -> None:
    findings = lung_ct.run(filled(phantom, xyz, side, where, hu=hu), CT)

    assert findings.outcome is Outcome.FOUND, findings.because
    assert says in " ".join(findings.cautions)
    assert VOLUME not in names(findings, side)
    assert VOLUME in names(findings, LEFT if side == RIGHT else RIGHT)
    assert LAA_950 in names(findings, side)
    assert VOLUME_OF_BOTH_LUNGS not in {measurement.name for measurement in findings.measurements}


def test_a_small_effusion_is_said_and_the_volume_is_that_of_the_aerated_lung(lung_ct) -> None:
    small = Disease(kind="effusion", where="left", extent=0.12)
    phantom = chest((60, 128, 128), seed=6, diseases=(small,))

    findings = lung_ct.run(phantom.volume, CT)

    said = " ".join(findings.cautions)
    assert "lies between the left lung and the ribs (a small effusion" in said
    assert "right lung and the ribs" not in said
    assert value_of(findings.segments[LEFT - 1], VOLUME) == pytest.approx(phantom.left.volume_ml, rel=0.04)


def test_a_dense_region_that_lung_surrounds_is_said(phantom, xyz, lung_ct) -> None:
    ball = filled(
        phantom, xyz, LEFT, lambda x, y, z: (x - 70) ** 2 + (y - 10) ** 2 + (z - 25) ** 2 < 400, hu=40
    )

    findings = lung_ct.run(ball, CT)

    assert "dense tissue lie within the outline of the left lung" in " ".join(findings.cautions)
    assert VOLUME in names(findings, LEFT)


@pytest.mark.parametrize(
    ("seen", "end"),
    [(slice(0, 36), "lower end"), (slice(26, 60), "upper end")],
    ids=["bases are missing", "apices are missing"],
)
def test_a_part_of_the_lungs_is_outlined_and_has_no_volume(seen, end, phantom, lung_ct) -> None:
    findings = lung_ct.run(phantom.volume[seen], CT)

    assert findings.outcome is Outcome.FOUND, findings.because
    for side, name in ((RIGHT, "right"), (LEFT, "left")):
        assert dice(findings.mask(side), phantom.truth[seen] == side) > 0.97
        assert not {VOLUME, *LAA_950_OF_THIRD.values()} & names(findings, side)
        assert any(
            f"Only a part of the {name} lung" in caution and end in caution for caution in findings.cautions
        )


def test_lungs_cut_off_at_the_side_are_outlined_and_have_no_volume(phantom, lung_ct) -> None:
    findings = lung_ct.run(phantom.volume[:, :, 26:], CT)

    if findings.outcome is Outcome.REFUSED:
        assert "lung" in findings.because
    else:
        assert VOLUME not in names(findings, RIGHT)
        assert any("at the sides" in caution for caution in findings.cautions)


def test_noise_that_no_header_tells_of_is_said() -> None:
    assert "air in the trachea varies by 60 HU" in " ".join(density_cautions({}, 1.0, 60.0))
    # A kernel that is known to be sharp is said by its name.
    assert "noisy" not in " ".join(density_cautions({"ConvolutionKernel": "B70f"}, 1.0, 60.0))
    assert density_cautions({}, 1.0, 20.0) == density_cautions({}, 1.0, None) == []


def test_thirds_are_segments_of_a_layer_of_their_own_where_a_rule_asks_for_them(phantom, lung_ct) -> None:
    asked = Context(headers={"Modality": "CT"}, settings={"thirds_as_segments": True})

    findings = lung_ct.run(phantom.volume, asked)

    thirds = findings.segments[3:]
    assert [segment.layer for segment in thirds] == [1] * 6
    assert thirds[0].label == "Lung, right, upper third"
    together = sum(findings.mask(segment.number).astype(int) for segment in thirds)
    assert (together == np.isin(findings.layers[0], (RIGHT, LEFT))).all()
    # The head lies at the first slice.
    first = [np.flatnonzero(findings.mask(segment.number).any(axis=(1, 2)))[0] for segment in thirds[:3]]
    assert first == sorted(first)
    assert first[0] < first[1]


def test_thirds_are_parts_of_the_height_however_the_images_are_cut() -> None:
    affine = np.diag([2.0, 2.0, -3.0, 1.0])[[0, 1, 2, 3]][:, [2, 1, 0, 3]]  # slices run towards the feet
    lung = np.zeros((30, 4, 4), np.bool_)
    lung[3:27] = True

    reach = reach_of(lung, affine)

    assert reach.top_mm - reach.bottom_mm == pytest.approx(24 * 3)
    assert reach.third(np.array([reach.top_mm - 1, reach.bottom_mm + 1], np.float32)).tolist() == [
        UPPER,
        LOWER,
    ]

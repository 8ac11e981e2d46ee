"""The formulas of calcium scores, on lesions that one can count by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.builtin.calcium_ct.answer import category
from models.builtin.calcium_ct.gating import gating
from models.builtin.calcium_ct.quality import limits_of, noise_of, refuse_contrast
from models.builtin.calcium_ct.scoring import LIMITS_HU, score, slabs, weight
from models.contract import NotForThisModel
from models.headers import number

AT_120 = LIMITS_HU[120]


def block(pixels: int, hu: float, *, slices: int = 1) -> np.ndarray:
    """A row of so many pixels, in the middle of 12 x 12."""
    array = np.full((slices, 12, 12), 40.0)
    array[:, 6, 1 : 1 + pixels] = hu
    return array


def scored(array, *, spacing=(3.0, 1.0, 1.0), thickness=3.0, limits=AT_120, **more):
    return score(
        array,
        np.ones(array.shape, np.bool_),
        spacing_mm=spacing,
        thickness_mm=thickness,
        limits_hu=limits,
        **more,
    )


@pytest.mark.parametrize("kvp", sorted(LIMITS_HU))
@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_weight_begins_at_its_limit_and_not_one_unit_below(kvp, step) -> None:
    limit = LIMITS_HU[kvp][step - 1]

    assert weight(limit - 1, LIMITS_HU[kvp]) == step - 1
    assert weight(limit, LIMITS_HU[kvp]) == step


@pytest.mark.parametrize(
    ("kvp", "limits"),
    [
        (70, (207, 318, 477, 636)),
        (80, (177, 271, 408, 544)),
        (100, (145, 222, 334, 446)),
        (120, (130, 200, 300, 400)),
        (135, (119, 183, 274, 364)),
    ],
)
def test_the_limits_are_the_published_ones(kvp, limits) -> None:
    assert limits_of({"KVP": str(kvp)}) == limits


@pytest.mark.parametrize(
    ("hu", "times"),
    [(129, 0), (130, 1), (199, 1), (200, 2), (299, 2), (300, 3), (399, 3), (400, 4), (1200, 4)],
)
def test_four_square_millimetres_count_four_times_the_weight_of_their_peak(hu, times) -> None:
    assert scored(block(4, hu)).agatston == pytest.approx(4 * times)


def test_the_brightest_pixel_gives_the_weight_of_the_whole_lesion() -> None:
    lesion = block(4, 140)
    lesion[0, 6, 2] = 410

    found = scored(lesion)

    assert (found.agatston, found.lesions) == (16, 1)
    assert found.volume_mm3 == pytest.approx(12)
    assert found.mean_hu == pytest.approx((3 * 140 + 410) / 4)


def test_the_example_of_a_public_implementation() -> None:
    # CalciumScoring.jl, test/agatston.jl: two slices of 4 x 2 pixels of 0.5 mm with 400 HU score 16.
    array = np.zeros((2, 4, 4))
    array[:, :, :2] = 400

    assert scored(array, spacing=(3.0, 0.5, 0.5)).agatston == pytest.approx(16)


@pytest.mark.parametrize(("pixels", "counts"), [(1, False), (3, False), (4, True)])
def test_less_than_a_square_millimetre_is_noise(pixels, counts) -> None:
    found = scored(block(pixels, 250), spacing=(3.0, 0.5, 0.5))

    assert (found.agatston > 0) is counts
    assert found.calcium.any() == counts


def test_pixels_that_touch_at_a_corner_are_one_lesion() -> None:
    array = np.full((1, 12, 12), 40.0)
    array[0, 5, 5], array[0, 6, 6] = 150, 450

    found = scored(array)

    assert (found.lesions, found.agatston) == (1, 8)


@pytest.mark.parametrize(
    ("increment", "thickness", "factor"),
    [(3.0, 3.0, 1.0), (2.5, 2.5, 2.5 / 3), (1.5, 3.0, 0.5), (5.0, 5.0, 5 / 3)],
)
def test_another_increment_counts_with_its_part_of_3_mm(increment, thickness, factor) -> None:
    found = scored(block(4, 250), spacing=(increment, 1.0, 1.0), thickness=thickness)

    assert found.agatston == pytest.approx(8 * factor)


def test_overlapping_slices_count_the_same_calcium_once() -> None:
    apart = scored(block(4, 250, slices=4))
    overlapping = scored(block(4, 250, slices=8), spacing=(1.5, 1.0, 1.0))

    assert overlapping.agatston == pytest.approx(apart.agatston)
    assert overlapping.volume_mm3 == pytest.approx(apart.volume_mm3)


def test_thin_slices_are_averaged_to_3_mm_before_they_are_scored() -> None:
    array = block(4, 40, slices=6)
    array[0, 6, 1:5] = 400  # one of three slices: their mean is 160 HU

    found = scored(array, spacing=(1.0, 1.0, 1.0), thickness=1.0)

    assert found.agatston == pytest.approx(4 * 1)
    assert found.calcium.sum() == 3 * 4
    assert found.volume_mm3 == pytest.approx(found.calcium.sum())


@given(slices=st.integers(1, 400), increment=st.floats(0.3, 5.0), thickness=st.floats(0.3, 5.0))
def test_every_slice_is_in_one_slab(slices, increment, thickness) -> None:
    parts = slabs(slices, increment, thickness)

    assert [k for part in parts for k in range(part.start, part.stop)] == list(range(slices))
    assert len({part.stop - part.start for part in parts[:-1]}) <= 1


def test_a_lesion_that_lies_mostly_elsewhere_does_not_count() -> None:
    array, region = block(5, 250), np.zeros((1, 12, 12), np.bool_)
    asked = {"spacing_mm": (3.0, 1.0, 1.0), "thickness_mm": 3.0, "limits_hu": AT_120}
    region[0, :, :3] = True
    assert score(array, region, **asked).agatston == 0
    region[0, :, :4] = True
    assert score(array, region, **asked).agatston == 10  # Then it counts as a whole.


def test_metal_does_not_count() -> None:
    array = block(4, 250)
    array[0, 6, 3] = 2500

    assert scored(array, too_bright_hu=1800).agatston == 0


def test_mass_is_mean_times_volume_times_the_calibration_of_the_site() -> None:
    assert scored(block(4, 250)).mass_mg(0.0008) == pytest.approx(250 * 12 * 0.0008)


@pytest.mark.parametrize(
    ("agatston", "code"),
    [(0, "A0"), (0.4, "A1"), (1, "A1"), (99.9, "A1"), (100, "A2"), (299.9, "A2"), (300, "A3"), (4000, "A3")],
)
def test_categories_are_those_of_cac_drs(agatston, code) -> None:
    assert category(agatston).value == f"CACDRS{code}"
    assert category(agatston).meaning.startswith(f"CAC-DRS {code} ")


@pytest.mark.parametrize(
    ("headers", "width", "gated"),
    [
        ({}, 200, False),
        ({"CardiacSynchronizationTechnique": "PROSPECTIVE"}, 400, True),
        ({"CardiacSynchronizationTechnique": "NONE", "SeriesDescription": "CaScore"}, 200, False),
        ({"TriggerTime": "350"}, 220, True),
        ({"TriggerTime": "0"}, 400, False),
        ({"NominalPercentageOfCardiacPhase": "0"}, 220, True),
        ({"LowRRValue": "0", "HighRRValue": "0"}, 400, False),
        ({"SeriesDescription": "CaScore 3.0 B35f"}, 220, True),
        ({"SeriesDescription": "CaScore 3.0 B35f"}, 380, False),
        ({"ProtocolName": "Calcium_Scoring"}, 220, True),
        ({"StudyDescription": "Cardiac CT, non-gated"}, 220, False),
        ({"SeriesDescription": "ThoraxRoutine 8.0 B40f"}, 220, False),
        ({"SeriesDescription": "Abdomen calcifications"}, 220, False),
    ],
    ids=str,
)
def test_gating_is_known_by_what_the_scanner_wrote(headers, width, gated) -> None:
    found = gating(headers, width)

    assert found.gated is gated
    assert found.because


@pytest.mark.parametrize("kvp", ["", "0", "90", "140", "nan", "high"])
def test_a_tube_voltage_without_limits_has_no_score(kvp) -> None:
    with pytest.raises(NotForThisModel, match="tube voltage"):
        limits_of({"KVP": kvp})


@pytest.mark.parametrize(
    "headers",
    [{"ContrastBolusAgent": "Iopamidol"}, {"ContrastBolusVolume": "80"}, {"ContrastFlowRate": "4.5"}],
    ids=str,
)
def test_contrast_by_the_headers_is_refused(headers) -> None:
    with pytest.raises(NotForThisModel, match="Contrast medium"):
        refuse_contrast(headers)


@pytest.mark.parametrize("agent", ["", " ", "NONE", "no", "Ohne", "N/A"])
def test_headers_that_name_no_agent_are_without_contrast(agent) -> None:
    refuse_contrast({"ContrastBolusAgent": agent, "ContrastBolusVolume": "0"})


def test_noise_is_measured_and_edges_are_not() -> None:
    plane = np.random.default_rng(0).normal(40, 20, (200, 200))
    plane[:, 100:] += 300

    assert noise_of(plane, np.ones(plane.shape, np.bool_)) == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize(("text", "value"), [("2.5", 2.5), ("", 0), ("inf", 0), ("3 mm", 0)])
def test_what_is_no_number_in_a_header_is_zero(text, value) -> None:
    assert number(text) == value

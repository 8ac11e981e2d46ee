"""Images of which a number would be wrong: the model says why there is none."""

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ledger.job import Outcome
from models.builtin.lung_ct.measure import Whole
from models.builtin.lung_ct.model import LungCT
from models.builtin.lung_ct.quality import is_sharp, refuse_implausible
from models.chest.anatomy import LEFT, RIGHT
from models.contract import Context, NotForThisModel
from models.training.phantoms import chest

CT = Context(headers={"Modality": "CT"})


def volume(array: np.ndarray, spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)) -> hd.Volume:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -spacing_mm[0], spacing_mm[1], spacing_mm[2], 1
    return hd.Volume(array, affine, "PATIENT")


def coloured(array: np.ndarray) -> hd.Volume:
    channels = {hd.RGB_COLOR_CHANNEL_DESCRIPTOR: list(hd.RGBColorChannels)}
    return hd.Volume(array, np.diag([3.0, 3.0, 3.0, 1.0]), "PATIENT", channels=channels)


def head() -> np.ndarray:
    z, y, x = np.mgrid[:70, :80, :80]
    radius = 3 * np.sqrt((z - 35) ** 2 + (y - 40) ** 2 + 1.2 * (x - 40) ** 2)
    skull = np.where(radius < 75, 35, np.where(radius < 83, 900, -1000))
    skull[20:30, 20:30, 36:44] = -1000  # sinuses
    return skull.astype(np.int16)


@pytest.mark.parametrize("headers", [{"Modality": "MR"}, {"Modality": "PT"}, {}], ids=str)
def test_what_is_not_ct_is_refused(headers, whole_chest, lung_ct) -> None:
    findings = lung_ct.run(whole_chest.volume, Context(headers=headers))

    assert findings.outcome is Outcome.REFUSED
    assert "modality" in findings.because
    assert findings.label_map is None


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((40, 50, 50), -1000, np.int16), "nothing but air"),
        (np.full((40, 50, 50), -850, np.int16), "nothing but air"),
        (np.zeros((40, 50, 50), np.int16), "No lungs were found"),
        (np.full((40, 50, 50), 3071, np.int16), "No lungs were found"),
        (np.full((40, 50, 50), np.nan, np.float32), "not numbers"),
        (np.random.default_rng(0).normal(-600, 400, (40, 50, 50)).astype(np.float32), "lung"),
        (head(), "No lungs were found"),
        (np.zeros((1, 3062, 2394), np.int16), "1 slice;"),
        (np.zeros((40, 50, 50, 3), np.uint8), "colour"),
    ],
    ids=["air", "lung only", "water", "metal", "not numbers", "noise", "head", "mammogram", "colour"],
)
def test_what_has_no_lungs_is_refused(array, says, lung_ct) -> None:
    scan = volume(array) if array.ndim == 3 else coloured(array)

    findings = lung_ct.run(scan, CT)

    assert findings.outcome is Outcome.REFUSED
    assert says in findings.because


def test_half_of_a_chest_is_not_taken_for_two_lungs(lung_ct) -> None:
    phantom = chest((75, 128, 128))
    right_filled = np.where(phantom.truth == RIGHT, 30, phantom.hu).astype(np.int16)

    findings = lung_ct.run(phantom.geometry.with_array(right_filled), CT)

    assert "Only one lung was found" in findings.because


def test_too_thick_slices_are_refused_with_the_numbers(lung_ct) -> None:
    findings = lung_ct.run(chest((24, 96, 96), (12.5, 4, 4)).volume, CT)

    assert "12.5 mm apart; more than 10 mm" in findings.because


def test_implausible_volumes_are_refused_with_the_numbers() -> None:
    lung = np.full(1000, -850, np.float32)
    right = Whole(RIGHT, lung, 2.0)

    with pytest.raises(NotForThisModel, match="Lung, left would measure 300 ml"):
        refuse_implausible(right, Whole(LEFT, lung, 0.3))
    with pytest.raises(NotForThisModel, match=r"3\.0 times as large"):
        refuse_implausible(right, Whole(LEFT, lung, 2 / 3))
    with pytest.raises(NotForThisModel, match="mean of -400 HU"):
        refuse_implausible(right, Whole(LEFT, np.full(1000, -400, np.float32), 2.0))
    refuse_implausible(right, Whole(LEFT, lung, 1.8))
    refuse_implausible(right, Whole(LEFT, lung, 0.2, has_volume=False))


def test_what_makes_densities_incomparable_is_said_beside_them(lung_ct) -> None:
    phantom = chest((60, 96, 96))
    headers = {"Modality": "CT", "ConvolutionKernel": "B70f", "ContrastBolusAgent": "Iopamidol"}

    cautions = " ".join(lung_ct.run(phantom.volume, Context(headers=headers)).cautions)

    assert "5.0 mm thick" in cautions
    assert "sharp kernel (B70f)" in cautions
    assert "Contrast medium" in cautions


def test_a_thin_smooth_scan_without_contrast_needs_no_caution(lung_ct) -> None:
    phantom = chest((120, 96, 96))
    headers = {
        "Modality": "CT",
        "ConvolutionKernel": "B30f",
        "SliceThickness": "2.5",
        "ContrastBolusAgent": "",
    }

    assert lung_ct.run(phantom.volume, Context(headers=headers)).cautions == ()


def test_a_base_that_is_cut_off_a_little_is_said(lung_ct) -> None:
    phantom = chest((124, 128, 128), (2.0, 3, 3), centre_mm=(0, 0, 22))

    findings = lung_ct.run(phantom.volume, CT)

    assert findings.outcome is Outcome.FOUND, findings.because
    assert any("lower end of the images cuts off a little" in caution for caution in findings.cautions)


def test_a_trachea_that_is_not_seen_is_said(lung_ct) -> None:
    phantom = chest((75, 128, 128))
    hu = np.where(phantom.airways, 30, phantom.hu).astype(np.int16)

    findings = lung_ct.run(phantom.geometry.with_array(hu), CT)

    assert any("trachea was not found" in caution for caution in findings.cautions)


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [
        ("B30f", False),
        ("B40f", False),
        ("B50f", True),
        ("B70f", True),
        ("['Bl57d', '3']", True),
        ("Br40d\\3", False),
        ("STANDARD", False),
        ("SOFT", False),
        ("LUNG", True),
        ("BONEPLUS", True),
        ("FC08", False),
        ("FC51", True),
        ("B", False),
        ("YC", True),
        ("", False),
    ],
)
def test_sharp_kernels_are_known_by_their_names(kernel: str, sharp: bool) -> None:
    assert is_sharp(kernel) is sharp


@settings(max_examples=40, deadline=None)
@given(
    array=arrays.arrays(
        np.int16,
        st.tuples(st.integers(20, 24), st.integers(1, 12), st.integers(1, 12)),
        elements=st.sampled_from([-1024, -1000, -960, -850, -500, 0, 60, 3071]),
        fill=st.sampled_from([-1000, -850, 40]),
    ),
    spacing=st.tuples(*[st.floats(0.4, 4.9)] * 3),
)
def test_no_small_volume_makes_it_fall(array, spacing) -> None:
    findings = LungCT().run(volume(array, spacing), CT)

    assert findings.outcome is Outcome.REFUSED
    assert findings.because.endswith(".")

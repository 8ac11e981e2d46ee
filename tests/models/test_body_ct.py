"""Fat, muscle, bone and liver of a phantom, and of organs that another model drew."""

import highdicom as hd
import numpy as np
import pytest

from ledger.job import Outcome
from models.builtin.body_ct.model import BodyCT
from models.contract import Context, Drawn, SettingsNotUnderstood
from models.structures import STRUCTURES
from models.training import chest_anatomy as anatomy
from models.training.phantoms import Phantom, chest
from results import codes
from results.findings import Findings, Segment, refused

HEADERS = {"Modality": "CT", "KVP": "120", "SliceThickness": "4"}


@pytest.fixture(scope="module")
def model() -> BodyCT:
    model = BodyCT()
    model.load("cpu")
    return model


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return chest((70, 128, 128), (4.0, 3.0, 3.0), seed=2, noise_hu=8)


@pytest.fixture(scope="module")
def findings(model, phantom) -> Findings:
    return model.run(phantom.volume, Context(headers=HEADERS))


def xyz(geometry: hd.VolumeGeometry, shape: tuple[int, ...]) -> np.ndarray:
    points = geometry.map_indices_to_reference(np.argwhere(np.ones(shape, bool)))
    return np.moveaxis(points, 1, 0).reshape(3, *shape)


def segment(findings: Findings, begins: str) -> Segment:
    return next(one for one in findings.segments if one.label.startswith(begins))


def value(one: Segment, name) -> float:
    return next(measured.value for measured in one.measurements if measured.name == name)


def test_fat_under_the_skin_is_the_ring_of_the_phantom(findings, phantom) -> None:
    one = segment(findings, "Subcutaneous fat, carina to diaphragm")
    x, y, z = xyz(phantom.geometry, phantom.hu.shape)
    skin = anatomy.body(x, y, z)
    planes = np.flatnonzero(findings.mask(one.number).any(axis=(1, 2)))
    ring = ((skin < 0) & (skin > -14))[planes[0] : planes[-1] + 1]

    assert findings.outcome is Outcome.FOUND, findings.because
    truth_ml = ring.sum() * phantom.geometry.voxel_volume / 1000
    assert value(one, codes.VOLUME) == pytest.approx(truth_ml, rel=0.12)
    assert value(one, codes.ATTENUATION) == pytest.approx(anatomy.FAT_HU, abs=12)
    tall_mm = len(planes) * 4.0
    assert value(one, codes.AREA) == pytest.approx(value(one, codes.VOLUME) * 10 / tall_mm)


def test_muscle_of_the_chest_wall_lies_between_fat_and_lungs(findings, phantom) -> None:
    one = segment(findings, "Muscle of chest wall")
    x, y, z = xyz(phantom.geometry, phantom.hu.shape)
    wall = (anatomy.body(x, y, z) < -10) & (anatomy.chest_wall(x, y, z) > -4)

    mask = findings.mask(one.number)
    assert (mask & wall).sum() > 0.9 * mask.sum()
    assert value(one, codes.ATTENUATION) == pytest.approx(anatomy.MUSCLE_HU, abs=12)


def test_vertebral_bodies_are_measured_at_their_heights_and_not_named(findings) -> None:
    bodies = [one for one in findings.segments if one.label.startswith("Vertebral body")]

    assert len(bodies) >= 5
    for one in bodies:
        assert value(one, codes.ATTENUATION) == pytest.approx(anatomy.VERTEBRA_HU, abs=10)
        assert one.kind.value == "51282000"
    heights = [int(one.label.split()[2]) * (-1 if "below" in one.label else 1) for one in bodies]
    apart = np.diff(heights)
    assert ((apart > 19) & (apart < 29)).all(), heights  # One every 24 mm.


def test_the_liver_is_measured_below_the_right_diaphragm(findings, phantom) -> None:
    one = segment(findings, "Liver")
    x, y, z = xyz(phantom.geometry, phantom.hu.shape)
    liver = (anatomy.diaphragm(x, y, z) > 0) & (anatomy.chest_wall(x, y, z) < 0) & (x < 25)

    assert liver[findings.mask(one.number)].all()
    assert value(one, codes.ATTENUATION) == pytest.approx(anatomy.LIVER_HU, abs=3)


@pytest.mark.parametrize(
    ("paint", "says"),
    [(-5, "-5 HU, not 20 to 80"), (130, "130 HU, not 20 to 80")],
    ids=["fat", "enhanced"],
)
def test_what_is_not_as_dense_as_liver_is_not_called_liver(paint, says, model, phantom) -> None:
    x, y, z = xyz(phantom.geometry, phantom.hu.shape)
    below = (anatomy.diaphragm(x, y, z) > 2) & (anatomy.chest_wall(x, y, z) < 0) & (x < 25)
    hu = np.where(below, paint, phantom.hu).astype(np.int16)

    findings = model.run(phantom.geometry.with_array(hu), Context(headers=HEADERS))

    assert not any(one.label.startswith("Liver") for one in findings.segments)
    assert any(says in caution for caution in findings.cautions), findings.cautions


def test_contrast_and_an_unknown_tube_voltage_are_said(model, phantom) -> None:
    headers = {"Modality": "CT", "ContrastBolusAgent": "Iomeprol", "SliceThickness": "8"}

    findings = model.run(phantom.volume, Context(headers=headers))

    said = " ".join(findings.cautions)
    assert "do not say their tube voltage" in said
    assert "Liver was not measured: contrast medium" in said
    assert "Bone was not measured: slices of more than 5 mm" in said


def drawn(phantom: Phantom, **masks: np.ndarray) -> Drawn:
    """What another model would have drawn: structures by their keys."""
    labels = np.zeros(phantom.hu.shape, np.uint8)
    segments = []
    for number, (key, mask) in enumerate(masks.items(), 1):
        labels[mask] = number
        segments.append(STRUCTURES[key].segment(number))
    found = Findings(outcome=Outcome.FOUND, label_map=labels, segments=tuple(segments))
    return Drawn(findings=found, identity="organs@1.2", digest="ab" * 32, trust="data only")


def test_organs_that_another_model_drew_are_measured_inside_and_the_model_is_named(model, phantom) -> None:
    x, y, z = xyz(phantom.geometry, phantom.hu.shape)
    below = (anatomy.diaphragm(x, y, z) > 0) & (anatomy.chest_wall(x, y, z) < 0)
    spine = anatomy.ellipse(x, y - 72, 18, 16) < 0
    muscle = (anatomy.body(x, y, z) < -16) & (anatomy.chest_wall(x, y, z) > 14)
    other = drawn(
        phantom,
        liver=below & (x < 25),
        spleen=below & (x > 27) & (y > 10),
        skeletal_muscle=muscle,
        vertebrae_l1=spine & (z > 16) & (z < 32),
        vertebrae_l3=spine & (z > -32) & (z < -16),
    )

    findings = model.run(phantom.volume, Context(headers=HEADERS, settings={"organs": "organs"}, drawn=other))

    means = {one.label: value(one, codes.ATTENUATION) for one in findings.segments}
    assert means["Liver, inside its outline"] == pytest.approx(anatomy.LIVER_HU, abs=3)
    assert means["Spleen, inside its outline"] == pytest.approx(anatomy.SPLEEN_HU, abs=4)
    assert means["Trabecular bone of L1"] == pytest.approx(anatomy.VERTEBRA_HU, abs=8)
    assert means["Skeletal muscle, at L3"] == pytest.approx(anatomy.MUSCLE_HU, abs=6)
    slab = findings.mask(segment(findings, "Subcutaneous fat, at L3").number)
    heights = z[slab.any(axis=(1, 2))]
    assert heights.min() > -32
    assert heights.max() < -16
    assert (
        "Organs were drawn by another model: organs@1.2 (abababababababab, data only)." in findings.cautions
    )


def test_without_l3_nothing_is_said_of_l3(findings) -> None:
    assert not any("L3" in one.label for one in findings.segments)


def test_a_model_that_refuses_to_draw_is_a_refusal_with_its_reason(model, phantom) -> None:
    other = Drawn(findings=refused("No abdomen is in the images."), identity="organs@1.2", digest="ab")

    findings = model.run(phantom.volume, Context(headers=HEADERS, settings={"organs": "organs"}, drawn=other))

    assert findings.outcome is Outcome.REFUSED
    assert "organs@1.2, which refused the images: No abdomen is in the images." in findings.because


def test_organs_that_were_asked_for_and_never_drawn_are_no_silence(model, phantom) -> None:
    with pytest.raises(SettingsNotUnderstood, match="given none"):
        model.run(phantom.volume, Context(headers=HEADERS, settings={"organs": "organs"}))


@pytest.mark.parametrize(
    ("array", "headers", "says"),
    [
        (np.full((40, 50, 50), -1000, np.int16), HEADERS, "nothing but air"),
        (np.full((40, 50, 50), np.nan, np.float32), HEADERS, "not numbers"),
        (np.zeros((3, 50, 50), np.int16), HEADERS, "3 slices"),
        (np.zeros((40, 50, 50), np.int16), {"Modality": "MR"}, "modality"),
    ],
    ids=["air", "not numbers", "scout", "mr"],
)
def test_what_is_no_body_is_refused(array, headers, says, model) -> None:
    volume = hd.Volume(
        array, np.array([[0, 0, 3.0, 0], [0, 3.0, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]]), "PATIENT"
    )

    findings = model.run(volume, Context(headers=headers))

    assert findings.outcome is Outcome.REFUSED
    assert says in findings.because

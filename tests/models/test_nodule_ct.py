"""Nodules painted into a slab of a phantom's chest: found, measured and named as they were painted."""

from collections.abc import Iterator

import highdicom as hd
import numpy as np
import pydicom
import pytest

from ledger.job import Outcome
from ledger.result import Role
from models.builtin.nodule_ct.measure import DIAMETER
from models.contract import Context, SettingsNotUnderstood
from models.training.phantom_series import write_series
from models.training.phantoms import Phantom, chest
from results import codes
from results.findings import Findings, Segment
from tests.models.measuring import at
from tests.models.painted import CALCIFIED_HU, GROUND_GLASS_HU, SOLID_HU, painted
from worker.exchange import RunRequest
from worker.run import analyse

SOLID = ((-70.0, -20.0, 20.0), 10.0, SOLID_HU)
GROUND_GLASS = ((75.0, 20.0, 30.0), 16.0, GROUND_GLASS_HU)
ON_THE_PLEURA = ((-119.0, 5.0, 0.0), 12.0, SOLID_HU)
CALCIFIED = ((75.0, -30.0, 10.0), 8.0, CALCIFIED_HU)


@pytest.fixture(scope="module")
def slab() -> Phantom:
    """A part of a chest: 80 mm of its height."""
    return chest((32, 200, 200), (2.5, 1.8, 1.8), seed=1, centre_mm=(0.0, 0.0, 20.0))


@pytest.fixture(scope="module")
def found(slab, nodule_ct, ct) -> Findings:
    return nodule_ct.run(painted(slab, SOLID, GROUND_GLASS, ON_THE_PLEURA, CALCIFIED), ct)


def content_items(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """Every content item below one, or below a whole report."""
    for one in item.get("ContentSequence", ()):
        yield one
        yield from content_items(one)


def tracking_uids(report: pydicom.Dataset) -> set[str]:
    """Of every group of measurements: (112040, DCM, Tracking Unique Identifier)."""
    return {
        str(one.UID)
        for one in content_items(report)
        if one.ValueType == "UIDREF" and one.ConceptNameCodeSequence[0].CodeValue == "112040"
    }


def value(segment: Segment, name) -> float:
    return next(one.value for one in segment.measurements if one.name == name)


@pytest.mark.parametrize(
    ("ball", "side"),
    [(SOLID, "right"), (GROUND_GLASS, "left"), (ON_THE_PLEURA, "right"), (CALCIFIED, "left")],
    ids=["solid", "ground glass", "on the pleura", "calcified"],
)
def test_a_nodule_is_found_on_its_side(ball, side, found, slab) -> None:
    segment = at(found, slab.geometry, ball[0])

    assert segment.is_lesion
    assert segment.laterality == (codes.RIGHT if side == "right" else codes.LEFT)
    assert f"{side} lung" in segment.label


@pytest.mark.parametrize("ball", [SOLID, GROUND_GLASS, CALCIFIED], ids=["solid", "ground glass", "calcified"])
def test_its_size_is_that_of_the_ball(ball, found, slab) -> None:
    segment = at(found, slab.geometry, ball[0])

    # On pixels of 1.8 mm a diameter is known to about one of them.
    assert value(segment, DIAMETER) == pytest.approx(ball[1], abs=2.2)


@pytest.mark.parametrize(
    ("ball", "density"),
    [(SOLID, "Solid"), (GROUND_GLASS, "Ground glass opacity"), (CALCIFIED, "Pathologic calcification")],
    ids=["solid", "ground glass", "calcified"],
)
def test_its_density_class_is_what_it_is_made_of(ball, density, found, slab) -> None:
    label = at(found, slab.geometry, ball[0]).label

    (grade,) = [one for one in found.grades if one.about == (label,)]
    assert grade.value.meaning.startswith(density)


def test_what_lies_on_the_pleura_has_no_distance_to_it(found, slab) -> None:
    assert value(at(found, slab.geometry, ON_THE_PLEURA[0]), codes.TO_PLEURA) < 3
    assert value(at(found, slab.geometry, SOLID[0]), codes.TO_PLEURA) > 10


def test_few_marks_are_no_nodules(found) -> None:
    assert len(found.segments) <= 6


def test_the_mean_diameter_is_that_of_the_two_axes_of_the_report(found, slab) -> None:
    for segment in found.segments:
        diameter = value(segment, DIAMETER)
        assert diameter == round(diameter, 1)
        assert f"{diameter:.1f} mm" in segment.label


@pytest.mark.parametrize("axis", [0, 2], ids=["feet first", "mirrored columns"])
def test_it_is_the_same_nodule_from_whatever_side_the_images_are_stored(axis, slab, nodule_ct, ct) -> None:
    turned = painted(slab, SOLID).flip_spatial(axis)

    findings = nodule_ct.run(turned, ct)

    label_map = np.flip(findings.label_map, axis)
    index = tuple(np.rint(slab.geometry.map_reference_to_indices(np.array([SOLID[0]]))[0]).astype(int))
    segment = findings.segments[int(label_map[index]) - 1]
    assert label_map[index] > 0
    assert segment.laterality == codes.RIGHT


def test_where_nothing_is_found_the_report_says_what_was_looked_for(slab, nodule_ct) -> None:
    asked = Context(headers={"Modality": "CT"}, settings={"least_mm": 25.0})

    findings = nodule_ct.run(painted(slab, SOLID), asked)

    assert findings.outcome is Outcome.NOTHING
    assert findings.because == "No nodule of 25 mm or more was found in the lungs."
    assert findings.label_map is None


def test_a_part_of_the_lungs_is_searched_and_the_report_says_so(found) -> None:
    assert any("upper end" in one for one in found.cautions)
    assert any("lower end" in one for one in found.cautions)


def test_no_more_marks_are_reported_than_asked_for(slab, nodule_ct) -> None:
    asked = Context(headers={"Modality": "CT"}, settings={"most": 1, "sure_score": 1.0})

    findings = nodule_ct.run(painted(slab, SOLID, GROUND_GLASS, CALCIFIED), asked)

    assert len(findings.segments) == 1
    assert any("more than the 1 marks" in one for one in findings.cautions)


def test_marks_that_are_sure_are_reported_beyond_the_most(slab, nodule_ct) -> None:
    asked = Context(headers={"Modality": "CT"}, settings={"most": 1})

    findings = nodule_ct.run(painted(slab, SOLID, GROUND_GLASS, CALCIFIED), asked)

    scores = [one.score for one in findings.segments]
    assert len(scores) >= 2
    assert all(score >= 0.9 for score in scores)


def test_a_series_of_images_becomes_a_segment_and_a_group_for_each_nodule(slab, tmp_path) -> None:
    volume = painted(slab, SOLID, CALCIFIED)
    series = write_series(
        Phantom(
            **{name: getattr(slab, name) for name in slab.__dataclass_fields__ if name != "hu"}
            | {"hu": volume.array}
        ),
        tmp_path / "series",
    )
    (tmp_path / "out").mkdir()
    request = RunRequest(
        model="nodule_ct", inputs=tuple(map(str, series)), out=str(tmp_path / "out"), at=1.7e9, device="cpu"
    )

    reply = analyse(request)

    assert reply.outcome is Outcome.FOUND
    assert {Role.SEGMENTATION, Role.REPORT} <= {one.role for one in reply.files}
    assert any(one.name == "Diameter" for one in reply.findings)
    (report,) = (pydicom.dcmread(one.path) for one in reply.files if one.role is Role.REPORT)
    drawn = [
        segment.TrackingUID
        for one in reply.files
        if one.role is Role.SEGMENTATION
        for segment in pydicom.dcmread(one.path).SegmentSequence
    ]
    assert len(drawn) >= 2
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= tracking_uids(report)


@pytest.mark.parametrize(
    ("headers", "shape", "spacing", "because"),
    [
        ({"Modality": "MR"}, (40, 8, 8), (2.0, 1.0, 1.0), "the modality of these images is MR"),
        ({}, (40, 8, 8), (2.0, 1.0, 1.0), "the modality of these images is not stated"),
        ({"Modality": "CT"}, (3, 8, 8), (2.0, 1.0, 1.0), "The series has 3 slices"),
        ({"Modality": "CT"}, (40, 8, 8), (12.0, 1.0, 1.0), "The slices are 12.0 mm apart"),
        ({"Modality": "CT"}, (40, 8, 8), (2.0, 4.2, 4.2), "The pixels are 4.2 mm wide"),
        ({"Modality": "CT"}, (40, 8, 8), (2.0, 1.0, 1.0), "No body is in the images"),
    ],
    ids=["MR", "no modality", "few slices", "thick slices", "wide pixels", "air"],
)
def test_what_cannot_be_searched_is_refused(headers, shape, spacing, because, nodule_ct) -> None:
    affine = np.diag([*spacing, 1.0])[[2, 1, 0, 3]]
    volume = hd.Volume(np.full(shape, -1000, np.int16), affine, "PATIENT")

    findings = nodule_ct.run(volume, Context(headers=headers))

    assert findings.outcome is Outcome.REFUSED
    assert because in findings.because


def test_a_setting_that_it_does_not_have_stops_the_rule(slab, nodule_ct) -> None:
    with pytest.raises(SettingsNotUnderstood, match="colour"):
        nodule_ct.run(slab.volume, Context(headers={"Modality": "CT"}, settings={"colour": "red"}))


def test_the_estimate_bounds_the_largest_study(nodule_ct) -> None:
    small, large = (nodule_ct.estimate((slices, 512, 512)).host for slices in (50, 1000))

    assert 50 * 512 * 512 < small < large < 4 * 2**30

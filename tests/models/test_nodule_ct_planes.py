"""The same nodules from every side: planes, mirrors, and masses that hang on the wall of the lungs."""

import numpy as np
import pytest

from models.builtin.nodule_ct.measure import DIAMETER, MASS
from models.training.phantoms import Phantom, chest
from results import codes
from results.findings import Findings, Segment
from tests.models.measuring import at, dice
from tests.models.painted import SOLID_HU, painted

RIGHT_BALL = ((-70.0, -20.0, 20.0), 14.0, SOLID_HU)
AT_MEDIASTINUM = ((-38.0, 30.0, 35.0), 44.0, SOLID_HU)
AT_WALL = ((105.0, 10.0, 20.0), 40.0, SOLID_HU)


@pytest.fixture(scope="module")
def slab() -> Phantom:
    return chest((40, 120, 120), (2.5, 3.0, 3.0), seed=2, centre_mm=(0.0, 0.0, 20.0))


@pytest.fixture(scope="module")
def masses(slab, nodule_ct, ct) -> Findings:
    return nodule_ct.run(painted(slab, AT_MEDIASTINUM, AT_WALL), ct)


def diameter(segment: Segment) -> float:
    return next(one.value for one in segment.measurements if one.name == DIAMETER)


@pytest.mark.parametrize(
    ("plane", "shape", "tilt"),
    [
        ("coronal", (80, 40, 120), 0.0),
        ("sagittal", (120, 40, 80), 0.0),
        ("axial", (40, 120, 120), 15.0),
    ],
    ids=["coronal", "sagittal", "oblique"],
)
def test_a_nodule_is_the_same_in_every_plane(plane, shape, tilt, nodule_ct, ct) -> None:
    turned = chest(shape, (2.8, 2.8, 2.8), seed=2, plane=plane, tilt_deg=tilt, centre_mm=(0.0, 0.0, 20.0))
    volume = painted(turned, RIGHT_BALL)

    segment = at(nodule_ct.run(volume, ct), volume, RIGHT_BALL[0])

    assert segment.laterality == codes.RIGHT
    # Voxels of 2.8 mm: the diameter of 14 mm is known to about one of them.
    assert diameter(segment) == pytest.approx(14, abs=3)


def test_a_patient_seen_in_a_mirror_has_the_nodule_on_the_other_side(slab, nodule_ct, ct) -> None:
    volume = painted(slab, RIGHT_BALL)
    mirrored = volume.with_array(np.ascontiguousarray(volume.array[:, :, ::-1]))
    centre, *_ = RIGHT_BALL

    segment = at(nodule_ct.run(mirrored, ct), mirrored, (-centre[0], *centre[1:]))

    assert segment.laterality == codes.LEFT
    assert "left lung" in segment.label


@pytest.mark.parametrize("ball", [AT_MEDIASTINUM, AT_WALL], ids=["mediastinum", "chest wall"])
def test_a_mass_that_hangs_on_the_edge_of_the_lung_is_outlined(ball, masses, slab) -> None:
    segment = at(masses, slab.geometry, ball[0])

    inside = masses.mask(segment.number) & (slab.truth > 0)
    points = slab.geometry.map_indices_to_reference(np.argwhere(slab.truth > 0))
    away = np.linalg.norm(points - np.array(ball[0]), axis=1)
    true = np.zeros_like(inside)
    true[slab.truth > 0] = away < ball[1] / 2
    assert segment.kind == MASS
    assert segment.label.startswith("Mass ")
    assert dice(inside, true) > 0.85


def test_the_report_says_that_the_size_of_such_a_mass_is_rough(masses, slab) -> None:
    name = at(masses, slab.geometry, AT_MEDIASTINUM[0]).label.split(",")[0]

    assert any(one.startswith(f"{name} reaches the edge of the lung") for one in masses.cautions)


def test_the_edge_of_a_mass_is_not_marked_a_second_time(masses, slab) -> None:
    for ball in (AT_MEDIASTINUM, AT_WALL):
        near = [
            one.number
            for one in masses.segments
            if np.linalg.norm(
                slab.geometry.map_indices_to_reference(np.argwhere(masses.mask(one.number))).mean(0)
                - np.array(ball[0])
            )
            < ball[1] / 2
        ]
        assert len(near) == 1

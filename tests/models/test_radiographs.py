"""Radiographs of phantoms: what lies where on the film, and films that the standard accepts."""

import subprocess

import numpy as np
import pydicom
import pytest

from models.training.lesions import Disease, Nodule
from models.training.radiograph_dicom import write_radiograph
from models.training.radiographs import radiograph
from models.training.thorax import Patient
from models.training.thorax_build import Build
from tests.peers.programs import find

COARSE = {"pixel_mm": 2.5, "voxel_mm": 3.4, "noise": 0.0}


@pytest.fixture(scope="module")
def healthy():
    return radiograph(Patient(), **COARSE)


@pytest.fixture(scope="module")
def lateral():
    return radiograph(Patient(), "LATERAL", **COARSE)


def _mean(film, x_mm, z_mm, half=4):
    """Around a point of the patient in the middle plane, magnified as it is."""
    rows, columns = film.pixels.shape
    larger = 1800 / (1800 - 145)
    row, column = (
        round((rows - 1) / 2 - z_mm * larger / film.spacing_mm),
        round((columns - 1) / 2 + x_mm * larger / film.spacing_mm),
    )
    return film.pixels[row - half : row + half + 1, column - half : column + half + 1].astype(float).mean()


def test_lungs_are_dark_and_the_heart_lies_to_the_patients_left(healthy) -> None:
    lung = _mean(healthy, -70, 40)

    assert _mean(healthy, 10, -45) > lung + 800  # the heart
    assert _mean(healthy, 58, -45) > _mean(healthy, -58, -45) + 300
    assert _mean(healthy, -70, -100) > lung + 1000  # the liver under the right dome
    assert _mean(healthy, 0, 100) > lung  # the spine shines through the mediastinum


def test_gas_lies_under_the_left_dome_of_a_standing_patient(healthy) -> None:
    assert _mean(healthy, 56, -86, 1) < _mean(healthy, -56, -86, 1) - 150


def test_consolidation_effusion_and_a_nodule_are_seen_where_they_are(healthy) -> None:
    ill = radiograph(
        Patient(
            diseases=(
                Disease(kind="consolidation", where="right upper", extent=0.5),
                Disease(kind="effusion", where="left", extent=0.2),
            )
        ),
        **COARSE,
    )
    spot = radiograph(Patient(nodules=(Nodule(centre_mm=(-75, 0, 20), diameter_mm=28),)), **COARSE)

    right, left = ill.drawn.disease == 2, ill.drawn.disease == 3
    heights = ill.geometry.map_indices_to_reference(np.argwhere(left))[:, 2]
    assert right.any()
    assert heights.mean() < -30  # fluid runs to the diaphragm
    assert (
        ill.pixels[:, : ill.pixels.shape[1] // 2].mean()
        > healthy.pixels[:, : ill.pixels.shape[1] // 2].mean()
    )
    assert _mean(spot, -75, 20, 1) > _mean(healthy, -75, 20, 1) + 60
    assert len(spot.nodules) == 1


def test_the_spine_is_behind_on_the_lateral_view(lateral) -> None:
    columns = lateral.pixels[lateral.pixels.shape[0] // 3].astype(float)
    third = len(columns) // 3

    assert columns[2 * third :].max() > columns[third : 2 * third].mean()
    assert lateral.view == "LATERAL"


def test_a_child_makes_a_smaller_film_of_the_same_kind() -> None:
    child = radiograph(Patient(build=Build(scale=0.6)), **COARSE)

    assert child.pixels.shape[0] < 100
    assert _mean(child, 6, -27, 2) > _mean(child, -42, 24, 2) + 500


@pytest.mark.peer
@pytest.mark.parametrize("modality", ["DX", "CR"])
@pytest.mark.parametrize(("photometric", "voi"), [("MONOCHROME1", "lut"), ("MONOCHROME2", "window")])
def test_every_film_is_one_of_the_standard(modality, photometric, voi, request, tmp_path) -> None:
    for film in (request.getfixturevalue(name) for name in ("healthy", "lateral")):
        path = write_radiograph(film, tmp_path, modality=modality, photometric=photometric, voi=voi)

        checked = subprocess.run(
            [find("dciodvfy"), "-new", path], capture_output=True, text=True, check=False
        )
        assert "Error" not in checked.stderr, checked.stderr


def test_monochrome1_is_the_same_film_turned_over(healthy, tmp_path) -> None:
    one = pydicom.dcmread(write_radiograph(healthy, tmp_path, photometric="MONOCHROME1"))
    two = pydicom.dcmread(write_radiograph(healthy, tmp_path, photometric="MONOCHROME2"))

    assert (4095 - one.pixel_array == two.pixel_array).all()
    assert (two.pixel_array == healthy.pixels).all()
    assert list(two.PatientOrientation) == ["L", "F"]
    assert one.SOPInstanceUID != two.SOPInstanceUID

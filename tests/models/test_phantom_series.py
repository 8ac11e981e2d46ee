import subprocess

import highdicom as hd
import numpy as np
import pydicom
import pytest

from models.training.phantom_enhanced import write_enhanced
from models.training.phantom_series import write_series
from models.training.phantoms import chest
from models.training.scanners import Scanner
from tests.peers.programs import find

SMALL = (24, 48, 48)


@pytest.mark.peer
@pytest.mark.parametrize("view", [{}, {"position": "FFS"}, {"plane": "coronal"}, {"tilt_deg": 10.0}], ids=str)
def test_every_instance_is_a_ct_image_of_the_standard(view, tmp_path) -> None:
    paths = write_series(chest(SMALL, **view), tmp_path, accession="ACC1")

    for path in (paths[0], paths[-1]):
        checked = subprocess.run(
            [find("dciodvfy"), "-new", path], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        assert "Error" not in checked.stderr
        assert "Warning" not in checked.stderr


@pytest.mark.peer
def test_the_instances_agree_with_each_other(tmp_path) -> None:
    paths = write_series(chest(SMALL), tmp_path)

    checked = subprocess.run([find("dcentvfy"), *paths], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "Error" not in checked.stderr


@pytest.mark.parametrize(
    "view", [{}, {"position": "FFS"}, {"position": "HFP"}, {"plane": "sagittal"}, {"tilt_deg": 9.0}], ids=str
)
def test_highdicom_reads_back_the_voxels_and_where_they_are(view, tmp_path) -> None:
    phantom = chest(SMALL, **view)

    paths = write_series(phantom, tmp_path)

    volume = hd.get_volume_from_series([pydicom.dcmread(path) for path in paths])
    assert (volume.array == phantom.hu).all()
    assert np.allclose(volume.affine, phantom.geometry.affine, atol=1e-3)
    assert volume.frame_of_reference_uid == phantom.geometry.frame_of_reference_uid


def test_writing_twice_writes_the_same_bytes(tmp_path) -> None:
    once = write_series(chest(SMALL), tmp_path / "a", patient_id="P1")
    again = write_series(chest(SMALL), tmp_path / "b", patient_id="P1")

    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]


def test_series_of_one_patient_and_accession_number_share_their_study(tmp_path) -> None:
    one = pydicom.dcmread(write_series(chest(SMALL), tmp_path / "a", accession="A")[0])
    two = pydicom.dcmread(write_series(chest(SMALL), tmp_path / "b", accession="A", series_number=2)[0])
    other = pydicom.dcmread(write_series(chest(SMALL), tmp_path / "c", accession="B")[0])

    assert one.StudyInstanceUID == two.StudyInstanceUID != other.StudyInstanceUID
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert len({one.SOPInstanceUID, two.SOPInstanceUID, other.SOPInstanceUID}) == 3


def test_instance_numbers_run_against_the_slices(tmp_path) -> None:
    first, *_, last = [pydicom.dcmread(path) for path in write_series(chest(SMALL), tmp_path)]

    assert float(first.ImagePositionPatient[2]) > float(last.ImagePositionPatient[2])
    assert (int(first.InstanceNumber), int(last.InstanceNumber)) == (24, 1)


def test_any_attribute_can_be_asked_for(tmp_path) -> None:
    instance = pydicom.dcmread(
        write_series(chest(SMALL), tmp_path, patient_name="Müller^Ann", ConvolutionKernel="B70f")[3]
    )

    assert instance.ConvolutionKernel == "B70f"
    assert str(instance.PatientName) == "Müller^Ann"


@pytest.mark.peer
def test_a_full_thorax_says_how_it_was_scanned_in_both_forms(tmp_path) -> None:
    phantom = chest(SMALL, contrast_hu=200, scanner=Scanner(kvp=100, kernel="sharp", slice_profile_mm=15.0))

    path = write_series(phantom, tmp_path / "single")[0]
    (enhanced,) = write_enhanced(phantom, tmp_path / "enhanced")

    instance = pydicom.dcmread(path)
    assert (instance.KVP, instance.ConvolutionKernel, instance.SliceThickness) == (100, "SHARP", 15)
    assert instance.ContrastBolusAgent == "Iodine"
    for written in (path, enhanced):
        checked = subprocess.run(
            [find("dciodvfy"), "-new", written], capture_output=True, text=True, check=False
        )
        assert "Error" not in checked.stderr, checked.stderr


@pytest.mark.peer
@pytest.mark.parametrize("view", [{}, {"tilt_deg": 10.0}], ids=str)
def test_one_enhanced_instance_holds_the_same_chest(view, tmp_path) -> None:
    phantom = chest(SMALL, **view)

    (path,) = write_enhanced(phantom, tmp_path, accession="ACC1")

    checked = subprocess.run([find("dciodvfy"), "-new", path], capture_output=True, text=True, check=False)
    assert "Error" not in checked.stderr
    assert "Warning" not in checked.stderr
    volume = hd.imread(path).get_volume()
    assert (volume.array == phantom.hu).all()
    assert np.allclose(volume.affine, phantom.geometry.affine, atol=1e-3)


def test_the_enhanced_instance_belongs_to_the_study_of_the_single_slices(tmp_path) -> None:
    phantom = chest(SMALL)
    single = pydicom.dcmread(write_series(phantom, tmp_path / "single", accession="A")[0])
    enhanced = pydicom.dcmread(write_enhanced(phantom, tmp_path / "enhanced", accession="A")[0])

    assert enhanced.StudyInstanceUID == single.StudyInstanceUID
    assert enhanced.SeriesInstanceUID != single.SeriesInstanceUID
    assert enhanced.NumberOfFrames == len(phantom.hu)

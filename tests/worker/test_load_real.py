"""Real images: the same voxels as other readers find, and each broken series refused for its own reason."""

import contextlib
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - as everybody calls it

from ledger.errors import StudyError
from tests.worker.test_load import assert_same_as_simpleitk, assert_same_volume, by_highdicom
from worker.assemble import Slice, assemble
from worker.defects import Defect, NotAVolume
from worker.files import read_image_file
from worker.load import load_series
from worker.pixels import Rescale, pixel_format

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not on this machine (../shared/data)"),
    # Scanners write what pydicom warns of; that is why they are here.
    pytest.mark.filterwarnings("ignore"),
]


def folder(name: str) -> list[Path]:
    return sorted(path for path in (DATA / name).iterdir() if path.is_file())


@pytest.mark.parametrize(
    "name",
    [
        "ct_thorax_lungdx_A0002_b40f/dicom",
        "ct_thorax_cip64/ct-64Dicom",
        "segsr_dcmqi/segmentations/ct-3slice",
        "mr_multifragment/j2k",
        "mr_multifragment/jpegll",
    ],
)
def test_real_series_equal_highdicom_and_simpleitk(name):
    paths = folder(name)
    volume = load_series(paths).volume
    assert_same_volume(volume, by_highdicom(paths))
    assert_same_as_simpleitk(volume, paths, DATA / name)


def test_the_chest_equals_the_volume_that_came_with_it():
    volume = load_series(folder("ct_thorax_cip64/ct-64Dicom")).volume
    image = sitk.ReadImage(str(DATA / "ct_thorax_cip64" / "ct-64.nrrd"))
    theirs = sitk.GetArrayFromImage(image)  # from the feet upwards
    np.testing.assert_array_equal(volume.array, theirs[::-1])


@pytest.mark.parametrize(
    ("name", "defect", "says"),
    [
        ("gantrytilting", Defect.TILT, "tilted by 14.0 degrees"),
        ("notavolume", Defect.DUPLICATE, "4 images at the same position"),
        ("slicecount", Defect.TOO_FEW, "2 slices"),
        ("sliceincrement", Defect.GAP, "A gap of 10.0 mm after slice 1, others are 5.0 mm: 1 slice missing."),
        ("sliceorientation", Defect.MIXED_ORIENTATION, "2 of 4 slices lie one way"),
    ],
)
def test_series_that_others_fail_on_are_refused_for_their_own_reason(name, defect, says):
    with pytest.raises(NotAVolume) as caught:
        load_series(folder(f"geometry_failing_dicom2nifti/{name}/001"))
    assert caught.value.defect is defect
    assert says in str(caught.value)


def test_images_with_empty_uids_are_refused_for_that():
    with pytest.raises(NotAVolume, match="20 of 20 images have no SOPClassUID") as caught:
        load_series(folder("ct_totalseg/example_ct_dicom"))
    assert caught.value.defect is Defect.NO_UID


def test_once_their_uids_are_filled_in_they_are_a_volume(tmp_path):
    for k, path in enumerate(folder("ct_totalseg/example_ct_dicom")):
        dataset = pydicom.dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", "2.25.2"
        dataset.FrameOfReferenceUID = "2.25.3"
        dataset.save_as(tmp_path / f"{k}.dcm")
    paths = sorted(tmp_path.iterdir())
    volume = load_series(paths).volume
    assert volume.spatial_shape == (20, 512, 512)
    assert_same_volume(volume, by_highdicom(paths))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_siemens_enhanced_mr_equals_highdicom(number):
    path = DATA / "mr_enhanced_dcmqa" / "In" / "Siemens" / "XA10" / f"6_{number}.dcm"
    volume = load_series([path]).volume
    theirs = hd.imread(path).get_volume(dtype=np.float64)
    assert_same_volume(volume, theirs)


def test_siemens_time_points_are_several_volumes():
    with pytest.raises(NotAVolume, match="4 enhanced images with 24 frames"):
        load_series(folder("mr_enhanced_dcmqa/In/Siemens/XA10"))


def test_philips_magnitude_and_phase_in_one_image_are_refused():
    with pytest.raises(NotAVolume, match="64 frames, 2 at each of 32 positions") as caught:
        load_series(folder("mr_enhanced_dcmqa/In/Philips"))
    assert caught.value.defect is Defect.NOT_A_STACK


def test_pydicoms_enhanced_ct_equals_highdicom():
    path = DATA / "ts_pydicom_data" / "eCT_Supplemental.dcm"
    assert_same_volume(load_series([path], minimum=2).volume, hd.imread(path).get_volume(dtype=np.float64))
    with pytest.raises(NotAVolume, match="2 slices"):
        load_series([path])


def stored_values(path: Path) -> np.ndarray:
    """All frames of a file that need not be a volume: (frame, row, column)."""
    file = read_image_file(path)
    format = pixel_format(file.dataset, "the image")
    slices = [
        Slice(file=file, frame=k, format=format, rescale=Rescale(), name="the image")
        for k in range(format.frames)
    ]
    return assemble(slices, cores=2, decode_limit_s=30)


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        ("emri_small_RLE.dcm", "emri_small.dcm"),
        ("emri_small_jpeg_2k_lossless.dcm", "emri_small.dcm"),
        ("emri_small_jpeg_ls_lossless.dcm", "emri_small.dcm"),
        ("emri_small_big_endian.dcm", "emri_small.dcm"),
    ],
)
def test_pydicoms_compressed_images_equal_their_uncompressed_twins(packed, plain):
    one, other = (stored_values(DATA / "ts_pydicom_data" / name) for name in (packed, plain))
    assert one.shape == (10, 64, 64)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, pydicom.dcmread(DATA / "ts_pydicom_data" / plain).pixel_array)


@pytest.mark.parametrize(
    "name",
    ["693_J2KR.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "MR2_J2KI.dcm", "RG3_J2KI.dcm", "explicit_VR-UN.dcm"],
)
def test_single_images_in_other_encodings_equal_pydicoms_own_reading(name):
    path = DATA / "ts_pydicom_data" / name
    np.testing.assert_array_equal(stored_values(path)[0], pydicom.dcmread(path).pixel_array)


def test_files_made_to_break_readers_are_answered_and_not_obeyed():
    for path in folder("fuzz_sample") + folder("ts_pydicom_data") + folder("segsr_highdicom"):
        with contextlib.suppress(StudyError):  # Nothing else may come out.
            assert load_series([path]).volume.array.size > 0

"""A series on disk becomes the same volume that two independent readers make of it."""

import random
import resource
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - as everybody calls it
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, MRImageStorage
from scipy.spatial.transform import Rotation

from tests.worker.series import AXIAL, CORONAL, SAGITTAL, Series, noise
from worker.files import digest_of
from worker.load import load_series, load_source

OBLIQUE = tuple(Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()[:, :2].T.ravel().round(9))


def by_highdicom(paths: list[Path]) -> hd.Volume:
    return hd.get_volume_from_series([pydicom.dcmread(path) for path in paths], dtype=np.float64)


def assert_same_volume(ours: hd.Volume, theirs: hd.Volume) -> None:
    np.testing.assert_array_equal(ours.array, theirs.array.astype(np.float32))
    np.testing.assert_allclose(ours.affine, theirs.affine, rtol=0, atol=1e-9)
    assert ours.frame_of_reference_uid == theirs.frame_of_reference_uid


def assert_same_as_simpleitk(ours: hd.Volume, paths: list[Path], tmp_path: Path) -> None:
    """SimpleITK may stack the other way along the normal: compare by place in the patient."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    theirs = sitk.GetArrayFromImage(image)
    corner = ours.map_indices_to_reference(np.array([[0, 0, 0]]))[0]
    k = image.TransformPhysicalPointToIndex([float(x) for x in corner])[2]
    np.testing.assert_array_equal(ours.array, theirs if k == 0 else theirs[::-1])
    for index in [(0, 0, 0), (1, 2, 3), tuple(n - 1 for n in ours.spatial_shape)]:
        in_mm = ours.map_indices_to_reference(np.array([index]))[0]
        slice_index = index[0] if k == 0 else theirs.shape[0] - 1 - index[0]
        point = image.TransformIndexToPhysicalPoint([index[2], index[1], slice_index])
        np.testing.assert_allclose(in_mm, point, atol=1e-4)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("orientation", "normal"),
    [
        pytest.param(AXIAL, (0, 0, 1), id="head first"),
        pytest.param((-1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0, 0, -1), id="feet first"),
        pytest.param(SAGITTAL, (-1, 0, 0), id="sagittal"),
        pytest.param(CORONAL, (0, 1, 0), id="coronal"),
        pytest.param(OBLIQUE, tuple(np.cross(OBLIQUE[:3], OBLIQUE[3:])), id="oblique"),
    ],
)
def test_every_orientation_equals_highdicom_and_simpleitk_to_the_last_voxel(
    tmp_path, orientation, normal, reverse
):
    step = np.multiply(-2.5 if reverse else 2.5, normal)
    paths = Series(noise(), orientation=orientation, step=step).write(tmp_path)
    volume = load_series(paths).volume
    assert volume.array.dtype == np.int16
    assert_same_volume(volume, by_highdicom(paths))
    assert_same_as_simpleitk(volume, paths, tmp_path)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)))
def test_the_order_of_arrival_never_matters(tmp_path, order):
    paths = Series(noise()).write(tmp_path)
    one, other = load_series(paths), load_series([paths[k] for k in order])
    np.testing.assert_array_equal(one.volume.array, other.volume.array)
    np.testing.assert_array_equal(one.volume.affine, other.volume.affine)
    assert [d.SOPInstanceUID for d in one.source.datasets] == [
        d.SOPInstanceUID for d in other.source.datasets
    ]
    assert one.headers == other.headers


def test_instance_number_and_slice_location_may_lie(tmp_path):
    numbers = random.Random(3).sample(range(100), 5)

    def lie(k, dataset):
        dataset.InstanceNumber, dataset.SliceLocation = numbers[k], -7.0 * k

    stored = noise()
    volume = load_series(Series(stored).write(tmp_path, lie)).volume
    np.testing.assert_array_equal(volume.array, stored[::-1] - 1024)


def test_the_source_lists_its_images_slice_by_slice_without_pixels(tmp_path):
    loaded = load_series(Series(noise()).write(tmp_path))
    assert [float(d.ImagePositionPatient[2]) for d in loaded.source.datasets] == [
        40.0,
        37.5,
        35.0,
        32.5,
        30.0,
    ]
    for k, dataset in enumerate(loaded.source.datasets):
        assert "PixelData" not in dataset
        place = loaded.source.geometry.map_indices_to_reference(np.array([[k, 0, 0]]))[0]
        np.testing.assert_allclose(place, dataset.ImagePositionPatient, atol=1e-9)
    assert loaded.source.frames is None
    assert str(loaded.source.first.PatientName) == "Müller^Änne"
    assert loaded.source.first.file_meta.TransferSyntaxUID.is_little_endian


def test_headers_are_the_first_slices_as_text(tmp_path):
    def private(_, dataset):
        dataset.private_block(0x0099, "ACME", create=True).add_new(1, "LO", "secret")
        dataset.ImageComments = "x" * 2000

    headers = load_series(Series(noise()).write(tmp_path, private)).headers
    assert headers["ImageType"] == "ORIGINAL\\PRIMARY\\AXIAL"
    assert headers["ImagePositionPatient"] == "-100.0\\-90.0\\40.0"
    assert headers["Rows"] == "6"
    assert "ImageComments" not in headers
    assert "secret" not in headers.values()


def test_highdicom_builds_a_segmentation_of_the_source_with_the_same_geometry(tmp_path):
    loaded = load_series(Series(noise()).write(tmp_path))
    mask = loaded.volume.array > 1000
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Lung",
        segmented_property_category=pydicom.sr.codedict.codes.SCT.Organ,
        segmented_property_type=pydicom.sr.codedict.codes.SCT.Lung,
        algorithm_type="MANUAL",
    )
    made = hd.seg.Segmentation(
        loaded.source.datasets, mask.astype(np.uint8), "BINARY", [segment],
        series_instance_uid="2.25.31", series_number=2, sop_instance_uid="2.25.32", instance_number=1,
        manufacturer="M", manufacturer_model_name="N", software_versions="1", device_serial_number="1",
    )  # fmt: skip
    read = made.get_volume(combine_segments=True).match_geometry(loaded.source.geometry)
    np.testing.assert_array_equal(read.array, mask)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_implicit_and_big_endian_are_read_as_well(tmp_path, syntax):
    stored = noise()
    little = load_series(Series(stored).write(tmp_path / "little")).volume
    series = Series(stored.byteswap() if syntax == ExplicitVRBigEndian else stored, transfer_syntax=syntax)
    np.testing.assert_array_equal(load_series(series.write(tmp_path / "other")).volume.array, little.array)


def test_sequences_before_the_pixels_are_stepped_over_and_still_readable(tmp_path):
    def sequences(k, dataset):
        inner, outer = pydicom.Dataset(), pydicom.Dataset()
        inner.CodeValue, inner.CodeMeaning = f"{k}", "Brustkörper"
        outer.ProcedureCodeSequence = [inner, inner]
        dataset.RequestAttributesSequence = [outer]
        dataset.AnatomicRegionSequence = [inner]
        if k % 2:
            dataset["RequestAttributesSequence"].is_undefined_length = True
            outer.is_undefined_length_sequence_item = True
            outer["ProcedureCodeSequence"].is_undefined_length = True

    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
        series = Series(noise(), transfer_syntax=syntax)
        source = load_series(series.write(tmp_path / syntax, sequences)).source
        for k, dataset in enumerate(reversed(source.datasets)):
            [outer] = dataset.RequestAttributesSequence
            assert [item.CodeValue for item in outer.ProcedureCodeSequence] == [f"{k}", f"{k}"]
            assert dataset.AnatomicRegionSequence[0].CodeMeaning == "Brustkörper"


def test_a_header_longer_than_the_first_read_is_read_to_its_end(tmp_path):
    def long(_, dataset):
        dataset.add_new(0x00091001, "OB", b"x" * 50_000)
        dataset.add_new(0x00090010, "LO", "ACME")

    stored = noise()
    volume = load_series(Series(stored).write(tmp_path, long)).volume
    np.testing.assert_array_equal(volume.array, stored[::-1] - 1024)


# Values


def test_twelve_bits_with_garbage_above_them_are_only_twelve_bits(tmp_path):
    clean = noise(dtype=np.uint16, high=4096)
    dirty = clean | (noise(dtype=np.uint16, high=16) << 12)
    volume = load_series(Series(dirty, bits_stored=12).write(tmp_path)).volume
    np.testing.assert_array_equal(volume.array, clean[::-1].astype(np.int16) - 1024)


def test_signed_twelve_bits_carry_their_sign_at_bit_eleven(tmp_path):
    values = noise(low=-2048, high=2048)
    paths = Series((values & 0x0FFF).astype(np.int16), bits_stored=12, intercept=0.0).write(tmp_path)
    np.testing.assert_array_equal(load_series(paths).volume.array, values[::-1])
    assert_same_volume(load_series(paths).volume, by_highdicom(paths))


def test_values_above_their_high_bit_position_are_shifted_down(tmp_path):
    values = noise(dtype=np.uint16, high=4096)
    paths = Series(values << 4, bits_stored=12, high_bit=15, intercept=0.0).write(tmp_path)
    np.testing.assert_array_equal(load_series(paths).volume.array, values[::-1])


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "dtype"),
    [
        (noise(dtype=np.uint16, high=4096), 1.0, -1024.0, np.int16),
        (
            noise(dtype=np.uint16, low=60_000, high=65_536),
            1.0,
            -40_000.0,
            np.int16,
        ),  # fits only once rescaled
        (noise(dtype=np.uint16, high=65_536), 1.0, -1024.0, np.float32),
        (noise(low=-2000, high=3000), 1.0, -1024.0, np.int16),  # padding of -2000 becomes -3024, and stays
        (noise(low=-32_768, high=32_767), 1.0, -1024.0, np.float32),
        (noise(low=-300, high=300), -3.0, 7.0, np.int16),
        (noise(), 0.5, 0.0, np.float32),
        (noise(), 1.0, 0.25, np.float32),
        (noise(), 3.774114, 0.000061, np.float32),
        (noise(dtype=np.uint8, high=256), 1.0, 0.0, np.float32),
        (noise(dtype=np.int32, low=-(2**20), high=2**20), 2.0, 1.0, np.float32),
    ],
)
def test_modality_values_equal_highdicoms_in_whichever_type_holds_them(
    tmp_path, stored, slope, intercept, dtype
):
    paths = Series(stored, slope=slope, intercept=intercept, bits_stored=32).write(tmp_path)
    volume = load_series(paths).volume
    assert volume.array.dtype == dtype
    assert_same_volume(volume, by_highdicom(paths))


def test_one_slice_that_does_not_fit_widens_them_all(tmp_path):
    stored = noise(dtype=np.uint16, high=4096)
    stored[2, 3, 4] = 65_000
    paths = Series(stored).write(tmp_path)
    volume = load_series(paths).volume
    assert volume.array.dtype == np.float32
    assert_same_volume(volume, by_highdicom(paths))


def test_every_slice_is_rescaled_by_its_own_header(tmp_path):
    """PET: a slope per slice."""

    def own(k, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + k, 10.0 * k

    paths = Series(noise()).write(tmp_path, own)
    assert_same_volume(load_series(paths).volume, by_highdicom(paths))


def test_mr_without_rescale_is_as_stored(tmp_path):
    stored = noise(dtype=np.uint16)
    series = Series(stored, slope=None, intercept=None, sop_class=MRImageStorage, headers={"Modality": "MR"})
    np.testing.assert_array_equal(load_series(series.write(tmp_path)).volume.array, stored[::-1])


def test_a_modality_lut_is_applied(tmp_path):
    def lut(_, dataset):
        item = pydicom.Dataset()
        item.LUTDescriptor = [4000, 0, 16]
        item.add_new("LUTData", "US", [int(x) for x in (np.arange(4000) * 7) % 5000])
        item.ModalityLUTType = "US"
        dataset.ModalityLUTSequence = [item]

    stored = noise(dtype=np.uint16)
    paths = Series(stored, slope=None, intercept=None, sop_class=MRImageStorage).write(tmp_path, lut)
    np.testing.assert_array_equal(load_series(paths).volume.array, (stored[::-1].astype(int) * 7) % 5000)


# Headers only, digests, memory


def test_a_refused_series_still_has_a_source_by_instance_number(tmp_path):
    paths = Series(noise()).write(tmp_path, lambda k, dataset: delattr(dataset, "ImagePositionPatient"))
    source = load_source([paths[k] for k in (3, 1, 0, 4, 2)])
    assert source.geometry is None
    assert [int(d.InstanceNumber) for d in source.datasets] == [1, 2, 3, 4, 5]
    assert all("PixelData" not in d for d in source.datasets)


def test_the_digest_is_of_the_data_set_and_not_of_the_file_meta_information(tmp_path):
    path = Series(noise()).write(tmp_path)[0]
    before = digest_of(path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.SourceApplicationEntityTitle = "ELSEWHERE"
    dataset.preamble = b"\1" * 128
    dataset.save_as(path)
    assert digest_of(path) == before
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert digest_of(path) != before


_PEAK = """
import resource, sys
from pathlib import Path
from worker.load import load_series
import worker.decode, SimpleITK
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
loaded = load_series(sorted(Path(sys.argv[1]).glob("*.dcm")), cores=2)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / (loaded.volume.array.size * 4))
"""


@pytest.mark.parametrize(("slope", "most"), [(1.0, 0.8), (0.5, 1.6)], ids=["int16", "float32"])
def test_loading_takes_no_more_than_1_6_times_the_float_volume(tmp_path, slope, most):
    paths = Series(noise((60, 512, 512)), slope=slope).write(tmp_path)
    root = Path(__file__).parents[2]
    output = subprocess.run(
        [sys.executable, "-c", _PEAK, str(paths[0].parent)],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(output.stdout) < most
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0

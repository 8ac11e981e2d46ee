"""Enhanced multi-frame images: one stack of frames is a volume, anything else says what is in the way."""

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.worker.series import AXIAL, CORONAL, Series, noise, save
from worker.defects import Defect, NotAVolume
from worker.load import load_series

ORDER = [3, 0, 4, 1, 2]


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL])
def test_frames_in_any_order_become_slices_by_position(tmp_path, orientation):
    stored = noise()
    series = Series(
        stored, orientation=orientation, step=(0, 0, 2.5) if orientation == AXIAL else (0, 2.5, 0)
    )
    path = save(series.enhanced(ORDER), tmp_path / "enhanced.dcm")
    loaded = load_series([path])
    image = hd.imread(path)
    theirs = image.get_volume(dtype=np.float64)
    np.testing.assert_array_equal(loaded.volume.array, theirs.array)
    np.testing.assert_allclose(loaded.volume.affine, theirs.affine, atol=1e-9)
    assert loaded.source.frames == tuple(ORDER.index(k) + 1 for k in (4, 3, 2, 1, 0))
    assert len(loaded.source.datasets) == 1
    assert "PixelData" not in loaded.source.first


def test_an_enhanced_image_and_its_single_frames_are_the_same_volume(tmp_path):
    series = Series(noise())
    one = load_series(series.write(tmp_path / "single")).volume
    other = load_series([save(series.enhanced(ORDER), tmp_path / "enhanced.dcm")]).volume
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_array_equal(one.affine, other.affine)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("table", ["basic", "extended"])
def test_compressed_frames_land_on_their_own_slices(tmp_path, syntax, table):
    series = Series(noise((5, 32, 40)))
    plain = load_series([save(series.enhanced(ORDER), tmp_path / "plain.dcm")]).volume
    dataset = series.enhanced(ORDER)
    dataset.compress(syntax, generate_instance_uid=False, encapsulate_ext=table == "extended")
    packed = load_series([save(dataset, tmp_path / "packed.dcm")], cores=2).volume
    np.testing.assert_array_equal(packed.array, plain.array)


def test_every_frame_is_rescaled_by_its_own_transformation(tmp_path):
    dataset = Series(noise()).enhanced()
    for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        frame.PixelValueTransformationSequence[0].RescaleSlope = 0.5 + k
    path = save(dataset, tmp_path / "enhanced.dcm")
    expected = hd.imread(path).get_volume(dtype=np.float64).array.astype(np.float32)
    np.testing.assert_array_equal(load_series([path]).volume.array, expected)


def timed(series: Series) -> pydicom.Dataset:
    """Two time points of every slice."""
    dataset = series.enhanced()
    dimension = pydicom.Dataset()
    dimension.DimensionIndexPointer = pydicom.tag.Tag("TemporalPositionIndex")
    space = pydicom.Dataset()
    space.DimensionIndexPointer = pydicom.tag.Tag("ImagePositionPatient")
    dataset.DimensionIndexSequence = [space, dimension]
    frames = []
    for time in (1, 2):
        for k, frame in enumerate(series.enhanced().PerFrameFunctionalGroupsSequence):
            content = pydicom.Dataset()
            content.DimensionIndexValues = [k + 1, time]
            frame.FrameContentSequence = [content]
            frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = dataset.PixelData * 2
    return dataset


def test_a_time_series_is_refused_and_named_by_its_dimension(tmp_path):
    with pytest.raises(NotAVolume) as caught:
        load_series([save(timed(Series(noise())), tmp_path / "timed.dcm")])
    assert caught.value.defect is Defect.NOT_A_STACK
    assert str(caught.value) == (
        "The image holds 10 frames, 2 at each of 5 positions; they differ in Temporal Position Index."
    )


def test_several_enhanced_images_are_several_volumes(tmp_path):
    one, two = Series(noise()).enhanced(), Series(noise()).enhanced()
    two.SOPInstanceUID = two.file_meta.MediaStorageSOPInstanceUID = "2.25.2001"
    with pytest.raises(NotAVolume, match="2 enhanced images with 10 frames"):
        load_series([save(one, tmp_path / "1.dcm"), save(two, tmp_path / "2.dcm")])


def remove_positions(dataset):
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence


def lose_a_frame(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[2]


def turn_a_frame(dataset):
    turned = pydicom.Dataset()
    turned.ImageOrientationPatient = list(CORONAL)
    dataset.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [turned]


def make_a_scout(dataset):
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]


@pytest.mark.parametrize(
    ("change", "defect"),
    [
        (remove_positions, Defect.NO_GEOMETRY),
        (lose_a_frame, Defect.NOT_A_STACK),
        (turn_a_frame, Defect.MIXED_ORIENTATION),
        (make_a_scout, Defect.LOCALIZER),
    ],
)
def test_an_enhanced_image_that_is_no_stack_is_refused(tmp_path, change, defect):
    dataset = Series(noise()).enhanced()
    change(dataset)
    with pytest.raises(NotAVolume) as caught:
        load_series([save(dataset, tmp_path / "enhanced.dcm")])
    assert caught.value.defect is defect

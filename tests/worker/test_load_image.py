"""One image is given as it was imaged: grey in modality units, colour in RGB, never the wrong way round."""

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, RLELossless

from tests.models.real import folder
from tests.worker.images import photograph, radiograph, written
from worker.defects import CannotDecode, NotAnImage, NotAVolume, UnsafeInput
from worker.load_image import load_image

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 4096, (9, 7)).astype(np.uint16)
RGB = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)


def test_a_radiograph_is_given_in_modality_values_with_its_headers(tmp_path):
    loaded = load_image(written(radiograph(GREY, RescaleSlope=2, RescaleIntercept=-10), tmp_path))

    np.testing.assert_array_equal(loaded.image.array, 2 * GREY.astype(int) - 10)
    assert loaded.image.array.dtype == np.int16
    assert loaded.image.headers["ViewPosition"] == "PA"
    assert loaded.image.spacing_mm is None
    assert loaded.source.geometry is None
    assert [str(dataset.SOPInstanceUID) for dataset in loaded.source.datasets] == ["2.25.301"]
    assert loaded.source.frames is None


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_monochrome1_equals_its_monochrome2_twin(tmp_path, bits):
    stored = RNG.integers(0, 1 << bits, (6, 5)).astype(np.uint8 if bits == 8 else np.uint16)
    upright = radiograph(stored, BitsStored=bits, HighBit=bits - 1)
    inverted = ((1 << bits) - 1 - stored).astype(stored.dtype)
    twin = radiograph(inverted, BitsStored=bits, HighBit=bits - 1, PhotometricInterpretation="MONOCHROME1")

    one, other = load_image(written(upright, tmp_path / "a")), load_image(written(twin, tmp_path / "b"))

    np.testing.assert_array_equal(one.image.array, other.image.array)


def test_monochrome1_is_inverted_within_the_range_of_its_modality_values(tmp_path):
    stored = np.array([[0, 1, 4095]], np.uint16)
    dataset = radiograph(stored, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", "-100"

    array = load_image(written(dataset, tmp_path)).image.array

    np.testing.assert_allclose(array, [[1947.5, 1947.0, -100]])


def test_a_modality_table_is_applied(tmp_path):
    dataset = radiograph(np.array([[0, 1, 2, 3]], np.uint8))
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.LUTData = [100, 300, 700, 5000]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    dataset.ModalityLUTSequence = Sequence([table])

    np.testing.assert_array_equal(load_image(written(dataset, tmp_path)).image.array, [[100, 300, 700, 5000]])


def test_a_photograph_is_given_in_rgb_however_its_planes_are_stored(tmp_path):
    by_pixel = load_image(written(photograph(RGB), tmp_path / "a"))
    planar = photograph(np.moveaxis(RGB, 2, 0), Rows=6, Columns=8, PlanarConfiguration=1)
    by_plane = load_image(written(planar, tmp_path / "b"))

    np.testing.assert_array_equal(by_pixel.image.array, RGB)
    np.testing.assert_array_equal(by_plane.image.array, RGB)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_compressed_colour_equals_what_was_compressed(tmp_path, syntax):
    rgb = np.tile(RGB, (8, 8, 1))
    dataset = photograph(rgb)
    dataset.compress(syntax, generate_instance_uid=False)

    np.testing.assert_array_equal(load_image(written(dataset, tmp_path)).image.array, rgb)


def test_big_endian_colour_of_sixteen_bits_is_read(tmp_path):
    wide = RNG.integers(0, 65_536, (4, 5, 3)).astype(np.uint16)
    dataset = photograph(np.zeros((4, 5, 3), np.uint8), BitsAllocated=16, BitsStored=16, HighBit=15)
    dataset.PixelData = wide.astype(">u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian

    np.testing.assert_array_equal(load_image(written(dataset, tmp_path)).image.array, wide)


@pytest.mark.parametrize(
    "name",
    [
        "examples_ybr_color.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",
        "examples_jpeg2k.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
    ],
)
def test_colour_differences_become_rgb_as_pydicom_makes_them(name):
    path = get_testdata_file(name)
    dataset = pydicom.dcmread(path)
    frames = int(dataset.get("NumberOfFrames") or 1)
    expected = dataset.pixel_array if frames == 1 else dataset.pixel_array[frames // 2]

    loaded = load_image(path)

    # Codecs of the same standard may differ by one where they round.
    assert np.abs(loaded.image.array.astype(int) - expected.astype(int)).max() <= 1
    assert loaded.image.array.shape == (dataset.Rows, dataset.Columns, 3)


def test_a_palette_becomes_the_colours_that_it_holds():
    path = get_testdata_file("examples_palette.dcm")
    dataset = pydicom.dcmread(path)
    expected = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
    scale = 8 if expected.dtype == np.uint16 else 0

    np.testing.assert_array_equal(load_image(path).image.array, expected >> scale)


def test_of_several_frames_the_representative_one_is_taken_and_named(tmp_path):
    frames = np.stack([np.full((4, 4), k, np.uint8) for k in range(5)])
    loaded = load_image(written(radiograph(frames, RepresentativeFrameNumber=2), tmp_path / "a"))
    assert np.unique(loaded.image.array) == [1]
    assert loaded.source.frames == (2,)
    assert loaded.cautions == ("Frame 2 of 5 was analysed, and no other.",)

    middle = load_image(written(radiograph(frames), tmp_path / "b"))
    assert middle.source.frames == (3,)
    beyond = load_image(written(radiograph(frames, RepresentativeFrameNumber=9), tmp_path / "c"))
    assert beyond.source.frames == (3,)


def test_burned_in_text_and_the_region_of_tissue_are_told(tmp_path):
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 1, 2
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 5, 6
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
    image = radiograph(GREY, Modality="US", BurnedInAnnotation="YES")
    image.SequenceOfUltrasoundRegions = Sequence([region])

    loaded = load_image(written(image, tmp_path))

    assert loaded.image.spacing_mm == (0.5, 0.5)
    assert loaded.cautions == ("Text is burned into the image, and may have been taken for anatomy.",)
    assert [loaded.headers[f"RegionLocation{end}"] for end in ("MinX0", "MinY0", "MaxX1", "MaxY1")] == list(
        "1256"
    )


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"Rows": 900}, CannotDecode, "ends early"),
        ({"SamplesPerPixel": 3}, NotAVolume, "3 samples"),
        ({"PhotometricInterpretation": "CMYK"}, NotAVolume, "CMYK"),
        ({"PhotometricInterpretation": "RGB"}, NotAnImage, "no colour format"),
        ({"SeriesInstanceUID": ""}, NotAnImage, "SeriesInstanceUID"),
        ({"Rows": 65_535, "Columns": 65_535, "NumberOfFrames": 90}, UnsafeInput, "limit"),
    ],
)
def test_what_cannot_be_given_is_refused_in_words(tmp_path, change, error, words):
    with pytest.raises(error, match=words):
        load_image(written(radiograph(GREY, **change), tmp_path))


def test_an_object_without_pixels_is_no_image():
    with pytest.raises(NotAnImage, match="no pixel data"):
        load_image(get_testdata_file("rtplan.dcm"))


def test_a_palette_in_segments_or_cut_short_is_refused(tmp_path):
    dataset = pydicom.dcmread(get_testdata_file("examples_palette.dcm"))
    dataset.BluePaletteColorLookupTableData = dataset.BluePaletteColorLookupTableData[:20]
    with pytest.raises(CannotDecode, match="palette"):
        load_image(written(dataset, tmp_path))
    dataset.SegmentedRedPaletteColorLookupTableData = b"\0\0"
    with pytest.raises(NotAnImage, match="segments"):
        load_image(written(dataset, tmp_path))


@pytest.mark.real
def test_a_real_mammogram_is_measured_in_the_breast_and_not_on_the_detector():
    loaded = load_image(folder("mg_fodicom") / "GH133.dcm")

    assert loaded.image.array.shape == (3062, 2394)
    dataset = loaded.source.first
    magnification = float(dataset.EstimatedRadiographicMagnificationFactor)
    assert loaded.image.spacing_mm == pytest.approx(
        [float(x) / magnification for x in dataset.ImagerPixelSpacing]
    )


@pytest.mark.real
def test_the_same_real_pixels_called_monochrome1_are_the_negative():
    place = folder("cxr_dicom_rsna1")
    (path,) = (path for path in place.glob("1.2.*.dcm"))  # the other file has its pixels, and another tag

    one, other = load_image(path).image.array, load_image(place / "Fake_MONOHR1.dcm").image.array

    np.testing.assert_array_equal(one + other, 255)

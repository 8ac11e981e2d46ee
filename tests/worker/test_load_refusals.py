"""A series that is no volume is refused with its defect and its numbers, before a pixel is decoded."""

import struct
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
)

from ledger.errors import StudyError
from tests.worker.series import SAGITTAL, Series, noise, save
from worker.defects import CannotDecode, Defect, NotAVolume, UnsafeInput
from worker.elements import ELEMENT_LIMIT, HeaderUnreadable, MoreBytes, read_elements
from worker.load import load_series, load_source


def without(*keywords):
    def change(k, dataset):
        for keyword in keywords:
            delattr(dataset, keyword)

    return change


def setting(only=None, **values):
    def change(k, dataset):
        if only is None or k in only:
            for keyword, value in values.items():
                setattr(dataset, keyword, value)

    return change


# ruff: noqa: E501 - one row per defect reads better than three
DEFECTS = [
    ("gap", setting({4}, ImagePositionPatient=[-100, -90, 50.0]), Defect.GAP, "A gap of 12.5 mm after slice 1, others are 2.5 mm"),
    ("one position twice", setting({4}, ImagePositionPatient=[-100, -90, 37.5]), Defect.DUPLICATE, "2 images at the same position"),
    ("uneven", setting({2}, ImagePositionPatient=[-100, -90, 35.3]), Defect.UNEVEN, "2.200 to 2.800 mm apart"),
    ("orientations", setting({3, 4}, ImageOrientationPatient=list(SAGITTAL)), Defect.MIXED_ORIENTATION, "3 of 5 slices lie one way"),
    ("pixel spacings", setting({3}, PixelSpacing=[0.8, 0.8]), Defect.MIXED_SPACING, "0.8 × 0.7 mm and 0.8 × 0.8 mm"),
    ("frames of reference", setting({3}, FrameOfReferenceUID="2.25.99"), Defect.MIXED_FRAME_OF_REFERENCE, "2 frames of"),
    ("series", setting({3}, SeriesInstanceUID="2.25.99"), Defect.MIXED_SERIES, "5 images belong to 2 series"),
    ("kinds", setting({3}, SOPClassUID=MRImageStorage), Defect.MIXED_CLASS, "4 × CT Image Storage, 1 × MR Image Storage"),
    ("no position", without("ImagePositionPatient"), Defect.NO_GEOMETRY, "Image 1 has no ImagePositionPatient."),
    ("no orientation", without("ImageOrientationPatient"), Defect.NO_GEOMETRY, "Image 1 has no ImageOrientationPatient."),
    ("no spacing", without("PixelSpacing"), Defect.NO_GEOMETRY, "Image 1 has no PixelSpacing."),
    ("half a position", setting(ImagePositionPatient=[1, 2]), Defect.NO_GEOMETRY, "has 2 of 3 numbers in its ImagePosi"),
    ("no frame of reference", without("FrameOfReferenceUID"), Defect.NO_UID, "5 of 5 slices have no Frame of Ref"),
    ("empty UIDs", setting(SOPInstanceUID="", SOPClassUID=""), Defect.NO_UID, "5 of 5 images have no SOPClassUID."),
    ("same image", setting({3, 4}, SOPInstanceUID="2.25.5"), Defect.DUPLICATE, "1 of 5 files repeat an image"),
    ("localizer", setting({0}, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), Defect.LOCALIZER, "1 of 5 images are"),
    ("no pixels", without("PixelData"), Defect.NO_PIXELS, "5 of 5 objects have no pixel data."),
    ("palette", setting(PhotometricInterpretation="PALETTE COLOR"), Defect.NOT_GREY, "Image 1 is PALETTE COLOR with 1 samples."),
    ("colour", setting(PhotometricInterpretation="RGB", SamplesPerPixel=3), Defect.NOT_GREY, "Image 1 is RGB with 3"),
    ("cine", setting(NumberOfFrames=1 + 1, Rows=3), Defect.NOT_A_STACK, "2 frames without positions of their own"),
    ("no Hounsfield units", without("RescaleSlope", "RescaleIntercept"), Defect.NO_UNITS, "CT without Rescale Intercept"),
    ("slope of nothing", setting(RescaleSlope=0), Defect.NO_UNITS, "Rescale Slope 0"),
    ("odd bits", setting(BitsStored=12, HighBit=5), Defect.NOT_GREY, "12 bits up to bit 5 of 16"),
    ("no rows", without("Rows"), Defect.NO_PIXELS, "Image 1 has no usable Rows."),
]  # fmt: skip


@pytest.mark.parametrize(("change", "defect", "says"), [d[1:] for d in DEFECTS], ids=[d[0] for d in DEFECTS])
def test_each_defect_is_refused_with_its_reason_and_still_gives_a_source(tmp_path, change, defect, says):
    paths = Series(noise()).write(tmp_path, change)
    with pytest.raises(NotAVolume) as caught:
        load_series(paths)
    assert caught.value.defect is defect
    assert says in str(caught.value)
    assert isinstance(caught.value, StudyError)
    assert len(load_source(paths).datasets) == 5


def test_images_of_two_sizes_are_refused(tmp_path):
    paths = Series(noise()).write(tmp_path / "a")[:3]
    other = Series(noise((5, 8, 7)), first=(-100, -90, 37.5)).write(
        tmp_path / "b", setting(SOPInstanceUID="2.25.77")
    )
    with pytest.raises(NotAVolume) as caught:
        load_series([*paths, other[0]])
    assert caught.value.defect is Defect.MIXED_SIZE


def test_a_tilted_gantry_is_refused(tmp_path):
    """As CT writes it: the plane is tilted, the table goes straight."""
    tilt = np.radians(14.0)
    series = Series(noise(), orientation=(1, 0, 0, 0, round(np.cos(tilt), 9), -round(np.sin(tilt), 9)))
    with pytest.raises(NotAVolume, match=r"The gantry is tilted by 14\.0 degrees") as caught:
        load_series(series.write(tmp_path))
    assert caught.value.defect is Defect.TILT


@pytest.mark.parametrize("text", ["nan", "1e400", "inf"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, text):
    def change(k, dataset):
        element = pydicom.DataElement("ImagePositionPatient", "DS", ["-1000", "-90", "30"])
        dataset["ImagePositionPatient"] = element

    paths = Series(noise(), headers={}).write(tmp_path, change)
    for path in paths:
        content = path.read_bytes()
        assert content.count(b"-1000\\-90\\30") == 1
        path.write_bytes(content.replace(b"-1000\\-90\\30", text.encode().ljust(5) + b"\\-90\\30"))
    with pytest.raises(NotAVolume) as caught:
        load_series(paths)
    assert caught.value.defect is Defect.NOT_FINITE


def test_no_images_are_no_volume():
    with pytest.raises(NotAVolume) as caught:
        load_series([])
    assert caught.value.defect is Defect.TOO_FEW


def test_pixel_data_that_ends_early_is_damage(tmp_path):
    paths = Series(noise()).write(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-10])
    with pytest.raises(CannotDecode, match="The pixel data of image 3 ends early: 74 of 84 bytes"):
        load_series(paths)


# Hostile input


def test_a_header_that_claims_gigabytes_is_refused_before_any_memory_is_asked_for(tmp_path):
    paths = Series(noise()).write(tmp_path, setting(Rows=65_535, Columns=65_535))
    with pytest.raises(UnsafeInput, match=r"claims 1 × 65535 × 65535 pixels \(8191 MiB\) in 84 bytes"):
        load_series(paths)


def bomb(rows: int, columns: int) -> bytes:
    """The start of a JPEG 2000 codestream of that size, and hardly anything else."""
    siz = struct.pack(">HLLLLLLLLH", 0, columns, rows, 0, 0, columns, rows, 0, 0, 1) + b"\x0f\1\1"
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(siz) + 2) + siz + b"\xff\xd9\0\0"


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_codestream_larger_than_its_header_is_not_decoded(tmp_path, syntax):
    jpeg_ls = (
        b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB", 11, 16, 30_000, 30_000, 1) + b"\1\x11\0" + b"\xff\xd9"
    )
    frame = bomb(30_000, 30_000) if syntax == JPEG2000Lossless else jpeg_ls + b"\0" * (len(jpeg_ls) % 2)

    def change(k, dataset):
        dataset.PixelData = pydicom.encaps.encapsulate([frame])
        dataset.file_meta.TransferSyntaxUID = syntax

    with pytest.raises(
        UnsafeInput, match="codestream of image 5 is 30000 × 30000 pixels, its header says 6 × 7"
    ):
        load_series(Series(noise()).write(tmp_path, change), cores=1)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLosslessSV1])
def test_no_pixels_are_made_up_for_a_codestream_without_an_image(tmp_path, syntax):
    header = struct.pack(">HHBHHB", 0xFFC0 if syntax == JPEGBaseline8Bit else 0xFFC3, 11, 8, 6, 7, 1)
    frame = b"\xff\xd8" + header + b"\1\x11\0" + b"\xff\xd9"

    def change(k, dataset):
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = pydicom.encaps.encapsulate([frame + b"\0" * (len(frame) % 2)])
        dataset.file_meta.TransferSyntaxUID = syntax

    with pytest.raises(CannotDecode, match="codestream of image 5 ends before its image begins"):
        load_series(Series(noise()).write(tmp_path, change), cores=1)


def test_few_encoded_bytes_may_not_become_many_pixels(tmp_path):
    def change(k, dataset):
        dataset.Rows = dataset.Columns = 12_000
        dataset.PixelData = pydicom.encaps.encapsulate([bomb(12_000, 12_000)])
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless

    with pytest.raises(UnsafeInput, match="2000 times"):
        load_series(Series(noise()).write(tmp_path, change))


def test_damaged_compressed_data_is_refused_by_name(tmp_path):
    def change(k, dataset):
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        if k == 3:
            broken = bytearray(dataset.PixelData)
            broken[60:] = b"\xaa" * (len(broken) - 60)
            dataset.PixelData = bytes(broken)

    with pytest.raises(CannotDecode, match="Image 4"):
        load_series(Series(noise((5, 32, 32))).write(tmp_path, change))


@pytest.mark.parametrize(
    ("syntax", "says"),
    [
        ("1.2.840.10008.1.2.4.102", "MPEG-4 AVC"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.3.4", "which is not read here"),
        ("1.2.840.10008.1.2.4.51", "lossy 12-bit JPEG"),
    ],
)
def test_what_nothing_here_decodes_is_said_so(tmp_path, syntax, says):
    def change(k, dataset):
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 \xff\xd9"])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax

    paths = []
    for k in range(5):
        dataset = Series(noise()).dataset(k)
        change(k, dataset)
        path = tmp_path / f"{k}.dcm"
        dataset.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)
        paths.append(path)
    with pytest.raises(CannotDecode, match=says):
        load_series(paths)


def test_a_deflated_data_set_is_not_inflated(tmp_path):
    paths = Series(noise()).write(tmp_path)
    meta = pydicom.dcmread(paths[0]).file_meta
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = tmp_path / "deflated.dcm"
    with path.open("wb") as file:
        file.write(b"\0" * 128 + b"DICM")
        pydicom.filewriter.write_file_meta_info(file, meta)
        file.write(zlib.compress(b"\0" * 10_000_000))
    with pytest.raises(HeaderUnreadable, match="Deflated"):
        load_series([path])


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 132, b"\0" * 128 + b"DICM", b"%PDF-1.4" * 40])
def test_what_is_no_dicom_file_is_unreadable(tmp_path, content):
    path = tmp_path / "nothing"
    path.write_bytes(content)
    with pytest.raises(HeaderUnreadable):
        load_series([path])


def elements(body: bytes, implicit: bool = False):
    return read_elements(body, 0, implicit=implicit, whole=True)


ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
OPEN = b"\xff" * 4
SEQUENCE = b"\x08\x00\x40\x11SQ\0\0"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\x08\x00\x05\x00CS\x10\x00ISO", "claims 16 bytes; the file has 3 more"),
        (b"\x08\x00\x05\x00??\x02\x00xx\0\0", "has no value representation"),
        (b"\x08\x00\x05\x00CS", "ends inside an element's header"),
        (b"\x09\x00\x10\x00OB\0\0\xfe\xff\xff\xff", "claims 4294967294 bytes"),
        (SEQUENCE + OPEN + ITEM + OPEN, "never ends"),
        (SEQUENCE + OPEN + ITEM_END + OPEN, "out of place"),
        ((SEQUENCE + OPEN + ITEM + OPEN) * 200, "nested deeper than 32"),
        (
            SEQUENCE + OPEN + (ITEM + b"\0" * 4) * (ELEMENT_LIMIT + 1) + SEQUENCE_END + b"\0" * 4,
            "holds more than",
        ),
        (
            SEQUENCE + struct.pack("<L", 8 * (ELEMENT_LIMIT + 1)) + (ITEM + b"\0" * 4) * (ELEMENT_LIMIT + 1),
            "holds more",
        ),
    ],
)
def test_a_header_that_lies_about_its_lengths_is_refused_in_bounded_time(body, says):
    with pytest.raises(HeaderUnreadable, match=says):
        elements(body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\x20\x00\x0d\x00UI\x04\x001.2\0\x20\x00\x0d\x00UI\x04\x001.3\0", r"\(0020,000D\) is there twice"),
        (b"\x08\x00\x05\x00CS\x06\x00ISO\0_I", "Unknown Specific Character Set"),
    ],
)
def test_a_header_that_means_two_things_or_none_is_refused(body, says):
    with pytest.raises(HeaderUnreadable, match=says):
        elements(body)


def test_the_walk_of_any_prefix_ends_in_an_answer(tmp_path):
    content = Series(noise()).write(tmp_path)[0].read_bytes()
    start = content.index(b"\x08\x00\x05\x00CS")
    for end in range(start, len(content)):
        try:
            read_elements(content[:end], start, implicit=False, whole=True)
        except HeaderUnreadable:
            continue
    _, pixel = read_elements(content, start, implicit=False, whole=True)
    assert pixel is not None
    assert (
        content[pixel.offset : pixel.offset + pixel.length] == pydicom.dcmread(tmp_path / "000.dcm").PixelData
    )
    with pytest.raises(MoreBytes):
        read_elements(content[: pixel.offset - 30], start, implicit=False, whole=False)


def test_random_bytes_for_headers_raise_nothing_but_a_refusal(tmp_path):
    random = np.random.default_rng(11)
    paths = Series(noise()).write(tmp_path)
    original = paths[2].read_bytes()
    for _ in range(150):
        content = bytearray(original)
        for at in random.integers(132, len(content), 3):
            content[at] = random.integers(256)
        paths[2].write_bytes(content)
        try:
            volume = load_series(paths, cores=1).volume
        except (NotAVolume, HeaderUnreadable, CannotDecode, UnsafeInput):
            continue
        assert volume.spatial_shape == (5, 6, 7)


def test_an_object_that_is_no_image_is_refused(tmp_path):
    dataset = Series(noise()).dataset(0)
    del dataset.PixelData
    dataset.FloatPixelData = b"\0" * 168
    dataset.SOPClassUID = CTImageStorage
    with pytest.raises(NotAVolume, match="floating point"):
        load_series([save(dataset, tmp_path / "map.dcm")])

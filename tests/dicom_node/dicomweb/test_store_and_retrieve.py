"""STOW-RS and WADO-RS, asked by an independent client (dicomweb-client)."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.dicom_node.datasets import ct_slice, data_set_of, digest_of_file, write
from tests.dicom_node.dicomweb.conftest import Web, values

FOLDERS = [
    Path(pydicom.__file__).parent / "data" / "test_files",
    Path(__file__).resolve().parents[4] / "shared" / "data" / "ts_pydicom_data",
]
STUDY, SERIES = "1.2.826.0.1.3680043.8.498.77.1", "1.2.826.0.1.3680043.8.498.77.1.1"


def stored_by_client(web: Web, *names: str) -> list[pydicom.Dataset]:
    """pydicom's own files, stored by the client."""
    datasets = [pydicom.dcmread(corpus(name)) for name in names]
    web.client.store_instances(datasets)
    return datasets


def corpus(name: str) -> Path:
    """One of pydicom's files: those in its wheel, and those that are fetched beside this repository."""
    found = next((folder / name for folder in FOLDERS if (folder / name).exists()), None)
    return found or pytest.skip(f"{name} is not in pydicom's wheel, and ../shared/data is absent")


def uids(ds: pydicom.Dataset) -> tuple[str, str, str]:
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


def test_what_is_stored_over_the_web_comes_back_byte_for_byte(web: Web, tmp_path: Path) -> None:
    paths = write(tmp_path / "in", *(ct_slice(n) for n in (1, 2, 3)))
    web.stored(*paths)
    assert web.node.instances() == {f"{SERIES}.{n}": digest_of_file(p) for n, p in enumerate(paths, 1)}
    for found in (web.client.retrieve_study(STUDY), web.client.retrieve_series(STUDY, SERIES)):
        assert {ds.SOPInstanceUID for ds in found} == {f"{SERIES}.{n}" for n in (1, 2, 3)}
    one = web.get(
        f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.2", "application/dicom;transfer-syntax=*"
    )
    assert one.headers["Content-Type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    assert data_set_of(one.content) == data_set_of(paths[1].read_bytes())
    assert one.content[:128] == bytes(128)


def test_a_preamble_that_holds_a_program_is_zeroed(web: Web, tmp_path: Path) -> None:
    (path,) = write(tmp_path / "in", ct_slice())
    file = b"MZ\x90\x00".ljust(128, b"\xcc") + path.read_bytes()[128:]
    assert web.stow(file).status_code == 200
    (spooled,) = web.node.spooled()
    assert web.node.spool.absolute(spooled).read_bytes()[:128] == bytes(128)


def test_the_same_again_is_one_instance_and_other_bytes_are_set_aside(web: Web, tmp_path: Path) -> None:
    first, again, other = (
        path.read_bytes()
        for path in write(tmp_path / "in", ct_slice(fill=1), ct_slice(fill=1), ct_slice(fill=2))
    )
    assert web.stow(first, again).status_code == 200
    assert web.stow(other).status_code == 200  # conflict = "keep", as for C-STORE
    assert len(web.node.instances()) == len(web.node.quarantined_files()) == 1
    assert [each.calling for each in web.node.ledger.quarantined()] == ["STOW-RS"]


def test_an_instance_of_another_study_than_the_url_fails_alone(web: Web, tmp_path: Path) -> None:
    right, wrong = (
        path.read_bytes()
        for path in write(tmp_path / "in", ct_slice(1), ct_slice(2, study="1.2.3", series="1.2.3.4"))
    )
    answer = web.stow(right, wrong, study=STUDY)
    assert answer.status_code == 202
    (failed,) = values(answer.json(), "00081198")
    assert values(failed, "00081197") == [0xA900]
    assert values(failed, "00081155") == ["1.2.3.4.2"]
    (stored,) = values(answer.json(), "00081199")
    assert values(stored, "00081190") == [f"{web.url}/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1"]
    assert web.stow(wrong, study=STUDY).status_code == 409
    assert len(web.node.instances()) == 1


def test_each_instance_that_cannot_be_filed_says_why(web: Web, tmp_path: Path) -> None:
    no_study = ct_slice(1)
    no_study.StudyInstanceUID = "1.2.03"
    unknown_class, deflated = ct_slice(2), ct_slice(3)
    unknown_class.SOPClassUID = unknown_class.file_meta.MediaStorageSOPClassUID = "1.2.3.4.5"
    folder = tmp_path / "in"
    files = [path.read_bytes() for path in write(folder, no_study, unknown_class, deflated, ct_slice(4))]
    # The File Meta Information says MR, the data set CT.
    files[3] = files[3].replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.4\0", 1)
    files[2] = files[2].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")
    answer = web.stow(*files, b"no DICOM at all")
    assert answer.status_code == 409
    reasons = [values(each, "00081197")[0] for each in values(answer.json(), "00081198")]
    assert reasons == [0xC000, 0x0122, 0xC122, 0xA900, 0xC000]
    assert web.node.instances() == {}


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "JPEG2000.dcm",
        "JPGLosslessP14SV1_1s_1f_8b.dcm",
        "693_J2KI.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_rle_16bit_2frame.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "examples_palette.dcm",
        "examples_ybr_color.dcm",
        "liver_1frame.dcm",
        "rtdose_rle.dcm",
        "emri_small.dcm",
        "emri_small_RLE.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
        "liver.dcm",
        "MR_small_implicit.dcm",
        "JPEG-lossy.dcm",
    ],
)
def test_frames_come_as_they_are_stored_and_decoded(web: Web, name: str) -> None:
    path = corpus(name)
    truth = pydicom.dcmread(path)
    web.stored(path)
    study, series, sop = uids(truth)
    url = f"studies/{study}/series/{series}/instances/{sop}"
    count = int(truth.get("NumberOfFrames", 1))
    syntax = truth.file_meta.TransferSyntaxUID
    asked = sorted({1, count, count // 2 + 1})
    answer = web.get(
        f"{url}/frames/{','.join(map(str, asked))}",
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
    )
    assert answer.status_code == 200, answer.text
    parts = parts_of(answer)
    assert len(parts) == len(asked)
    if syntax.is_encapsulated:
        stored = list(pydicom.encaps.generate_frames(truth.PixelData, number_of_frames=count))
        assert [part for _, part in parts] == [stored[n - 1] for n in asked]
        assert all(f"transfer-syntax={syntax}" in head for head, _ in parts)
    if name == "JPEG-lossy.dcm":  # 12 bits, which nothing here decodes
        refused = web.get(f"{url}/frames/1", "multipart/related; type=application/octet-stream")
        assert refused.status_code == 406
        return
    pixels = truth.pixel_array
    pixels = pixels if count > 1 else pixels[None]
    for number in asked:
        ((_, data),) = parts_of(
            web.get(f"{url}/frames/{number}", 'multipart/related; type="application/octet-stream"')
        )
        if name == "SC_ybr_full_422_uncompressed.dcm":  # As it is stored: two pixels share their colour.
            assert data == truth.PixelData[: 100 * 100 * 2]
        elif truth.BitsAllocated == 1:
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: pixels[0].size]
            np.testing.assert_array_equal(bits.reshape(pixels[0].shape), pixels[number - 1])
        else:
            decoded = np.frombuffer(data, pixels.dtype)[: pixels[0].size].reshape(pixels[0].shape)
            np.testing.assert_array_equal(decoded, pixels[number - 1])
    picture = web.get(f"{url}/frames/1/rendered", "image/png")
    assert picture.status_code == 200, picture.text
    assert Image.open(io.BytesIO(picture.content)).size == (truth.Columns, truth.Rows)
    thumbnail = web.get(f"{url}/thumbnail")
    assert max(Image.open(io.BytesIO(thumbnail.content)).size) == 128
    whole = web.get(url, "application/dicom")
    assert whole.headers["Content-Type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    read = pydicom.dcmread(io.BytesIO(whole.content))
    assert not read.file_meta.TransferSyntaxUID.is_encapsulated
    assert read.SOPInstanceUID == sop
    np.testing.assert_array_equal(read.pixel_array, truth.pixel_array)


def parts_of(answer) -> list[tuple[str, bytes]]:
    """Head and contents of each part, split by hand."""
    assert answer.status_code == 200, answer.text
    boundary = answer.headers["Content-Type"].partition("boundary=")[2].encode()
    pieces = answer.content.split(b"--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    parts = []
    for piece in pieces[1:-1]:
        head, _, body = piece.partition(b"\r\n\r\n")
        assert body.endswith(b"\r\n")
        parts.append((head.decode(), body[:-2]))
    return parts


def test_a_rendered_ct_shows_its_window(web: Web, tmp_path: Path) -> None:
    ds = ct_slice(rows=4)
    ds.PixelData = np.array([[-1000, -160, 40, 240]] * 4, np.int16).tobytes()
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.WindowCenter, ds.WindowWidth = 40, 400
    web.stored(*write(tmp_path / "in", ds))
    url = f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/rendered"
    shown = np.asarray(Image.open(io.BytesIO(web.get(url, "image/png").content)))
    # PS3.3 §C.11.2.1.2: ((x - 39.5) / 399 + 0.5) * 255
    assert list(shown[0]) == [0, 0, 128, 255]
    lung = web.get(f"{url}?window=-600,1600,linear-exact", "image/png")
    assert list(np.asarray(Image.open(io.BytesIO(lung.content)))[0]) == [64, 198, 230, 255]
    assert web.get(f"{url}?window=1,2,quadratic").status_code == 400
    small = web.get(f"{url}?viewport=2,2&quality=50")
    assert Image.open(io.BytesIO(small.content)).size == (2, 2)
    assert small.headers["Content-Type"] == "image/jpeg"


def test_the_client_reads_back_what_it_stored(web: Web) -> None:
    (ct,) = stored_by_client(web, "CT_small.dcm")
    study, series, sop = uids(ct)
    read = web.client.retrieve_instance(study, series, sop)
    assert read.PatientName == ct.PatientName
    assert read.PixelData == ct.PixelData
    (frame,) = web.client.retrieve_instance_frames(study, series, sop, frame_numbers=[1])
    assert frame == ct.PixelData
    metadata = web.client.retrieve_instance_metadata(study, series, sop)
    bulk = web.client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert bulk == [ct.PixelData]
    image = web.client.retrieve_instance_rendered(study, series, sop, media_types=("image/png",))
    assert Image.open(io.BytesIO(image)).size == (128, 128)


def test_bulk_data_deep_in_sequences_are_found_by_their_path(web: Web, tmp_path: Path) -> None:
    ds, item, inner = ct_slice(), pydicom.Dataset(), pydicom.Dataset()
    item.add_new(0x00420011, "OB", b"%PDF" + bytes(5000))
    inner.add_new(0x00420011, "OB", b"deep" + bytes(5000))
    item.add_new(0x00081140, "SQ", [inner])
    ds.add_new(0x00081115, "SQ", [pydicom.Dataset(), item])
    web.stored(*write(tmp_path / "in", ds))
    (metadata,) = web.client.retrieve_study_metadata(STUDY)
    found = metadata["00081115"]["Value"][1]
    assert web.client.retrieve_bulkdata(found["00420011"]["BulkDataURI"]) == [b"%PDF" + bytes(5000)]
    url = found["00081140"]["Value"][0]["00420011"]["BulkDataURI"]
    assert web.client.retrieve_bulkdata(url) == [b"deep" + bytes(5000)]
    assert web.get(url.removeprefix(web.url + "/").replace("00420011", "00420012")).status_code == 404

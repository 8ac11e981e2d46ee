"""Metadata are the DICOM JSON model (PS3.18 Annex F): held against pydicom's, and against hostile files."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.data import get_charset_files, get_testdata_files

from dicom_node.dicomweb.reader import BULK_BYTES, metadata
from ledger.identifiers import Uid
from tests.dicom_node.datasets import ct_slice, encoded, write
from tests.dicom_node.dicomweb.conftest import Web, as_json, values
from tests.patience import patient

JSON = {"Accept": "application/dicom+json"}
STUDY, SERIES = "1.2.826.0.1.3680043.8.498.77.1", "1.2.826.0.1.3680043.8.498.77.1.1"


def ours(path: Path) -> dict:
    return json.loads(metadata({"of": [[str(path), "B"]]})[1])


@pytest.mark.parametrize("path", sorted(get_charset_files("*.dcm")), ids=lambda path: Path(path).name)
def test_every_charset_reads_as_pydicom_reads_it(path: str) -> None:
    truth = pydicom.dcmread(path).to_json_dict(BULK_BYTES + 1, lambda _: "URI")
    got = ours(Path(path))
    got = {
        tag: {**entry, "BulkDataURI": "URI"} if "BulkDataURI" in entry else entry
        for tag, entry in got.items()
    }
    assert got == {tag: entry for tag, entry in truth.items() if not tag.endswith("0000")}
    assert len(got) > 3


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_implicit.dcm",
        "rtplan.dcm",
        "test-SR.dcm",
        "reportsi.dcm",
        "waveform_ecg.dcm",
        "nested_priv_SQ.dcm",
        "UN_sequence.dcm",
        "rtdose_rle.dcm",
        "examples_overlay.dcm",
        "JPEG2000.dcm",
    ],
)
def test_values_are_those_that_pydicom_reads(name: str) -> None:
    (path,) = get_testdata_files(name)[:1]
    dataset = pydicom.dcmread(path)
    got = pydicom.Dataset.from_json(ours(Path(path)), lambda *_: b"")
    checked = 0
    for element in dataset:
        if element.tag.element == 0 or element.VR in ("OB", "OW", "UN", "OD", "OF", "OL", "OB or OW"):
            continue
        assert element.tag in got, element.keyword
        if element.VR not in ("SQ", "DS", "FL", "FD"):
            assert str(got[element.tag].value) == str(element.value), element.keyword
        checked += 1
    assert checked > 20 or name in ("UN_sequence.dcm", "nested_priv_SQ.dcm")


def test_numbers_that_json_does_not_have_are_text(tmp_path: Path) -> None:
    ds = ct_slice()
    ds.RealWorldValueSlope = float("nan")
    ds.add_new(0x00720074, "FD", [float("inf"), 1.5])  # Selector FD Value
    (path,) = write(tmp_path, ds)
    got = ours(path)
    assert got["00409225"]["Value"] == ["NaN"]
    assert got["00720074"]["Value"] == ["Infinity", 1.5]


def test_a_value_that_breaks_its_vr_hides_no_other(tmp_path: Path) -> None:
    (path,) = write(tmp_path, ct_slice())
    path.write_bytes(path.read_bytes().replace(b"DS\x08\x001.0\\1.0 ", b"DS\x08\x00abc\\def "))
    got = ours(path)
    assert got["00280030"] == {"vr": "UN", "InlineBinary": "YWJjXGRlZiA="}
    assert got["00100020"]["Value"] == ["ZZMRN0815"]


def test_pixels_and_long_binaries_are_told_by_address(web: Web, tmp_path: Path) -> None:
    ds = ct_slice()
    ds.add_new(0x00420011, "OB", bytes(BULK_BYTES))
    ds.add_new(0x00420010, "ST", "x" * 1020)
    ds.add_new(0x00281101, "US", [1, 2, 3])
    web.stored(*write(tmp_path, ds))
    (got,) = as_json(web.get(f"studies/{STUDY}/metadata"))
    base = f"{web.url}/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/bulkdata"
    assert got["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{base}/7FE00010"}
    assert "InlineBinary" in got["00420011"]
    assert len(got["00420010"]["Value"][0]) == 1020
    assert "00020010" not in got


def test_metadata_of_a_study_of_many_slices_is_one_valid_array(web: Web, tmp_path: Path) -> None:
    web.stored(*write(tmp_path, *(ct_slice(n, rows=4) for n in range(1, 101))))
    got = as_json(web.get(f"studies/{STUDY}/series/{SERIES}/metadata", "application/dicom+json"))
    assert [entry["00200013"]["Value"] for entry in got] == [[n] for n in range(1, 101)]


def bomb_of_items(tmp_path: Path) -> bytes:
    """A file of Part 10 with 800 000 empty items."""
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 99_000
    bomb = ct_slice()
    data = encoded(bomb)
    at = data.index(b"\x08\x00\x20\x00")  # before Study Date
    sequences = b"".join(
        struct.pack("<HH2sHI", 0x0009, 0x1000 + n, b"SQ", 0, len(items)) + items for n in range(8)
    )
    start = write(tmp_path, bomb)[0].read_bytes()
    head = start[: len(start) - len(data)]
    at = data.index(b"\x10\x00\x10\x00PN")
    return head + data[:at] + sequences + data[at:]


def test_a_file_of_endless_items_is_kept_and_answered_with_a_warning(web: Web, tmp_path: Path) -> None:
    answer = web.stow(bomb_of_items(tmp_path))

    assert answer.status_code == 202
    (named,) = answer.json()["00081199"]["Value"]
    assert named["00081196"]["Value"] == [0xB007]
    assert "00081190" not in named
    (record,) = web.node.ledger.quarantined()
    assert "more than 100000 sequence items" in record.because
    assert web.node.instances() == {}


def test_a_file_of_endless_items_costs_one_child_and_no_server(start_web, start_node, tmp_path: Path) -> None:
    # A site may let such files in, on its own responsibility.
    running = start_node(data_set={"items_max": 10**8, "elements_max": 10**8, "header_s": 60})
    web = start_web(running=running, decode_s=1.0)
    assert web.stow(bomb_of_items(tmp_path)).status_code == 200
    web.stored(*write(tmp_path, ct_slice(1, study="1.2.3", series="1.2.3.4")))
    refused = web.get(f"studies/{STUDY}/metadata")
    assert refused.status_code == 406
    assert "more time or memory" in refused.json()["error"]
    assert len(as_json(web.get("studies/1.2.3/metadata"))) == 1


def test_the_metadata_of_many_instances_come_whole_and_in_their_order(
    start_web: Callable[..., Web], tmp_path: Path
) -> None:
    """Readers are asked for some at a time, and all at once."""
    web = start_web(decoders=2)
    web.stored(*write(tmp_path / "in", *(ct_slice(n) for n in range(1, 41))))
    url = f"{web.url}/studies/{STUDY}/metadata"
    found = requests.get(url, headers=JSON, timeout=patient(30)).json()
    held = requests.get(f"{web.url}/studies/{STUDY}/instances", headers=JSON, timeout=patient(30)).json()
    uids = [values(each, "00080018")[0] for each in found]
    assert len(set(uids)) == 40
    assert set(uids) == {values(each, "00080018")[0] for each in held}
    for uid, each in zip(uids, found, strict=True):
        assert f"/instances/{uid}/bulkdata/7FE00010" in each["7FE00010"]["BulkDataURI"]


@pytest.mark.parametrize("damaged", [0, 39])
def test_what_cannot_be_read_is_never_left_out_in_silence(
    start_web: Callable[..., Web], tmp_path: Path, damaged: int
) -> None:
    """A viewer that shows a series with a slice missing is worse than one that shows an error."""
    web = start_web(decoders=2)
    web.stored(*write(tmp_path / "in", *(ct_slice(n) for n in range(1, 41))))
    study = web.node.ledger.held_study(Uid(STUDY))
    path = web.node.spool.absolute(study.series[0].instances[damaged].path)
    path.unlink()
    path.write_bytes(b"no longer DICOM" * 100)
    try:
        answer = requests.get(f"{web.url}/studies/{STUDY}/metadata", headers=JSON, timeout=patient(30))
        whole = answer.status_code == 200
    except requests.exceptions.ChunkedEncodingError:
        whole = False  # It was on its way already: cut, so that nobody takes it for the whole.
    assert not whole

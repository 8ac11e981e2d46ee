"""Headers of more than 64 KiB, and the process that reads them: bounded, replaceable, and told no secrets."""

import json
import os
import signal
import struct
import threading
from pathlib import Path

import pytest

from dicom_node.headers import UnsafeDataSet
from dicom_node.limited import Limited, ReaderDied
from dicom_node.limits import DataSetSettings
from dicom_node.long_headers import LongHeaders
from dicom_node.status import StoreStatus
from ledger.identifiers import Uid
from tests.dicom_node.datasets import ROOT, ct_slice, digest_of, digest_of_file, encoded
from tests.dicom_node.scanner import send_all
from tests.dicom_node.test_headers import EXPLICIT, defined, item, nested
from tests.patience import patient

LONG = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 200_000) + bytes(200_000)


def with_inside(data: bytes, extra: bytes) -> bytes:
    """`data` with `extra` before the patient."""
    at = data.index(b"\x10\x00\x10\x00PN")
    return data[:at] + extra + data[at:]


@pytest.fixture
def readers():
    opened = []

    def make(**shape: object) -> LongHeaders:
        opened.append(LongHeaders(DataSetSettings(**shape)))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def read(headers: LongHeaders, path: Path, data: bytes) -> dict[str, str]:
    path.write_bytes(b"before" + data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return dict(headers.read(descriptor, 6, EXPLICIT))
    finally:
        os.close(descriptor)


def process_of(headers: LongHeaders) -> int:
    process = headers._readers._free.queue[-1]
    return process._process.pid


def test_long_headers_are_the_same_headers(readers, tmp_path: Path) -> None:
    ds = ct_slice(7)
    ds.PatientName = "Åström^Zoë"
    found = read(readers(), tmp_path / "file", with_inside(encoded(ds), LONG))

    assert found["PatientName"] == "Åström^Zoë"
    assert found["SOPInstanceUID"] == ds.SOPInstanceUID
    assert found["ImagePositionPatient"].split("\\") == ["0.0", "0.0", "7.0"]


def test_the_process_has_limits_and_nothing_of_ours(readers, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WETREAD_SECRET", "hunter2")
    headers = readers(header_bytes_max=64 << 20)
    read(headers, tmp_path / "file", encoded(ct_slice()))

    pid = process_of(headers)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"hunter2" not in environment
    limits = Path(f"/proc/{pid}/limits").read_text()
    values = {line[:25].strip(): line[25:].split()[0] for line in limits.splitlines()}
    assert values["Max address space"] == str((64 << 20) + (1 << 30))
    assert values["Max core file size"] == "0"
    assert values["Max file size"] == "0"
    assert int(values["Max cpu time"]) <= 24
    assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()


def test_a_process_that_dies_is_replaced(readers, tmp_path: Path) -> None:
    headers = readers()
    read(headers, tmp_path / "file", encoded(ct_slice()))
    first = process_of(headers)
    os.kill(first, signal.SIGSEGV)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)

    assert read(headers, tmp_path / "file", encoded(ct_slice()))["Modality"] == "CT"
    assert process_of(headers) != first


def test_a_process_that_takes_too_long_is_killed_and_its_data_are_unsafe(readers, tmp_path: Path) -> None:
    headers = readers(header_s=0.3, items_max=10**8, elements_max=10**8)
    bomb = with_inside(encoded(ct_slice()), defined(0x00091001, item() * 3_000_000))
    with pytest.raises(UnsafeDataSet, match="more time or memory"):
        read(headers, tmp_path / "file", bomb)
    assert headers._readers._free.queue == [None]


def test_a_process_that_babbles_is_not_believed(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "babbler.py").write_text("import sys\nsys.stdout.write('x' * 10_000)\nsys.stdout.flush()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    limited = Limited("babbler", processes=1, limit_s=5, bytes_max=1 << 20)
    with pytest.raises(ReaderDied):
        limited.ask({"do": "anything"})
    limited.close()


def test_many_that_ask_at_once_take_turns(readers, tmp_path: Path) -> None:
    headers, found = readers(header_processes=2), []

    def ask(number: int) -> None:
        found.append(read(headers, tmp_path / f"file{number}", encoded(ct_slice(number)))["InstanceNumber"])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(30))
    assert sorted(map(int, found)) == list(range(1, 9))


@pytest.mark.parametrize(
    ("inside", "because"),
    [
        (defined(0x00081115, item() * 100_001), "more than 100000 sequence items"),
        (nested(40), "more than 32 deep"),
    ],
    ids=["in the process", "in the first 64 KiB"],
)
def test_an_unsafe_instance_is_kept_and_acknowledged_with_a_warning(
    node, inside: bytes, because: str
) -> None:
    data = with_inside(encoded(ct_slice(1)), inside)
    uid, next_uid = f"{ROOT}.1.1.1", f"{ROOT}.1.1.2"

    answers = send_all(node.port, {uid: data, next_uid: encoded(ct_slice(2))})

    assert answers == {uid: StoreStatus.SET_ASIDE, next_uid: StoreStatus.SUCCESS}
    (record,) = node.ledger.quarantined()
    assert record.because.startswith("unsafe to read: ")
    assert because in record.because
    assert digest_of_file(node.spool.absolute(record.path)) == digest_of(data)
    assert list(node.instances()) == [next_uid]


def test_an_instance_with_long_headers_is_filed(node) -> None:
    data = with_inside(encoded(ct_slice(1)), LONG)
    assert send_all(node.port, {f"{ROOT}.1.1.1": data}) == {f"{ROOT}.1.1.1": 0}
    assert node.instances() == {f"{ROOT}.1.1.1": digest_of(data)}


def test_the_command_and_long_headers_have_to_agree(node) -> None:
    data = with_inside(encoded(ct_slice(1)), LONG)
    assert send_all(node.port, {"1.2.3": data}) == {"1.2.3": StoreStatus.DOES_NOT_MATCH}
    assert node.instances() == {}


def test_the_answers_are_json(readers, tmp_path: Path) -> None:
    found = read(readers(), tmp_path / "file", encoded(ct_slice()))
    assert json.loads(json.dumps(found)) == found
    assert Uid.parse(found["StudyInstanceUID"])

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from dicom_node.daybook import NAME, PAGE_BYTES, Daybook, Page
from dicom_node.disk import Disk, kind_of, trusted
from dicom_node.part import SpoolBroken, SpoolFull
from ledger.identifiers import Digest
from tests.dicom_node.datasets import digest_of

HEADER = b"a header"


@pytest.fixture
def daybook(tmp_path: Path):
    opened = Daybook(tmp_path)
    yield opened
    opened.close()


def gathered(daybook: Daybook, data_set: bytes, header: bytes = HEADER) -> Page:
    page = daybook.begin(header)
    assert page is not None
    assert page.append([memoryview(data_set[:100]), memoryview(data_set[100:])])
    return page


def written(daybook: Daybook, data_set: bytes) -> Page:
    page = gathered(daybook, data_set)
    page.write("10.0.0.1")
    return page


def found(folder: Path) -> list[bytes]:
    """What a node that starts after a crash finds."""
    daybook = Daybook(folder)
    try:
        return [entry.data_set for entry in daybook.entries()]
    finally:
        daybook.close()


def test_what_was_written_is_found_whole_and_in_its_order(daybook: Daybook, tmp_path: Path) -> None:
    data_sets = [os.urandom(size) for size in (1, 4096, 300_000)]
    for data_set in data_sets:
        written(daybook, data_set)

    again = Daybook(tmp_path)
    entries = list(again.entries())
    again.close()

    assert [entry.data_set for entry in entries] == data_sets
    assert [entry.header for entry in entries] == [HEADER] * 3
    assert [entry.digest for entry in entries] == [Digest(digest_of(data_set)) for data_set in data_sets]
    assert {entry.address for entry in entries} == {"10.0.0.1"}


def test_what_was_not_written_is_not_there(daybook: Daybook, tmp_path: Path) -> None:
    gathered(daybook, b"only gathered")

    assert found(tmp_path) == []


def test_what_is_free_and_below_the_mark_is_not_found_again(daybook: Daybook, tmp_path: Path) -> None:
    first, _second = written(daybook, b"first"), written(daybook, b"second")
    first.free()
    daybook.mark()

    assert found(tmp_path) == [b"second"]


def test_the_mark_passes_nobody_who_still_waits(daybook: Daybook, tmp_path: Path) -> None:
    first, second = written(daybook, b"first"), written(daybook, b"second")
    second.free()
    daybook.mark()
    assert b"first" in found(tmp_path)

    first.free()
    daybook.mark()
    assert found(tmp_path) == []


def test_numbers_go_on_after_a_restart_so_that_no_mark_hides_what_is_new(tmp_path: Path) -> None:
    before = Daybook(tmp_path)
    for _ in range(5):
        written(before, b"old").free()
    before.mark()
    before.close()

    after = Daybook(tmp_path)
    written(after, b"new")
    after.close()

    assert found(tmp_path) == [b"new"]


@pytest.mark.fault
@pytest.mark.parametrize("at", [3, 4 + 8, 4096 + 2, 4096 + 20, 4096 + 5000])
def test_a_torn_page_was_never_promised_and_is_not_believed(
    daybook: Daybook, tmp_path: Path, at: int
) -> None:
    """A byte is wrong in the magic, the number, the header, or the data set: at its beginning or end."""
    written(daybook, b"x" * 6000)
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(PAGE_BYTES + at)
        byte = file.read(1)
        file.seek(PAGE_BYTES + at)
        file.write(bytes([byte[0] ^ 0xFF]))

    assert found(tmp_path) == []


@pytest.mark.fault
def test_a_torn_mark_shows_too_much_and_never_too_little(daybook: Daybook, tmp_path: Path) -> None:
    written(daybook, b"done").free()
    daybook.mark()
    written(daybook, b"waiting")
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(10)
        file.write(b"\xff")

    assert b"waiting" in found(tmp_path)


@pytest.mark.fault
def test_a_daybook_that_was_cut_short_opens(daybook: Daybook, tmp_path: Path) -> None:
    written(daybook, b"y" * 50_000)
    os.truncate(tmp_path / NAME, PAGE_BYTES + 5000)

    assert found(tmp_path) == []


def test_an_instance_that_does_not_fit_is_left_to_others_and_nothing_of_it_taken(daybook: Daybook) -> None:
    page = gathered(daybook, b"z" * 1000)

    assert not page.append([memoryview(bytes(PAGE_BYTES))])
    assert bytes(page.data_set) == b"z" * 1000


def test_a_page_is_waited_for_and_given_back(daybook: Daybook) -> None:
    pages = []
    while (page := daybook.begin(HEADER)) is not None:
        pages.append(page)
        if len(pages) == 128:
            break
    assert daybook.in_use() == 128
    waiter = threading.Timer(0.1, pages[0].free)
    waiter.start()

    assert daybook.begin(HEADER) is not None
    waiter.join()


@pytest.mark.fault
def test_a_disk_that_fails_or_is_full_is_told_as_such(daybook: Daybook, monkeypatch) -> None:
    page = gathered(daybook, b"data")
    monkeypatch.setattr("dicom_node.daybook.os.pwrite", lambda *_: 100)
    with pytest.raises(SpoolFull):
        page.write("10.0.0.1")

    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("dicom_node.daybook.os.pwrite", broken)
    with pytest.raises(SpoolBroken):
        page.write("10.0.0.1")


@pytest.mark.fault
def test_a_file_system_that_refuses_direct_writes_gets_plain_ones(
    daybook: Daybook, tmp_path: Path, monkeypatch
) -> None:
    real = os.pwrite

    def picky(descriptor: int, contents: memoryview, place: int) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DSYNC
        return real(descriptor, contents, place)

    monkeypatch.setattr("dicom_node.daybook.os.pwrite", picky)
    written(daybook, b"first").free()
    written(daybook, b"second")
    daybook.mark()

    assert found(tmp_path) == [b"second"]


@pytest.mark.fault
def test_a_folder_that_is_not_there_is_a_broken_spool(tmp_path: Path) -> None:
    with pytest.raises(SpoolBroken):
        Daybook(tmp_path / "nowhere")
    with pytest.raises(SpoolBroken):
        Disk(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("kind", "release", "answer"),
    [
        ("ext4", "6.1.0-13-amd64", True),
        ("xfs", "5.8.0", True),
        ("ext4", "5.7.19", False),
        ("xfs", "4.18.0-553.el8", False),
        ("nfs4", "6.1.0", False),
        ("fuse.glusterfs", "6.1.0", False),
        ("", "6.1.0", False),
    ],
)
def test_one_sync_for_all_is_trusted_only_where_it_is_as_good_as_one_for_each(kind, release, answer) -> None:
    assert trusted(kind, release) is answer


def test_the_kind_of_a_file_system_is_that_of_its_device() -> None:
    mounts = """25 30 0:23 / /proc rw,nosuid shared:12 - proc proc rw
30 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
31 30 0:44 /x /spool rw - nfs4 server:/x rw"""

    assert kind_of(os.makedev(254, 0), mounts) == "ext4"
    assert kind_of(os.makedev(0, 44), mounts) == "nfs4"
    assert not kind_of(os.makedev(254, 1), mounts)


def test_an_old_kernel_is_not_asked(tmp_path: Path) -> None:
    disk = Disk(tmp_path, release="4.18.0")
    assert not disk.sync()
    disk.close()

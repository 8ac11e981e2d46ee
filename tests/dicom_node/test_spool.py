import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from dicom_node.part import BLOCK
from dicom_node.settings import SpoolSettings
from dicom_node.spool import INCOMING, INSTANCES, Room, Spool, SpoolBroken, SpoolFull, occupant
from tests.dicom_node.datasets import digest_of
from tests.patience import patient

EMPTY_MARKS = {"hard_percent": 100, "resume_percent": 100, "reserve_bytes": 0}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(SpoolSettings(path=tmp_path / "spool", **EMPTY_MARKS))


class Disk:
    """A disk of which `used_percent` is used, as `os.statvfs` tells it."""

    def __init__(self, used_percent: float) -> None:
        self.used_percent = used_percent
        self.f_frsize, self.f_blocks = 4096, 1_000_000

    @property
    def f_bavail(self) -> int:
        return int(self.f_blocks * (100 - self.used_percent) / 100)


def test_a_staged_file_is_header_and_data_set_under_the_digest_of_the_data_set(spool: Spool) -> None:
    staged = spool.stage(b"header", b"data set")

    assert str(staged.digest) == digest_of(b"data set")
    assert staged.size == len(b"data set")
    assert staged.path == f"instances/{staged.digest.value[:2]}/{staged.digest}.dcm"
    assert spool.absolute(staged.path).read_bytes() == b"headerdata set"
    assert list(spool.files(INCOMING)) == []


def test_nobody_else_on_the_machine_may_read_it(spool: Spool) -> None:
    staged = spool.stage(b"", b"data set")

    assert spool.absolute(staged.path).stat().st_mode & 0o077 == 0
    assert spool.path.stat().st_mode & 0o077 == 0


def test_the_same_bytes_twice_are_one_file_which_the_second_heals(spool: Spool) -> None:
    staged = spool.stage(b"h", b"data set")
    spool.absolute(staged.path).write_bytes(b"rotten")
    os.utime(spool.absolute(staged.path), (1.7e9, 1.7e9))

    assert spool.stage(b"h", b"data set") == staged
    assert spool.absolute(staged.path).stat().st_mtime == 1.7e9  # What was received once was received then.
    assert spool.absolute(staged.path).read_bytes() == b"hdata set"
    assert len(list(spool.files(INSTANCES))) == 1


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "instances/../../outside", "a\0b"])
def test_no_path_leaves_the_spool(spool: Spool, path: str) -> None:
    with pytest.raises(SpoolBroken, match="outside"):
        spool.absolute(path)


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, SpoolFull), (errno.EDQUOT, SpoolFull), (errno.EIO, SpoolBroken)]
)
def test_a_failing_sync_leaves_nothing_and_is_not_tried_again(
    spool: Spool, monkeypatch, number, expected
) -> None:
    synced: list[int] = []

    def fail(descriptor: int) -> None:
        synced.append(descriptor)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(expected):
        spool.stage(b"", b"data set")
    assert len(synced) == 1
    assert list(spool.files(INCOMING)) == list(spool.files(INSTANCES)) == []


def test_a_file_of_the_daybook_never_takes_the_place_of_one_that_is_there(spool: Spool) -> None:
    first, second = (
        memoryview(text.ljust(BLOCK, b".")) for text in (b"what came first", b"what comes later")
    )
    path = f"{INSTANCES}/ab/ab.dcm"

    os.close(spool.write_new(first, BLOCK, path))
    with pytest.raises(FileExistsError):
        spool.write_new(second, BLOCK, path)

    assert spool.absolute(path).read_bytes() == bytes(first)


def test_a_file_of_the_daybook_that_finds_no_room_leaves_no_torn_one(spool: Spool, monkeypatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, contents: real(descriptor, contents[:100]))

    with pytest.raises(SpoolFull):
        spool.write_new(memoryview(bytes(1000)), 1000, f"{INSTANCES}/ab/ab.dcm")

    assert list(spool.files(INSTANCES)) == []


def test_a_vanished_spool_is_a_broken_one(spool: Spool) -> None:
    spool.path.rename(spool.path.with_name("gone"))

    with pytest.raises(SpoolBroken):
        spool.stage(b"", b"data set")
    assert spool.room() is Room.HARD


def test_the_marks_say_how_much_room_there_is_and_do_not_flutter(tmp_path: Path, monkeypatch) -> None:
    disk = Disk(10)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    spool = Spool(SpoolSettings(path=tmp_path / "spool", measure_s=0, reserve_bytes=0))
    seen = []
    for disk.used_percent in (10, 79, 81, 89, 91, 88, 86, 84, 91, 50):
        seen.append(spool.room().name)

    assert seen == ["OK", "OK", "SOFT", "SOFT", "HARD", "HARD", "HARD", "SOFT", "HARD", "OK"]


def test_the_reserve_counts_however_large_the_disk(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: Disk(10))
    spool = Spool(SpoolSettings(path=tmp_path / "spool", reserve_bytes=10**12))

    assert spool.room() is Room.HARD


def test_files_of_dead_writers_are_swept_and_those_of_living_ones_stay(spool: Spool) -> None:
    import fcntl

    (spool.path / INCOMING / "dead.part").write_bytes(b"half")
    with (spool.path / INCOMING / "alive.part").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        assert spool.sweep_incoming() == 1
        assert list(spool.files(INCOMING)) == ["incoming/alive.part"]


def test_two_nodes_do_not_share_a_spool(spool: Spool) -> None:
    other = Spool(SpoolSettings(path=spool.path, **EMPTY_MARKS))
    with spool.occupied():
        with pytest.raises(SpoolBroken, match="already using"):
            with other.occupied():
                pass
    with other.occupied():
        pass


def test_whoever_looks_is_told_where_the_node_is_and_keeps_none_out(spool: Spool) -> None:
    assert occupant(spool.path) is None
    for _ in range(2):
        with spool.occupied():
            assert occupant(spool.path) == socket.gethostname()
        assert occupant(spool.path) is None
    with pytest.raises(FileNotFoundError):
        occupant(spool.path / "elsewhere")


def test_a_result_is_kept_by_its_own_digest(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "seg.dcm").write_bytes(b"result")

    digest, size, path = spool.keep_result(tmp_path / "seg.dcm")

    assert (str(digest), size) == (digest_of(b"result"), 6)
    assert spool.absolute(path).read_bytes() == b"result"
    assert path.startswith("results/")


def test_nothing_is_deleted_while_something_is_taken_in(spool: Spool) -> None:
    order: list[str] = []
    inside, deleting = threading.Event(), threading.Event()

    def take() -> None:
        with spool.taking():
            inside.set()
            deleting.wait(patient(5))
            order.append("taken")

    def delete() -> None:
        deleting.set()
        with spool.deleting():
            order.append("deleted")

    threads = [threading.Thread(target=take)]
    threads[0].start()
    inside.wait(patient(5))
    threads.append(threading.Thread(target=delete))
    threads[1].start()
    for thread in threads:
        thread.join(patient(5))

    assert order == ["taken", "deleted"]


def test_a_copy_that_comes_later_does_not_change_what_the_first_one_said(spool: Spool) -> None:
    first = spool.stage(b"from SCANNER, explicit", b"data set")

    assert spool.stage(b"from OTHER, JPEG", b"data set") == first
    assert spool.absolute(first.path).read_bytes() == b"from SCANNER, explicitdata set"
    assert list(spool.files(INCOMING)) == []

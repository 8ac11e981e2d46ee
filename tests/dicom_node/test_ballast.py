"""A ledger on a full disk. The disks are small and real where this machine lets us mount them."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.ballast import Ballast
from dicom_node.settings import SpoolSettings
from dicom_node.spool import Room
from dicom_node.status import StoreStatus
from ledger.settings import LedgerSettings
from tests.dicom_node.datasets import ct_slice, encoded
from tests.dicom_node.scanner import send_all
from tests.peers.loopback import until

MIB = 1 << 20


@contextmanager
def disk(path: Path, megabytes: int) -> Iterator[Path]:
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=False)


def fill(folder: Path, *, leave: int) -> Path:
    """Somebody else's file, that leaves so many bytes."""
    found = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize - leave))
    return folder / "filler"


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


def ballast(folder: Path, told: list[tuple[str, str]], size: int = 2 * MIB) -> Ballast:
    return Ballast(folder / "ledger.sqlite", size, told=lambda *what: told.append(what))


@pytest.mark.fault
def test_the_file_holds_room_gives_it_up_and_takes_it_back(tmp_path: Path, told) -> None:
    with disk(tmp_path / "disk", 8) as folder:
        held = ballast(folder, told)
        held.look()
        file = folder / "ledger.sqlite.ballast"
        assert file.stat().st_blocks * 512 == 2 * MIB
        assert file.stat().st_mode & 0o777 == 0o600

        other = fill(folder, leave=MIB)
        held.look()
        assert file.exists()  # Little is left, but there is something.
        other.unlink()
        other = fill(folder, leave=4096)
        held.look()
        assert not file.exists()
        assert held.given_up
        assert os.statvfs(folder).f_bavail * 4096 >= 2 * MIB

        os.truncate(other, other.stat().st_size - MIB)
        held.look()
        assert held.given_up  # Room for the file alone would have it given up again at once.
        other.unlink()
        held.look()
        assert not held.given_up
        assert file.stat().st_blocks * 512 == 2 * MIB
    assert [event for event, _ in told] == ["ballast_given_up", "ballast_taken_back"]
    assert "is full: nothing is received until there is room" in told[0][1]


@pytest.mark.fault
def test_a_disk_that_is_full_at_the_start_receives_nothing_until_there_is_room(tmp_path: Path, told) -> None:
    with disk(tmp_path / "disk", 8) as folder:
        other = fill(folder, leave=3 * MIB)
        held = ballast(folder, told)
        held.look()
        held.look()
        assert held.given_up
        other.unlink()
        held.look()
        assert not held.given_up
    assert [event for event, _ in told] == ["ballast_missing", "ballast_taken_back"]


def test_the_file_of_the_last_start_is_found_again(tmp_path: Path, told) -> None:
    ballast(tmp_path, told).look()
    file = tmp_path / "ledger.sqlite.ballast"
    before = file.stat().st_ino
    second = ballast(tmp_path, told)
    second.look()
    assert file.stat().st_ino == before
    assert not second.given_up
    assert told == []


def test_a_ledger_on_a_server_and_a_size_of_nothing_have_no_ballast(tmp_path: Path, told) -> None:
    server = LedgerSettings(url="postgresql+pg8000://wetread:secret@db:5432/wetread")
    assert server.file is None
    Ballast(server.file, MIB, told=lambda *_: None).look()
    ballast(tmp_path, told, size=0).look()
    assert list(tmp_path.iterdir()) == []
    assert LedgerSettings(url="sqlite:////var/lib/wetread/ledger.sqlite").file == Path(
        "/var/lib/wetread/ledger.sqlite"
    )
    assert SpoolSettings(path=tmp_path).ballast_bytes == 64 * MIB


@pytest.mark.fault
def test_on_a_full_ledger_disk_nothing_is_taken_in_and_states_are_still_recorded(
    start_node: Callable, tmp_path: Path, migrated: Path
) -> None:
    with disk(tmp_path / "disk", 24) as folder:
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        node = start_node(ledger={"url": url}, spool={"ballast_bytes": 4 * MIB})
        first = ct_slice(1)
        assert send_all(node.port, {str(first.SOPInstanceUID): encoded(first)}) == {
            str(first.SOPInstanceUID): StoreStatus.SUCCESS
        }
        other = fill(folder, leave=8192)
        until(lambda: node.node.ballast.given_up, within_s=10, what="the ballast is given up")

        assert node.spool.room() is Room.HARD
        second = ct_slice(2)
        assert send_all(node.port, {str(second.SOPInstanceUID): encoded(second)}) == {}  # rejected for now
        for number in range(50):
            node.ledger.record_event("node", "tested", because=f"state {number}")
        (given_up,) = [each for each in node.ledger.history() if each.event == "ballast_given_up"]
        assert str(folder) in given_up.because

        other.unlink()
        until(
            lambda: send_all(node.port, {str(second.SOPInstanceUID): encoded(second)}),
            within_s=15,
            what="instances are received again",
        )
        assert len(node.instances()) == 2

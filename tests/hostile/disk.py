"""P7: a full disk is never a Success, and receiving goes on by itself once there is room.

Three disks that are really full (the spool's, up to its mark and to its last byte, and the ledger's), and a
limit on the size of files, which needs no rights.
"""

import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.upper_layer import RELEASE_REQUEST
from ledger.store.ledger import Ledger
from tests.dicom_node.datasets import ROOT, ct_slice, digest_of, digest_of_file, encoded
from tests.dicom_node.node_process import NodeProcess, node_process
from tests.hostile.verdict import Measure, Verdict, at_most, none_of
from tests.hostile.victim import (
    connect,
    ledger_of,
    read_pdu,
    recorded,
    request,
    status_of,
    store_message,
    stumbles,
)
from tests.peers.loopback import until

RESUME_S = 30.0
_SUCCESS, _OUT_OF_RESOURCES, _REFUSED_FOR_NOW = 0x0000, 0xA700, -2
_LIMITED_TO = 20_000  # bytes of a file: less than an instance, and less than the ledger


class NotPermitted(Exception):
    """This machine does not let us make a small disk."""


@dataclass
class Tried:
    """What was answered on the way into a full disk and out of it."""

    answers: dict[str, int] = field(default_factory=dict)  #: SOP Instance UID → status
    sent: dict[str, bytes] = field(default_factory=dict)
    refused: int = 0  #: associations rejected for now (PS3.8 §9.3.4: 2, 3, 1)
    resumed_s: float = float("inf")
    filed_s: float = 0.0  #: until every Success had its file and its row
    false: list[str] = field(default_factory=list)  #: Success, and not held
    odd: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  #: files of what was never finished


def try_disks(folder: Path, *, instances: int = 60) -> Verdict:
    """Fill each kind of disk, and free it again."""
    kinds: dict[str, Callable[[Path, int], Tried]] = {
        "the spool's disk, to its last byte": _spool_to_the_last_byte,
        "the spool's disk, to its mark": _spool_to_its_mark,
        "the ledger's disk": _ledger,
        "a limit on the size of files": _limited_files,
    }
    done: dict[str, Tried] = {}
    left_out = []
    for kind, attempt in kinds.items():
        try:
            done[kind] = attempt(folder / kind.replace(" ", "-").replace("'", ""), instances)
        except NotPermitted as error:
            left_out.append(f"{kind}: {error}")
    answers = [status for tried in done.values() for status in tried.answers.values()]
    refused = answers.count(_OUT_OF_RESOURCES) + sum(tried.refused for tried in done.values())
    other = sorted({hex(status) for status in answers} - {hex(_SUCCESS), hex(_OUT_OF_RESOURCES)})
    return Verdict(
        promise="P7",
        done=(
            f"{len(done)} full disks: {len(answers)} instances sent, {answers.count(_SUCCESS)} Success,"
            f" {refused} put off"
        ),
        measures=(
            none_of(
                "Success for what is not held", [uid for t in done.values() for uid in t.false], len(answers)
            ),
            *(
                at_most(f"resumed by itself: {kind}", RESUME_S, tried.resumed_s, "s")
                for kind, tried in done.items()
            ),
            *(
                Measure(
                    what=f"was really full: {kind}", bound="yes", measured="yes" if full else "no", kept=full
                )
                for kind, tried in done.items()
                for full in [tried.refused > 0 or _OUT_OF_RESOURCES in tried.answers.values()]
            ),
            *(at_most(f"all is filed: {kind}", RESUME_S, tried.filed_s, "s") for kind, tried in done.items()),
            none_of("answers other than Success and 0xA700", other, len(answers)),
            none_of(
                "files of what was never finished", [f for t in done.values() for f in t.left], len(answers)
            ),
            none_of("surprises in the log", [line for t in done.values() for line in t.odd], len(answers)),
        ),
        left_out=tuple(left_out),
    )


def _spool_to_the_last_byte(folder: Path, count: int) -> Tried:
    with small_disk(folder / "disk", 12) as disk:
        site = {"spool": {"path": str(disk / "spool"), "measure_s": 0.0}}
        return _through(folder, count, site, lambda _: _fill(disk, leave=200_000), lambda _: _free(disk))


def _spool_to_its_mark(folder: Path, count: int) -> Tried:
    marks = {"hard_percent": 90, "resume_percent": 85, "measure_s": 0.0}
    with small_disk(folder / "disk", 12) as disk:
        site = {"spool": {"path": str(disk / "spool"), **marks}}
        return _through(folder, count, site, lambda _: _fill(disk, leave=1 << 20), lambda _: _free(disk))


def _ledger(folder: Path, count: int) -> Tried:
    with small_disk(folder / "disk", 6) as disk:
        site = {"ledger": {"url": f"sqlite:///{disk / 'ledger.sqlite'}"}}
        return _through(folder, count, site, lambda _: _fill(disk, leave=0), lambda _: _free(disk))


def _limited_files(folder: Path, count: int) -> Tried:
    folder.mkdir(parents=True)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(node: NodeProcess, size: int) -> None:
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (size, most))

    return _through(folder, count, {}, lambda node: limit(node, _LIMITED_TO), lambda node: limit(node, most))


def _through(
    folder: Path,
    count: int,
    site: dict[str, dict[str, object]],
    fill: Callable[[NodeProcess], object],
    free: Callable[[NodeProcess], object],
) -> Tried:
    """Send into a disk while it is full, free it, and wait for the next Success."""
    with node_process(folder, **site) as node:
        assert node.port, f"the node did not start: {node.log}"
        tried = _send_through(node, count, fill, free)
        spool = Path(str(site.get("spool", {}).get("path", folder / "spool")))
        with ledger_of(folder, **site) as opened:
            # What was answered is in the daybook at least; file and row have as long as receiving has.
            began = time.monotonic()
            with suppress(AssertionError):
                until(lambda: not _missing(tried, opened, spool), within_s=RESUME_S, what="all is filed")
            tried.filed_s = time.monotonic() - began
            tried.false = _missing(tried, opened, spool)
        tried.odd = stumbles(node)
    tried.left = [str(file) for file in (spool / "incoming").iterdir()]
    return tried


def _missing(tried: Tried, ledger: Ledger, spool: Path) -> list[str]:
    """The instances that were answered with Success and have no row, no file, or other bytes."""
    kept = recorded(ledger)
    files = {file.stem: file for file in (spool / "instances").rglob("*.dcm")}
    missing = []
    for uid, status in tried.answers.items():
        digest = digest_of(tried.sent[uid])
        held = kept.get(uid) == digest and digest in files and digest_of_file(files[digest]) == digest
        if status == _SUCCESS and not held:
            missing.append(uid)
    return missing


def _send_through(
    node: NodeProcess,
    count: int,
    fill: Callable[[NodeProcess], object],
    free: Callable[[NodeProcess], object],
) -> Tried:
    tried = Tried()
    numbers = iter(range(1, 100_000))
    for _ in range(3):
        _send(node.port, tried, next(numbers))
    fill(node)
    for _ in range(count):
        _send(node.port, tried, next(numbers))
    free(node)
    began = time.monotonic()
    pause = threading.Event()
    while time.monotonic() - began < 2 * RESUME_S:
        if _send(node.port, tried, next(numbers)) == _SUCCESS:
            tried.resumed_s = time.monotonic() - began
            break
        pause.wait(0.1)
    for _ in range(3):
        _send(node.port, tried, next(numbers))
    return tried


def _send(port: int, tried: Tried, number: int) -> int:
    """One instance on an association of its own; its status, or that nobody was let in."""
    uid = f"{ROOT}.70.{number}"
    data = encoded(ct_slice(number, series=f"{ROOT}.70", sop_instance=uid, rows=128, fill=number % 256))
    with connect(port) as line:
        line.sendall(request())
        answer = read_pdu(line)
        if answer[:1] == b"\3":
            assert tuple(answer[7:10]) == (2, 3, 1), f"rejected with {tuple(answer[7:10])}"
            tried.refused += 1
            return _REFUSED_FOR_NOW
        line.sendall(store_message(uid, data))
        status = status_of(read_pdu(line))
        with suppress(OSError):
            line.sendall(RELEASE_REQUEST)
            read_pdu(line)
    # An association that ends without an answer promised nothing, but is no answer either.
    tried.answers[uid], tried.sent[uid] = -1 if status is None else status, data
    return tried.answers[uid]


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A disk of its own. Raises `NotPermitted` where that needs more rights than we have."""
    if os.geteuid() != 0:
        raise NotPermitted("making a small disk needs root")
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        raise NotPermitted("this machine does not let us mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False, capture_output=True)


def _fill(disk: Path, *, leave: int) -> None:
    """Something else on the disk grows until only `leave` bytes are left."""
    with suppress(OSError), (disk / "something-else").open("wb") as file:
        block = bytes(1 << 14)
        while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > leave:
            file.write(block)
            file.flush()


def _free(disk: Path) -> None:
    (disk / "something-else").unlink(missing_ok=True)

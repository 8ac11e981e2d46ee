"""
How long after its last image does a study's first job begin, and what does the waiting cost?

    python -m benchmarks.completeness [--rounds 5] [--images 60]

A running node, DCMTK's dcmqrscp as the archive that has the study whole, and settings as shipped. Four cases:
the archive is asked, and the association is closed; the archive is asked, and the association stays open;
nobody is asked, and the association is closed; nobody is asked, and it stays open (once, for it takes half a
minute). Then what the node's processor does while no study is open, and how often the archive was asked.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import Dataset

from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.study import StudyRecord, StudyState
from tests.dicom_node.datasets import ROOT, ct_slice, write
from tests.dicom_node.node_process import NodeProcess, node_process
from tests.dicom_node.scanner import connected
from tests.peers.dcmqrscp import Dcmqrscp, dcmqrscp
from tests.peers.dcmtk import dcmsend
from tests.peers.loopback import until

RULE = {"name": "lungs", "model": "lung_ct", "modality": "CT", "at_least": 3}
SHIPPED = {"quiet_s": 5.0, "quiet_open_s": 30.0, "longest_s": 900.0}
GIVE_UP_S = 150.0  # No further round begins after this.
IDLE_S = 5.0


def main() -> int:
    """Measure and print; 0, or 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=60)
    given = parser.parse_args()
    ends = time.monotonic() + GIVE_UP_S
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with dcmqrscp(root / "archive") as archive:
            counted = measure(root / "counted", given.images, ends, archive, rounds=given.rounds)
            held = measure(root / "held", given.images, ends, archive, rounds=given.rounds, held_open=True)
            asked = questions(root / "archive" / "dcmqrscp.log")
        timers = measure(root / "timers", given.images, ends, None, rounds=max(1, given.rounds // 2))
        open_ = measure(root / "open", given.images, ends, None, rounds=1, held_open=True)
        idle = idle_percent(root / "idle")
    print(f"\nFrom the last of {given.images} images to its first job, seconds\n")
    rows = [
        ("archive counts, association closed", counted, 1.0),
        ("archive counts, association held open", held, 5.0),
        ("nobody counts, association closed", timers, 6.0),
        ("nobody counts, association held open", open_, 31.5),
    ]
    print(f"{'':<40}{'median':>8}{'worst':>8}{'goal':>8}{'times as long':>15}")
    first = statistics.median(counted)
    for name, delays, goal_s in rows:
        median_s = statistics.median(delays)
        print(f"{name:<40}{median_s:>8.2f}{max(delays):>8.2f}{goal_s:>8.1f}{median_s / first:>15.1f}")
    studies = len(counted) + len(held)
    print(f"\nThe archive was asked {asked} times about {studies} studies.")
    print(f"With no study open the node uses {idle:.1f} % of one core.")
    return 0 if all(statistics.median(delays) <= goal_s for _, delays, goal_s in rows) else 1


def measure(
    folder: Path, images: int, ends: float, archive: Dcmqrscp | None, *, rounds: int, held_open: bool = False
) -> list[float]:
    """Seconds from the last image to its job, one for each round."""
    peers = []
    if archive is not None:
        peers = [
            {
                "name": "archive",
                "ae_title": "ARCHIVE",
                "host": "127.0.0.1",
                "port": archive.port,
                "count": "find",
            }
        ]
    closing = {**SHIPPED, "counted_at": "archive" if archive else None}
    delays: list[float] = []
    with running(folder, closing=closing, peers=peers) as (node, ledger):
        for number in range(rounds):
            if delays and time.monotonic() > ends:
                break
            scan = slices(f"{folder.name}{number}", images)
            if archive is not None:
                files = write(folder / f"whole{number}", *scan)
                done = dcmsend(archive.port, *files, called="ARCHIVE")
                assert done.returncode == 0, done.stderr
            over = threading.Event()
            sending = threading.Thread(target=send, args=(node.port, scan, over, held_open))
            sending.start()
            try:
                study = until(lambda scan=scan: closed(ledger, scan), within_s=60, what="the study is closed")
            finally:
                over.set()
                sending.join()
            (job,) = ledger.jobs_of(study.id)
            delays.append(job.created_at - study.last_arrival_at)
            print(f"  {folder.name:<8}{delays[-1]:6.2f} s   {study.closed_because}", flush=True)
    return delays


def send(port: int, scan: Sequence[Dataset], over: threading.Event, held_open: bool) -> None:
    """One association; held open, it ends only with `over`."""
    with connected(port) as store:
        for ds in scan:
            assert store(ds) == 0
        if held_open:
            over.wait(60)


def closed(ledger: Ledger, scan: Sequence[Dataset]) -> StudyRecord | None:
    found = ledger.find(str(scan[0].StudyInstanceUID))
    return found if isinstance(found, StudyRecord) and found.state is StudyState.CLOSED else None


def slices(name: str, images: int) -> list[Dataset]:
    study = f"{ROOT}.{int.from_bytes(name.encode(), 'big')}"
    return [ct_slice(number, study=study, series=f"{study}.1") for number in range(1, images + 1)]


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[tuple[NodeProcess, Ledger]]:
    """A node with its ledger."""
    folder.mkdir(parents=True)
    with node_process(folder, rules=[RULE], **settings) as node:
        assert node.port, "the node did not start"
        ledger = Ledger.open(LedgerSettings(url=f"sqlite:///{folder / 'ledger.sqlite'}"))
        try:
            yield node, ledger
        finally:
            ledger.close()


def idle_percent(folder: Path) -> float:
    """Processor time of a node that has nothing to do, in percent of one core."""
    with running(folder, closing=SHIPPED) as (node, _):
        time.sleep(1.0)
        before = processor_s(node.process.pid)
        time.sleep(IDLE_S)
        return 100.0 * (processor_s(node.process.pid) - before) / IDLE_S


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def questions(log: Path) -> int:
    """How many times the archive was asked about a study."""
    return log.read_text(errors="replace").count("CS [STUDY]")


if __name__ == "__main__":
    sys.exit(main())

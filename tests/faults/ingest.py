"""One receiving node after another, each a fresh process that may be killed, and what is left of it."""

import ctypes
import json
import multiprocessing
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from dicom_node.daybook import Daybook
from dicom_node.spool import INCOMING, INSTANCES, Spool
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.dicom_node.datasets import ct_slice, digest_of, digest_of_file, encoded
from tests.dicom_node.node_process import site_json
from tests.patience import patient
from tests.peers.loopback import until
from tests.peers.programs import find

#: SOP Instance UID → bytes of the data set
INSTANCES_SENT = {
    str(ds.SOPInstanceUID): encoded(ds)
    for ds in (ct_slice(number, rows=64, fill=number) for number in (1, 2, 3))
}

#: Large enough to become files at once, where several associations send; of the same study.
LARGE_SENT = {
    str(ds.SOPInstanceUID): encoded(ds)
    for ds in (ct_slice(number, rows=400, fill=number) for number in (4, 5, 6))
}


def _run(site: str, armed: str, ready: Connection) -> None:
    """A node without its watch, in a process of its own, until it is killed."""
    import threading

    from dicom_node.__main__ import hush_libraries
    from dicom_node.node import Node
    from dicom_node.settings import NodeSite
    from ledger import failpoint, journal

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(
            0x59616D61, ctypes.c_long(-1)
        )  # PR_SET_PTRACER: any process may trace this one
    hush_libraries()
    journal.configure(json=True, level="error")
    if armed:
        failpoint.arm(armed)
    parsed = NodeSite.model_validate_json(site)
    spool, ledger = Spool(parsed.spool), Ledger.open(parsed.ledger)
    with Node(parsed, ledger, spool) as node:
        ready.send((node.port, {thread.name: thread.native_id for thread in threading.enumerate()}))
        threading.Event().wait(patient(120))


@dataclass
class Life:
    """A node that runs, or was killed."""

    process: multiprocessing.process.BaseProcess
    port: int
    threads: dict[str, int]  #: by name: "group-commit" syncs folders and commits, "bookkeeper" carries over
    folder: Path

    @property
    def killed(self) -> bool:
        self.process.join(0.5)
        return self.process.exitcode == -signal.SIGKILL

    def rest(self) -> None:
        """Until it has carried over all that it promised, or is no more."""
        until(
            lambda: self.process.exitcode is not None or not promised(self.folder),
            within_s=10,
            what="all is carried over",
        )


class Ingest:
    """Starts nodes over one folder after another, quickly: the imports are done once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["dicom_node.__main__", "tests.faults.ingest"])
        self._lives = 0
        template = folder / "template"
        template.mkdir()
        Ledger.open(_settings(template)).close()
        self._template = template / "ledger.sqlite"

    def fresh(self) -> Path:
        """A folder with an empty ledger, already migrated."""
        self._lives += 1
        folder = self._folder / f"{self._lives:04d}"
        folder.mkdir()
        shutil.copy(self._template, folder / "ledger.sqlite")
        return folder

    @contextmanager
    def node(self, folder: Path, armed: str = "", *, slow: bool = False) -> Iterator[Life]:
        """A node; a `slow` one waits for the ledger with every answer."""
        ours, theirs = self._processes.Pipe()
        site = site_json(folder, node={"port": 0, "conflict": "refuse" if slow else "keep"})
        process = self._processes.Process(target=_run, args=(site, armed, theirs), daemon=True)
        process.start()
        try:
            assert ours.poll(patient(20)), "the node did not start"
            yield Life(process, *ours.recv(), folder)
        finally:
            process.kill()
            process.join(patient(10))
            ours.close()
            theirs.close()


def promised(folder: Path) -> int:
    """How many instances lie in the daybook and are not carried over."""
    with closing(Daybook(folder / "spool")) as daybook:
        return sum(1 for _ in daybook.entries())


def _settings(folder: Path) -> LedgerSettings:
    return LedgerSettings(url=f"sqlite:///{folder / 'ledger.sqlite'}")


@contextmanager
def strace(pid: int, *options: str, follow: bool = True) -> Iterator[list[str]]:
    """strace attached to a process with all its threads, or to one thread alone; gives its lines."""
    tracer = subprocess.Popen(
        [find("strace"), *(["-f"] if follow else []), *options, "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    attached = threading.Event()

    def read() -> None:
        for line in tracer.stderr:
            if "attached" in line:
                attached.set()
            lines.append(line)
        attached.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert attached.wait(patient(10)), "strace did not attach"
        yield lines
    finally:
        tracer.send_signal(signal.SIGINT)  # strace lets go of what it traced, if that still lives
        try:
            tracer.wait(0.5)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait(patient(5))
        reader.join(patient(5))
        tracer.stderr.close()


def calls_by_thread(lines: Sequence[str]) -> dict[str, int]:
    """Per system call, how often the thread that makes most of them makes it."""
    counted: dict[tuple[str, str], int] = {}
    for line in lines:
        if found := re.match(r"(?:\[pid\s+(\d+)\] )?(\w+)\(", line):
            key = (found[2], found[1] or "")
            counted[key] = counted.get(key, 0) + 1
    most: dict[str, int] = {}
    for (call, _), count in counted.items():
        most[call] = max(most.get(call, 0), count)
    return most


def judge(folder: Path, answers: dict[str, int]) -> int:
    """How many instances there are after the next start.

    What was acknowledged is among them, and nothing is there by half.
    """
    from dicom_node.settings import NodeSite

    spool = Spool(NodeSite.model_validate(json.loads(site_json(folder))).spool)
    ledger = Ledger.open(_settings(folder))
    try:
        spool.reconcile(ledger)
        rows = {
            str(instance.sop_instance): instance
            for study in ledger.studies()
            for series in ledger.series_of(study.id)
            for instance in series.instances
        }
        acknowledged = {uid for uid, status in answers.items() if status == 0x0000}
        assert acknowledged <= set(rows), "an acknowledged instance was lost"
        for uid, instance in rows.items():
            assert str(instance.digest) == digest_of((INSTANCES_SENT | LARGE_SENT)[uid])
            assert digest_of_file(spool.absolute(instance.path)) == str(instance.digest)
        assert sorted(spool.files(INSTANCES)) == sorted(instance.path for instance in rows.values())
        assert not list(spool.files(INCOMING))
        assert not promised(folder)
        return len(rows)
    finally:
        ledger.close()

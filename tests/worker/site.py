"""A site for the worker: a real ledger, a real spool, a real queue, and real processes that can be killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from dicom_node.peers import PeerSettings
from dicom_node.settings import SpoolSettings
from dicom_node.spool import Spool
from ledger.identifiers import AETitle, DeliveryId, Digest, JobId, StudyId, Uid
from ledger.job import JobRecord, JobState, NewJob, Priority
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.study import Arrival
from models.training.phantom_series import write_series
from models.training.phantoms import chest
from tests.patience import patient
from tests.peers.loopback import until
from tests.peers.redis_server import RedisServer, redis
from worker.load import headers_of
from worker.settings import DeliverySettings, QueueSettings, WorkerSettings, WorkerSite

ROOT = Path(__file__).resolve().parents[2]

#: Production waits 60 s for a lease and 10 s for the sweeper; nothing else differs.
QUICK = WorkerSettings(
    device="cpu",
    threads=1,
    lease_s=5.0,
    heartbeat_s=0.5,
    silence_s=4.0,
    crash_backoff_s=0.05,
    site_backoff_s=0.2,
    sweep_s=0.3,
    republish_after_s=1.0,
    stop_s=patient(10.0),
    allow_python_models=True,
)
QUICK_POST = DeliverySettings(
    first_s=0.2, longest_s=1.0, lease_s=5.0, heartbeat_s=0.5, proof_s=0.3, proof_after_s=0.0
)

FAULT_MODELS = "tests.worker.fault_models.models"


def model(name: str) -> str:
    """A model of `fault_models`, as a rule would name it."""
    return f"{FAULT_MODELS}:{name}"


@dataclass
class Process:
    """`python -m worker PART`, as `wetread worker` starts it."""

    part: str
    process: subprocess.Popen
    log: Path
    ready: threading.Event

    def wait_ready(self) -> None:
        until(self._is_ready, within_s=30, what=f"worker {self.part} is ready")

    def _is_ready(self) -> bool:
        if self.process.poll() is not None and not self.ready.is_set():
            raise AssertionError(
                f"worker {self.part} ended with {self.process.returncode}:\n{self.log.read_text()}"
            )
        return self.ready.is_set()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(patient(10))

    def stop(self, within_s: float = 30) -> int:
        """SIGTERM, as a service manager would; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patient(within_s))

    def children(self) -> list[int]:
        """The processes that this one started, as the kernel knows them."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return found


@dataclass
class WorkerBench:
    """A site's folder, ledger, spool and queue, and the worker processes started so far."""

    folder: Path
    ledger: Ledger
    spool: Spool
    redis: RedisServer | None
    site: WorkerSite
    processes: list[Process] = field(default_factory=list)
    series: int = 0

    def start(self, part: str, *, failpoint: str = "", site: WorkerSite | None = None) -> Process:
        """Start a part of the worker and wait until it is ready."""
        log = self.folder / f"{len(self.processes)}-{part}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment.pop("WETREAD_FAILPOINT", None)
        if failpoint:
            environment["WETREAD_FAILPOINT"] = failpoint
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", part],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                cwd=self.folder, env=environment, start_new_session=True,
            )  # fmt: skip
        process.stdin.write(_as_json(site or self.site))
        process.stdin.close()
        ready = threading.Event()
        threading.Thread(target=_listen, args=(process, ready), daemon=True).start()
        started = Process(part, process, log, ready)
        self.processes.append(started)
        started.wait_ready()
        return started

    @property
    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def open_job(
        self,
        model: str,
        *,
        settings: Mapping[str, object] | None = None,
        priority: Priority = Priority.ROUTINE,
        destinations: Sequence[str] = (),
    ) -> JobId:
        """Receive a small series and open a job for it, as the node does; the outbox has its hint."""
        self.series += 1
        study_id = receive(self.ledger, self.spool, self.folder / f"scan{self.series}", seed=self.series)
        return close(
            self.ledger,
            study_id,
            model,
            settings=settings or {},
            priority=priority,
            destinations=destinations,
        )

    def job(self, job_id: JobId) -> JobRecord:
        return self.ledger.job(job_id)

    def wait(self, job_id: JobId, *states: JobState, within_s: float = 40) -> JobRecord:
        """The job once it is in one of `states`; fails early where it is parked against all expectation."""
        ended = {*states, JobState.PARKED}
        try:
            until(
                lambda: self.job(job_id).state in ended, within_s=within_s, what=f"job {job_id} is {states}"
            )
            assert self.job(job_id).state in states, f"job {job_id} is not {states}"
        except AssertionError as late:
            raise AssertionError(f"{late}; it is {self.job(job_id)}\n{self.log}") from None
        return self.job(job_id)

    def kept(self, job_id: JobId) -> list[str]:
        """The digests of a job's results, of which the ledger's and the spool's agree."""
        results = self.ledger.results_of(job_id)
        for one in results:
            assert _sha256(self.spool.absolute(one.path)) == str(one.digest)
        return [str(one.digest) for one in results]

    def deliveries(self, job_id: JobId) -> list[DeliveryId]:
        return [one.id for one in self.ledger.deliveries_of(job_id)]

    def leftovers(self) -> list[Path]:
        """Folders of runs that are over, and files that never got their name."""
        work = self.folder / "spool" / "work"
        return [*work.glob("*/*"), *(self.folder / "spool").rglob("*.part")]

    def close(self) -> None:
        for one in self.processes:
            if one.process.poll() is None:
                one.signal(signal.SIGCONT)
                one.kill()


@contextmanager
def worker_bench(
    folder: Path,
    *,
    worker: WorkerSettings = QUICK,
    delivery: DeliverySettings = QUICK_POST,
    peers: tuple[PeerSettings, ...] = (),
    ledger_url: str | None = None,
) -> Iterator[WorkerBench]:
    """A site with an empty ledger and a running Redis; no worker is started yet."""
    with redis(folder / "redis") as queue:
        ledger_settings = LedgerSettings(url=ledger_url or f"sqlite:///{folder}/ledger.sqlite")
        spool_settings = SpoolSettings(
            path=folder / "spool", reserve_bytes=0, soft_percent=100, hard_percent=100, resume_percent=100
        )
        site = WorkerSite(
            ledger=ledger_settings,
            spool=spool_settings,
            queue=QueueSettings(url=queue.url),
            worker=worker,
            delivery=delivery,
            peers=peers,
        )
        ledger = Ledger.open(ledger_settings)
        bench = WorkerBench(folder, ledger, Spool(spool_settings), queue, site)
        try:
            yield bench
        finally:
            bench.close()
            ledger.close()


def receive(ledger: Ledger, spool: Spool, folder: Path, *, seed: int) -> StudyId:
    """Put a small chest CT into spool and ledger, as the node would."""
    return receive_files(ledger, spool, write_series(chest((8, 48, 48), seed=seed), folder))


def receive_files(ledger: Ledger, spool: Spool, paths: Sequence[Path], *, headers: bool = False) -> StudyId:
    """Put these instances of one study into spool and ledger; rules need all their `headers`."""
    arrivals = []
    for path in paths:
        contents = path.read_bytes()
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        start = 132 + 12 + dataset.file_meta.FileMetaInformationGroupLength
        staged = spool.stage(contents[:start], contents[start:])
        spool.sync_folders([str(Path(staged.path).parent)])
        arrivals.append(
            Arrival(
                sop_instance=Uid.parse(dataset.SOPInstanceUID),
                sop_class=Uid.parse(dataset.SOPClassUID),
                transfer_syntax=Uid.parse(dataset.file_meta.TransferSyntaxUID),
                study=Uid.parse(dataset.StudyInstanceUID),
                series=Uid.parse(dataset.SeriesInstanceUID),
                digest=staged.digest,
                size=staged.size,
                path=staged.path,
                calling=AETitle("SCANNER"),
                called=AETitle("WETREAD"),
                address="127.0.0.1",
                headers=headers_of(dataset) if headers else {"Modality": "CT"},
            )
        )
    return ledger.record_arrivals(arrivals)[0].study_id


def close(
    ledger: Ledger,
    study_id: StudyId,
    model: str,
    *,
    settings: Mapping[str, object],
    priority: Priority,
    destinations: Sequence[str],
) -> JobId:
    """Close a study and open one job for its only series."""
    study = ledger.study(study_id)
    (series,) = ledger.series_of(study_id)
    jobs = ledger.close_study(
        study_id,
        seen_instances=study.instances,
        seen_last_arrival_at=study.last_arrival_at,
        because="test",
        notes=[],
        jobs=[
            NewJob(
                key=Digest(_sha256_of(f"{study_id} {model} {settings} {series.instances}")),
                series_id=series.id,
                rule="rule",
                model=model,
                settings=settings,
                priority=priority,
                destinations=tuple(destinations),
                inputs=tuple(instance.id for instance in series.instances),
            )
        ],
    )
    assert jobs is not None
    return jobs[0]


def traces(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def started(trace: Path, runs: int = 1) -> int:
    """The process of the latest run, once the model has been entered `runs` times."""
    begun = until(
        lambda: traces(trace) if len(traces(trace)) >= runs else [], within_s=15, what=f"run {runs}"
    )
    return begun[-1]


def events(bench: WorkerBench, job_id: JobId) -> list[str]:
    return [one.event for one in bench.ledger.history(job_id=job_id) if one.thing == "job"]


def _as_json(site: WorkerSite) -> bytes:
    return site.model_dump_json().encode()


def _listen(process: subprocess.Popen, ready: threading.Event) -> None:
    with process.stdout:
        for line in process.stdout:
            if line.strip() == b"ready":
                ready.set()


def _sha256(path: Path) -> str:
    return _sha256_of(path.read_bytes())


def _sha256_of(what: bytes | str) -> str:
    import hashlib

    return hashlib.sha256(what.encode() if isinstance(what, str) else what).hexdigest()

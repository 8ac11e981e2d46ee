"""
A backlog of studies through one worker, with and without reading ahead, in one run.

`python -m benchmarks.serving [--studies 6] [--device cpu|cuda:0]` writes synthetic series into the spool of a
temporary site and has the worker's own bench compute them, once one after the other and once with the next
job read and the last one encoded while one computes, in turns. It prints medians and ratios. "busy" is the
share of the time, from the first step of the first job to the last of the last, in which the model ran. Quote
ratios; the seconds are this machine's.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import highdicom as hd
import numpy as np
import torch

from dicom_node.settings import SpoolSettings
from dicom_node.spool import Spool
from ledger.identifiers import Digest, JobId
from ledger.job import JobState, NewJob
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from ledger.usage import Usage
from models.contract import Context, Memory
from models.manifest import Input, Manifest
from models.prepare.ladder import Plan, climb
from models.prepare.windows import predict
from models.training.phantom_series import write_series
from models.training.phantoms import chest
from results.findings import Concept, Findings, Outcome, Segment
from tests.worker.site import receive_files
from worker.attempt import Child
from worker.compute import Bench
from worker.settings import WorkerSettings
from worker.workplace import Workplace

_STAGES = ("queue", "load", "wait", "open", "model", "encode", "check")
_WAIT_S = 300.0


class Network:
    """Convolutions over sliding windows, as much arithmetic as is asked for; and the body found by its
    density, so that the results are as large as real ones.
    """

    manifest = Manifest(
        name="benchmark_network",
        version="1.0.0",
        title="Benchmark",
        licence="Apache-2.0",
        intended_use="measuring",
        limits=("finds the body",),
        inputs=(Input(modality=("CT",), minimum_slices=2),),
        time_limit_s=600.0,
        memory_mib=1024,
    )
    folder = Path(__file__).parent
    weights_digest = None

    def load(self, device: str) -> None:
        torch.manual_seed(0)
        layers = [torch.nn.Conv3d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(16, 2, 3, padding=1)]
        self.device = device
        self.network = torch.nn.Sequential(*layers).to(device).eval()

    def unload(self) -> None:
        del self.network

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        return Memory(host=int(np.prod(shape)) * 8, device=1 << 29)

    def run(self, volume: hd.Volume, context: Context) -> Findings:
        voxels = np.ascontiguousarray(volume.array, np.float32)

        def passes(plan: Plan) -> None:
            with torch.inference_mode():
                there = torch.from_numpy(voxels)[None].to(self.device) / 1000
                for _ in range(int(str(context.settings.get("passes", 1)))):
                    predict(self.network, there, window=(32, 96, 96), plan=plan)

        climb(passes, Plan(batch=2, overlap=0.25, limit=context.memory))
        return Findings(
            outcome=Outcome.FOUND,
            label_map=(voxels > -300).astype(np.uint8),
            segments=(
                Segment(
                    number=1,
                    label="Body",
                    category=Concept("91723000", "SCT", "Anatomical Structure"),
                    kind=Concept("38266002", "SCT", "Entire body"),
                    colour_rgb=(200, 160, 120),
                ),
            ),
        )


@contextmanager
def _site(folder: Path) -> Iterator[tuple[Ledger, Spool]]:
    spool = Spool(
        SpoolSettings(
            path=folder / "spool", reserve_bytes=0, soft_percent=100, hard_percent=100, resume_percent=100
        )
    )
    with Ledger.open(LedgerSettings(url=f"sqlite:///{folder}/ledger.sqlite")) as ledger:
        yield ledger, spool


def _open_job(ledger: Ledger, spool: Spool, paths: list[Path], passes: int) -> JobId:
    """Receive a series, close its study and open a job for it, as the node does."""
    study_id = receive_files(ledger, spool, paths)
    study = ledger.study(study_id)
    (series,) = ledger.series_of(study_id)
    opened = ledger.close_study(
        study_id,
        seen_instances=study.instances,
        seen_last_arrival_at=study.last_arrival_at,
        because="benchmark",
        notes=[],
        jobs=[
            NewJob(
                key=Digest(hashlib.sha256(str(study_id).encode()).hexdigest()),
                series_id=series.id,
                rule="benchmark",
                model="benchmarks.serving:Network",
                settings={"passes": passes},
                inputs=tuple(instance.id for instance in series.instances),
            )
        ],
    )
    assert opened is not None
    return opened[0]


def backlog(asked: argparse.Namespace, series: list[list[Path]], *, ahead: bool) -> list[Usage]:
    """What each job took, of a backlog that waits when the worker is ready; the first one warms it up."""
    with tempfile.TemporaryDirectory() as place, _site(Path(place)) as (ledger, spool):
        settings = WorkerSettings(
            device=asked.device, threads=asked.threads, ahead=ahead, allow_python_models=True
        )
        child = Child(settings, {**os.environ, "PYTHONPATH": str(Path.cwd())})
        workplace = Workplace(spool.path / "work", "benchmark")
        bench = Bench(ledger, spool, settings, child, owner="benchmark", workplace=workplace, time_zone="UTC")
        bench.open()
        try:
            bench.compute(_open_job(ledger, spool, series[0], asked.passes))
            jobs = [_open_job(ledger, spool, paths, asked.passes) for paths in series[1:]]
            hints, threads = list(jobs), []
            while hints:
                # What the queue's consumer does: a hint is taken while there is room, and no sooner.
                bench.seats.changed.clear()
                if bench.seats.open and bench.seats.entered == sum(thread.is_alive() for thread in threads):
                    threads.append(threading.Thread(target=bench.compute, args=(hints.pop(0),)))
                    threads[-1].start()
                bench.seats.changed.wait(0.02)
            for thread in threads:
                thread.join(_WAIT_S)
            assert all(ledger.job(one).state is JobState.DONE for one in jobs), [
                ledger.job(one) for one in jobs
            ]
            return [ledger.usages_of(one)[-1].usage for one in jobs]
        finally:
            bench.stop()
            bench.close()
            child.kill()
            workplace.close()


def figures(usages: list[Usage]) -> dict[str, float]:
    """The share of the time in which the model computed, studies per minute, and the median of each stage."""
    began = min(min(one.began.values()) for one in usages)
    ended = max(one.began["check"] + one.seconds["check"] for one in usages)
    found = {
        "busy": sum(one.seconds["model"] for one in usages) / (ended - began),
        "per_minute": 60 * len(usages) / (ended - began),
        "peak_mib": max(one.device_peak or one.host_peak for one in usages) / 2**20,
    }
    stages = {stage: statistics.median(one.seconds.get(stage, 0.0) for one in usages) for stage in _STAGES}
    return {**found, **stages}


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    options.add_argument("--studies", type=int, default=6)
    options.add_argument("--slices", type=int, default=100)
    options.add_argument("--side", type=int, default=256)
    options.add_argument("--passes", type=int, default=1, help="how often the network goes over a volume")
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--device", default="cpu")
    options.add_argument(
        "--threads", type=int, default=1, help="of torch on a CPU: the rest is for the other lanes"
    )
    asked = options.parse_args()

    with tempfile.TemporaryDirectory() as place:
        shape = (asked.slices, asked.side, asked.side)
        series = [
            write_series(chest(shape, seed=seed), Path(place) / str(seed))
            for seed in range(asked.studies + 1)
        ]
        rounds: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for _ in range(asked.rounds):
            for ahead, found in rounds.items():
                found.append(figures(backlog(asked, series, ahead=ahead)))

    print(f"{asked.studies} studies of {asked.slices} x {asked.side} x {asked.side} on {asked.device}")
    names = list(rounds[True][0])
    middle = {
        ahead: {name: statistics.median(one[name] for one in found) for name in names}
        for ahead, found in rounds.items()
    }
    print(f"{'':12}{'one by one':>12}{'ahead':>12}{'ratio':>8}")
    for name in names:
        before, after = middle[False][name], middle[True][name]
        ratio = f"{after / before:8.2f}" if before > 0.005 else ""
        print(f"{name:12}{before:12.3f}{after:12.3f}{ratio}")


if __name__ == "__main__":
    main()

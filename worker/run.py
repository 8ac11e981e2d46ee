"""
One run of one model on one series: load, model, encode, check. Knows no ledger, no queue and no network.

The child of a worker and `wetread run` on a folder call the same function, so what is proven on a desk is
what happens in the hospital. A series that cannot be analysed is an answer like any other: a report that says
why.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import highdicom as hd
import numpy as np
import torch
from pydicom import Dataset

from ledger.errors import SiteError, StudyError
from ledger.identifiers import Uid
from ledger.implementation import software_version
from ledger.result import Role
from models.contract import Context, Model
from models.registry import open_model, provenance_of
from results.check import check_results
from results.findings import Findings, refused
from results.provenance import Run
from results.report import build_report
from results.segmentation import build_segmentation
from results.source import Source
from results.write import write
from worker.exchange import Finding, ResultFile, RunReply, RunRequest, Stage
from worker.load import load_series, load_source

__all__ = ["Residents", "RunReply", "RunRequest", "analyse", "warm_up"]

#: Told of every stage as it begins, with the time limit of the model's manifest where that is what bounds it.
Enter = Callable[[Stage, float | None], None]


@dataclass(slots=True)
class Residents:
    """The models that stay loaded from one run to the next, all on one device, the latest used last."""

    device: str = "auto"
    at_most: int = 3  # A site has one or two; loading weights costs seconds, and keeping them costs the GPU.
    _models: dict[tuple[str, bool], Model] = field(default_factory=dict)

    def open(self, reference: str, *, allow_python: bool) -> Model:
        """The model, loaded. Raises `UnknownModel` and whatever its `load` raises."""
        key = (reference, allow_python)
        model = self._models.pop(key, None)
        if model is None:
            model = open_model(reference, allow_python=allow_python)
            while len(self._models) >= self.at_most:
                self._models.pop(next(iter(self._models))).unload()
            model.load(device_named(self.device))
        self._models[key] = model
        return model


class NoSuchDevice(SiteError):
    """Jobs shall run on a device that this machine does not have, or cannot use."""


def device_named(name: str) -> str:
    """The device that `name` stands for: "auto" is the first GPU, or the CPU where there is none.

    Raises `NoSuchDevice`.
    """
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    device = {"auto": (gpus or ["cpu"])[0], "cuda": "cuda:0"}.get(name, name)
    if device not in ("cpu", *gpus):
        raise NoSuchDevice(
            f"there is no device {name!r} that could be used here, only {' and '.join(['cpu', *gpus])}"
        )
    return device


def warm_up() -> None:
    """Do once what costs time only the first time, so that no study waits for it."""
    # highdicom reads its tables of all IODs, half a second's worth, when it meets the first region.
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 0)], dtype=np.float64)
    image = hd.sr.SourceImageForRegion("1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    hd.sr.ImageRegion(graphic_type="POLYLINE", graphic_data=square, source_image=image)


def _tell_nobody(stage: Stage, limit_s: float | None) -> None:
    pass


def analyse(
    request: RunRequest, *, residents: Residents | None = None, enter: Enter = _tell_nobody
) -> RunReply:
    """Run the request's model on its files and write the results into its folder.

    A `StudyError` of loading or of the model becomes a refused result. Raises `StudyError` where the files
    give not even a report, `ModelError` where the model is unknown, misbehaves or made results that fail
    their check, and `SiteError` for settings that cannot be.
    """
    clock = _Stopwatch()
    residents = residents or Residents(device=request.device)
    paths = [Path(path) for path in request.inputs]

    enter("open", None)
    with clock.measuring("open"):
        model = residents.open(request.model, allow_python=request.allow_python_models)
        provenance = provenance_of(model, request.settings)

    enter("load", None)
    source, findings = None, None
    with clock.measuring("load"):
        try:
            loaded = load_series(paths)
            source = loaded.source
        except StudyError as unusable:
            source, findings = load_source(paths), refused(str(unusable))

    if findings is None:
        enter("model", model.manifest.time_limit_s)
        with clock.measuring("model"):
            try:
                context = Context(headers=loaded.headers, settings=request.settings)
                findings = model.run(loaded.volume, context)
            except StudyError as unsuitable:
                findings = refused(str(unsuitable))
        del loaded  # The volume: encoding needs the memory.

    run = Run(
        provenance=provenance,
        series=Uid.parse(str(source.first.SeriesInstanceUID)),
        inputs=tuple(Uid.parse(str(dataset.SOPInstanceUID)) for dataset in source.datasets),
        at=datetime.fromtimestamp(request.at, ZoneInfo(request.time_zone)),
        software_version=software_version(),
        predecessor=request.predecessor,
    )
    enter("encode", None)
    with clock.measuring("encode"):
        files = _encode(findings, source, run, Path(request.out))
    enter("check", None)
    with clock.measuring("check"):
        written = {one.role: Path(one.path) for one in files}
        check_results(
            findings, source, run, report=written[Role.REPORT], segmentation=written.get(Role.SEGMENTATION)
        )

    return RunReply(
        outcome=findings.outcome,
        because=findings.because,
        model_identity=provenance.identity,
        files=tuple(files),
        timings=clock.seconds,
        findings=tuple(_summary(findings)),
        cautions=findings.cautions,
    )


def _encode(findings: Findings, source: Source, run: Run, out: Path) -> list[ResultFile]:
    """Leaves before the root: the report refers to the segmentation."""
    made: list[tuple[Role, Dataset]] = []
    segmentation = build_segmentation(findings, source, run)
    if segmentation is not None:
        made.append((Role.SEGMENTATION, segmentation))
    made.append((Role.REPORT, build_report(findings, source, run, segmentation)))
    return [_written(role, dataset, out / f"{role}.dcm") for role, dataset in made]


def _written(role: Role, dataset: Dataset, path: Path) -> ResultFile:
    write(dataset, path)
    return ResultFile(
        role=role,
        path=str(path),
        sop_class=str(dataset.SOPClassUID),
        sop_instance=str(dataset.SOPInstanceUID),
        study=str(dataset.StudyInstanceUID),
        series=str(dataset.SeriesInstanceUID),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
    )


def _summary(findings: Findings) -> Iterator[Finding]:
    about = [("", findings.measurements), *((one.label, one.measurements) for one in findings.segments)]
    for label, measurements in about:
        for one in measurements:
            yield Finding(label=label, name=one.name.meaning, value=one.value, unit=one.unit.value)


class _Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measuring(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - began, 4)

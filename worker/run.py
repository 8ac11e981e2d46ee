"""
One run of one model on one series: load, model, encode, check. Knows no ledger, no queue and no network.

The child of a worker and `wetread run` on a folder call the same function, so what is proven on a desk is
what happens in the hospital. A series that cannot be analysed is an answer like any other: a report that says
why.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from ledger.errors import StudyError
from ledger.identifiers import Uid
from ledger.implementation import software_version
from models.contract import Context
from models.registry import provenance_of
from results.findings import refused
from results.provenance import Run
from worker.encode import check, encode, summary
from worker.exchange import RunReply, RunRequest, Stage
from worker.given import Unusable, read_given
from worker.residents import Residents

#: Told of every stage as it begins, with the time limit of the model's manifest where that is what bounds it.
Enter = Callable[[Stage, float | None], None]


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

    enter("open", None)
    with clock.measuring("open"):
        model = residents.open(request.model, allow_python=request.allow_python_models, models=request.models)
        provenance = provenance_of(model, request.settings)

    enter("load", None)
    with clock.measuring("load"):
        read = read_given([Path(path) for path in request.inputs])
        source = read.source

    if isinstance(read, Unusable):
        findings = refused(read.because)
    else:
        enter("model", model.manifest.time_limit_s)
        with clock.measuring("model"):
            try:
                context = Context(headers=read.headers, settings=request.settings)
                findings = model.run(read.given, context)
            except StudyError as unsuitable:
                findings = refused(str(unsuitable))
    del read  # The volume: encoding needs the memory.

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
        files = encode(findings, source, run, Path(request.out))
    enter("check", None)
    with clock.measuring("check"):
        check(findings, source, run, files)

    return RunReply(
        outcome=findings.outcome,
        because=findings.because,
        model_identity=provenance.identity,
        files=tuple(files),
        timings=clock.seconds,
        findings=tuple(summary(findings)),
        cautions=findings.cautions,
    )


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

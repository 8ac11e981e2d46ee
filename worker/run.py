"""
One run of one model on one series: load, model, encode, check. Knows no ledger, no queue and no network.

The child of a worker and `wetread run` on a folder call the same function, so what is proven on a desk is
what happens in the hospital. A series that cannot be analysed is an answer like any other: a report that says
why.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from ledger.errors import StudyError
from ledger.identifiers import Uid
from ledger.implementation import software_version
from models.contract import Context
from models.registry import provenance_of, trust_in
from results.findings import Findings, refused
from results.provenance import Run
from results.sentences import sentences
from worker.encode import check, encode, summary
from worker.exchange import RunReply, RunRequest, Stage
from worker.given import Unusable, Usable, read_given
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
        provenance = provenance_of(model, _said_settings(request), trust_in(model, request.models))

    enter("load", None)
    with clock.measuring("load"):
        read = read_given(request, model.manifest)
        source, inputs = read.source, read.inputs

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
        findings = _with_cautions(findings, read)
    del read  # The volume: encoding needs the memory.

    run = Run(
        provenance=provenance,
        series=Uid.parse(str(source.first.SeriesInstanceUID)),
        inputs=inputs,
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
        trust=provenance.trust,
        files=tuple(files),
        timings=clock.seconds,
        findings=tuple(summary(findings)),
        lines=tuple(sentences(findings, source)),
        cautions=findings.cautions,
    )


def _said_settings(request: RunRequest) -> Mapping[str, object]:
    """The settings as results name them: with how many earlier examinations were asked for, for what is here
    of them is told in the findings.
    """
    if request.earlier_asked is None:
        return request.settings
    return {**request.settings, "earlier examinations asked for": request.earlier_asked}


def _with_cautions(findings: Findings, read: Usable) -> Findings:
    """The findings with what is to be said of the images that they are about."""
    cautions = [*read.cautions]
    measured = findings.measurements or findings.segments or findings.boxes or findings.points
    if read.lengths and measured:
        cautions.append(read.lengths)
    return replace(findings, cautions=(*findings.cautions, *cautions)) if cautions else findings


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

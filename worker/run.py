"""
One run of one model on one input set, in three steps: read, compute, finish. Knows no ledger, no queue and no
network.

The order of the steps is the promise: nothing is computed that was not read, and nothing leaves that was not
encoded, read back and compared. The child of a worker takes the same three steps as `wetread run` on a
folder, so what is proven on a desk is what happens in the hospital; only, there, the next run is read while
this one is computed. A series that cannot be analysed is an answer like any other: a report that says why.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from ledger.errors import StudyError
from ledger.identifiers import Uid
from ledger.implementation import software_version
from ledger.result import Role
from ledger.usage import Usage
from models.contract import Context, Drawn, Given, Model, OutOfMemory, SeriesSet, Timeline, grid_shape
from models.prepare.ladder import noting_rungs
from models.prepare.progress import telling
from models.registry import provenance_of, trust_in
from results.findings import Findings, refused
from results.making import Asked
from results.provenance import Provenance, Run
from results.sentences import sentences
from results.source import Source
from worker.drawn import draw, drawn_of, who_draws
from worker.encode import check, encode, summary
from worker.exchange import Crowded, Plan, ResultFile, RunReply, RunRequest, Stage
from worker.given import Unusable, Usable, read_given
from worker.memory import Watch
from worker.pictures import with_pictures
from worker.residents import Admission, Resident, Residents

#: Told of every stage as it begins, with the time limit of the model's manifest where that is what bounds it.
Enter = Callable[[Stage, float | None], None]


class Admitted(Protocol):
    """Told what a run may take, before it begins; of its usage what is known by then."""

    def __call__(self, usage: Usage, spare: int) -> None: ...


def _tell_nobody(stage: Stage, limit_s: float | None) -> None:
    pass


def _ask_nobody(usage: Usage, spare: int) -> None:
    pass


def _watched_by_nobody(part: float) -> None:
    pass


def analyse(
    request: RunRequest, *, residents: Residents | None = None, enter: Enter = _tell_nobody
) -> RunReply:
    """Run the request's model on its files and write the results into its folder: the three steps in a row.

    A `StudyError` of loading or of the model becomes a refused result. Raises `StudyError` where the files
    give not even a report, `ModelError` where the model is unknown, misbehaves, needs more memory than there
    is or made results that fail their check, and `SiteError` for settings that cannot be.
    """
    residents = residents or Residents(request.device)
    return finish(compute(read(request, residents, enter), residents, enter), residents, enter)


def _lone_image(source: Source) -> Uid | None:
    """The image that a run was about, where it is no volume and none of several."""
    lone = source.geometry is None and len(source.datasets) == 1
    return Uid.parse(str(source.first.SOPInstanceUID)) if lone else None


@dataclass(slots=True)
class ToCompute:
    """A run whose input lies in memory."""

    request: RunRequest
    resident: Resident
    read: Usable | Unusable
    clock: "Stopwatch"

    @property
    def held(self) -> int:
        """The bytes of what waits for the model."""
        return 0 if isinstance(self.read, Unusable) else given_bytes(self.read.given)


@dataclass(slots=True)
class ToFinish:
    """A run whose model has answered."""

    request: RunRequest
    provenance: Provenance
    source: Source
    inputs: tuple[Uid, ...]  #: all that was loaded
    findings: Findings
    usage: Usage | None  #: None: the model did not run
    clock: "Stopwatch"


def read(request: RunRequest, residents: Residents, enter: Enter = _tell_nobody) -> ToCompute:
    """The first step: which model it is, and what it is given."""
    clock = Stopwatch()
    enter("load", None)
    with residents.lanes.busy(), clock.measuring("load"):
        resident = residents.open(
            request.model, allow_python=request.allow_python_models, models=request.models
        )
        given = read_given(request, resident.model.manifest)
    return ToCompute(request, resident, given, clock)


def compute(
    ready: ToCompute,
    residents: Residents,
    enter: Enter = _tell_nobody,
    admitted: Admitted = _ask_nobody,
    held: int = 0,
    *,
    progressed: Callable[[float], None] = _watched_by_nobody,
) -> ToFinish:
    """The second step: the model is made resident, admitted, and run. `held` bytes are others' input;
    `progressed` hears how much of the model's work is done, 0 … 1, where the model tells.

    The input is forgotten with the end of this step: encoding needs the memory. Raises `Crowded` where memory
    is short while others hold some of it; what does not fit although nobody does is `OutOfMemory`.
    """
    try:
        with telling(progressed):
            return _compute(ready, residents, enter, admitted, held)
    except OutOfMemory as short:
        if not held:
            raise
        raise Crowded(f"{short} Meanwhile {held / 2**20:.1f} MiB held the input of others.") from None


def _compute(ready: ToCompute, residents: Residents, enter: Enter, admitted: Admitted, held: int) -> ToFinish:
    request, clock, read = ready.request, ready.clock, ready.read
    if isinstance(read, Unusable):
        provenance = _provenance(request, ready.resident.model)
        return ToFinish(request, provenance, read.source, read.inputs, refused(read.because), None, clock)

    drawn = _drawn(ready, read, residents, enter, held)
    enter("open", None)
    with residents.lanes.busy(), clock.measuring("open"):
        shape = grid_shape(read.given)
        admission = residents.admit(ready.resident, shape, request.peaks, held + ready.held)
        provenance = _provenance(request, admission.model, drawn)
    usage = _usage(admission, provenance, residents, read.given, clock)
    admitted(usage, admission.spare)

    enter("model", admission.model.manifest.time_limit_s)
    context = Context(headers=read.headers, settings=request.settings, memory=admission.memory, drawn=drawn)
    before = residents.lanes.disturbances
    with (
        residents.lanes.busy(),
        clock.measuring("model"),
        noting_rungs() as lowered,
        Watch(residents.device) as watch,
    ):
        alone = residents.lanes.quiet
        try:
            findings = admission.model.run(read.given, context)
        except StudyError as unsuitable:
            findings = refused(str(unsuitable))
    measured = _measured(usage, watch, lowered, alone=alone and residents.lanes.disturbances == before)
    findings = _with_cautions(findings, read)
    return ToFinish(request, provenance, read.source, read.inputs, findings, measured, clock)


def _drawn(ready: ToCompute, read: Usable, residents: Residents, enter: Enter, held: int) -> Drawn | None:
    """What another model draws for this one; None where the rule names no other."""
    request = ready.request
    if (other := who_draws(request, ready.resident.model, residents)) is None:
        return None
    enter("model", other.model.manifest.time_limit_s)
    with residents.lanes.busy():
        model, findings = draw(other, request, read, residents, held + ready.held)
    return drawn_of(model, findings, request)


def finish(computed: ToFinish, residents: Residents, enter: Enter = _tell_nobody) -> RunReply:
    """The third step: what the model said is encoded, written, read back and compared."""
    request, source, clock = computed.request, computed.source, computed.clock
    findings = computed.findings
    if request.shortfall is not None:
        findings = replace(findings, cautions=(request.shortfall.said, *findings.cautions))
    run = Run(
        provenance=computed.provenance,
        series=Uid.parse(str(source.first.SeriesInstanceUID)),
        inputs=computed.inputs,
        at=datetime.fromtimestamp(request.at, ZoneInfo(request.time_zone)),
        software_version=software_version(),
        shortfall=request.shortfall,
        again=request.again,
        image=_lone_image(source),
    )
    with residents.lanes.busy():
        enter("encode", None)
        with clock.measuring("encode"):
            # Whether the images can be shown is said in all plans or in none: so they share what they can.
            everything = frozenset[Role]().union(*(plan.profile.kinds for plan in request.plans))
            whole = Asked(
                findings=findings,
                source=source,
                run=run,
                profile=replace(request.plans[0].profile, kinds=everything),
            )
            whole = with_pictures(whole, request)
            asked = [
                replace(whole, run=replace(run, predecessor=plan.predecessor), profile=plan.profile)
                for plan in request.plans
            ]
            plans = encode(asked, Path(request.out))
        enter("check", None)
        with clock.measuring("check"):
            for one, made in zip(asked, plans, strict=True):
                check(one, made)
    return RunReply(
        outcome=findings.outcome,
        because=findings.because,
        model_identity=computed.provenance.identity,
        trust=computed.provenance.trust,
        files=tuple(for_whom(request.plans, plans)),
        timings=clock.seconds,
        findings=tuple(summary(findings, source)),
        lines=tuple(sentences(findings, source)),
        cautions=whole.findings.cautions,
        usage=computed.usage and clock.told(computed.usage),
    )


def for_whom(plans: Sequence[Plan], made: Sequence[Sequence[ResultFile]]) -> Iterator[ResultFile]:
    """Every file once, with the destinations of all plans that have it."""
    files = {file.path: file for of_plan in made for file in of_plan}
    for path, file in files.items():
        theirs = [plan.peers for plan, of_plan in zip(plans, made, strict=True) if file in of_plan]
        named = [peer for peers in theirs for peer in peers or ()]
        yield file if None in theirs else file.model_copy(update={"path": path, "peers": tuple(named)})


def given_bytes(given: Given) -> int:
    """What the voxels take of the host."""
    match given:
        case SeriesSet():
            return sum(volume.array.nbytes for volume in given.volumes.values())
        case Timeline():
            return given.current.array.nbytes + sum(one.volume.array.nbytes for one in given.earlier)
    return int(given.array.nbytes)


def _usage(
    admission: Admission, provenance: Provenance, residents: Residents, given: Given, clock: "Stopwatch"
) -> Usage:
    slices, rows, columns = grid_shape(given)
    return clock.told(
        Usage(
            model=provenance.identity,
            device=residents.device_name,
            voxels=slices * rows * columns,
            host_weights=admission.weights.host,
            device_weights=admission.weights.device,
            host_allowed=admission.memory.host,
            device_allowed=admission.memory.device,
            resident=admission.resident,
        )
    )


def _measured(usage: Usage, watch: Watch, lowered: Sequence[str], *, alone: bool) -> Usage:
    peak = watch.peak
    return replace(usage, host_peak=peak.host, device_peak=peak.device, lowered=tuple(lowered), alone=alone)


def _provenance(request: RunRequest, model: Model, drawn: Drawn | None = None) -> Provenance:
    settings = dict(_said_settings(request))
    if drawn is not None:  # Another build of the other model makes other results.
        settings[model.manifest.drawn_by] = f"{drawn.identity} {drawn.digest}"
    return provenance_of(model, settings, trust_in(model, request.models))


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


@dataclass(slots=True)
class Stopwatch:
    """Seconds by stage, and when each began; what passes between two stages is waiting."""

    seconds: dict[str, float] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    _ended: float | None = None

    @contextmanager
    def measuring(self, stage: Stage) -> Iterator[None]:
        began = time.perf_counter()
        if self._ended is not None and stage in ("open", "encode"):
            self.seconds["wait"] = round(self.seconds.get("wait", 0.0) + began - self._ended, 4)
        self.began[stage] = round(time.time(), 4)
        try:
            yield
        finally:
            self._ended = time.perf_counter()
            self.seconds[stage] = round(self._ended - began, 4)

    def told(self, usage: Usage) -> Usage:
        """`usage` with the seconds so far."""
        return replace(usage, seconds=dict(self.seconds), began=dict(self.began))

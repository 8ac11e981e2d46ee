"""
What runs took of time and memory, and which worker keeps which model: measured, never guessed twice.

None of it moves a job. Losing all of it costs a few runs that are judged by their model's own estimate again,
and a few models that are loaded once more.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ledger.identifiers import JobId

#: A peak is the largest of so many latest runs: one strange series is forgotten after as many ordinary ones.
LATELY = 20
#: Of what a run was allowed when memory ran out, the next one is allowed this share: so it starts lower.
AFTER_RUNNING_OUT = 0.6
#: For so long. Whoever is refused because of it leaves no usage that could outnumber it.
RAN_OUT_LATELY_S = 3600.0


def size_class(voxels: int) -> int:
    """Inputs of one class differ by a factor of at most √2 in size: 2^((c - 1) / 2) < voxels ≤ 2^(c / 2)."""
    return math.ceil(2 * math.log2(voxels)) if voxels > 1 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one run took. Sizes are bytes; on a CPU all of them are of the host."""

    model: str  #: identity, `name@version`
    device: str  #: "cpu", or what the GPU calls itself
    voxels: int  #: of what the model was given
    seconds: Mapping[str, float] = field(default_factory=dict)  #: by stage: queue, load, wait, open, model, …
    began: Mapping[str, float] = field(default_factory=dict)  #: by stage: seconds since 1970 UTC
    host_peak: int = 0  #: above what was taken when the model began
    device_peak: int = 0
    host_weights: int = 0
    device_weights: int = 0
    host_allowed: int = 0  #: what the run was told that it may take
    device_allowed: int = 0
    resident: bool = False  #: the model was loaded already
    alone: bool = True  #: nothing else was read or encoded meanwhile, so the host's peak is its own
    lowered: tuple[str, ...] = ()  #: what was given up to fit: the rungs of the ladder that were taken
    out_of_memory: bool = False  #: memory ran out: the peak of what did is what was allowed, the other is 0


def ran_out(used: Usage, *, of_device: bool) -> Usage:
    """The usage of a run that ended because the device's memory ran out, or else the host's."""
    return replace(
        used,
        out_of_memory=True,
        host_peak=0 if of_device else used.host_allowed,
        device_peak=used.device_allowed if of_device else 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """A usage as the ledger keeps it."""

    job_id: JobId
    at: float
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """What a model is known to take of a device for inputs of one size class."""

    model: str
    device: str
    size_class: int
    runs: int  #: that it is the largest of
    host: int
    device_bytes: int
    #: It ran out of this memory lately, so it is allowed no more than this; None: it did not.
    host_ceiling: int | None = None
    device_ceiling: int | None = None


def peaks(latest_first: Iterable[Usage]) -> list[Peak]:
    """What these runs show, by model, device and size class.

    Runs that were alone count before those whose host's peak holds a neighbour's share as well. The latest
    run that ran out of a memory sets a ceiling for that one, until `LATELY` others came after it.
    """
    alike: dict[tuple[str, str, int], list[Usage]] = {}
    for one in latest_first:
        kept = alike.setdefault((one.model, one.device, size_class(one.voxels)), [])
        if len(kept) < LATELY:
            kept.append(one)
    return [_peak(*key, kept) for key, kept in alike.items()]


def _peak(model: str, device: str, of_class: int, runs: Sequence[Usage]) -> Peak:
    done = [one for one in runs if not one.out_of_memory]
    trusted = [one for one in done if one.alone] or done
    out = [one for one in runs if one.out_of_memory]
    return Peak(
        model=model,
        device=device,
        size_class=of_class,
        runs=len(done),
        host=max((one.host_peak for one in trusted), default=0),
        device_bytes=max((one.device_peak for one in done), default=0),
        host_ceiling=_ceiling(one.host_allowed for one in out if one.host_peak),
        device_ceiling=_ceiling(one.device_allowed for one in out if one.device_peak),
    )


def _ceiling(allowed: Iterable[int]) -> int | None:
    latest = next(iter(allowed), None)
    return None if latest is None else int(latest * AFTER_RUNNING_OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """How one model does on one device: of its latest runs."""

    model: str
    device: str
    runs: int
    resident: int  #: of them found the model loaded
    ran_out: int  #: of them ended because memory ran out
    median_s: Mapping[str, float]  #: by stage
    p95_s: Mapping[str, float]
    host_peak: int
    device_peak: int


def figures(usages: Iterable[Usage]) -> list[ModelFigures]:
    """By model and device, in the order of their names."""
    alike: dict[tuple[str, str], list[Usage]] = {}
    for one in usages:
        alike.setdefault((one.model, one.device), []).append(one)
    return [_figures(*key, alike[key]) for key in sorted(alike)]


def _figures(model: str, device: str, runs: Sequence[Usage]) -> ModelFigures:
    stages: dict[str, list[float]] = {}
    for one in runs:
        for stage, seconds in one.seconds.items():
            stages.setdefault(stage, []).append(seconds)
    return ModelFigures(
        model=model,
        device=device,
        runs=len(runs),
        resident=sum(one.resident for one in runs),
        ran_out=sum(one.out_of_memory for one in runs),
        median_s={stage: statistics.median(found) for stage, found in stages.items()},
        p95_s={stage: _p95(found) for stage, found in stages.items()},
        host_peak=max(one.host_peak for one in runs),
        device_peak=max(one.device_peak for one in runs),
    )


def _p95(values: Sequence[float]) -> float:
    """The smallest value that 95 of 100 do not exceed (nearest rank)."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A job in a worker's hands, and how far it is."""

    job_id: JobId
    stage: str  #: load, ready, open, model, computed, encode, check; empty: not begun
    since: float  #: when it entered that stage, by the worker's clock: seconds since 1970 UTC
    part: float | None = None  #: done of its model so far, 0 … 1; None: the model does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What a GPU says of itself. None: it does not tell."""

    used_bytes: int | None = None  #: of its memory, by whoever uses it
    total_bytes: int | None = None
    temperature_c: float | None = None
    busy_percent: float | None = None  #: of the last moment, in which something computed


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What a worker says of itself, for others to be considerate."""

    owner: str
    device: str = ""  #: what it computes on; empty until its child has told
    models: tuple[str, ...] = ()  #: that it keeps loaded, as the rules name them
    idle: bool = False  #: it would take a job at once
    budget_bytes: int = 0  #: that models and runs may take together
    taken_bytes: int = 0  #: by the models that it keeps
    works: tuple[Work, ...] = ()  #: what it has in hand, the first taken first
    gauges: Gauges | None = None  #: of its GPU; None: it has none, or none that tells


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker as the ledger knows it."""

    report: WorkerReport
    since: float
    seen_at: float

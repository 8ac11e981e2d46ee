"""How models are served: what each worker keeps loaded, how long runs take, and how much memory."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from console.tables import STAGES, duration, listed, plain_table, size
from ledger.usage import ModelFigures, UsageRecord, WorkerRecord, WorkerReport

#: A worker that was not seen for so long is no longer there.
FRESH_S = 60.0
#: Figures are of runs of the last day.
LATELY_S = 86400.0


def serving(workers: Sequence[WorkerRecord], models: Sequence[ModelFigures]) -> RenderableType:
    """Two tables for a terminal; nothing where there is nothing to say."""
    parts = [_workers(workers)] if workers else []
    parts += [_models(models)] if models else []
    return Group(*(Padding(part, (0, 0, 1, 2)) for part in parts))


def _workers(workers: Sequence[WorkerRecord]) -> RenderableType:
    table = plain_table("Worker", "Computes on", "Does", "Keeps loaded", "Memory")
    for one in workers:
        report = one.report
        table.add_row(
            report.owner,
            report.device or Text("starting", "dim"),
            _does(report),
            listed([name for name in report.models if "@" in name], "no model"),
            f"{size(report.taken_bytes)} of {size(report.budget_bytes)}",
        )
    return table


def _does(report: WorkerReport) -> RenderableType:
    """What it has in hand, and how far it is with it."""
    if not report.works:
        return Text("nothing", "dim") if report.idle else "works"
    return ", ".join(
        f"job {one.job_id} {one.stage}" + (f" {one.part:.0%}" if one.part is not None else "")
        for one in report.works
    )


def _models(models: Sequence[ModelFigures]) -> RenderableType:
    table = plain_table(
        "Model, last 24 h", "On", "Runs", *(stage.capitalize() for stage in STAGES), "Peak", "Was loaded"
    )
    for one in models:
        peak = one.device_peak or one.host_peak
        table.add_row(
            one.model,
            one.device,
            f"{one.runs}" + (f", {one.ran_out} out of memory" if one.ran_out else ""),
            *(_typical(one, stage) for stage in STAGES),
            size(peak),
            f"{100 * one.resident // one.runs} %",
        )
    table.caption = "Median, and what 95 of 100 runs do not exceed."
    table.caption_justify = "left"
    return table


def _typical(one: ModelFigures, stage: str) -> RenderableType:
    if stage not in one.median_s:
        return ""
    return Text.assemble(duration(one.median_s[stage]), (f"  {duration(one.p95_s[stage])}", "dim"))


def serving_values(workers: Sequence[WorkerRecord], models: Sequence[ModelFigures]) -> dict[str, object]:
    """The same for programs."""
    return {
        "workers": [
            {
                **asdict(one.report),
                "models": list(one.report.models),
                "since": one.since,
                "seen_at": one.seen_at,
            }
            for one in workers
        ],
        "models": [asdict(one) for one in models],
    }


def memory_words(usages: Sequence[UsageRecord]) -> str | None:
    """What the latest run of a job took of memory, in a line."""
    if not usages:
        return None
    used = usages[-1].usage
    if used.out_of_memory:
        return f"ran out, although it was allowed {_sizes(used.device_allowed, used.host_allowed)}"
    parts = [f"{_sizes(used.device_peak, used.host_peak)} on {used.device}"]
    parts += [f"beside {_sizes(used.device_weights, used.host_weights)} of weights"]
    parts += ["which were loaded already" if used.resident else "which were loaded for it"]
    if used.lowered:
        parts.append(f"memory was short: {listed(used.lowered)}")
    return ", ".join(parts)


def _sizes(device: int, host: int) -> str:
    return f"{size(device)} of the device and {size(host)} of the host" if device else size(host)

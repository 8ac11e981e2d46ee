"""How models are served, as an operator and a program see it."""

import json
from dataclasses import replace

from rich.console import Console

from console.serving import memory_words, serving, serving_values
from ledger.identifiers import JobId
from ledger.usage import Usage, UsageRecord, WorkerRecord, WorkerReport, figures

GIB = 1 << 30
USAGE = Usage(
    model="lung_ct@1.0.0",
    device="cpu",
    voxels=1000,
    seconds={"queue": 40.0, "load": 0.5, "model": 3.0},
    host_peak=2 * GIB,
    host_weights=GIB,
    host_allowed=5 * GIB,
)
WORKER = WorkerRecord(
    report=WorkerReport(
        owner="gpu-1/77", device="NVIDIA H100", models=("lung_ct", "lung_ct@1.0.0"), budget_bytes=60 * GIB,
        taken_bytes=3 * GIB,
    ),
    since=1.0,
    seen_at=2.0,
)  # fmt: skip


def printed(renderable) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def record(**what) -> UsageRecord:
    return UsageRecord(job_id=JobId(1), at=1.0, usage=replace(USAGE, **what))


def test_the_operator_sees_what_each_worker_keeps_and_what_models_take():
    shown = printed(serving([WORKER], figures([USAGE, replace(USAGE, resident=True, out_of_memory=True)])))
    for words in ("gpu-1/77", "NVIDIA H100", "works", "lung_ct@1.0.0", "3.0 GiB of 60 GiB", "2.0 GiB"):
        assert words in shown
    assert "2, 1 out of memory" in shown
    assert "50 %" in shown
    assert "3.0 s  3.0 s" in shown


def test_where_nothing_is_served_nothing_is_shown():
    assert printed(serving([], [])).strip() == ""


def test_programs_get_the_same():
    values = json.loads(json.dumps(serving_values([WORKER], figures([USAGE]))))
    assert values["workers"][0]["models"] == ["lung_ct", "lung_ct@1.0.0"]
    assert values["models"][0]["median_s"] == {"queue": 40.0, "load": 0.5, "model": 3.0}


def test_the_memory_of_a_job_is_one_line():
    assert memory_words([]) is None
    assert memory_words([record()]) == "2.0 GiB on cpu, beside 1.0 GiB of weights, which were loaded for it"
    lowered = memory_words([record(resident=True, lowered=("smaller batch", "streaming"))])
    assert lowered is not None
    assert lowered.endswith("which were loaded already, memory was short: smaller batch, streaming")
    assert memory_words([record(out_of_memory=True)]) == "ran out, although it was allowed 5.0 GiB"

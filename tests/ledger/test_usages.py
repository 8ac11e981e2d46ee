"""What runs took is kept with their jobs, and says what the next run will take."""

from dataclasses import replace

from sqlalchemy import update

from ledger.job import JobState, Outcome
from ledger.schema import usage as table
from ledger.store.ledger import Ledger
from ledger.usage import LATELY, RAN_OUT_LATELY_S, Usage, figures, peaks, ran_out, size_class
from tests.ledger.site import claim, pass_by, queued_job

GIB = 1 << 30
RUN = Usage(
    model="lung_ct@1.0.0",
    device="cpu",
    voxels=300 * 512 * 512,
    seconds={"load": 0.5, "model": 2.0},
    began={"load": 100.0, "model": 100.5},
    host_peak=GIB,
    host_weights=5 * GIB,  # More than 32 bits hold.
    host_allowed=10 * GIB,
    lowered=("smaller batch",),
)


def finish(ledger: Ledger, number: int, used: Usage):
    job_id = queued_job(ledger, f"1.2.{number}")
    held = claim(ledger, job_id)
    ledger.finish_job(
        held,
        outcome=Outcome.NOTHING,
        because="nothing there",
        model_identity=used.model,
        results=[],
        timings=used.seconds,
        used=used,
    )
    return job_id


def test_a_finished_job_has_its_usage_with_the_time_that_it_waited(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    pass_by(ledger, 0.05)
    held = claim(ledger, job_id)
    ledger.finish_job(
        held, outcome=Outcome.NOTHING, because="nothing there", model_identity=RUN.model, results=[],
        timings=RUN.seconds, used=RUN,
    )  # fmt: skip
    (kept,) = ledger.usages_of(job_id)

    assert 0.05 <= kept.usage.seconds["queue"] < 30
    assert replace(kept.usage, seconds=RUN.seconds) == RUN
    assert ledger.job(job_id).timings == kept.usage.seconds


def test_a_run_that_ran_out_of_memory_is_kept_although_its_job_goes_on(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    claim(ledger, job_id)
    ledger.record_usage(job_id, "lung_ct", replace(RUN, out_of_memory=True))

    assert ledger.job(job_id).state is JobState.RUNNING
    (peak,) = ledger.peaks("lung_ct")
    assert (peak.runs, peak.host_ceiling) == (0, int(6.0 * GIB))


def test_the_peak_of_a_size_class_is_the_largest_of_the_latest_runs(ledger: Ledger) -> None:
    for number, (peak, voxels) in enumerate([(3, 1000), (2, 1000), (1, 10), (9, 1000)]):
        finish(ledger, number, replace(RUN, host_peak=peak * GIB, voxels=voxels))
    found = {peak.size_class: peak for peak in ledger.peaks("lung_ct")}

    assert (found[size_class(1000)].host, found[size_class(1000)].runs) == (9 * GIB, 3)
    assert found[size_class(10)].host == GIB
    assert ledger.peaks("liver") == []


def test_inputs_of_one_size_class_are_alike_within_the_root_of_two() -> None:
    assert size_class(1) == size_class(0) == 0
    for voxels in (2, 1000, 300 * 512 * 512, 2**33):
        assert 2 ** ((size_class(voxels) - 1) / 2) < voxels <= 2 ** (size_class(voxels) / 2)
    assert size_class(2**20) + 2 == size_class(2**21)


def test_runs_that_were_alone_are_believed_before_those_with_a_neighbour() -> None:
    crowded, alone = replace(RUN, host_peak=7, alone=False), replace(RUN, host_peak=5)
    (peak,) = peaks([crowded, alone, crowded])
    assert peak.host == 5
    (peak,) = peaks([crowded])
    assert peak.host == 7


def test_one_strange_run_is_forgotten_after_enough_ordinary_ones() -> None:
    strange = replace(RUN, host_peak=99, out_of_memory=True)
    (peak,) = peaks([*[RUN] * (LATELY - 1), strange])
    assert peak.host_ceiling is not None
    (peak,) = peaks([*[RUN] * LATELY, strange])
    assert (peak.host, peak.host_ceiling) == (GIB, None)


def test_running_out_twice_lowers_the_ceiling_twice() -> None:
    first = replace(RUN, out_of_memory=True, host_allowed=1000)
    (peak,) = peaks([first])
    assert peak.host_ceiling == 600
    (peak,) = peaks([replace(first, host_allowed=600), first])
    assert peak.host_ceiling == 360


def test_what_ran_out_long_ago_is_allowed_again_although_nothing_ended_since(ledger: Ledger) -> None:
    job_id = queued_job(ledger)
    claim(ledger, job_id)
    ledger.record_usage(job_id, "lung_ct", ran_out(RUN, of_device=False))
    (lately,) = ledger.peaks("lung_ct")
    with ledger.write() as tx:
        tx.connection.execute(update(table).values(at=tx.now - RAN_OUT_LATELY_S))

    assert lately.host_ceiling == int(6.0 * GIB)
    assert ledger.peaks("lung_ct") == []
    (kept,) = ledger.usages_of(job_id)
    assert kept.usage.out_of_memory


def test_a_gpu_whose_memory_ran_out_lowers_nothing_of_the_hosts_and_the_other_way_round() -> None:
    on_gpu = replace(RUN, device="NVIDIA", host_allowed=1000, device_allowed=500)
    of_device, of_host = ran_out(on_gpu, of_device=True), ran_out(on_gpu, of_device=False)

    (peak,) = peaks([of_device, on_gpu])
    assert (peak.host_ceiling, peak.device_ceiling) == (None, 300)
    (peak,) = peaks([of_host, on_gpu])
    assert (peak.host_ceiling, peak.device_ceiling) == (600, None)
    (peak,) = peaks([of_device, of_host, on_gpu])
    assert (peak.host_ceiling, peak.device_ceiling) == (600, 300)


def test_figures_are_by_model_and_device_with_median_and_95th_percentile(ledger: Ledger) -> None:
    for number in range(20):
        seconds = {"model": float(number + 1)}
        finish(ledger, number, replace(RUN, seconds=seconds, resident=number > 0))
    finish(ledger, 20, replace(RUN, device="NVIDIA", device_peak=4 * GIB))
    gpu, cpu = ledger.model_figures()

    assert (cpu.device, cpu.runs, cpu.resident, cpu.ran_out) == ("cpu", 20, 19, 0)
    assert (cpu.median_s["model"], cpu.p95_s["model"]) == (10.5, 19.0)
    assert cpu.p95_s["queue"] >= cpu.median_s["queue"] >= 0
    assert (gpu.device, gpu.device_peak) == ("NVIDIA", 4 * GIB)
    assert ledger.model_figures(since=ledger.now() + 60) == []
    assert figures([]) == []

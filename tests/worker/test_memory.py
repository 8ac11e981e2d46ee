"""How much memory there is, and how much a run took."""

import subprocess
import sys
from pathlib import Path

from tests.patience import patient
from worker.memory import Lanes, budget_of, host_free

MIB = 1 << 20
ROOT = Path(__file__).parents[2]


def machine(root, *, available_kb: int, **cgroup: str):
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {available_kb} kB\n")
    folder = root / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    for name, text in cgroup.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_container_the_machines_free_memory_counts(tmp_path):
    assert host_free(machine(tmp_path, available_kb=2048)) == 2 * MIB


def test_a_containers_limit_counts_where_it_leaves_less(tmp_path):
    root = machine(
        tmp_path, available_kb=1 << 30,
        memory_dot_max=f"{100 * MIB}\n", memory_dot_current=f"{70 * MIB}\n",
        memory_dot_stat=f"anon 1\ninactive_file {20 * MIB}\n",
    )  # fmt: skip
    # What is only cached would be given back.
    assert host_free(root) == 50 * MIB


def test_an_older_kernels_limit_counts_too(tmp_path):
    root = machine(
        tmp_path, available_kb=1 << 30,
        memory__memory_dot_limit_in_bytes=f"{100 * MIB}", memory__memory_dot_usage_in_bytes=f"{70 * MIB}",
        memory__memory_dot_stat=f"total_inactive_file {5 * MIB}\n",
    )  # fmt: skip
    assert host_free(root) == 35 * MIB


def test_a_container_without_a_limit_is_none(tmp_path):
    root = machine(
        tmp_path, available_kb=4096, memory_dot_max="max\n", memory_dot_current="1\n", memory_dot_stat="\n"
    )
    assert host_free(root) == 4 * MIB


def test_this_machine_has_memory_and_the_budget_is_a_share_of_it_less_a_reserve():
    half = budget_of("cpu", share=0.5, reserve_mib=16, limit_mib=None)
    assert 0 < half.host < host_free()
    assert (half.on_device, half.on_gpu) == (0, False)
    assert budget_of("cpu", share=0.5, reserve_mib=1 << 30, limit_mib=None).host == 0
    assert budget_of("cpu", share=0.5, reserve_mib=16, limit_mib=77).host == 77 * MIB


#: In a process of its own: garbage of other tests, given back meanwhile, would hide what was taken.
_RUN = f"""
from threading import Event

import numpy as np

from worker.memory import Watch

with Watch("cpu") as watch:
    taken = np.ones({192 * MIB}, np.uint8)
    pause = Event()
    while watch.peak.host < {96 * MIB}:
        pause.wait(0.005)
    del taken
print(watch.peak.host, watch.peak.device)
"""


def test_the_peak_is_what_a_run_took_although_it_gave_it_back():
    run = subprocess.run(
        [sys.executable, "-c", _RUN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patient(30),
        check=True,
    )
    host, device = map(int, run.stdout.split())
    assert 96 * MIB <= host < 400 * MIB
    assert device == 0


def test_lanes_know_whether_anybody_was_beside_them():
    lanes = Lanes()
    with lanes.busy():
        assert lanes.quiet
        before = lanes.disturbances
        with lanes.busy():
            assert not lanes.quiet
        assert lanes.quiet
        assert lanes.disturbances == before + 1

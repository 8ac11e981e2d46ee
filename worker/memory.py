"""
How much memory there is, how much of it models and runs may take, and how much a run took.

On a GPU torch's own allocator counts to the byte. On a CPU everything is the memory of the process, looked at
every few milliseconds: what lives for less than that is missed, and what others do meanwhile is counted.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from models.contract import Memory

_MIB = 1 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LOOK_S = 0.005
NOTHING = Memory(host=0, device=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the models that stay loaded and the runs may take together."""

    device: str  #: "cpu" or "cuda:0"
    host: int
    on_device: int  #: of the GPU; 0 on a CPU, where all is of the host

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def folded(self, memory: Memory) -> Memory:
        """`memory` as this budget counts it: on a CPU what would be the device's is the host's."""
        return memory if self.on_gpu else Memory(host=memory.host + memory.device, device=0)

    def holds(self, memory: Memory) -> bool:
        return memory.host <= self.host and memory.device <= self.on_device


def budget_of(device: str, *, share: float, reserve_mib: int, limit_mib: int | None) -> Budget:
    """`share` of what is free now, less a reserve; `limit_mib`, where it is given, is the limit of what the
    device may give (the GPU's memory, or on a CPU the host's) and counts instead.
    """

    def of(free: int) -> int:
        return max(0, int(free * share) - reserve_mib * _MIB)

    limit = None if limit_mib is None else limit_mib * _MIB
    host = of(host_free())
    if device == "cpu":
        return Budget(device=device, host=host if limit is None else limit, on_device=0)
    free, _ = torch.cuda.mem_get_info(device)
    return Budget(device=device, host=host, on_device=of(free) if limit is None else limit)


def device_name(device: str) -> str:
    """What the device calls itself, or "cpu": peaks on one kind of device say nothing of another."""
    return device if device == "cpu" else torch.cuda.get_device_name(device)


def gpu_uuid(device: str) -> str:
    """The UUID of the GPU, by which its driver knows it; empty on a CPU, and where torch does not tell."""
    if device == "cpu":
        return ""
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))


def host_free(root: Path = Path("/")) -> int:
    """What could be taken of the host without anything being swapped: of the machine, or of our cgroup where
    that is less.
    """
    meminfo = (root / "proc/meminfo").read_text()
    found = re.search(r"^MemAvailable:\s+([0-9]+) kB", meminfo, re.MULTILINE)
    free = int(found[1]) * 1024 if found else 0
    of_cgroup = _cgroup_free(root / "sys/fs/cgroup")
    return free if of_cgroup is None else min(free, of_cgroup)


def _cgroup_free(cgroup: Path) -> int | None:
    """What a container's limit leaves; None where there is no limit. Version 2, then version 1."""
    for limit, current, folder in (
        ("memory.max", "memory.current", cgroup),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", cgroup / "memory"),
    ):
        try:
            most, taken = (folder / limit).read_text().strip(), int((folder / current).read_text())
            stat = (folder / "memory.stat").read_text()
        except (OSError, ValueError):
            continue
        if not most.isdigit() or int(most) >= 1 << 60:
            return None
        cached = re.search(r"^(?:total_)?inactive_file ([0-9]+)$", stat, re.MULTILINE)
        return max(0, int(most) - taken + (int(cached[1]) if cached else 0))
    return None


def host_taken() -> int:
    """The bytes of this process that lie in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def device_taken(device: str) -> int:
    """The bytes of the GPU that tensors of this process hold now."""
    return 0 if device == "cpu" else torch.cuda.memory_allocated(device)


class Watch:
    """The most that the process takes above what it had when the `with` block began."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._before = NOTHING
        self._most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory watch", daemon=True)

    def __enter__(self) -> Self:
        self._before = Memory(host_taken(), device_taken(self._device))
        self._most = self._before.host
        if self._device != "cpu":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._most = max(self._most, host_taken())

    @property
    def peak(self) -> Memory:
        """So far; of a GPU what the block took at most, once it has ended."""
        on_device = 0
        if self._device != "cpu":
            on_device = torch.cuda.max_memory_allocated(self._device) - self._before.device
        return Memory(host=max(0, self._most - self._before.host), device=max(0, on_device))

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._most = max(self._most, host_taken())


class Lanes:
    """Counts what is going on in this process, so that a peak is known to be somebody's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._disturbances = 0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something is read, computed or encoded."""
        with self._lock:
            self._busy += 1
            self._disturbances += self._busy > 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    @property
    def disturbances(self) -> int:
        """How often something began beside something else."""
        return self._disturbances

    @property
    def quiet(self) -> bool:
        """Whether at most one thing is going on."""
        return self._busy <= 1

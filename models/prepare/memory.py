"""
How much memory a piece of work took at its peak: for what is kept of every run, and for admission by it.

On the host it is resident memory of this process, as the kernel counts it; so measure one piece of work at a
time. On a GPU it is what torch's allocator gave out, without the context of the driver.
"""

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from models.contract import Memory

Answer = TypeVar("Answer")

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_FORGET_PEAK = "5"  # proc(5): resets the peak resident set size


#: Only the GNU C library has it.
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)


def settle() -> None:
    """Give back to the kernel what nothing in this process uses any more.

    Else new work takes it again without being seen: it would seem to need nothing.
    """
    gc.collect()
    if _TRIM is not None:
        _TRIM(0)


def measured(work: Callable[[], Answer], device: str = "cpu") -> tuple[Answer, Memory]:
    """(what `work` gave, the peak of what was taken on top of what was held before), bytes.

    Where the kernel does not let a process forget its peak, the host's figure is how far the peak rose, which
    is too little after a larger run.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
    settle()
    forgotten = _forget_peak()
    before = resident() if forgotten else _peak()
    answer = work()
    host = max(0, _peak() - before)
    if not on_gpu:
        return answer, Memory(host=host, device=0)
    torch.cuda.synchronize(device)
    return answer, Memory(host=host, device=torch.cuda.max_memory_allocated(device) - held)


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return _status("VmRSS") or _peak()


def _forget_peak() -> bool:
    try:
        _CLEAR.write_text(_FORGET_PEAK)
    except OSError:
        return False
    return True


def _peak() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(field: str) -> int:
    """A size of /proc/self/status in bytes; 0 where there is none."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0

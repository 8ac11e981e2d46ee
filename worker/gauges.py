"""
What a GPU says of itself: memory, temperature, how busy it is. Asked of NVIDIA's library NVML, which comes
with the driver, so that the process that watches needs no torch and starts no program.

A thread of its own asks, for a driver in trouble may take its time. What a GPU does not tell is None, never
0; without NVML, on a CPU, and on other makers' devices there are no gauges at all.

The structures and numbers are those of `nvml.h` (NVIDIA Management Library API Reference).
"""

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Self

import structlog

from ledger.usage import Gauges

log = structlog.get_logger()

_LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
_TEMPERATURE_GPU = 0
_EVERY_S = 2.0


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Nvml:
    """One GPU, by its UUID."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = library, handle

    @classmethod
    def open(cls, uuid: str, *, load: Callable[[str], Any] = ctypes.CDLL) -> Self | None:
        """The GPU whose UUID is `uuid`, with or without "GPU-"; None where there is no NVML, or it does not
        know the GPU.
        """
        try:
            library = load(_LIBRARY)
        except OSError:
            return None
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        handle = ctypes.c_void_p()
        if library.nvmlInit_v2() != _SUCCESS:
            return None
        if library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle)) != _SUCCESS:
            library.nvmlShutdown()
            return None
        return cls(library, handle)

    def read(self) -> Gauges:
        """What it says now."""
        memory, busy, celsius = _Memory(), _Utilization(), ctypes.c_uint()
        library, handle = self._library, self._handle
        has_memory = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == _SUCCESS
        has_busy = library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(busy)) == _SUCCESS
        warm = library.nvmlDeviceGetTemperature(handle, _TEMPERATURE_GPU, ctypes.byref(celsius)) == _SUCCESS
        return Gauges(
            used_bytes=int(memory.used) if has_memory else None,
            total_bytes=int(memory.total) if has_memory else None,
            temperature_c=float(celsius.value) if warm else None,
            busy_percent=float(busy.gpu) if has_busy else None,
        )

    def close(self) -> None:
        self._library.nvmlShutdown()


class GaugeReader:
    """Asks a GPU every two seconds, in a thread of its own, from the first `of` until `stop`."""

    def __init__(
        self, *, open_gpu: Callable[[str], Nvml | None] = Nvml.open, every_s: float = _EVERY_S
    ) -> None:
        self._open_gpu, self._every_s = open_gpu, every_s
        self._over = threading.Event()
        self._uuid = ""
        self._latest: Gauges | None = None
        self._thread: threading.Thread | None = None

    def of(self, uuid: str) -> Gauges | None:
        """What the GPU said last; None: nothing yet, or it tells nothing. Never waits for it."""
        if uuid and self._thread is None and not self._over.is_set():
            self._uuid = uuid
            self._thread = threading.Thread(target=self._ask, name="gauges", daemon=True)
            self._thread.start()
        return self._latest if uuid and uuid == self._uuid else None

    def stop(self) -> None:
        self._over.set()

    def _ask(self) -> None:
        gpu = self._open_gpu(self._uuid)
        if gpu is None:
            log.info("gauges.none", gpu=self._uuid)
            return
        try:
            while not self._over.is_set():
                self._latest = gpu.read()
                self._over.wait(self._every_s)
        finally:
            gpu.close()

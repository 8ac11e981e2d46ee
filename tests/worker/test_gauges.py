# The names are those of a C library:
# ruff: noqa: N802
"""What a GPU says of itself, through a library that answers as NVML does."""

import ctypes
import threading
from typing import Any

import pytest

from ledger.usage import Gauges
from tests.patience import patient
from tests.peers.loopback import until
from worker.gauges import GaugeReader, Nvml

UUID = "4e8f5a6b-0000-1111-2222-333344445555"
NOT_SUPPORTED = 3
NOT_FOUND = 6


class Library:
    """libnvidia-ml.so.1 of a host with one GPU; what is in `refused` it does not support there."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)
        self.open = 0
        self.asked = threading.Event()

    def nvmlInit_v2(self) -> int:
        self.open += 1
        return 0

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:
        handle._obj.value = 7
        return 0 if uuid == f"GPU-{UUID}".encode() else NOT_FOUND

    def nvmlDeviceGetMemoryInfo(self, handle: ctypes.c_void_p, memory: Any) -> int:
        assert handle.value == 7
        memory._obj.total, memory._obj.used = 80 << 30, 30 << 30
        return NOT_SUPPORTED if "memory" in self.refused else 0

    def nvmlDeviceGetUtilizationRates(self, handle: ctypes.c_void_p, rates: Any) -> int:
        rates._obj.gpu, rates._obj.memory = 93, 40
        return NOT_SUPPORTED if "busy" in self.refused else 0

    def nvmlDeviceGetTemperature(self, handle: ctypes.c_void_p, sensor: int, celsius: Any) -> int:
        assert sensor == 0
        celsius._obj.value = 61
        self.asked.set()
        return NOT_SUPPORTED if "temperature" in self.refused else 0


def gpu(library: Library, uuid: str = UUID) -> Nvml | None:
    return Nvml.open(uuid, load=lambda name: library)


def test_a_gpu_tells_memory_temperature_and_how_busy_it_is() -> None:
    opened = gpu(Library())
    assert opened is not None
    assert opened.read() == Gauges(
        used_bytes=30 << 30, total_bytes=80 << 30, temperature_c=61.0, busy_percent=93.0
    )


@pytest.mark.parametrize(
    ("refused", "unknown"),
    [
        ("memory", {"used_bytes", "total_bytes"}),
        ("busy", {"busy_percent"}),  # So a GPU in parts (MIG) answers.
        ("temperature", {"temperature_c"}),
    ],
)
def test_what_a_gpu_does_not_tell_is_unknown_and_never_nought(refused: str, unknown: set[str]) -> None:
    opened = gpu(Library(refused))
    assert opened is not None
    read = opened.read()
    assert {name for name in Gauges.__dataclass_fields__ if getattr(read, name) is None} == unknown


def test_without_the_library_or_with_another_gpu_there_are_no_gauges() -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert Nvml.open(UUID, load=missing) is None
    library = Library()
    assert gpu(library, "another") is None
    assert library.open == 0  # What was opened in vain was closed.


def test_a_cpu_is_not_asked_at_all() -> None:
    opened: list[str] = []
    reader = GaugeReader(open_gpu=opened.append)
    assert reader.of("") is None
    assert opened == []


def test_a_gpu_is_asked_beside_everything_else_and_no_more_once_it_is_over() -> None:
    library = Library()
    reader = GaugeReader(open_gpu=lambda uuid: gpu(library, uuid), every_s=0.01)
    reader.of(UUID)
    until(lambda: reader.of(UUID) is not None, within_s=10, what="the GPU has answered")
    read = reader.of(UUID)
    assert read is not None
    assert read.temperature_c == 61.0
    reader.stop()
    until(lambda: library.open == 0, within_s=10, what="the library is closed")
    library.asked.clear()
    assert not library.asked.wait(patient(0.05))

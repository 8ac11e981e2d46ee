"""
What is given up first when memory is short, and when to say no.

Each rung of `RUNGS` changes one thing of a plan. First come the rungs that change no answer (a smaller batch,
streaming), then one that hardly does (half precision), then what costs time (sums in host memory), then what
costs a little quality (no blending). Each is taken once the ones above it are used up, and none is taken
back, so a run ends after at most a dozen tries: with findings or with a refusal that says how much was
needed. There is no retry of the same plan.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch

from models.contract import Memory, OutOfMemory

Given = TypeVar("Given")
_noted: ContextVar[list[str] | None] = ContextVar("noted", default=None)


class OverLimit(MemoryError):
    """What a run would need is more than it may take; found by arithmetic, before anything was taken."""

    def __init__(self, need: Memory, limit: Memory) -> None:
        self.need, self.limit = need, limit
        super().__init__(f"it needs about {in_words(need)}, and {in_words(limit)} may be taken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a network is run over a volume. Everything here trades memory, time and the last digit."""

    batch: int = 4  #: windows that go through the network at once
    overlap: float = 0.5  #: of neighbouring windows, as a share of their length
    autocast: torch.dtype | None = None  #: of the network on a GPU; a CPU always computes in float32
    sums: torch.dtype = torch.float32  #: of the accumulators
    sums_on: Literal["device", "host"] = "device"
    streaming: bool = True  #: labels are final, and logits forgotten, as soon as the windows are past
    blending: bool = True  #: the weighted mean of all windows over a voxel; otherwise the most central one's
    channels_last: bool = False  #: memory format of what goes into the network
    limit: Memory | None = None  #: what a run may take; None: whatever there is
    lowered: tuple[str, ...] = ()  #: the names of the rungs that were taken, the first one first

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 <= self.overlap < 1:
            raise ValueError(f"no run has a batch of {self.batch} and an overlap of {self.overlap}")

    @classmethod
    def on(cls, device: str, *, batch: int = 4, overlap: float = 0.5, limit: Memory | None = None) -> "Plan":
        """What to try first on `device` ("cpu" or "cuda:0"): exact on a CPU, half precision within a GPU's
        network.
        """
        if device.startswith("cuda"):
            return cls(batch=batch, overlap=overlap, autocast=torch.float16, limit=limit)
        # There is no other memory to go to. One window at a time is as fast as several, and takes less.
        return cls(batch=1, overlap=overlap, sums_on="host", limit=limit)

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader has to know of how it was run: sentences for `Findings.cautions`."""
        return tuple(rung.caution for rung in RUNGS if rung.caution and rung.name in self.lowered)


@dataclass(frozen=True, slots=True)
class Rung:
    """One thing that can be given up, and what to tell the reader where it can change an answer."""

    name: str
    possible: Callable[[Plan], bool]
    lower: Callable[[Plan], Plan]
    caution: str = ""


RUNGS = (
    Rung("smaller batch", lambda plan: plan.batch > 1, lambda plan: replace(plan, batch=plan.batch // 2)),
    Rung("streaming", lambda plan: not plan.streaming, lambda plan: replace(plan, streaming=True)),
    Rung(
        "half precision",
        lambda plan: plan.sums != torch.float16,
        lambda plan: replace(plan, sums=torch.float16, autocast=plan.autocast or torch.float16),
    ),
    Rung(
        "sums in host memory",
        lambda plan: plan.sums_on == "device",
        lambda plan: replace(plan, sums_on="host"),
    ),
    Rung(
        "no blending",
        lambda plan: plan.blending,
        lambda plan: replace(plan, blending=False),
        "Memory was short: the parts of the volume were computed without blending them, so that borders "
        "where two parts meet can be less smooth.",
    ),
)


def climb(run: Callable[[Plan], Given], first: Plan) -> Given:
    """`run(first)`, or with the next plan down the ladder whenever memory runs out.

    `run` gets the plan, puts `plan.cautions` into its findings, and holds nothing on the device when it
    raises. Raises `OutOfMemory` when the last rung did not do either.
    """
    plan = first
    while True:
        try:
            given = run(plan)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            because = str(error).strip().split("\n")[0]
        else:
            if (noted := _noted.get()) is not None:
                noted.extend(plan.lowered)
            return given
        # Outside the except clause: there the error would hold the frames, and they the tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rung = next((rung for rung in RUNGS if rung.possible(plan)), None)
        if rung is None:
            tried = ", ".join(plan.lowered) or "no other way to run it"
            raise OutOfMemory(
                f"the model does not fit into the memory that there is, even with the least demanding way of "
                f"running it (tried: {tried}). The last try said: {because}. Give it a device with more "
                f"memory, run fewer jobs beside it, or send thicker slices."
            )
        lowered = rung.lower(plan)
        names = plan.lowered if rung.name in plan.lowered else (*plan.lowered, rung.name)
        plan = replace(lowered, lowered=names)


@contextmanager
def noting_rungs() -> Iterator[list[str]]:
    """A list to which `climb`, called by this thread within the block, adds the rungs that it had to take."""
    taken: list[str] = []
    token = _noted.set(taken)
    try:
        yield taken
    finally:
        _noted.reset(token)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, rather than that something is wrong."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU's allocator raises a plain RuntimeError, and so do cuDNN and cuBLAS for their workspaces.
    words = (
        "can't allocate memory",
        "out of memory",
        "CUDNN_STATUS_ALLOC_FAILED",
        "CUBLAS_STATUS_ALLOC_FAILED",
    )
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def in_words(memory: Memory) -> str:
    """Sizes for a reader: "3.1 GiB on the device and 0.4 GiB of the host"."""
    parts = [
        f"{_size(size)} {where}"
        for size, where in ((memory.device, "on the device"), (memory.host, "of the host"))
        if size
    ]
    return " and ".join(parts) or "nothing"


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"

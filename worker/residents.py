"""
The models that stay loaded from one run to the next, and who may run in the memory that is left.

Whoever wants to run is admitted by what was measured: the weights of all that is loaded, what the model is
known to take for an input of that size (or, the first time, what it says of itself), and the budget. The
model that was not used for longest makes place. What does not fit beside its own weights even alone is told
how much it may take, and goes down its ladder; what has no ladder is refused, before anything is tried. Where
memory ran out lately, a ladder begins further down; what has none could only be refused, so it may try again.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ledger.errors import SiteError
from ledger.usage import Peak, size_class
from models.contract import Memory, Model, OutOfMemory
from models.prepare.ladder import in_words, is_out_of_memory
from models.prepare.memory import settle
from models.registry import find, open_found, open_model
from models.settings import BUILT_IN_ONLY, ModelsSettings
from worker.memory import NOTHING, Budget, Lanes, budget_of, device_name, device_taken, host_taken

#: Runtimes that go down a ladder when they may take less than they would like (`models.prepare.ladder`).
_WITH_A_LADDER = {"monai_bundle", "nnunet", "torch_export", "torchscript", "onnx", "state_dict"}


@dataclass(slots=True)
class Resident:
    """A model that was opened, and is loaded or not."""

    key: str
    model: Model
    reopen: Callable[[], Model]
    names: set[str] = field(default_factory=set)  #: what rules call it
    loaded: bool = False
    spent: bool = False  #: it was unloaded: whoever waited to run it opens it again
    weights: Memory = NOTHING  #: measured when it was loaded; before that, what its files weigh

    @property
    def identity(self) -> str:
        return self.model.manifest.identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A model, loaded, and what its run may take."""

    model: Model
    memory: Memory
    weights: Memory
    resident: bool  #: it was loaded already
    spare: int  #: bytes of the host that the run, by all that is known, leaves for others


class Residents:
    """The models that stay loaded, all on one device, the latest used last.

    `open` may be called from any thread; `admit` and `unload_all` by the one that computes.
    """

    def __init__(self, device: str = "auto", *, budget: Budget | None = None) -> None:
        """Without a budget it is what a worker has by its default settings."""
        self.device = device_named(device)
        self.budget = budget or budget_of(self.device, share=0.8, reserve_mib=256, limit_mib=None)
        self.device_name = device_name(self.device)
        self.lanes = Lanes()
        self._lock = threading.Lock()
        self._models: dict[str, Resident] = {}

    def open(self, reference: str, *, allow_python: bool, models: ModelsSettings = BUILT_IN_ONLY) -> Resident:
        """The model, loaded or not. Raises `UnknownModel`, `NotTrusted` and `BrokenModel`."""
        # What a name means is looked up anew for every run: a newer version may be there by now.
        found = None if ":" in reference else find(reference, models)
        key = f"{found.key if found else reference} {allow_python}"

        def reopen() -> Model:
            if found is not None:
                return open_found(found, models)
            return open_model(reference, settings=models, allow_python=allow_python)

        with self._lock:
            resident = self._models.get(key)
            if resident is None:
                resident = Resident(key, reopen(), reopen)
                resident.weights = self._weight_of_files(resident.model)
                self._models[key] = resident
            resident.names |= {reference, resident.identity}
            return resident

    def admit(
        self, resident: Resident, shape: tuple[int, int, int], peaks: Sequence[Peak] = (), held: int = 0
    ) -> Admission:
        """Load the model if it is not, after as many others made place as must, and say what the run of it
        on a grid of `shape` may take. `held` bytes of the host are taken by what waits to be computed.

        Raises `OutOfMemory` where it cannot fit, and whatever its `load` raises.
        """
        with self._lock:  # The latest used comes last.
            self._models.pop(resident.key, None)
            self._models[resident.key] = resident
        if resident.spent:
            resident.model, resident.spent = resident.reopen(), False
        was_loaded = resident.loaded
        peak = self._peak(resident, shape, peaks)
        need = self._need(resident, shape, peak)
        weights = NOTHING if was_loaded else resident.weights
        while not self._fits(_sum(weights, need), held) and (oldest := self._oldest(resident)) is not None:
            self._unload(oldest)
        if not was_loaded:
            self._load(resident)
        allowed = self._left(held)
        if peak is not None and _has_ladder(resident):
            allowed = _lowered(allowed, peak)
        self._judge(resident, need, allowed)
        return Admission(
            model=resident.model,
            memory=allowed,
            weights=resident.weights,
            resident=was_loaded,
            spare=max(0, allowed.host - need.host),
        )

    @property
    def kept(self) -> tuple[str, ...]:
        """The models that are loaded, by all names that rules used for them."""
        with self._lock:
            return tuple(sorted(name for one in self._models.values() if one.loaded for name in one.names))

    @property
    def taken(self) -> Memory:
        """What the weights of the loaded models take."""
        with self._lock:
            return _sum(*(one.weights for one in self._models.values() if one.loaded))

    def unload_all(self) -> None:
        """Give all memory back."""
        while (oldest := self._oldest(None)) is not None:
            self._unload(oldest)

    def _peak(self, resident: Resident, shape: tuple[int, int, int], peaks: Sequence[Peak]) -> Peak | None:
        mine = (resident.identity, self.device_name, size_class(shape[0] * shape[1] * shape[2]))
        return next((one for one in peaks if (one.model, one.device, one.size_class) == mine), None)

    def _need(self, resident: Resident, shape: tuple[int, int, int], peak: Peak | None) -> Memory:
        if peak is not None and peak.runs:
            return self.budget.folded(Memory(host=peak.host, device=peak.device_bytes))
        return self.budget.folded(resident.model.estimate(shape))

    def _left(self, held: int) -> Memory:
        taken = self.taken
        return Memory(
            host=max(0, self.budget.host - taken.host - held),
            device=max(0, self.budget.on_device - taken.device),
        )

    def _fits(self, memory: Memory, held: int) -> bool:
        left = self._left(held)
        return memory.host <= left.host and memory.device <= left.device

    def _judge(self, resident: Resident, need: Memory, allowed: Memory) -> None:
        """Raise `OutOfMemory` where a try could only end badly."""
        on_device = allowed.device if self.budget.on_gpu else allowed.host
        if on_device > 0 and (
            _has_ladder(resident) or (need.host <= allowed.host and need.device <= allowed.device)
        ):
            return
        raise OutOfMemory(
            f"{resident.identity} needs about {in_words(need)} for this input beside its weights of "
            f"{in_words(resident.weights)}, and of {self.device_name} it may take {in_words(allowed)}: give "
            f"the worker more memory or a larger memory_mib, or send thicker slices."
        )

    def _oldest(self, but: Resident | None) -> Resident | None:
        with self._lock:
            return next((one for one in self._models.values() if one.loaded and one is not but), None)

    def _load(self, resident: Resident) -> None:
        try:
            self._load_measured(resident)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            short = str(error).split("\n")[0]
        else:
            return
        # What was measured may be out of date, and what others hold is not ours to know: once more, alone.
        while (oldest := self._oldest(resident)) is not None:
            self._unload(oldest)
        resident.model = resident.reopen()  # What was half loaded goes with its owner.
        self._give_back()
        try:
            self._load_measured(resident)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"the weights of {resident.identity} do not fit into the memory of {self.device_name} even "
                f"while no other model is loaded ({short})"
            ) from None

    def _load_measured(self, resident: Resident) -> None:
        settle()
        before, disturbances = Memory(host_taken(), device_taken(self.device)), self.lanes.disturbances
        resident.model.load(self.device)
        resident.loaded = True
        host, device = host_taken() - before.host, device_taken(self.device) - before.device
        of_files = self._weight_of_files(resident.model)
        if not self.lanes.quiet or self.lanes.disturbances != disturbances:
            host = 0  # Somebody else took or gave back meanwhile.
        if self.budget.on_gpu:
            resident.weights = Memory(host=max(0, host), device=max(device, 0))
        else:
            resident.weights = Memory(host=max(host, of_files.host), device=0)

    def _weight_of_files(self, model: Model) -> Memory:
        size = sum(fact.size for fact in model.manifest.files)
        return Memory(host=0, device=size) if self.budget.on_gpu else Memory(host=size, device=0)

    def _unload(self, resident: Resident) -> None:
        with self._lock:
            self._models.pop(resident.key, None)
        resident.loaded, resident.spent = False, True
        resident.model.unload()
        self._give_back()

    def _give_back(self) -> None:
        if self.budget.on_gpu:
            torch.cuda.empty_cache()


class NoSuchDevice(SiteError):
    """Jobs shall run on a device that this machine does not have, or cannot use."""


def device_named(name: str) -> str:
    """The device that `name` stands for: "auto" is the first GPU, or the CPU where there is none.

    Raises `NoSuchDevice`.
    """
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    device = {"auto": (gpus or ["cpu"])[0], "cuda": "cuda:0"}.get(name, name)
    if device not in ("cpu", *gpus):
        raise NoSuchDevice(
            f"there is no device {name!r} that could be used here, only {' and '.join(['cpu', *gpus])}"
        )
    return device


def _has_ladder(resident: Resident) -> bool:
    return resident.model.manifest.runtime in _WITH_A_LADDER


def _lowered(allowed: Memory, peak: Peak) -> Memory:
    """`allowed`, or less of what ran out lately."""
    return Memory(
        host=allowed.host if peak.host_ceiling is None else min(allowed.host, peak.host_ceiling),
        device=allowed.device if peak.device_ceiling is None else min(allowed.device, peak.device_ceiling),
    )


def _sum(*parts: Memory) -> Memory:
    return Memory(host=sum(one.host for one in parts), device=sum(one.device for one in parts))

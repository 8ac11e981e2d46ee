"""Models that take memory: known amounts of it, so that who may run is decided on true numbers."""

import os
from pathlib import Path

import highdicom as hd
import numpy as np

from models.contract import Context, Memory, OutOfMemory
from models.prepare.ladder import OverLimit, Plan, climb
from results.findings import Findings
from tests.worker.fault_models.models import Fine

MIB = 1 << 20


class Heavy(Fine):
    """Keeps weights of `weights_mib`, which are really taken, and takes `run_mib` while it runs."""

    weights_mib = 64
    run_mib = 32

    def load(self, device: str) -> None:
        self.weights = np.ones(self.weights_mib * MIB, np.uint8)

    def unload(self) -> None:
        del self.weights

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        return Memory(host=self.run_mib * MIB, device=0)

    def misbehave(self, context: Context) -> None:
        assert self.weights[-1] == 1  # It is loaded.
        np.ones(self.run_mib * MIB, np.uint8)


class Heavier(Heavy):
    weights_mib = 96


class Boundless(Heavy):
    """Would need more than any machine has, and knows it."""

    run_mib = 1 << 24


class Killed(Heavy):
    """Thinks that it needs little; then the kernel kills it, as it does where memory runs out."""

    weights_mib = 1
    run_mib = 1

    def misbehave(self, context: Context) -> None:
        assert context.memory is not None
        with Path(str(context.settings["allowed"])).open("a") as file:
            file.write(f"{context.memory.host}\n")
        os.kill(os.getpid(), 9)


class Deceived(Killed):
    """The same, with a ladder."""

    def __init__(self) -> None:
        super().__init__()
        self.manifest = self.manifest.model_copy(update={"runtime": "torch_export"})


class Cramped(Fine):
    """Has too little memory when it is tried first, and enough from then on."""

    def misbehave(self, context: Context) -> None:
        tried = Path(str(context.settings["tried"]))
        if not tried.exists():
            tried.touch()
            raise OutOfMemory("it needs 2 MiB more.")


class Climber(Heavy):
    """Can do with less: each rung of the ladder that shrinks its batch halves what it takes."""

    weights_mib = 1

    def __init__(self) -> None:
        super().__init__()
        self.manifest = self.manifest.model_copy(update={"runtime": "torch_export"})

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        return Memory(host=8 * 1024 * MIB, device=0)

    def run(self, volume: hd.Volume, context: Context) -> Findings:
        def run(plan: Plan) -> Findings:
            need = Memory(host=1024 * MIB * plan.batch, device=0)
            if plan.limit is not None and need.host > plan.limit.host:
                raise OverLimit(need, plan.limit)
            return super(Climber, self).run(volume, context)

        return climb(run, Plan(batch=8, limit=context.memory))

    def misbehave(self, context: Context) -> None:
        pass


class Incapable(Climber):
    """Has a ladder, and its last rung is still too high."""

    def run(self, volume: hd.Volume, context: Context) -> Findings:
        def run(plan: Plan) -> Findings:
            assert plan.limit is not None
            raise OverLimit(Memory(host=1024 * MIB, device=0), plan.limit)

        return climb(run, Plan(batch=2, limit=context.memory))

"""Small models: one that works, and one for each way in which a model can ruin a worker's day."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np

from ledger.errors import ModelError
from models.contract import Context, Memory, NotForThisModel
from models.manifest import Input, Manifest
from models.prepare.progress import tell
from results.findings import Concept, Findings, Measurement, Outcome, Segment

LITTLE_BODY_HU = -300


class Fine:
    """Finds the body: everything denser than LITTLE_BODY_HU."""

    time_limit_s = 60.0

    def __init__(self) -> None:
        self.folder = Path(__file__).parent
        self.weights_digest = None
        self.manifest = Manifest(
            name=type(self).__name__.lower(),
            version="1.0.0",
            title="Body",
            licence="Apache-2.0",
            intended_use="tests",
            limits=("finds the body and nothing else",),
            inputs=(Input(modality=("CT",), spacing_max_mm=50, minimum_slices=2),),
            time_limit_s=self.time_limit_s,
            memory_mib=64,
        )

    def load(self, device: str) -> None:
        self.device = device

    def run(self, volume: hd.Volume, context: Context) -> Findings:
        _told(context)
        self.misbehave(context)
        body = np.asarray(volume.array) > LITTLE_BODY_HU
        voxel_ml = float(np.prod(volume.spacing)) / 1000
        return Findings(
            outcome=Outcome.FOUND,
            label_map=body.astype(np.uint8),
            segments=(
                Segment(
                    number=1,
                    label="Body",
                    category=Concept("91723000", "SCT", "Anatomical Structure"),
                    kind=Concept("38266002", "SCT", "Entire body"),
                    colour_rgb=(200, 160, 120),
                    measurements=(
                        Measurement(
                            name=Concept("118565006", "SCT", "Volume"),
                            value=float(body.sum()) * voxel_ml,
                            unit=Concept("ml", "UCUM", "milliliter"),
                        ),
                    ),
                ),
            ),
        )

    def misbehave(self, context: Context) -> None:
        """What this one does wrong: nothing."""

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        return Memory(host=int(np.prod(shape)), device=0)

    def unload(self) -> None:
        pass


class Slow(Fine):
    """Takes `seconds`; where the setting `until` names a file, until that exists."""

    def misbehave(self, context: Context) -> None:
        gate = context.settings.get("until")
        clock = threading.Event()
        if gate:
            while not Path(str(gate)).exists():
                clock.wait(0.02)
        else:
            clock.wait(float(str(context.settings.get("seconds", 1))))


class Telling(Fine):
    """Says that it has done 3 of 4 pieces, until the file `until` exists."""

    def misbehave(self, context: Context) -> None:
        clock = threading.Event()
        while not Path(str(context.settings["until"])).exists():
            tell(3, 4)
            clock.wait(0.02)


class Poison(Fine):
    """Dies as a segmentation fault in a kernel does."""

    def misbehave(self, context: Context) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Hang(Fine):
    """Never comes back."""

    time_limit_s = 0.7

    def misbehave(self, context: Context) -> None:
        threading.Event().wait()


class Greedy(Fine):
    """Wants more memory than there is."""

    def misbehave(self, context: Context) -> None:
        raise MemoryError


class Careless(Fine):
    """Raises something with a patient's name in it."""

    def misbehave(self, context: Context) -> None:
        raise KeyError("ZZPHI^CANARY")


class Broken(Fine):
    """Knows that it misbehaved."""

    def misbehave(self, context: Context) -> None:
        raise ModelError("the weights do not fit the network")


class Picky(Fine):
    """Refuses every series."""

    def misbehave(self, context: Context) -> None:
        raise NotForThisModel("the lungs are not in the picture")


def _told(context: Context) -> None:
    """Leave a trace of the run, and of the process that ran it, where the setting `trace` says."""
    if trace := context.settings.get("trace"):
        with Path(str(trace)).open("a") as file:
            file.write(f"{os.getpid()}\n")


class Everything(Fine):
    """Finds something of every kind."""

    def run(self, volume: hd.Volume, context: Context) -> Findings:
        from tests.results.everything import BONE_AGES, boxes, maps, points, verdicts

        return replace(
            super().run(volume, context),
            boxes=boxes(),
            points=points(),
            verdicts=verdicts(),
            maps=maps(volume.spatial_shape),
            measurements=BONE_AGES,
        )

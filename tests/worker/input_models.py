"""Models of a site's own, one for each thing that a model can be given; they do what can be checked."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from models.comparing import compared, same_as
from models.contract import Context, Image, Memory, SeriesSet, Timeline
from models.manifest import Input, Manifest
from results.findings import Concept, Findings, Measurement, Outcome, Segment, Verdict

ANATOMY = Concept("91723000", "SCT", "Anatomical Structure")
BODY = Concept("38266002", "SCT", "Entire body")
QUANTITY, ONE = Concept("246205007", "SCT", "Quantity"), Concept("1", "UCUM", "no units")


def manifest(name: str, given: str, *inputs: Input) -> Manifest:
    return Manifest(
        name=name,
        version="1.0.0",
        title=name,
        licence="Apache-2.0",
        intended_use="tests",
        limits=("finds what is bright and nothing else",),
        given=given,
        inputs=inputs,
        time_limit_s=60.0,
        memory_mib=64,
    )


def bright(array: np.ndarray, told: float) -> Findings:
    return Findings(
        outcome=Outcome.FOUND,
        label_map=array.astype(np.uint8),
        segments=(
            Segment(
                number=1,
                label="Bright",
                category=ANATOMY,
                kind=BODY,
                colour_rgb=(200, 160, 120),
            ),
        ),
        measurements=(Measurement(name=QUANTITY, value=told, unit=ONE),),
    )


class _Anything:
    def __init__(self) -> None:
        self.folder, self.weights_digest = Path(__file__).parent, None

    def load(self, device: str) -> None:
        pass

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        return Memory(host=0, device=0)

    def unload(self) -> None:
        pass


class Subtraction(_Anything):
    """Two channels of MR on grids of their own: where `t1c` is bright. The number is the mean of `flair`."""

    manifest = manifest(
        "subtraction",
        "series",
        Input(name="t1c", modality=("MR",), contrast=True, minimum_slices=4),
        Input(name="flair", modality=("MR",), attributes={"SequenceVariant": "IR"}, minimum_slices=4),
    )

    def run(self, given: SeriesSet, context: Context) -> Findings:
        mean = float(np.asarray(given.volumes["flair"].array).mean())
        return bright(np.asarray(given.on_reference.array) > 500, mean)


class Growth(_Anything):
    """A volume with earlier ones: how many of those there are, and how many voxels were bright then and now.

    What is bright is what was bright the last time.
    """

    manifest = manifest("growth", "timeline", Input(modality=("CT",), minimum_slices=3))

    def run(self, given: Timeline, context: Context) -> Findings:
        said = bright(np.asarray(given.current.array) > 0, float(len(given.earlier)))
        now = float((given.current.array > 0).sum())
        changes = [
            compared(
                given,
                one,
                name=QUANTITY,
                unit=ONE,
                now=now,
                then=float((one.volume.array > 0).sum()),
                about="Bright",
                plane=1,
            )
            for one in given.earlier
        ]
        if not given.earlier:
            return said
        last = same_as(self.manifest, given.earlier[0], "Bright")
        return replace(
            said, segments=(replace(said.segments[0], tracked_as=last),), comparisons=tuple(changes)
        )


class Opacity(_Anything):
    """A radiograph: whether its mean is above the middle."""

    manifest = manifest("opacity", "image", Input(modality=("DX",), attributes={"ViewPosition": "^(PA|AP)$"}))

    def run(self, given: Image, context: Context) -> Findings:
        share = float(given.array.mean()) / 4095
        return Findings(
            outcome=Outcome.FOUND,
            verdicts=(
                Verdict(
                    label="Opacity",
                    finding=Concept("128477000", "SCT", "Abscess"),
                    present=share >= 0.5,
                    probability=share,
                    threshold=0.5,
                ),
            ),
        )

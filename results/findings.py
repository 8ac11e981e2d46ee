"""
What a model says, before anything is encoded.

A finding is one thing at one place, with a coded kind. Nothing here knows of DICOM data sets: the encoders
beside this file turn findings into SEG and SR, and `results.check` compares the two again.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ledger.job import Outcome


@dataclass(frozen=True, slots=True)
class Concept:
    """A coded concept (PS3.3 §8): e.g. (39607008, SCT, Lung). Units are concepts of scheme UCUM."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A quantity with its value and unit (PS3.16 TID 300). `value` is finite; an absent value is no
    measurement.
    """

    name: Concept
    value: float
    unit: Concept
    method: Concept | None = None
    derivation: Concept | None = None  #: CID 7464, e.g. (373098007, SCT, Mean)

    def __post_init__(self) -> None:
        if not np.isfinite(self.value):
            raise ValueError(
                f"{self.name.meaning} is {self.value}: leave a measurement out rather than say nothing"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One described region (PS3.3 §C.8.20.2); its voxels are those of the label map that equal `number`."""

    number: int  #: 1 … N without a gap
    label: str  #: plain and short, as a radiologist reads it
    category: Concept  #: CID 7150
    kind: Concept  #: segmented property type
    laterality: Concept | None = None  #: CID 244: (24028007, SCT, Right), (7771000, SCT, Left)
    colour_rgb: tuple[int, int, int]
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that one run of one model says of one series.

    `label_map` has the axes of the volume that the model was given, (slice, row, column), and holds 0 for
    background or a segment's number; it is None where there is nothing to draw. `because` is one sentence for
    the reader: why nothing was found or why the model refused. `cautions` are sentences that a reader must
    see next to the values (limits of the input, failed soft checks).
    """

    outcome: Outcome
    because: str = ""
    label_map: NDArray[np.uint8] | None = None
    segments: tuple[Segment, ...] = ()
    measurements: tuple[Measurement, ...] = ()  #: of the series as a whole, about no segment
    cautions: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)  #: seconds by stage

    def __post_init__(self) -> None:
        if [segment.number for segment in self.segments] != list(range(1, len(self.segments) + 1)):
            raise ValueError("segments are numbered 1, 2, … without a gap (PS3.3 §C.8.20.4)")
        if self.segments and self.label_map is None:
            raise ValueError("segments need a label map")
        if self.outcome is not Outcome.FOUND and not self.because:
            raise ValueError(f"a result of {self.outcome} says why")
        if self.outcome is Outcome.REFUSED and self.segments:
            raise ValueError("a refused result draws nothing")

    def mask(self, number: int) -> NDArray[np.bool_]:
        """The voxels of segment `number`: (slice, row, column)."""
        if self.label_map is None:
            raise ValueError("these findings have no label map")
        return np.asarray(self.label_map == number)


def refused(because: str, *cautions: str) -> Findings:
    """Findings that say: not analysed, and why."""
    return Findings(outcome=Outcome.REFUSED, because=because, cautions=cautions)

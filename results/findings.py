"""
What a model says, before anything is encoded.

A finding is one thing at one place, with a coded kind. Nothing here knows of DICOM data sets: the encoders
beside this file turn findings into SEG and SR, and `results.check` compares the two again.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ledger.identifiers import Uid
from ledger.job import Outcome


@dataclass(frozen=True, slots=True)
class Concept:
    """A coded concept (PS3.3 §8): e.g. (39607008, SCT, Lung). Units are concepts of scheme UCUM."""

    value: str
    scheme: str
    meaning: str


PRIVATE_SCHEME = "99WETREAD"  #: of the codes that are Wetread's own


@dataclass(frozen=True, slots=True, kw_only=True)
class CodingScheme:
    """Who answers for private codes, whose designators begin with 99 (PS3.3 §C.12.1.1.7, PS3.16 §8.2)."""

    designator: str
    name: str
    organization: str
    uid: Uid | None = None


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
    """One described region (PS3.3 §C.8.20.2); its voxels are those of its layer that equal `number`."""

    number: int  #: 1 … N without a gap
    label: str  #: plain and short, as a radiologist reads it
    category: Concept  #: CID 7150
    kind: Concept  #: segmented property type
    laterality: Concept | None = None  #: CID 244: (24028007, SCT, Right), (7771000, SCT, Left)
    colour_rgb: tuple[int, int, int]
    measurements: tuple[Measurement, ...] = ()
    layer: int = 0  #: of a label map with layers: segments of one layer do not overlap
    score: float | None = None  #: 0 … 1: how sure the model is that it is there

    def __post_init__(self) -> None:
        _expect_share(self.label, "score", self.score)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One thing that a model detected: a box with its score, along the axes of the grid.

    `low` and `high` are (slice, row, column) in voxels of the grid; voxel k reaches from k - ½ to k + ½.
    """

    label: str  #: as a radiologist reads it: "Nodule 1"
    kind: Concept  #: what it is
    site: Concept | None = None  #: where it is
    laterality: Concept | None = None
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    score: float  #: 0 … 1
    measurements: tuple[Measurement, ...] = ()

    def __post_init__(self) -> None:
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"{self.label}: a box reaches from low {self.low} to high {self.high}")
        _expect_share(self.label, "score", self.score)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One landmark, (slice, row, column) in voxels of the grid, whole numbers being centres of voxels."""

    label: str
    site: Concept
    at: tuple[float, float, float]
    score: float | None = None
    uncertainty_mm: float | None = None  #: one standard deviation

    def __post_init__(self) -> None:
        _expect_share(self.label, "score", self.score)
        if not np.isfinite([*self.at, self.uncertainty_mm or 0.0]).all():
            raise ValueError(f"{self.label}: a point is somewhere, or it is left out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a model says of the whole examination: a class with its probability."""

    label: str
    finding: Concept
    present: bool  #: its probability reached the threshold
    probability: float  #: 0 … 1
    threshold: float
    calibrated: bool = False  #: the probability was fitted to frequencies; otherwise it only orders
    site: Concept | None = None

    def __post_init__(self) -> None:
        _expect_share(self.label, "probability", self.probability)
        _expect_share(self.label, "threshold", self.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """One number for every voxel: a probability, an uncertainty, or what a decision came from."""

    label: str
    quantity: Concept
    unit: Concept
    values: NDArray[np.float32]  #: (slice, row, column), finite
    explains: str = ""  #: the label that it explains; then it is no finding but an explanation of one

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.dtype != np.float32:
            raise ValueError(f"{self.label}: a map is float32 (slice, row, column)")
        if not np.isfinite(self.values).all():
            raise ValueError(f"{self.label}: a map is finite everywhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that one run of one model says of one series.

    `label_map` has the axes of the grid that the model was given, (slice, row, column), and holds 0 for
    background or a segment's number; where segments overlap it is (layer, slice, row, column), and each
    segment names its layer. It is None where there is nothing to draw. `because` is one sentence for
    the reader: why nothing was found or why the model refused. `cautions` are sentences that a reader must
    see next to the values (limits of the input, failed soft checks).
    """

    outcome: Outcome
    because: str = ""
    label_map: NDArray[np.uint8] | NDArray[np.uint16] | None = None
    segments: tuple[Segment, ...] = ()
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    maps: tuple[HeatMap, ...] = ()
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
        says = (self.segments, self.boxes, self.points, self.verdicts, self.maps, self.measurements)
        if self.outcome is Outcome.REFUSED and any(says):
            raise ValueError("a refused result draws and says nothing")
        layers = len(self.layers)
        if any(not 0 <= segment.layer < layers for segment in self.segments):
            raise ValueError(f"a segment names a layer that the label map does not have: it has {layers}")

    @property
    def layers(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The label map as (layer, slice, row, column), whether or not it has layers; empty where there is
        none.
        """
        if self.label_map is None:
            return np.zeros((0, 0, 0, 0), np.uint8)
        return self.label_map if self.label_map.ndim == 4 else self.label_map[np.newaxis]

    def mask(self, number: int) -> NDArray[np.bool_]:
        """The voxels of segment `number`: (slice, row, column)."""
        if self.label_map is None:
            raise ValueError("these findings have no label map")
        return np.asarray(self.layers[self.segments[number - 1].layer] == number)


def _expect_share(label: str, what: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:  # Not a number is neither.
        raise ValueError(f"{label}: its {what} is {value}, which is not between 0 and 1")


def refused(because: str, *cautions: str) -> Findings:
    """Findings that say: not analysed, and why."""
    return Findings(outcome=Outcome.REFUSED, because=because, cautions=cautions)

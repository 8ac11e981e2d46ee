"""
What a model says, before anything is encoded.

A finding is one thing at one place, with a coded kind. Nothing here knows of DICOM data sets: the encoders
beside this file turn findings into SEG and SR, and `results.check` compares the two again.
"""

from dataclasses import dataclass, field
from datetime import date

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

_MORPHOLOGICALLY_ABNORMAL = ("49755003", "SCT")  # CID 7150
_RECOMMENDATION = Concept("121075", "DCM", "Recommendation")


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
    #: The Tracking UID that an earlier result gave this very thing, where the model matched the two.
    tracked_as: Uid | None = None

    def __post_init__(self) -> None:
        _expect_share(self.label, "score", self.score)

    @property
    def is_lesion(self) -> bool:
        """Whether it is something that should not be there, and is measured and marked one by one."""
        return (self.category.value, self.category.scheme) == _MORPHOLOGICALLY_ABNORMAL


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
    tracked_as: Uid | None = None  #: as of a segment

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
    unsure: bool = False  #: too near the threshold to be called present or absent

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
    of: str = ""  #: the label of the segment whose probability it is, if that is what it is

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.dtype != np.float32:
            raise ValueError(f"{self.label}: a map is float32 (slice, row, column)")
        if not np.isfinite(self.values).all():
            raise ValueError(f"{self.label}: a map is finite everywhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """A value on a scale that somebody published, or the model's own: "Nodule risk: category 4A".

    It stands in the report together with the numbers that it was derived from, so that a reader can follow.
    """

    label: str  #: as a radiologist reads it
    scale: Concept  #: which scale
    value: Concept  #: which of its values; the meaning is what is read
    inputs: tuple[Measurement, ...] = ()  #: the numbers that it was derived from
    about: tuple[str, ...] = ()  #: the labels of the findings that it was derived from
    site: Concept | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What a model proposes to do next. Nobody has agreed to it yet."""

    label: str  #: as a radiologist reads it
    text: str  #: one plain sentence
    kind: Concept = _RECOMMENDATION  #: e.g. (111053, DCM, Recommended Follow-up), or a private code
    code: Concept | None = None  #: the same in code
    interval: Measurement | None = None  #: (111055, DCM, Recommended Follow-up Interval), in mo, wk, a …
    due: date | None = None  #: (111054, DCM, Recommended Follow-up Date)
    inputs: tuple[Measurement, ...] = ()  #: the numbers that it was derived from
    about: tuple[str, ...] = ()  #: the labels of the findings (grades also) that it was derived from

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"{self.label}: a recommendation says in a sentence what is recommended")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """An earlier examination that something is compared with: its study, its series, and images of it."""

    acquired: date
    study: Uid
    series: Uid
    images: tuple[tuple[Uid, Uid], ...]  #: (SOP Class, SOP Instance) of those that show it; at least one

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("an earlier examination is named by one of its images at least")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One quantity now and then, of one finding or of the whole."""

    about: str = ""  #: the label of the segment, box or verdict; empty: of the whole
    name: Concept  #: what was measured both times
    unit: Concept
    now: float
    then: float
    prior: Prior
    acquired: date | None = None  #: when the images of now were made

    def __post_init__(self) -> None:
        if not np.isfinite([self.now, self.then]).all():
            raise ValueError(f"{self.name.meaning} is compared with nothing: leave the comparison out")

    @property
    def change_percent(self) -> float | None:
        """Of the earlier value; None where that is zero or negative, and has no share."""
        return 100.0 * (self.now - self.then) / self.then if self.then > 0 else None

    @property
    def days(self) -> int | None:
        """From then to now."""
        return None if self.acquired is None else (self.acquired - self.prior.acquired).days


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
    grades: tuple[Grade, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
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
        also = (self.grades, self.recommendations, self.comparisons)
        if self.outcome is Outcome.REFUSED and any((*says, *also)):
            raise ValueError("a refused result draws and says nothing")
        self._check_what_it_is_about()
        layers = len(self.layers)
        if any(not 0 <= segment.layer < layers for segment in self.segments):
            raise ValueError(f"a segment names a layer that the label map does not have: it has {layers}")

    def _check_what_it_is_about(self) -> None:
        found = {
            one.label for kind in (self.segments, self.boxes, self.points, self.verdicts) for one in kind
        }
        found |= {one.label for one in self.maps}
        told = [one.about for one in self.grades] + [(one.about,) for one in self.comparisons if one.about]
        graded = found | {one.label for one in self.grades}
        unknown = [name for about in told for name in about if name not in found]
        unknown += [name for one in self.recommendations for name in one.about if name not in graded]
        if unknown:
            raise ValueError(f"something is said about {unknown[0]!r}, which is not among the findings")
        compared = [(one.about, one.name, one.prior.study) for one in self.comparisons]
        if len(set(compared)) < len(compared):
            raise ValueError("one quantity of one finding is compared twice with the same examination")
        tracked = [one.tracked_as for one in self.segments] + [one.tracked_as for one in self.boxes]
        tracked = [uid for uid in tracked if uid is not None]
        if len(set(tracked)) < len(tracked):
            raise ValueError("two findings are both said to be one and the same of an earlier result")

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

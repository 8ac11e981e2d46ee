"""
The machine-readable facts of a model at a version: `manifest.toml` (or `.yaml`) in its folder.

What only one runtime understands stands under `[options]`, and that runtime validates it. All else is the
same for every model, so a rule, a card, a scheduler and a report can read it without opening the model.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from results.findings import PRIVATE_SCHEME, Concept

Task = Literal["segmentation", "detection", "classification", "landmarks", "regression", "heat map"]
GivenKind = Literal["volume", "image", "series", "timeline"]
Runtime = Literal[
    "built-in", "monai_bundle", "nnunet", "torch_export", "torchscript", "onnx", "state_dict", "python",
    "container",
]  # fmt: skip
Probability = Annotated[float, Field(ge=0, le=1)]


#: How the files of a model may be called: nothing that leads out of its folder, and nothing hidden.
PATH = r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*$"


class Strict(BaseModel, frozen=True, extra="forbid"):
    """Frozen, and a key that nobody knows is an error rather than a wish that nobody hears."""


class Input(Strict):
    """One series (or image) that a model is made for; routing rules may only narrow it."""

    name: str = "image"  #: what the model calls it: "t1c", "artery"
    modality: tuple[str, ...] = Field(min_length=1)  #: Modality (0008,0060)
    body_part: tuple[str, ...] = ()  #: Body Part Examined (0018,0015); none: any
    description: str | None = None  #: a regular expression found in Series Description (0008,103E)
    attributes: Mapping[str, str] = {}  #: keyword → regular expression, of any top-level attribute
    contrast: bool | None = None  #: whether a contrast medium was given (0018,0010); None: either
    spacing_max_mm: float | None = None  #: along the normal; thicker slices are refused
    minimum_slices: int = 1


class SegmentOut(Strict):
    """One segment that a model draws, and the output value or channel that it comes from."""

    number: int = Field(ge=1)  #: of the segment in the findings, 1, 2, … without a gap
    #: The label of the network's output, or its channel counted from 0. None: the label `number`, or the
    #: channel `number` - 1.
    value: int | None = None
    label: str = ""  #: plain and short, as a radiologist reads it; empty: the structure's own
    structure: str = ""  #: a key of `models.structures`, which then gives codes, laterality and colour
    category: Concept | None = None  #: CID 7150; needed where there is no `structure`
    kind: Concept | None = None  #: segmented property type
    laterality: Concept | None = None  #: CID 244
    colour_rgb: tuple[int, int, int] | None = None
    region: tuple[int, ...] = ()  #: union of several output values; segments may then overlap
    threshold: Probability | None = None  #: of a sigmoid output


class ClassOut(Strict):
    """One class that a model tells apart: of the whole image, or of the boxes that it draws."""

    index: int = Field(ge=0)  #: of the output
    label: str  #: as a radiologist reads it
    finding: Concept  #: what is there (or not)
    site: Concept | None = None  #: where it is
    threshold: Probability = 0.5  #: from here on it is reported as present
    calibration: tuple[float, float] | None = None  #: (a, b): logit → a·logit + b before the sigmoid (Platt)


class PointOut(Strict):
    """One landmark."""

    index: int = Field(ge=0)  #: of the output
    label: str  #: as a radiologist reads it
    site: Concept  #: which landmark it is


class QuantityOut(Strict):
    """One number that a model estimates: value = output × scale + offset, in `unit`."""

    index: int = Field(ge=0)  #: of the output
    name: Concept  #: which quantity it is
    unit: Concept  #: of scheme UCUM
    scale: float = 1.0
    offset: float = 0.0


class StepOut(Strict):
    """One value of a scale, and what is proposed to whoever has it."""

    at_least: float  #: from here on, in the quantity's unit, up to the next step
    value: Concept  #: which value of the scale; its meaning is what is read
    recommendation: str = ""  #: one plain sentence; empty: nothing is proposed
    kind: Concept | None = None  #: of the recommendation; None: (121075, DCM, Recommendation)
    interval: float | None = None  #: in months: (111055, DCM, Recommended Follow-up Interval)


class GradeOut(Strict):
    """A scale that one of the quantities is placed on: no new finding, but what it is called."""

    index: int = Field(ge=0)  #: of the output, as the quantity has it
    label: str  #: as a radiologist reads it
    scale: Concept  #: which scale
    steps: tuple[StepOut, ...] = Field(min_length=1)  #: the lowest first; below it there is no grade


class MapOut(Strict):
    """One map of numbers over the image: a probability, an uncertainty, an explanation."""

    index: int = Field(ge=0)  #: of the output
    label: str  #: as a radiologist reads it
    quantity: Concept  #: what its numbers are
    unit: Concept  #: of scheme UCUM
    #: The label of the segment whose probability it is: for archives that take FRACTIONAL segmentations.
    of: str = ""


class Scheme(Strict):
    """Who is responsible for private codes of this manifest; results repeat it (PS3.3 §C.12.1.1.7)."""

    designator: str = Field(pattern=r"^99[A-Za-z0-9_]{1,14}$")  #: as the codes name it (PS3.16 §8.2)
    name: str = Field(min_length=1, max_length=64)
    organization: str = Field(min_length=1, max_length=64)
    uid: str | None = Field(default=None, pattern=r"^[0-9]+(\.[0-9]+)+$", max_length=64)


class FileFact(Strict):
    """One file of the model, as it must be."""

    path: str = Field(pattern=PATH)  #: below the model's folder, with slashes
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  #: compared with the opened file, every time
    size: int = Field(ge=0)  #: bytes


class Accuracy(Strict):
    """What is known of how well it does, and who says so."""

    metric: str  #: "Dice", "AUC", "sensitivity at 1 false positive per scan"
    value: float  #: in the metric's own unit
    of: str = ""  #: which structure or class
    data: str  #: on what it was measured
    source: str  #: a paper, a report, a command


class Manifest(Strict):
    """The machine-readable facts of a model at a version."""

    #: What rules call it: small letters, digits and _.
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,47}$")
    #: Another one for whatever changed: 1.2.0, 2.0.0-rc1. The newest by number is what the bare name means.
    version: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}$")
    title: str  #: as a radiologist reads it
    licence: str  #: of code and weights: an SPDX identifier, or in words
    licence_key: bool = False  #: it may be used only by who declares a key ([models.licence_keys])
    intended_use: str  #: for whom and for what it was made
    limits: tuple[str, ...]  #: what it was not made for, what it cannot see; a sentence for each
    runtime: Runtime = "built-in"  #: what runs it; only what comes with Wetread is built in
    #: The setting of a rule with which it names another model: that one is run on the same images first, and
    #: what it draws is given to this one (`models.contract.Drawn`). Empty: it works by itself.
    drawn_by: str = Field(default="", pattern=r"^[a-z0-9_]{0,48}$")
    tasks: tuple[Task, ...] = ("segmentation",)  #: what kind of findings it gives
    given: GivenKind = "volume"  #: what it is given: one volume, one image, several series, or with priors
    inputs: tuple[Input, ...] = Field(min_length=1)  #: one, or several with given = "series"
    segments: tuple[SegmentOut, ...] = ()  #: what it draws
    classes: tuple[ClassOut, ...] = ()  #: what it tells apart, or what its boxes hold
    points: tuple[PointOut, ...] = ()  #: the landmarks that it places
    quantities: tuple[QuantityOut, ...] = ()  #: the numbers that it estimates
    grades: tuple[GradeOut, ...] = ()  #: the scales that its quantities are placed on
    maps: tuple[MapOut, ...] = ()  #: the maps of numbers that it gives
    schemes: tuple[Scheme, ...] = ()  #: of every private code that is not Wetread's own
    files: tuple[FileFact, ...] = ()  #: left out, `wetread models add` writes them
    options: Mapping[str, Any] = {}  #: the runtime's own
    accuracy: tuple[Accuracy, ...] = ()  #: what is known of how well it does
    time_limit_s: float  #: hard: the child is killed after it
    memory_mib: int  #: on top of the volume, measured
    card: str = "CARD.md"  #: a file of prose for clinicians
    #: Where the card can be read (https://…): every result says so.
    card_url: str = Field(default="", pattern=r"^(https?://[!-~]{1,200})?$")
    entry: str = ""  #: the class in the folder's `model.py`; a built-in or python model names it

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if [segment.number for segment in self.segments] != list(range(1, len(self.segments) + 1)):
            raise ValueError("segments are numbered 1, 2, … without a gap (PS3.3 §C.8.20.4)")
        declared = {one.designator for one in self.schemes} | {PRIVATE_SCHEME}
        if undeclared := sorted(_private_schemes(self) - declared):
            raise ValueError(
                f"codes of {undeclared[0]} need a [[schemes]] that says who is responsible for them"
            )
        # A structure's own label is not known here.
        drawn = {segment.label for segment in self.segments}
        strange = sorted(one.of for one in self.maps if one.of and one.of not in drawn)
        if strange and "" not in drawn:
            raise ValueError(f"a map is said to be of {strange[0]!r}, which is none of the segments")
        names = [one.name for one in self.inputs]
        if len(set(names)) < len(names):
            raise ValueError("two inputs have the same name")
        if len(names) > 1 and self.given != "series":
            raise ValueError('several inputs need given = "series"')
        measured = {one.index for one in self.quantities}
        for grade in self.grades:
            if grade.index not in measured:
                raise ValueError(f"the grade {grade.label!r} needs a quantity with index {grade.index}")
            bounds = [step.at_least for step in grade.steps]
            if bounds != sorted(set(bounds)):
                raise ValueError(f"the steps of the grade {grade.label!r} do not rise from one to the next")
        return self

    @property
    def input(self) -> Input:
        """The first input, whose grid findings have."""
        return self.inputs[0]

    @property
    def identity(self) -> str:
        """`name@version`, as rules and the ledger write it."""
        return f"{self.name}@{self.version}"


def _private_schemes(value: object) -> set[str]:
    """The designators of private coding schemes in a manifest or a part of it."""
    match value:
        case Concept():
            return {value.scheme} if value.scheme.startswith("99") else set()
        case BaseModel():
            return _private_schemes([getattr(value, name) for name in type(value).model_fields])
        case tuple() | list():
            return {scheme for one in value for scheme in _private_schemes(one)}
        case _:
            return set()

"""
What `[options]` of a manifest says to a network that takes one tensor and gives some.

Axes are those of the network's input, in its order: three for a volume, two (rows and columns) for an image.
The keys of the tasks say which output answers which question, and in what words it does.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from models.contract import BrokenModel
from models.manifest import Manifest, Strict

Side = Annotated[int, Field(ge=1, le=4096)]
Which = int | str  #: an output by its place, counted from 0, or by its name
Kind = TypeVar("Kind", bound=BaseModel)

_LETTERS = {frozenset("RL"), frozenset("AP"), frozenset("IS")}
#: kind of step → what else it looks at
_USED = {
    "clip": {"low", "high"},
    "window": {"low", "high", "to"},
    "scale": {"factor", "offset"},
    "z-score": {"mean", "deviation", "nonzero"},
    "min-max": {"to", "nonzero"},
    "percentiles": {"low", "high", "to", "nonzero"},
}


class Step(Strict):
    """One step of intensity. Statistics are those of the image itself, of each channel by itself."""

    kind: Literal["clip", "window", "scale", "z-score", "min-max", "percentiles"]
    low: float | None = None  #: clip and window: in modality units; percentiles: per cent
    high: float | None = None
    to: tuple[float, float] = (0.0, 1.0)  #: window, min-max, percentiles: what low and high become
    factor: float = 1.0  #: scale: value × factor + offset
    offset: float = 0.0
    mean: float | None = None  #: z-score: of the training data; none: of the image
    deviation: float | None = None
    nonzero: bool = False  #: z-score, min-max, percentiles: zeros are background, left out and left alone

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if idle := sorted(self.model_fields_set - _USED[self.kind] - {"kind"}):
            raise ValueError(f"{', '.join(idle)} means nothing to {self.kind}")
        if self.kind in ("clip", "window", "percentiles") and (
            self.low is None or self.high is None or not self.low < self.high
        ):
            raise ValueError(f"{self.kind} needs low < high")
        if (self.mean is None) != (self.deviation is None) or (self.deviation or 1.0) <= 0:
            raise ValueError("z-score has both mean and a deviation above 0, or neither")
        if self.kind == "percentiles" and not 0 <= float(self.low or 0) < float(self.high or 0) <= 100:
            raise ValueError("percentiles lie between 0 and 100")
        return self


class Prepare(Strict):
    """From the grid that was imaged to the network's."""

    orientation: str | None = None  #: where each axis grows to: "RAS", "SPL"; none: slice, row, column
    spacing_mm: tuple[Annotated[float, Field(ge=0, le=100)], ...] | None = None  #: 0: as it is
    size: tuple[Annotated[int, Field(ge=0, le=4096)], ...] | None = None  #: fixed; 0: as it is
    fit: Literal["resize", "pad or crop"] = "resize"  #: how `size` is reached
    smooth: bool = False  #: whether shrinking first takes out what is too fine for the new voxels
    multiple_of: Side = 1  #: each axis is padded to it
    padding: float = 0.0  #: after intensity
    intensity: tuple[Step, ...] = ()
    intensity_first: bool = False  #: before the new grid instead of on it
    colours: Literal["grey", "rgb"] = "grey"  #: one channel, or three that are alike where the image is grey

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.orientation is not None:
            pairs = {pair for letter in self.orientation for pair in _LETTERS if letter in pair}
            if len(self.orientation) != 3 or pairs != _LETTERS:
                raise ValueError(f"{self.orientation!r} is no orientation: three letters such as RAS")
        return self

    @property
    def pads(self) -> bool:
        """Whether the network's grid may reach beyond the source."""
        return self.multiple_of > 1 or (self.size is not None and self.fit == "pad or crop")


class Window(Strict):
    """A network that sees a part of the volume at a time."""

    size: tuple[Annotated[int, Field(ge=0, le=4096)], ...]  #: 0: the whole axis
    overlap: float = Field(0.5, ge=0, lt=1)
    batch: int = Field(1, ge=1, le=256)
    blend: Literal["gaussian", "constant"] = "gaussian"


class Segmentation(Strict):
    """(n, channels, …), or labels already: (n, 1, …) or (n, …)."""

    output: Which = 0
    activation: Literal["softmax", "sigmoid", "probabilities", "labels"] = "softmax"


class Detection(Strict):
    """Boxes (box, 2 × axes), scores (box) and, where there are several classes, labels (box)."""

    boxes: Which = 0
    scores: Which = 1
    labels: Which | None = None
    first_label: int = 0  #: the label of the class with index 0: 1 where 0 is background
    activation: Literal["sigmoid", "none"] = "none"  #: of the scores
    layout: Literal["corners", "pairs", "corner and size", "centre and size"] = "corners"
    last_axis_first: bool = False  #: x before y before z, as where (x, y) are column and row
    origin: Literal["edge", "centre"] = "edge"  #: of the first voxel: where coordinate 0 is
    unit: Literal["voxels", "LPS mm", "RAS mm"] = "voxels"
    nms_iou: float | None = Field(None, gt=0, le=1)
    at_most: int = Field(100, ge=1, le=1000)


class Classification(Strict):
    """(n, classes)."""

    output: Which = 0
    activation: Literal["sigmoid", "softmax", "none"] = "sigmoid"


class Landmarks(Strict):
    """Coordinates (n, point × axes) or (n, point, axes), or heat maps (n, point, …)."""

    output: Which = 0
    form: Literal["heat maps", "coordinates"] = "heat maps"
    activation: Literal["sigmoid", "none"] = "none"  #: of heat maps, for the score
    last_axis_first: bool = False
    unit: Literal["voxels", "0 to 1", "-1 to 1", "LPS mm", "RAS mm"] = "voxels"  #: 0 and 1 (−1, 1): the edges


class Regression(Strict):
    """(n, numbers)."""

    output: Which = 0


class Maps(Strict):
    """(n, maps, …)."""

    output: Which = 0
    activation: Literal["none", "sigmoid", "softmax"] = "none"


class TensorOptions(Strict):
    """The `[options]` of every runtime that holds a network."""

    file: str = ""  #: which of the files holds the network; empty: the only one of its kind
    prepare: Prepare = Prepare()
    window: Window | None = None
    slice_by_slice: bool = False  #: a network of two axes goes over a volume along the first
    autocast: bool = False  #: half precision on a GPU
    segmentation: Segmentation = Segmentation()
    detection: Detection = Detection()
    classification: Classification = Classification()
    landmarks: Landmarks = Landmarks()
    regression: Regression = Regression()
    heat_map: Maps = Maps()


def understood(manifest: Manifest, kind: type[Kind]) -> Kind:
    """The manifest's options as `kind`. Raises `BrokenModel` that names every key that is wrong."""
    try:
        return kind.model_validate(_plain(manifest.options))
    except ValidationError as error:
        complaints = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False)[:8]
        )
        raise BrokenModel(
            f"model {manifest.identity}: its [options] are not understood: {complaints}"
        ) from None


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return dict(options)

"""
Steps that make a volume ready for a network, as data, and the way back for its answer.

A model's manifest lists the steps by name, `Chain.of` reads them, and `Chain.apply` runs them on the device
that the voxels are on. What comes out remembers the source's grid: labels, scores, points and boxes are
brought back by where they lie in the patient, whatever the steps were.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import highdicom as hd
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from torch import Tensor

from models.contract import BrokenModel
from models.manifest import Strict
from models.prepare import intensity
from models.prepare.grid import Grid, NoSuchOrientation
from models.prepare.sample import How, labels_onto, reduced_onto, resample


@dataclass(frozen=True, slots=True)
class Voxels:
    """Values (C, …) on a grid."""

    values: Tensor
    grid: Grid

    @classmethod
    def of(cls, volume: hd.Volume, device: torch.device | str = "cpu") -> "Voxels":
        """One channel, float32. Copied to a GPU without the host waiting for it."""
        values = torch.from_numpy(np.ascontiguousarray(volume.array, np.float32))
        at = torch.device(device)
        if at.type == "cuda":
            values = values.pin_memory().to(at, non_blocking=True)
        return cls(values[None], Grid.of(volume))


class Orient(Strict):
    """Turn the axes of the array: "RAS" lets them run to the right, to the front and to the head."""

    step: Literal["orient"] = "orient"
    codes: str = Field(pattern="^[LRAPSI]{3}$")

    @model_validator(mode="after")
    def _three_directions(self) -> "Orient":
        try:
            Grid((1, 1, 1), np.eye(4)).oriented(self.codes)
        except NoSuchOrientation as wrong:
            raise ValueError(str(wrong)) from wrong
        return self

    def __call__(self, voxels: Voxels) -> Voxels:
        target = voxels.grid.oriented(self.codes)
        return Voxels(resample(voxels.values, voxels.grid, target, "nearest"), target)


class Space(Strict):
    """Resample to `spacing_mm` along the axes of the array; see `Grid.spaced` and `sample`."""

    step: Literal["space"] = "space"
    spacing_mm: tuple[float | None, float | None, float | None]
    how: How = "linear"
    edges: bool = False
    antialias: bool = False

    @model_validator(mode="after")
    def _positive(self) -> "Space":
        if any(spacing is not None and not spacing > 0 for spacing in self.spacing_mm):
            raise ValueError(f"voxels cannot be {self.spacing_mm} mm apart")
        return self

    def __call__(self, voxels: Voxels) -> Voxels:
        target = voxels.grid.spaced(self.spacing_mm, edges=self.edges)
        values = resample(voxels.values, voxels.grid, target, self.how, antialias=self.antialias)
        return Voxels(values, target)


class Window(Strict):
    """Scale `low` … `high` linearly onto `to`; what lies outside is clipped, or with `clip` off goes on."""

    step: Literal["window"] = "window"
    low: float
    high: float
    to: tuple[float, float] = (0.0, 1.0)
    clip: bool = True

    def __call__(self, voxels: Voxels) -> Voxels:
        scaled = intensity.window(voxels.values, self.low, self.high, self.to, clip=self.clip)
        return replace(voxels, values=scaled)


class Clip(Strict):
    """Cut off below `low` and above `high`."""

    step: Literal["clip"] = "clip"
    low: float
    high: float

    def __call__(self, voxels: Voxels) -> Voxels:
        return replace(voxels, values=voxels.values.clamp(self.low, self.high))


class ZScore(Strict):
    """Subtract the mean and divide by the standard deviation: those given, or each channel's own."""

    step: Literal["z_score"] = "z_score"
    mean: float | None = None
    deviation: float | None = Field(default=None, gt=0)
    nonzero: bool = False  #: of and for the voxels that are not 0 only

    def __call__(self, voxels: Voxels) -> Voxels:
        scaled = intensity.z_score(voxels.values, self.mean, self.deviation, nonzero=self.nonzero)
        return replace(voxels, values=scaled)


class MinMax(Strict):
    """Scale each channel's smallest and largest value onto `to`."""

    step: Literal["min_max"] = "min_max"
    to: tuple[float, float] = (0.0, 1.0)

    def __call__(self, voxels: Voxels) -> Voxels:
        return replace(voxels, values=intensity.percentiles(voxels.values, 0, 100, self.to, clip=False))


class Percentiles(Strict):
    """Scale each channel's percentiles `low` … `high` onto `to`."""

    step: Literal["percentiles"] = "percentiles"
    low: float = Field(ge=0, le=100)
    high: float = Field(ge=0, le=100)
    to: tuple[float, float] = (0.0, 1.0)
    clip: bool = True

    def __call__(self, voxels: Voxels) -> Voxels:
        scaled = intensity.percentiles(voxels.values, self.low, self.high, self.to, clip=self.clip)
        return replace(voxels, values=scaled)


class CropForeground(Strict):
    """The smallest box around what is above `above` in any channel; all of it where nothing is."""

    step: Literal["crop_foreground"] = "crop_foreground"
    above: float = 0.0
    margin: int = Field(default=0, ge=0)  #: voxels

    def __call__(self, voxels: Voxels) -> Voxels:
        filled = (voxels.values > self.above).any(0)
        low, high = [], []
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            along = filled.amax(others).nonzero()
            if not len(along):
                return voxels
            low.append(max(0, int(along[0]) - self.margin))
            high.append(min(filled.shape[axis], int(along[-1]) + 1 + self.margin))
        return _box(voxels, low, high, 0.0)


class Pad(Strict):
    """Add voxels of `value` on both sides until the shape is at least `to` and a multiple of `multiple`."""

    step: Literal["pad"] = "pad"
    to: tuple[int, int, int] = (0, 0, 0)
    multiple: int = Field(default=1, ge=1)
    value: float = 0.0

    def __call__(self, voxels: Voxels) -> Voxels:
        low, high = [], []
        for n, least in zip(voxels.grid.shape, self.to, strict=True):
            wanted = -(-max(n, least) // self.multiple) * self.multiple
            low.append(-((wanted - n) // 2))
            high.append(wanted + low[-1])
        return _box(voxels, low, high, self.value)


class CropCentre(Strict):
    """The middle `to` voxels of axes that have more."""

    step: Literal["crop_centre"] = "crop_centre"
    to: tuple[int, int, int]

    def __call__(self, voxels: Voxels) -> Voxels:
        low = [max(0, (n - most) // 2) for n, most in zip(voxels.grid.shape, self.to, strict=True)]
        high = [a + min(n, most) for a, n, most in zip(low, voxels.grid.shape, self.to, strict=True)]
        return _box(voxels, low, high, 0.0)


def _box(voxels: Voxels, low: Sequence[int], high: Sequence[int], value: float) -> Voxels:
    target = voxels.grid.cropped(low, high)
    return Voxels(resample(voxels.values, voxels.grid, target, "nearest", outside=value), target)


Step = Annotated[
    Orient | Space | Window | Clip | ZScore | MinMax | Percentiles | CropForeground | Pad | CropCentre,
    Field(discriminator="step"),
]
_STEPS: TypeAdapter[tuple[Step, ...]] = TypeAdapter(tuple[Step, ...])


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps in their order."""

    steps: tuple[Step, ...]

    @classmethod
    def of(cls, described: Sequence[Mapping[str, Any]]) -> "Chain":
        """The chain of a manifest's tables: `[{step = "orient", codes = "RAS"}]`. Raises `BrokenModel`."""
        try:
            return cls(_STEPS.validate_python(tuple(described)))
        except ValidationError as error:
            raise BrokenModel(f"its steps of preparation cannot be read: {error}") from error

    def apply(self, voxels: Voxels) -> "Prepared":
        """The voxels after all steps."""
        source = voxels.grid
        for step in self.steps:
            voxels = step(voxels)
        return Prepared(voxels, source, self.steps)


def stacked(channels: Sequence[Voxels], outside: float = 0.0) -> Voxels:
    """Several series as the channels of one: each on the grid of the first, linearly, `outside` beyond it."""
    first = channels[0]
    values = [
        other.values
        if other.grid == first.grid
        else resample(other.values, other.grid, first.grid, "linear", outside=outside)
        for other in channels
    ]
    return Voxels(torch.cat([first.values, *values[1:]]), first.grid)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Voxels as the network wants them, and how its answer comes back."""

    voxels: Voxels
    source: Grid
    steps: tuple[Step, ...]

    def labels_back(self, labels: Tensor) -> Tensor:
        """A label map or masks (…, z, y, x) on the source's grid, from the nearest voxel; 0 outside."""
        return labels_onto(labels, self.voxels.grid, self.source)

    def values_back(self, values: Tensor, outside: float = 0.0) -> Tensor:
        """A map of numbers (…, z, y, x) on the source's grid, linearly."""
        return resample(values, self.voxels.grid, self.source, "linear", outside=outside)

    def scores_back(self, scores: Tensor, reducer: Callable[[Tensor], Tensor]) -> Tensor:
        """`reducer` of scores (K, z, y, x) brought back linearly, slab by slab: smoother than `labels_back`.

        Beyond the prepared voxels, where a crop left something out, the answer is 0.
        """
        answer = reduced_onto(scores, self.voxels.grid, self.source, reducer)
        prepared = torch.ones(self.voxels.grid.shape, dtype=torch.bool, device=scores.device)
        left_out = ~labels_onto(prepared, self.voxels.grid, self.source)
        # Few operations know 16 bits without a sign; zero is zero in either.
        (answer.view(torch.int16) if answer.dtype == torch.uint16 else answer).masked_fill_(left_out, 0)
        return answer

    def points_back(self, indices: ArrayLike) -> NDArray[np.float64]:
        """Indices (n, 3) in the prepared voxels as indices of the source's grid, between voxels mostly."""
        return self.source.indices_at(self.voxels.grid.points_at(indices))

    def boxes_back(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Boxes (n, 6), lows then highs, as the smallest boxes along the source's axes that hold them."""
        rows = np.asarray(boxes, np.float64).reshape(-1, 6)
        back = [np.concatenate(self.voxels.grid.box_into(self.source, row[:3], row[3:])) for row in rows]
        return np.array(back).reshape(-1, 6)

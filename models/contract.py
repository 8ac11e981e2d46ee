"""
What a model is to the rest of the house: four verbs and a manifest.

A model is given a volume, an image, several series at once, or a patient's timeline, and gives findings on
exactly the grid of what it was given. Arrays are in modality units (CT: Hounsfield units), millimetres are
those of the patient coordinate system (LPS, PS3.3 §C.7.6.2.1.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ledger.errors import ModelError, SiteError, StudyError
from ledger.identifiers import Digest, Uid
from models.manifest import Manifest
from results.findings import Findings

if TYPE_CHECKING:  # It takes half a second, and whoever only lists models needs none.
    import highdicom as hd


class UnknownModel(ModelError):
    """A rule names a model that is not installed here."""


class BrokenModel(ModelError):
    """A model is here but is not what the contract asks for, or its files are not what its manifest says."""


class OutOfMemory(ModelError):
    """Even the least demanding way of running it needs more memory than there is."""


class NotForThisModel(StudyError):
    """The images are not what the model is made for, or its result could not be trusted.

    A model may raise this inside; what leaves `run` are findings of outcome refused that carry its sentence.
    """


class SettingsNotUnderstood(SiteError):
    """A rule gives a model a setting that it does not have, or a value that it cannot use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image that is no volume: a radiograph, a mammogram, a photograph, a frame of ultrasound.

    Findings on it have one slice: a label map is (1, row, column), a point is (0, row, column).
    """

    array: NDArray[Any]  #: (row, column), or (row, column, 3) in RGB; MONOCHROME1 is inverted already
    spacing_mm: tuple[float, float] | None  #: (between rows, between columns) as measured where it was imaged
    headers: Mapping[str, str] = field(default_factory=dict)  #: keyword → text


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSet:
    """Several series of one study, by the names that the manifest's inputs give them: phases, MR channels.

    They share the patient coordinate system and are each on a grid of their own. Findings are on the grid of
    the first input of the manifest, `reference`.
    """

    volumes: "Mapping[str, hd.Volume]"
    headers: Mapping[str, Mapping[str, str]]
    reference: str

    @property
    def on_reference(self) -> "hd.Volume":
        """The volume whose grid findings have."""
        return self.volumes[self.reference]


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An earlier examination of the same patient, as it was imaged then: no registration was done."""

    acquired: date
    study: Uid
    series: Uid
    images: tuple[tuple[Uid, Uid], ...]  #: (SOP Class, SOP Instance) of every slice of the volume
    volume: "hd.Volume"
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """An examination with the earlier ones, the latest first. Findings are on the grid of `current`."""

    current: "hd.Volume"
    headers: Mapping[str, str]
    earlier: tuple[Earlier, ...]


Given: TypeAlias = "hd.Volume | Image | SeriesSet | Timeline"


def grid_shape(given: Given) -> tuple[int, int, int]:
    """(slices, rows, columns) of the grid that findings have."""
    match given:
        case Image():
            return 1, given.array.shape[0], given.array.shape[1]
        case SeriesSet():
            return _three(given.on_reference.spatial_shape)
        case Timeline():
            return _three(given.current.spatial_shape)
    return _three(given.spatial_shape)


def grid_affine(given: Given) -> NDArray[np.float64] | None:
    """(slice, row, column) index → LPS mm of that grid, 4 × 4; None for an image, which has no such place."""
    match given:
        case Image():
            return None
        case SeriesSet():
            return np.asarray(given.on_reference.affine, np.float64)
        case Timeline():
            return np.asarray(given.current.affine, np.float64)
    return np.asarray(given.affine, np.float64)


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    slices, rows, columns = shape
    return slices, rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What another model drew on the same images, for a model that measures it (`drawn_by` in a manifest)."""

    findings: Findings  #: on the same grid; refused ones also
    identity: str  #: `name@version` of the other model
    digest: str  #: of its weights, or of its code where it has none
    trust: str = ""  #: who vouches for it, in words; empty: it came with Wetread

    @property
    def said(self) -> str:
        """What every reader of the measurements must know."""
        vouched = f", {self.trust}" if self.trust else ""
        return f"Organs were drawn by another model: {self.identity} ({self.digest[:16]}{vouched})."


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a model may know besides the voxels."""

    headers: Mapping[str, str] = field(default_factory=dict)  #: of the series: keyword → text
    settings: Mapping[str, object] = field(default_factory=dict)  #: from the rule
    memory: "Memory | None" = None  #: what the run may take; None: whatever there is
    drawn: Drawn | None = None  #: by the model that the setting `drawn_by` of the manifest names


@dataclass(frozen=True, slots=True)
class Memory:
    """What a run will need at most, or may take, in bytes."""

    host: int
    device: int


class Model(Protocol):
    """The contract: `load`, `run`, `estimate`, `unload`."""

    manifest: Manifest
    folder: Path  #: manifest, code and card
    weights_digest: Digest | None

    def load(self, device: str) -> None:
        """Make ready on `device` ("cpu" or "cuda:0"). Raises `BrokenModel`."""

    def run(self, given: Any, context: Context) -> Findings:
        """The findings on the grid of `given`, which is what the manifest's `given` says; refused findings
        rather than a guess.

        Raises `SettingsNotUnderstood` where the context's settings are not the model's, and `OutOfMemory`.
        """

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The memory that a grid of `shape` (slice, row, column) will take, weights not counted."""

    def unload(self) -> None:
        """Give the memory back."""

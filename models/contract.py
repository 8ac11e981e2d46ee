"""
What a model is to the rest of the house: four verbs and a manifest.

A model gets a `highdicom.Volume` whose array is (slice, row, column) in modality units (CT: Hounsfield
units), with its affine to LPS millimetres, and gives findings on exactly that grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import highdicom as hd
from pydantic import BaseModel

from ledger.errors import ModelError, SiteError, StudyError
from ledger.identifiers import Digest
from results.findings import Findings


class UnknownModel(ModelError):
    """A rule names a model that is not installed here."""


class NotForThisModel(StudyError):
    """The images are not what the model is made for, or its result could not be trusted.

    A model may raise this inside; what leaves `run` are findings of outcome refused that carry its sentence.
    """


class SettingsNotUnderstood(SiteError):
    """A rule gives a model a setting that it does not have, or a value that it cannot use."""


class ModelInput(BaseModel, frozen=True, extra="forbid"):
    """Which series a model is made for; routing rules may only narrow it."""

    modality: tuple[str, ...]  #: Modality (0008,0060)
    spacing_max_mm: float  #: along the normal; thicker slices are refused
    minimum_slices: int


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """The machine-readable facts of a model at a version: `manifest.toml` in its folder."""

    name: str
    version: str
    title: str  #: as a radiologist reads it
    licence: str
    intended_use: str
    limits: tuple[str, ...]
    input: ModelInput
    time_limit_s: float  #: hard: the child is killed after it
    memory_mib: int  #: on top of the volume, measured
    card: str = "CARD.md"
    entry: str = ""  #: the class in the folder's `model.py`; a built-in model names it


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a model may know besides the voxels."""

    headers: Mapping[str, str] = field(default_factory=dict)  #: of the series: keyword → text
    settings: Mapping[str, object] = field(default_factory=dict)  #: from the rule


@dataclass(frozen=True, slots=True)
class Memory:
    """What a run will need at most, in bytes."""

    host: int
    device: int


class Model(Protocol):
    """The contract: `load`, `run`, `estimate`, `unload`."""

    manifest: Manifest
    folder: Path  #: manifest, code and card
    weights_digest: Digest | None

    def load(self, device: str) -> None:
        """Make ready on `device` ("cpu" or "cuda:0")."""

    def run(self, volume: hd.Volume, context: Context) -> Findings:
        """The findings on the grid of `volume`; refused findings rather than a guess.

        Raises `SettingsNotUnderstood` where the context's settings are not the model's.
        """

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The memory that a volume of `shape` (slice, row, column) will take."""

    def unload(self) -> None:
        """Give the memory back."""

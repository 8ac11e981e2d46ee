"""
What models of CT volumes without weights have in common: three of the four verbs, the settings of a rule, and
what is refused by headers and grid before any voxel is looked at.
"""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import highdicom as hd
import torch
from pydantic import BaseModel, ValidationError

from ledger.identifiers import Digest
from models.contract import Context, NotForThisModel, SettingsNotUnderstood
from models.headers import number
from models.manifest import Input
from models.registry import read_manifest
from results.findings import Findings, refused

Settings = TypeVar("Settings", bound=BaseModel)

_NO_AGENT = frozenset({"", "NO", "NONE", "N/A", "NA", "WITHOUT", "NO CONTRAST", "NON CONTRAST", "OHNE"})
_AMOUNTS = ("ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastBolusStartTime", "ContrastFlowRate")


class WithoutWeights(Generic[Settings]):
    """A model of CT volumes that has learned nothing: `models.contract.Model` but for `estimate`."""

    folder: Path
    settings: type[Settings]  #: what a rule may set
    weights_digest: ClassVar[Digest | None] = None

    def __init__(self) -> None:
        self.manifest = read_manifest(self.folder / "manifest.toml")
        self._device = torch.device("cpu")

    def load(self, device: str) -> None:
        """There are no weights; what is computed on tensors will run on `device`."""
        self._device = torch.device(device)

    def unload(self) -> None:
        """Nothing is kept between runs."""
        self._device = torch.device("cpu")

    def run(self, volume: hd.Volume, context: Context) -> Findings:
        """The findings; refused ones that say why where a chapter raised `NotForThisModel`.

        Raises `SettingsNotUnderstood`.
        """
        try:
            settings = self.settings.model_validate(dict(context.settings))
        except ValidationError as error:
            raise SettingsNotUnderstood(
                f"{self.manifest.name} cannot use the settings of this rule: {error}"
            ) from error
        try:
            return self._findings(volume, context, settings)
        except NotForThisModel as refusal:
            return refused(str(refusal))

    @abstractmethod
    def _findings(self, volume: hd.Volume, context: Context, settings: Settings) -> Findings:
        """What the model says. Raises `NotForThisModel`."""


def refuse_no_ct(headers: Mapping[str, str], wanted: Input, shape: tuple[int, ...], *, to: str = "") -> None:
    """Refuse another modality, colour, and fewer slices than `wanted`; `to` says what they are needed for."""
    modality = headers.get("Modality", "")
    if modality not in wanted.modality:
        raise NotForThisModel(
            "This model reads CT in Hounsfield units; the modality of these images is "
            f"{modality or 'not stated'}."
        )
    if len(shape) != 3:
        raise NotForThisModel("These images are in colour; this model reads CT in Hounsfield units.")
    if shape[0] < wanted.minimum_slices:
        needed = (
            f"{wanted.minimum_slices} are needed to {to}" if to else f"{wanted.minimum_slices} are needed"
        )
        raise NotForThisModel(f"The series has {shape[0]} slice{'s' * (shape[0] > 1)}; at least {needed}.")


def refuse_coarse_slices(wanted: Input, spacing_mm: tuple[float, ...], *, to: str) -> None:
    """Refuse slices further apart than `wanted`; `spacing_mm` is (slice, row, column)."""
    if wanted.spacing_max_mm is not None and spacing_mm[0] > wanted.spacing_max_mm:
        raise NotForThisModel(
            f"The slices are {spacing_mm[0]:.1f} mm apart; more than {wanted.spacing_max_mm:g} mm is too "
            f"coarse to {to}."
        )


def refuse_coarse_pixels(spacing_mm: tuple[float, ...], at_most_mm: float, *, for_what: str = "") -> None:
    """Refuse pixels wider than `at_most_mm`; `spacing_mm` is (slice, row, column)."""
    if max(spacing_mm[1:]) > at_most_mm:
        coarse = f"too coarse {for_what}" if for_what else "too coarse"
        raise NotForThisModel(
            f"The pixels are {max(spacing_mm[1:]):.1f} mm wide; more than {at_most_mm:g} mm is {coarse}."
        )


def contrast_given(headers: Mapping[str, str]) -> bool:
    """Whether the headers say that a contrast medium was given (PS3.3 C.7.6.4)."""
    agent = headers.get("ContrastBolusAgent", "").strip(" \0").upper()
    return agent not in _NO_AGENT or any(number(headers.get(keyword, "")) > 0 for keyword in _AMOUNTS)

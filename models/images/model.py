"""What models of single images without weights have in common: the four verbs, but for what they say."""

from abc import abstractmethod
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np

from ledger.identifiers import Digest
from models.contract import Context, Image, Memory, NotForThisModel, SettingsNotUnderstood
from models.images.gate import refuse_unsuitable
from models.images.grid import Plane
from models.registry import read_manifest
from results.findings import Findings, refused

_CODE_AND_TABLES = 64 << 20  # bytes


class WithoutWeights:
    """A model of single images that has learned nothing and has no settings: `models.contract.Model`."""

    folder: Path
    colour: ClassVar[bool]  #: whether it reads photographs in RGB, or grey radiographs
    bytes_of_pixel: ClassVar[int]  #: what a run takes for each pixel of the image, at most
    weights_digest: ClassVar[Digest | None] = None

    def __init__(self) -> None:
        self.manifest = read_manifest(self.folder / "manifest.toml")

    def load(self, device: str) -> None:
        """There are no weights, and an image is small enough for any processor."""

    def unload(self) -> None:
        """Nothing is kept between runs."""

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """Floating point values, filtered copies of them, and the labels."""
        return Memory(host=prod(shape) * self.bytes_of_pixel + _CODE_AND_TABLES, device=0)

    def run(self, given: Image, context: Context) -> Findings:
        """The findings; refused ones that say why where a chapter raised `NotForThisModel`.

        Raises `SettingsNotUnderstood`.
        """
        if context.settings:
            raise SettingsNotUnderstood(
                f"{self.manifest.name} has no settings, and got {', '.join(sorted(context.settings))}"
            )
        headers = {**given.headers, **context.headers}
        try:
            pixels = refuse_unsuitable(given, headers, self.manifest.input, colour=self.colour)
            if self.colour and np.asarray(given.array).dtype == np.uint16:
                pixels = pixels / np.float32(257)  # Colours are told in steps of eight bits.
            return self._findings(pixels, given.spacing_mm, headers)
        except NotForThisModel as refusal:
            return refused(str(refusal))

    @abstractmethod
    def _findings(
        self, pixels: Plane, spacing_mm: tuple[float, float] | None, headers: dict[str, str]
    ) -> Findings:
        """What the model says of (row, column), or of (row, column, 3). Raises `NotForThisModel`."""

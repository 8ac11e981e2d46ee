"""
How likely a frontal chest radiograph shows pneumonia: two small networks, trained by us on public films.

    header → is it for this model? → standard picture (ranks, edges cut, one band)
    → is it a frontal chest film? → both networks, on the picture and its mirror image
    → probability by age group → absent, unsure or present

The gate may refuse (`NotForThisModel`); `run` turns that into findings that say why.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ledger.identifiers import Digest
from ledger.job import Outcome
from models.builtin.cxr_pneumonia import ages, gate
from models.builtin.cxr_pneumonia.network import SEEN
from models.builtin.cxr_pneumonia.standard import Standard, standard
from models.builtin.cxr_pneumonia.weights import Calibration, Weights, read_weights
from models.contract import BrokenModel, Context, Image, Memory, NotForThisModel, SettingsNotUnderstood
from models.explain.explained import explained
from models.explain.settings import parted
from models.explain.subject import Explainable
from models.registry import read_manifest
from results.codes import ABSENT, AI_READING, EQUIVOCAL, LUNG, PNEUMONIA, PRESENT
from results.findings import Findings, Grade, Verdict, refused

LABEL = "Pneumonia"
_BYTES_OF_PIXEL = 40  #: ranks, their table and the copies on the way


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What the network is given, and what is to be said besides its answer."""

    standard: Standard
    given: torch.Tensor  #: (1, SEEN, SEEN)
    cautions: tuple[str, ...]


class CxrPneumonia:
    """Pneumonia on frontal chest radiographs: implements `models.contract.Model`."""

    folder = Path(__file__).parent

    def __init__(self) -> None:
        self.manifest = read_manifest(self.folder / "manifest.toml")
        self.weights_digest: Digest | None = Digest(self.manifest.files[0].sha256)
        self._weights: Weights | None = None
        self._device = torch.device("cpu")

    def load(self, device: str) -> None:
        """Read the weights, whose digest must be the manifest's. Raises `BrokenModel`."""
        self._device = torch.device(device)
        self._weights = read_weights(self.folder, self.manifest, self._device)

    def unload(self) -> None:
        """Give the memory of the weights back."""
        self._weights = None

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The copies of the image while grey values become ranks; the network itself is small."""
        pixels = math.prod(shape)
        return Memory(
            host=pixels * _BYTES_OF_PIXEL + 64 * 2**20, device=64 * 2**20 * (self._device.type != "cpu")
        )

    def run(self, given: Image, context: Context) -> Findings:
        """One verdict with its probability, and absent, unsure or present; or why not."""
        wish, own = parted(context.settings)
        if own:
            raise SettingsNotUnderstood(f"cxr_pneumonia has no settings, and the rule sets {', '.join(own)}")
        return explained(self, given, context, self._findings(given, context), wish)

    def _findings(self, given: Image, context: Context) -> Findings:
        weights = self._ready()
        clock = time.perf_counter()
        try:
            look = self._look(given, context, weights)
        except NotForThisModel as refusal:
            return refused(str(refusal))
        looked = time.perf_counter()
        with torch.inference_mode():
            both = torch.stack((look.given, look.given.flip(-1)))
            logit = float(weights.net(both).double().mean())
        group, aged = ages.group(ages.years(self._headers(given, context)))
        said = weights.calibrations[group]
        return _said(
            said.probability(logit), said, (*look.cautions, *aged),
            {"standardise": looked - clock, "network": time.perf_counter() - looked},
        )  # fmt: skip

    def explainable(self, given: Image, context: Context) -> Explainable:
        """What the verdict on `given` came from. Raises `NotForThisModel` as the gate does."""
        weights = self._ready()
        look = self._look(given, context, weights)
        top, bottom, left, right = look.standard.box
        shape = given.array.shape

        def back(values: torch.Tensor) -> NDArray[np.float32]:
            there = np.zeros((1, shape[0], shape[1]), np.float32)
            size = (bottom - top, right - left)
            drawn = functional.interpolate(
                values.float()[None, None], size, mode="bilinear", align_corners=False
            )
            there[0, top:bottom, left:right] = drawn[0, 0].cpu().numpy()
            return there

        return Explainable(
            network=weights.net,
            module=weights.net,
            given=look.given,
            labels=(LABEL,),
            back=back,
            activation="sigmoid",
        )

    def _ready(self) -> Weights:
        if self._weights is None:
            raise BrokenModel("cxr_pneumonia was asked before its weights were loaded")
        return self._weights

    def _headers(self, given: Image, context: Context) -> dict[str, str]:
        return {**context.headers, **given.headers}

    def _look(self, given: Image, context: Context, weights: Weights) -> _Look:
        headers = self._headers(given, context)
        gate.refuse_by_header(headers, given.array)
        try:
            seen = standard(given.array)
        except ValueError as error:
            raise NotForThisModel(f"There is nothing to read in this image: {error}.") from error
        cautions = []
        picture = seen.picture
        if gate.negative(weights.usual, picture):
            picture = 255 - picture
            cautions.append(
                "The grey scale of the image seems to be reversed; it was read the other way round."
            )
        gate.refuse_other_views(weights.frontal, weights.least_frontal, picture)
        x = torch.from_numpy(picture.copy()).to(self._device)[None, None].float() / 255
        x = functional.interpolate(x, (SEEN, SEEN), mode="bilinear", antialias=True)
        return _Look(standard=seen, given=x[0], cautions=tuple(cautions))


def _said(
    probability: float, said: Calibration, cautions: tuple[str, ...], timings: dict[str, float]
) -> Findings:
    low, high = said.unsure
    value = ABSENT if probability < low else PRESENT if probability > high else EQUIVOCAL
    verdict = Verdict(
        label=LABEL,
        finding=PNEUMONIA,
        present=probability >= said.threshold,
        probability=probability,
        threshold=said.threshold,
        calibrated=said.calibrated,
        site=LUNG,
        unsure=value is EQUIVOCAL,
    )
    reading = Grade(label="AI reading of pneumonia", scale=AI_READING, value=value, about=(LABEL,))
    if value is EQUIVOCAL:
        unsure = (
            f"The AI is unsure about pneumonia: its probability of {probability:.0%} lies between "
            f"{low:.0%} and {high:.0%}, where it is often wrong."
        )
        cautions = (unsure, *cautions)
    return Findings(
        outcome=Outcome.FOUND, verdicts=(verdict,), grades=(reading,), cautions=cautions, timings=timings
    )

"""`weights.safetensors`: the networks, what a usual film looks like, how a logit becomes a probability."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load

from models.builtin.cxr_pneumonia.both import Both
from models.builtin.cxr_pneumonia.frontal import Frontal
from models.builtin.cxr_pneumonia.gate import Usual
from models.contract import BrokenModel
from models.manifest import Manifest

FILE = "weights.safetensors"
GROUPS = ("children", "adults", "either")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """From the network's logit to a probability (Platt), and from that to what is said."""

    slope: float
    offset: float
    threshold: float  #: from here on it is reported as present
    unsure: tuple[float, float]  #: between these it is called equivocal
    calibrated: bool  #: it was fitted to frequencies on films that the network had not seen

    def probability(self, logit: float) -> float:
        """0 to 1."""
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, self.slope * logit + self.offset))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """All that was learned."""

    net: Both
    usual: Usual
    frontal: Frontal
    least_frontal: float  #: a picture of which `frontal` says less is refused
    calibrations: Mapping[str, Calibration]


def read_weights(folder: Path, manifest: Manifest, device: torch.device) -> Weights:
    """Raises `BrokenModel` where the file is not what the manifest says."""
    try:
        content = (folder / FILE).read_bytes()
    except OSError as error:
        raise BrokenModel(
            f"{manifest.identity}: {FILE} cannot be read ({error}): install Wetread again"
        ) from error
    fact = next(one for one in manifest.files if one.path == FILE)
    if len(content) != fact.size or hashlib.sha256(content).hexdigest() != fact.sha256:
        raise BrokenModel(
            f"{manifest.identity}: {FILE} is not the file that its manifest names: install Wetread again"
        )
    try:
        tensors = load(content)
        net, frontal = Both().eval().requires_grad_(False), Frontal().eval().requires_grad_(False)
        net.load_state_dict(_part(tensors, "net."))
        frontal.load_state_dict(_part(tensors, "frontal."))
        return Weights(
            net=net.to(device),
            usual=_usual(tensors),
            frontal=frontal,
            least_frontal=float(tensors["least_frontal"]),
            calibrations=_calibrations(tensors),
        )
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise BrokenModel(f"{manifest.identity}: {FILE} does not fit the network: {error}") from error


def _part(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Those of one network; kept in 16 bits, counted with in 32."""
    return {
        key.removeprefix(name): one.float() if one.is_floating_point() else one
        for key, one in tensors.items()
        if key.startswith(name)
    }


def _usual(tensors: Mapping[str, torch.Tensor]) -> Usual:
    def numbers(name: str) -> NDArray[np.float64]:
        return np.asarray(tensors[f"usual.{name}"].double().numpy())

    rest, limit, contrast, least, most, like = (float(one) for one in numbers("limits"))
    return Usual(
        mean=numbers("mean"),
        directions=numbers("directions"),
        variance=numbers("variance"),
        rest=rest,
        limit=limit,
        contrast=contrast,
        detail=(least, most),
        likeness=like,
    )


def _calibrations(tensors: Mapping[str, torch.Tensor]) -> dict[str, Calibration]:
    found = {}
    for group in GROUPS:
        slope, offset, threshold, low, high, calibrated = (
            float(one) for one in tensors[f"calibration.{group}"]
        )
        found[group] = Calibration(
            slope=slope, offset=offset, threshold=threshold, unsure=(low, high), calibrated=calibrated > 0
        )
    return found

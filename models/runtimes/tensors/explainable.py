"""A network of one tensor as something to be explained: which channel findings call by what name."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import outputs
from models.contract import SettingsNotUnderstood
from models.explain.subject import Explainable, Network
from models.manifest import Manifest
from models.prepare.ladder import Plan
from models.prepare.sample import resample
from models.runtimes.tensors.given import Prepared
from models.runtimes.tensors.options import TensorOptions

_UNSURE = 1e-6  # A probability of exactly 0 or 1 has no logit.


def subject_of(
    manifest: Manifest,
    options: TensorOptions,
    network: Network,
    at: Prepared,
    *,
    module: nn.Module | None,
    window: tuple[int, ...],
    plan: Plan,
) -> Explainable:
    """What is segmented, or else classified, in `at`. Raises `SettingsNotUnderstood` for other tasks."""
    dense = "segmentation" in manifest.tasks
    if not dense and "classification" not in manifest.tasks:
        raise SettingsNotUnderstood(
            f"model {manifest.identity} neither segments nor classifies: there is nothing that its "
            f"rule could ask to be explained"
        )
    said = options.segmentation.activation if dense else options.classification.activation
    if said == "labels":
        raise SettingsNotUnderstood(
            f"model {manifest.identity} gives labels without probabilities: there is nothing that its rule "
            f"could ask to be explained"
        )
    labels = _segments(manifest, softmax=said == "softmax") if dense else _classes(manifest)
    thresholds = outputs.thresholds_of(manifest, len(labels)) if dense and said != "softmax" else ()

    def back(values: Tensor) -> NDArray[np.float32]:
        there = resample(values.float()[None], at.grid, at.source, "linear", outside=0.0)
        return np.ascontiguousarray(there[0].cpu().numpy(), np.float32)

    return Explainable(
        network=network if said in ("softmax", "sigmoid") else _with_logits(network),
        given=at.image,
        labels=labels,
        back=back,
        module=module,
        dense=dense,
        activation="softmax" if said == "softmax" else "sigmoid",
        thresholds=thresholds,
        window=window,
        plan=plan,
    )


def _with_logits(network: Network) -> Network:
    """Of a network that gives probabilities."""
    return lambda images: torch.logit(network(images).float(), _UNSURE)


def _segments(manifest: Manifest, *, softmax: bool) -> tuple[str, ...]:
    """The labels by channel; of a segment made of several channels, its first one stands for it."""
    of = outputs.values_of if softmax else outputs.channels_of
    named = {
        of(asked)[0]: segment.label
        for asked, segment in zip(manifest.segments, outputs.segments_of(manifest), strict=True)
    }
    return tuple(named.get(channel, "") for channel in range(max(named, default=-1) + 1))


def _classes(manifest: Manifest) -> tuple[str, ...]:
    named = {one.index: one.label for one in manifest.classes}
    return tuple(named.get(index, "") for index in range(max(named, default=-1) + 1))

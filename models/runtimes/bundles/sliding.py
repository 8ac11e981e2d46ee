"""
A bundle's sliding window in bounded memory, where that gives the same answer.

Most bundles decide by `argmax`, and MONAI then holds the probabilities of all classes over the whole volume,
several times. Two orders of steps can do with less, and with the same labels:

    windows → softmax → argmax → invert       labels are taken window by window, logits forgotten
    windows → softmax → invert → argmax       one class after the other is brought back, the best one kept

Anything else, an inferer of the bundle's own for one, runs as the bundle has it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Activationsd, AsDiscreted, Compose, Invertd
from torch import Tensor, nn

from models.contract import Memory
from models.prepare.ladder import Plan
from models.prepare.tiling import Padding
from models.prepare.windows import predict

_PADDINGS = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True, slots=True)
class Steps:
    """What a postprocessing does to logits, as far as it can be done with less memory."""

    decide_first: bool  #: labels are taken before anything else; otherwise after the inversion
    invert: Invertd | None  #: of the probabilities of each class
    rest: Compose  #: what follows the decision


def steps_of(postprocessing: Compose, key: str) -> Steps | None:
    """The steps up to the decision; None where they are none of the two orders."""
    steps = list(postprocessing.transforms)
    at = 1 if steps and _is_softmax(steps[0], key) else 0
    if len(steps) > at and _is_argmax(steps[at], key):
        return Steps(True, None, Compose(steps[at + 1 :]))
    if at == 1 and len(steps) > 2 and _inverts(steps[1], key) and _is_argmax(steps[2], key):
        return Steps(False, steps[1], Compose(steps[3:]))
    return None


def is_plain(inferer: SlidingWindowInferer) -> bool:
    """Whether `windows.predict` does what this inferer does."""
    return (
        type(inferer) is SlidingWindowInferer
        and isinstance(inferer.overlap, int | float)
        and inferer.sigma_scale == 0.125
        and not inferer.with_coord
        and str(inferer.padding_mode).rpartition(".")[2].lower() in _PADDINGS
    )


def plan_of(inferer: SlidingWindowInferer, device: torch.device, half: bool, limit: Memory | None) -> Plan:
    """The first plan: as the bundle says, and what does not fit is streamed."""
    return Plan(
        batch=int(inferer.sw_batch_size),
        overlap=float(inferer.overlap),
        autocast=torch.float16 if half and device.type == "cuda" else None,
        streaming=False,
        limit=limit,
    )


def infer(
    network: nn.Module,
    inferer: SlidingWindowInferer,
    image: MetaTensor,
    *,
    device: torch.device,
    plan: Plan,
    steps: Steps | None,
) -> Tensor:
    """Labels (1, …) where the bundle decides first, else probabilities or, without steps, logits (K, …)."""
    roi = inferer.roi_size
    first_only: Callable[[Tensor], Tensor] = lambda windows: _first(network(windows))  # noqa: E731
    answer = predict(
        first_only,
        image.as_tensor(),
        window=roi if isinstance(roi, Sequence) else [int(roi)] * (image.ndim - 1),
        reduce="logits" if steps is None else "argmax" if steps.decide_first else "softmax",
        plan=plan,
        importance="gaussian" if str(inferer.mode).rpartition(".")[2].lower() == "gaussian" else "constant",
        padding=Padding(str(inferer.padding_mode).rpartition(".")[2].lower(), float(inferer.cval)),  # type: ignore[arg-type]
        device=device,
    )
    return answer.float()[None] if steps is not None and steps.decide_first else answer


def decided(
    probabilities: Tensor, steps: Steps, data: Mapping[str, Any], image: MetaTensor, key: str
) -> Tensor:
    """(1, …) labels on the grid that the inversion gives, of the classes one after the other.

    Of equals the first one, as `argmax` has it.
    """
    assert steps.invert is not None
    best: Tensor | None = None
    labels: Tensor | None = None
    for number in range(probabilities.shape[0]):
        one = probabilities[number : number + 1].to(image.device)
        back = steps.invert(
            {**data, key: MetaTensor(one, meta=image.meta, applied_operations=image.applied_operations)}
        )[key]
        plain = back.as_tensor() if isinstance(back, MetaTensor) else back
        if best is None or labels is None:
            best, labels, where = plain, torch.zeros_like(plain), back
            continue
        better = plain > best
        labels.masked_fill_(better, float(number))
        best = torch.maximum(best, plain)
    assert labels is not None
    return MetaTensor(labels, meta=where.meta) if isinstance(where, MetaTensor) else labels


def _first(answer: Any) -> Tensor:
    """Of a network with deep supervision the finest answer."""
    first: Tensor = answer[0] if isinstance(answer, tuple | list) else answer
    return first


def _is_softmax(step: object, key: str) -> bool:
    return (
        isinstance(step, Activationsd)
        and tuple(step.keys) == (key,)
        and all(step.softmax)
        and not any(step.sigmoid)
        and not any(step.other)
        and not step.converter.kwargs
    )


def _is_argmax(step: object, key: str) -> bool:
    return (
        isinstance(step, AsDiscreted)
        and tuple(step.keys) == (key,)
        and all(step.argmax)
        and not any(one is not None for one in (*step.to_onehot, *step.threshold, *step.rounding))
        and not step.converter.kwargs
    )


def _inverts(step: object, key: str) -> bool:
    return isinstance(step, Invertd) and tuple(step.keys) == (key,)

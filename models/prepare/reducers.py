"""
From logits to what is kept of them, voxel by voxel, for a part of a volume at a time.

A reducer gets mean logits (K, …) that it may overwrite, and gives (…) or (J, …) of the same voxels. It must
look at no neighbours: which part of the volume it sees is decided by the memory that there is.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from models.contract import BrokenModel

Reducer = Callable[[Tensor], Tensor]
Reduction = Literal["argmax", "sigmoid", "logits", "softmax", "probabilities"]


def reducer_of(reduce: Reduction | Reducer, thresholds: Sequence[float] | None = None) -> Reducer:
    """The reducer of that name. "sigmoid" has a threshold for each channel, ½ where none are given."""
    match reduce:
        case "argmax":
            return labels
        case "sigmoid":
            return lambda logits: above(logits, thresholds)
        case "logits":
            return lambda logits: logits
        case "softmax":
            return lambda logits: torch.softmax(logits.float(), 0)
        case "probabilities":
            return lambda logits: torch.sigmoid(logits.float())
    if not callable(reduce):
        raise TypeError(f"there is no reduction {reduce!r}")
    return reduce


def labels(logits: Tensor) -> Tensor:
    """The channel with the largest logit, the first of equals: (…) uint8, or uint16 above 256 channels.

    One pass over each channel: `argmax` over the first axis makes numbers of 64 bits, and on a CPU it is
    several times as slow.
    """
    kind = torch.uint8 if logits.shape[0] <= 256 else torch.int32
    best = torch.zeros(logits.shape[1:], dtype=kind, device=logits.device)
    highest = logits[0].clone()
    for channel in range(1, logits.shape[0]):
        best.masked_fill_(logits[channel] > highest, channel)
        torch.maximum(highest, logits[channel], out=highest)
    return best if kind == torch.uint8 else best.to(torch.uint16)


def above(logits: Tensor, thresholds: Sequence[float] | None = None) -> Tensor:
    """Whether the sigmoid of each channel reaches its threshold: (K, …) bool."""
    many = logits.shape[0]
    levels = [0.5] * many if thresholds is None else list(thresholds)
    if len(levels) != many:
        raise BrokenModel(
            f"the network has {many} output channels, and {len(levels)} thresholds are declared"
        )
    reached = torch.empty(logits.shape, dtype=torch.bool, device=logits.device)
    for channel, level in enumerate(levels):
        torch.ge(torch.sigmoid(logits[channel].float()), level, out=reached[channel])
    return reached

"""
How much memory a run over windows takes, by arithmetic: for admission before it starts and for its limit.

Counted are the volume, the windows in work with their logits, the sums and the answer. What a network needs
inside for one window is nobody's to compute from outside: it is measured (see `memory`) and passed in as
`inside_bytes`.
"""

from collections.abc import Sequence
from math import prod

import torch

from models.contract import Memory
from models.prepare.ladder import Plan
from models.prepare.reducers import Reducer, Reduction

_FLOAT = 4


def demand(
    shape: Sequence[int],
    *,
    window: Sequence[int],
    channels: int,
    classes: int,
    plan: Plan,
    reduce: Reduction | Reducer = "argmax",
    on_gpu: bool,
    inside_bytes: int = 0,
) -> Memory:
    """What `windows.predict` takes for a volume (`channels`, `shape`) at most, weights not counted.

    `inside_bytes` are those of one window within the network. A reducer that is a function is taken to give
    one byte for a voxel, as labels do.
    """
    sides = [side if side > 0 else size for side, size in zip(window, shape, strict=True)]
    size = [max(pair) for pair in zip(sides, shape, strict=True)]
    voxels, in_window = prod(size), prod(sides)
    whole = reduce in ("logits", "softmax", "probabilities")
    sums_on_gpu = on_gpu and plan.sums_on == "device"

    volume = channels * voxels * _FLOAT
    # The logits as they leave the network, and in the type of the sums.
    work = plan.batch * (in_window * (channels + 2 * classes) * _FLOAT + inside_bytes)
    if plan.streaming and not (whole and not sums_on_gpu):
        part = min(side / n for side, n in zip(sides, size, strict=True))
    else:
        part = 1.0
    held = round(voxels * part) if plan.blending else in_window
    # Beside the sums: the weights, and while labels are taken the highest logit, a mask and the label.
    sums = held * ((classes * plan.sums.itemsize if plan.blending else 0) + _FLOAT + plan.sums.itemsize + 2)
    answer = voxels * _answer_bytes(reduce, classes)
    if whole and plan.blending and part == 1.0 and reduce == "logits":
        answer = 0  # The sums become the answer.

    if not on_gpu:
        return Memory(host=volume + work + sums + answer, device=0)
    staged = 2 * plan.batch * in_window * classes * _FLOAT  # pinned, one batch being added and one arriving
    if sums_on_gpu:
        to_host = answer if whole and plan.streaming else 0
        return Memory(host=to_host, device=volume + work + sums + answer - to_host)
    if not plan.blending:
        return Memory(host=answer, device=volume + work + sums)
    return Memory(host=staged + sums + answer, device=volume + work)


def _answer_bytes(reduce: Reduction | Reducer, classes: int) -> int:
    match reduce:
        case "logits" | "softmax" | "probabilities":
            return classes * _FLOAT
        case "sigmoid":
            return classes * torch.bool.itemsize
        case "argmax" if classes > 256:
            return 2 + _FLOAT  # numbers of 32 bits while they are being found
    return 1

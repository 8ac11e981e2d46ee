"""Modality units to the numbers that a network was trained on, step by step, in place."""

import torch
from torch import Tensor

from models.runtimes.tensors.options import Step


def apply(steps: tuple[Step, ...], image: Tensor, outside: Tensor | None = None) -> Tensor:
    """`image` (C, …) after `steps`, which overwrite it. Statistics leave out what is `outside` (…)."""
    for channel in image:
        for step in steps:
            _apply(step, channel, outside)
    return image


def _apply(step: Step, channel: Tensor, outside: Tensor | None) -> None:
    low, high = float(step.low or 0.0), float(step.high or 0.0)
    match step.kind:
        case "clip":
            channel.clamp_(low, high)
        case "scale":
            channel.mul_(step.factor).add_(step.offset)
        case "window":
            _stretch(channel.clamp_(low, high), low, high, step.to)
        case "z-score" if step.mean is not None and step.deviation is not None:
            left_alone = (channel == 0) & step.nonzero
            channel.sub_(step.mean).div_(step.deviation).masked_fill_(left_alone, 0.0)
        case _:
            counted = torch.ones_like(channel, dtype=torch.bool) if outside is None else ~outside
            if step.nonzero:
                counted = counted & (channel != 0)
            values = channel[counted]
            if values.numel() == 0:
                return
            changed = values if step.nonzero else channel
            if step.kind == "z-score":
                deviation = float(values.std(correction=0))
                changed.sub_(values.mean()).div_(deviation or 1.0)
            else:
                if step.kind == "percentiles":
                    low, high = (_percentile(values, share) for share in (low, high))
                    changed.clamp_(low, high)
                else:
                    low, high = float(values.min()), float(values.max())
                _stretch(changed, low, high, step.to)
            if step.nonzero:
                channel[counted] = changed


def _stretch(values: Tensor, low: float, high: float, to: tuple[float, float]) -> None:
    values.sub_(low).mul_((to[1] - to[0]) / ((high - low) or 1.0)).add_(to[0])


def _percentile(values: Tensor, share: float) -> float:
    """Linear between the two nearest, as NumPy's; `torch.quantile` takes no more than 16 million values."""
    at = (values.numel() - 1) * share / 100
    low = int(at)
    below = float(values.kthvalue(low + 1).values)
    if low + 1 == values.numel() or at == low:
        return below
    return below + (at - low) * (float(values.kthvalue(low + 2).values) - below)

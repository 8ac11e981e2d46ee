"""Values made ready for a network: windows, z-scores and percentiles, per channel of a tensor (C, …)."""

import torch
from torch import Tensor

# torch.quantile takes no more, and sorts everything; a single value is found in linear time.
_QUANTILE_MOST = 1 << 24


def window(
    values: Tensor, low: float, high: float, to: tuple[float, float] = (0.0, 1.0), *, clip: bool = True
) -> Tensor:
    """`low` … `high` scaled linearly onto `to`; where both are equal, `values` less `low`, as MONAI does."""
    if low == high:
        return values - low + to[0]
    scaled = (values - low).mul_((to[1] - to[0]) / (high - low)).add_(to[0])
    return scaled.clamp_(min(to), max(to)) if clip else scaled


def z_score(
    values: Tensor, mean: float | None = None, deviation: float | None = None, *, nonzero: bool = False
) -> Tensor:
    """(values - mean) / standard deviation, each channel by its own where none are given.

    The deviation is that of the population, as numpy and MONAI take it; a channel of one value is only
    shifted. With `nonzero`, zeros are not counted and stay.
    """
    scaled = values.float().clone()
    for channel in scaled:
        chosen = channel != 0 if nonzero else torch.ones_like(channel, dtype=torch.bool)
        some = channel[chosen] if nonzero else channel.flatten()
        if not some.numel():
            continue
        middle = float(some.mean(dtype=torch.float64)) if mean is None else mean
        spread = float(some.double().std(correction=0)) if deviation is None else deviation
        channel.sub_(middle).div_(spread or 1.0)
        if nonzero:
            channel.mul_(chosen)
    return scaled


def percentiles(
    values: Tensor, low: float, high: float, to: tuple[float, float] = (0.0, 1.0), *, clip: bool = True
) -> Tensor:
    """Each channel's percentiles `low` … `high` scaled onto `to`."""
    channels = [
        window(channel.float(), percentile(channel, low), percentile(channel, high), to, clip=clip)
        for channel in values
    ]
    return torch.stack(channels)


def percentile(values: Tensor, q: float) -> float:
    """As `numpy.percentile` gives it, of tensors of any size."""
    flat = values.flatten().float()
    if flat.numel() <= _QUANTILE_MOST:
        return float(torch.quantile(flat, q / 100))
    at = (flat.numel() - 1) * q / 100
    low = int(at)
    first = float(flat.kthvalue(low + 1).values)
    if at == low:
        return first
    return first + (at - low) * (float(flat.kthvalue(low + 2).values) - first)

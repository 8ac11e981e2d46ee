"""
Stronger variations than `vary` makes, for a network that would learn a set's habits by heart otherwise.

Framing, sharpness, marks and exposure are drawn anew each time a film is shown, and now and then a film wears
the outer part of another one: what lies at the edges is then no sign of its label.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from models.builtin.cxr_pneumonia.network import SEEN


def disguise(pictures: Tensor, chance: torch.Generator) -> Tensor:
    """(n, SIDE, SIDE) of uint8 → (n, 1, SEEN, SEEN) of 0 to 1."""
    x = _placed(pictures[:, None].float() / 255, chance)
    x = _reframed(x, chance)
    x = _sharpness(x, chance)
    return _exposure(_marks(x, chance), chance)


def _uniform(n: int, low: float, high: float, chance: torch.Generator) -> Tensor:
    return torch.rand(n, generator=chance) * (high - low) + low


def _often(n: int, part: float, chance: torch.Generator) -> Tensor:
    return torch.rand(n, generator=chance) < part


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _placed(x: Tensor, chance: torch.Generator) -> Tensor:
    """Turned up to 10°, sized 0.85 to 1.25, stretched by up to 30 %, shifted by 7 % at most, mirrored."""
    n = len(x)
    angle = _uniform(n, -10, 10, chance) * (math.pi / 180)
    size = 1 / _uniform(n, 0.85, 1.25, chance)
    stretch = torch.exp(_uniform(n, -0.15, 0.15, chance))
    mirror = _often(n, 0.5, chance).float() * 2 - 1
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0] = mirror * size * stretch * angle.cos()
    matrix[:, 0, 1] = -size * angle.sin()
    matrix[:, 1, 0] = mirror * size * angle.sin()
    matrix[:, 1, 1] = size / stretch * angle.cos()
    matrix[:, :, 2] = torch.stack((_uniform(n, -0.14, 0.14, chance), _uniform(n, -0.14, 0.14, chance)), 1)
    grid = functional.affine_grid(matrix, [n, 1, SEEN, SEEN], align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _within(top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """(n,) each, in parts of a side → (n, 1, SEEN, SEEN): what lies between."""
    at = torch.arange(SEEN) / SEEN
    rows = (at >= top[:, None]) & (at < bottom[:, None])
    columns = (at >= left[:, None]) & (at < right[:, None])
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _reframed(x: Tensor, chance: torch.Generator) -> Tensor:
    """In three of ten films up to a fifth of each side is of another film, or of one grey."""
    n = len(x)
    asked = _each(_often(n, 0.3, chance))
    top, bottom, left, right = (_uniform(n, 0, 0.2, chance) for _ in range(4))
    inside = _within(top, 1 - bottom, left, 1 - right)
    other = x[torch.randperm(n, generator=chance)]
    grey = _each(torch.rand(n, generator=chance)).expand_as(x)
    outside = torch.where(_each(_often(n, 0.6, chance)), other, grey)
    return torch.where(inside | ~asked, x, outside)


def _sharpness(x: Tensor, chance: torch.Generator) -> Tensor:
    """From blurred, over one or two pixels, to sharpened; and noise."""
    n = len(x)
    near = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    far = functional.avg_pool2d(near, 3, 1, 1, count_include_pad=False)
    soft = torch.where(_each(_often(n, 0.3, chance)), far, near)
    x = x + _each(_uniform(n, -1, 0.9, chance)) * (x - soft)
    return x + _each(_uniform(n, 0, 0.04, chance)) * torch.randn(x.shape, generator=chance)


def _marks(x: Tensor, chance: torch.Generator) -> Tensor:
    """Two letters or plates, a larger part that is hidden, and a bar along an edge."""
    n = len(x)
    for largest in (0.14, 0.14, 0.35):
        top, left = _uniform(n, 0, 1, chance), _uniform(n, 0, 1, chance)
        high, wide = _uniform(n, 0.02, largest, chance), _uniform(n, 0.02, largest, chance)
        asked = _each(_often(n, 0.35, chance))
        grey = torch.rand(n, generator=chance)
        grey = torch.where(_often(n, 0.6, chance), grey.round(), grey)
        x = torch.where(_within(top, top + high, left, left + wide) & asked, _each(grey), x)
    depth = _uniform(n, 0, 0.1, chance) * _often(n, 0.35, chance)
    edge = torch.randint(4, (n,), generator=chance)
    top, bottom, left, right = (depth * (edge == number) for number in range(4))
    grey = torch.rand(n, generator=chance).round()
    return torch.where(_within(top, 1 - bottom, left, 1 - right), x, _each(grey))


def _exposure(x: Tensor, chance: torch.Generator) -> Tensor:
    """What is left of another exposure after ranking: a slow change over the film, gamma and contrast."""
    n = len(x)
    slow = functional.interpolate(
        torch.randn(n, 1, 3, 3, generator=chance), (SEEN, SEEN), mode="bicubic", align_corners=True
    )
    x = x + _each(_uniform(n, 0, 0.08, chance)) * slow
    gamma = _each(torch.exp(_uniform(n, -0.4, 0.4, chance)))
    contrast = _each(torch.exp(_uniform(n, -0.3, 0.2, chance)))
    return ((x.clamp(1e-3, 1).pow(gamma) - 0.5) * contrast + 0.5).clamp(0, 1)

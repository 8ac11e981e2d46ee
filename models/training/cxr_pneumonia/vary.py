"""Variations of standard pictures: what differs between two devices, and not between lungs."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from models.builtin.cxr_pneumonia.network import SEEN


def vary(pictures: Tensor, chance: torch.Generator) -> Tensor:
    """(n, SIDE, SIDE) of uint8 → (n, 1, SEEN, SEEN) of 0 to 1: placed, blurred, marked and ranked anew."""
    x = _placed(pictures[:, None].float() / 255, chance)
    x = _sharpness(x, chance)
    return _exposure(_marks(x, chance), chance)


def _uniform(n: int, low: float, high: float, chance: torch.Generator) -> Tensor:
    return torch.rand(n, generator=chance) * (high - low) + low


def _placed(x: Tensor, chance: torch.Generator) -> Tensor:
    """Turned up to 6°, sized 0.9 to 1.15, stretched by up to 20 %, shifted by up to 4 %, mirrored or not."""
    n = len(x)
    angle = _uniform(n, -6, 6, chance) * (math.pi / 180)
    size = 1 / _uniform(n, 0.9, 1.15, chance)
    stretch = torch.exp(_uniform(n, -0.1, 0.1, chance))
    mirror = (torch.rand(n, generator=chance) < 0.5).float() * 2 - 1
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0] = mirror * size * stretch * angle.cos()
    matrix[:, 0, 1] = -size * angle.sin()
    matrix[:, 1, 0] = mirror * size * angle.sin()
    matrix[:, 1, 1] = size / stretch * angle.cos()
    matrix[:, :, 2] = torch.stack((_uniform(n, -0.08, 0.08, chance), _uniform(n, -0.08, 0.08, chance)), 1)
    grid = functional.affine_grid(matrix, [n, 1, SEEN, SEEN], align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _sharpness(x: Tensor, chance: torch.Generator) -> Tensor:
    """From blurred to sharpened, and noise."""
    n = len(x)
    soft = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = x + _uniform(n, -0.8, 0.5, chance)[:, None, None, None] * (x - soft)
    noise = _uniform(n, 0, 0.03, chance)[:, None, None, None]
    return x + noise * torch.randn(x.shape, generator=chance)


def _marks(x: Tensor, chance: torch.Generator) -> Tensor:
    """A bar along an edge, a letter or a plate in a corner."""
    n, side = len(x), x.shape[-1]
    dice = torch.rand(n, 10, generator=chance).tolist()
    for k, (bar, depth, edge, black, letter, high, wide, row, column, white) in enumerate(dice):
        if bar < 0.3:
            turned = torch.rot90(x[k, 0], int(edge * 4))
            turned[: 1 + int(depth * 0.08 * side)] = round(black)
        if letter < 0.3:
            rows, columns = 3 + int(high * 9), 3 + int(wide * 13)
            first = int(row * 0.3 * side)
            left = int(abs(2 * column - 1) * 0.2 * side)
            left = left if column < 0.5 else side - columns - left
            x[k, 0, first : first + rows, left : left + columns] = round(white)
    return x


def _exposure(x: Tensor, chance: torch.Generator) -> Tensor:
    """What is left of another exposure after ranking: a little of gamma and contrast."""
    n = len(x)
    gamma = torch.exp(_uniform(n, -0.2, 0.2, chance))[:, None, None, None]
    contrast = torch.exp(_uniform(n, -0.1, 0.1, chance))[:, None, None, None]
    return ((x.clamp(1e-3, 1).pow(gamma) - 0.5) * contrast + 0.5).clamp(0, 1)

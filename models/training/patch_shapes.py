"""Shapes and blur for a batch of small scenes: signed distances (n, z, y, x) in mm, one for each scene."""

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor
from torch.nn import functional

_WAVES, _DIRECTIONS = 6, 400


def tube(
    at: Sequence[Tensor],
    ends: tuple[Tensor, Tensor],
    radii_mm: tuple[Tensor, Tensor],
    wave_mm: Tensor | None = None,
) -> Tensor:
    """A tube between the points `ends`, each (n, 3), of the radii (n,) there.

    `wave_mm` (n,) bends it sideways by that much, twice over its way.
    """
    (start, end), (start_mm, end_mm) = ends, radii_mm
    wide = [start[:, i, None, None, None] for i in range(3)]
    along = [(end - start)[:, i, None, None, None] for i in range(3)]
    length = (along[0].square() + along[1].square() + along[2].square()).clamp_min(1e-6)
    offset = [at[0] - wide[0], at[1] - wide[1], at[2] - wide[2]]
    t = (
        offset[0] * (along[0] / length) + offset[1] * (along[1] / length) + offset[2] * (along[2] / length)
    ).clamp(0, 1)
    if wave_mm is not None:
        bend = wave_mm[:, None, None, None] * torch.sin(2 * pi * 2 * t)
        offset = [offset[0] + bend, offset[1] - 0.6 * bend, offset[2] + 0.3 * bend]
    away = (offset[0] - t * along[0]).square()
    away += (offset[1] - t * along[1]).square()
    away += (offset[2] - t * along[2]).square()
    first, last = start_mm[:, None, None, None], end_mm[:, None, None, None]
    return away.clamp_min(1e-6).sqrt() - (first + t * (last - first))


def star(at: Sequence[Tensor], diameter: Tensor, rough: Tensor, random: torch.Generator) -> Tensor:
    """Star-convex: an ellipsoid with waves upon it, of the volume of a ball of `diameter` (n,)."""
    count, device = len(diameter), diameter.device
    vectors = torch.randn((count, _WAVES, 3), generator=random, device=device)
    vectors *= torch.linspace(1.6, 4.0, _WAVES, device=device)[None, :, None]
    phases = torch.rand((count, _WAVES), generator=random, device=device) * 2 * pi
    stretch = 1 + 0.35 * torch.rand((count, 3), generator=random, device=device)
    turn = torch.linalg.qr(torch.randn((count, 3, 3), generator=random, device=device))[0]
    inverse = turn / stretch[:, None, :]

    def radius(u: Tensor) -> Tensor:  # (n, k, 3) → (n, k), before scaling
        waves = torch.sin(torch.einsum("nkc,nwc->nkw", u, vectors) + phases[:, None]).sum(-1) * 0.58
        reach = torch.einsum("nkc,ncd->nkd", u, inverse).square().sum(-1).sqrt()
        uneven: Tensor = (1 + rough[:, None] * waves).clamp(0.4, 1.8) / reach.clamp_min(1e-3)
        return uneven

    index = torch.arange(_DIRECTIONS, device=device) + 0.5
    up = 1 - 2 * index / _DIRECTIONS
    turns = index * pi * (3 - 5**0.5)
    flat = (1 - up.square()).sqrt()
    sphere = torch.stack([flat * turns.cos(), flat * turns.sin(), up], -1)[None].expand(count, -1, -1)
    unit_volume = (radius(sphere) ** 3).mean(1)  # of the ball of radius 1
    scale = diameter / 2 / unit_volume ** (1 / 3)
    far = (at[0].square() + at[1].square() + at[2].square()).clamp_min(1e-6).sqrt()
    u = torch.stack([axis / far for axis in at], -1).reshape(count, -1, 3)
    return far - (radius(u) * scale[:, None]).reshape(far.shape)


def blob(at: Sequence[Tensor], diameter: Tensor, rough: Tensor, random: torch.Generator) -> Tensor:
    """The other generator's: a superellipsoid whose surface a smooth random field pushes in and out."""
    count, device = len(diameter), diameter.device
    axes = 0.8 + 0.45 * torch.rand((count, 3), generator=random, device=device)
    axes = axes / axes.prod(1, keepdim=True) ** (1 / 3)
    power = (1.6 + 1.6 * torch.rand(count, generator=random, device=device))[:, None, None, None]
    half = (diameter / 2)[:, None, None, None]
    sums = sum(
        ((axis / axes[:, i, None, None, None]).abs() / half + 1e-4) ** power for i, axis in enumerate(at)
    )
    assert isinstance(sums, Tensor)  # three of them
    coarse = torch.randn((count, 1, 7, 7, 7), generator=random, device=device)
    push = functional.interpolate(coarse, at[0].shape[1:], mode="trilinear", align_corners=True)[:, 0]
    return (sums ** (1 / power) - 1 + 1.2 * rough[:, None, None, None] * push) * half


def blurred(volume: Tensor, sigma_z: Tensor, sigma_xy: Tensor, spacing_mm: float) -> Tensor:
    """Gaussian blur of (n, z, y, x), its deviations in mm (n,) each scene's own; edges repeat."""
    count = len(volume)
    half = 4
    steps = torch.arange(-half, half + 1, device=volume.device) * spacing_mm
    result = volume[None]  # (1, n, z, y, x): a scene is a channel
    for axis, sigma in ((0, sigma_z), (1, sigma_xy), (2, sigma_xy)):
        weights = torch.exp(-0.5 * (steps[None] / sigma.clamp_min(0.05)[:, None]).square())
        weights = weights / weights.sum(1, keepdim=True)
        shape = [count, 1, 1, 1, 1]
        shape[2 + axis] = 2 * half + 1
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = half
        padded = functional.pad(result, pad, mode="replicate")
        result = functional.conv3d(padded, weights.reshape(shape), groups=count)
    return result[0]

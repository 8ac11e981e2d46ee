"""
Two small networks for cubes of lung, and how they are taught.

`Filter` says whether a nodule is in the middle of a cube (a residual network of 16, 32 and 64 channels),
`Outline` which voxels belong to it (a U-Net of 8, 16 and 32). Both see Hounsfield units through `seen`. Cubes
are (n, z, y, x). Where the processor can, sums are made of bfloat16; the same seed on the same kind of
machine gives the same weights.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

_LUNG_HU = -860.0
_SEEN_HU = (-1000.0, 300.0)
_SHIFT = 2  # voxels: a candidate is no better centred than that
Network = TypeVar("Network", bound=nn.Module)


def timed() -> Callable[[str], None]:
    """Says a line to the standard output, with the seconds since now before it."""
    start = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - start:6.0f} s  {text}\n")
        sys.stdout.flush()

    return say


def command(name: str, about: str | None, train: Callable[[Path], None]) -> None:
    """`python -m models.training.NAME -o OUTPUT`: cubes, figures, weights."""
    parser = argparse.ArgumentParser(prog=f"python -m models.training.{name}", description=about)
    parser.add_argument("-o", "--output", type=Path, required=True, help="where cubes and weights go")
    asked_for = parser.parse_args()
    torch.set_num_threads(1)  # The order of sums, and so the last digits, depend on their number.
    train(asked_for.output)


def seen(hu: Tensor) -> Tensor:
    """(n, z, y, x) Hounsfield units as (n, 1, z, y, x) about 0."""
    return ((hu.float().clamp(*_SEEN_HU) + 600) / 400)[:, None]


def _layer(few: int, many: int, step: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(few, many, 3, step, 1, bias=False), nn.BatchNorm3d(many), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    """Two layers beside a short cut."""

    def __init__(self, few: int, many: int, step: int) -> None:
        super().__init__()
        self.first = _layer(few, many, step)
        self.second = nn.Sequential(nn.Conv3d(many, many, 3, 1, 1, bias=False), nn.BatchNorm3d(many))
        self.short = nn.Conv3d(few, many, 1, step, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, few, …) → (n, many, …)."""
        return torch.relu(self.second(self.first(x)) + self.short(x))


class Filter(nn.Module):
    """(n, 1, 32, 32, 32) → (n, 2): logit of a nodule in the middle, logarithm of its diameter in mm."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(1, width, 2),
            _Residual(width, width, 1),
            _Residual(width, 2 * width, 2),
            _Residual(2 * width, 4 * width, 2),
        )
        self.last = nn.Linear(8 * width, 2)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        deep = self.body(x)
        return torch.as_tensor(self.last(torch.cat([deep.mean((2, 3, 4)), deep.amax((2, 3, 4))], 1)))


class Outline(nn.Module):
    """(n, 1, 32, 32, 32) → the same shape: logit of every voxel that it is of the nodule in the middle."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.fine = nn.Sequential(_layer(1, width), _layer(width, width))
        self.middle = nn.Sequential(_layer(width, 2 * width, 2), _layer(2 * width, 2 * width))
        self.coarse = nn.Sequential(_layer(2 * width, 4 * width, 2), _layer(4 * width, 4 * width))
        self.deep = nn.Sequential(_layer(4 * width, 4 * width, 2), _layer(4 * width, 4 * width))
        self.to_coarse = _layer(8 * width, 4 * width)
        self.to_middle = _layer(6 * width, 2 * width)
        self.to_fine = _layer(3 * width, width)
        self.last = nn.Conv3d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        fine = self.fine(x)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        coarse = self.to_coarse(torch.cat([coarse, _twice(self.deep(coarse))], 1))
        middle = self.to_middle(torch.cat([middle, _twice(coarse)], 1))
        return torch.as_tensor(self.last(self.to_fine(torch.cat([fine, _twice(middle)], 1))))


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """How long and how fast a network is taught."""

    batches: int
    size: int = 32  #: cubes of a batch
    rate: float = 3e-3  #: the highest, after a tenth of the batches
    decay: float = 1e-3
    seed: int = 20251

    def pace(self, batch: int) -> float:
        """The rate of a batch: up in a straight line, down along a cosine."""
        warm = max(1, self.batches // 10)
        if batch < warm:
            return self.rate * (batch + 1) / warm
        return self.rate * 0.5 * (1 + math.cos(math.pi * (batch - warm) / max(1, self.batches - warm)))


Batch = tuple[Tensor, ...]  #: cubes in Hounsfield units, then what is true of them


def taught(
    network: Network,
    batches: Iterator[Batch],
    loss_of: Callable[[Tensor, Batch], Tensor],
    lessons: Lessons,
    say: Callable[[str], None],
) -> tuple[Network, list[float]]:
    """The network, ready for use, and the mean loss of every tenth of its lessons."""
    network = network.to(memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
    hand = torch.optim.AdamW(network.parameters(), lessons.rate, weight_decay=lessons.decay)
    losses: list[float] = []
    means: list[float] = []
    for number in range(lessons.batches):
        for group in hand.param_groups:
            group["lr"] = lessons.pace(number)
        batch = next(batches)
        cubes = seen(batch[0]).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16):
            answer = network(cubes)
        loss = loss_of(answer.float(), batch)
        hand.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        hand.step()
        losses.append(float(loss.detach()))
        if (number + 1) * 10 // lessons.batches > number * 10 // lessons.batches:
            means.append(sum(losses) / len(losses))
            say(f"{number + 1} of {lessons.batches} batches, loss {means[-1]:.4f}")
            losses = []
    return network.eval().requires_grad_(False), means


def varied(hu: Tensor, random: torch.Generator, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Cubes turned, shifted, and seen by other scanners; `labels` are turned and shifted alike."""
    both = [hu.float()] if labels is None else [hu.float(), labels.float()]
    flips = [axis for axis in (1, 2, 3) if _chance(random) < 0.5]
    swap = _chance(random) < 0.5
    shift = [int(_chance(random) * (2 * _SHIFT + 1)) for _ in range(3)]
    turned = []
    for one in both:
        flipped = one.flip(flips)
        wide = functional.pad(flipped[:, None], (_SHIFT,) * 6, mode="replicate")[:, 0]
        wide = wide.transpose(2, 3) if swap else wide
        z, y, x = (slice(at, at + n) for at, n in zip(shift, one.shape[1:], strict=True))
        turned.append(wide[:, z, y, x])
    many = len(hu)

    def each(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((many, 1, 1, 1), generator=random)

    scale = torch.where(each(0, 1) < 0.25, each(0.6, 1.4), each(0.96, 1.04))
    noise = torch.randn(turned[0].shape, generator=random)
    seen_hu = (turned[0] - _LUNG_HU) * scale + _LUNG_HU + each(-30, 30) + noise * each(0, 30)
    return seen_hu, turned[1] if labels is not None else None


def _chance(random: torch.Generator) -> float:
    return float(torch.rand((), generator=random))


@torch.no_grad()
def asked(network: nn.Module, hu: Tensor, at_once: int = 64) -> Tensor:
    """What a taught network says of cubes, in single precision."""
    return torch.cat([network(seen(part)).float() for part in torch.split(hu, at_once)])

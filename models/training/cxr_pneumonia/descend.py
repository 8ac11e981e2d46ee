"""
The second branch is trained from end to end: one processor core, bfloat16, minutes for each fold.

AdamW (Loshchilov and Hutter, ICLR 2019), a rate that rises briefly and falls along a cosine, smoothed labels,
now and then two films laid over each other (mixup; Zhang et al., ICLR 2018), and the average of the weights
of the last steps is what is kept.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.builtin.cxr_pneumonia.deep import Deep
from models.training.cxr_pneumonia.disguise import disguise
from models.training.cxr_pneumonia.films import ADULT, Films, weights

_AHEAD = 50  #: batches that are dealt out together


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """The defaults are what the shipped weights were made with."""

    seed: int = 6
    steps: int = 800
    batch: int = 48
    rate: float = 2e-3
    rising: float = 0.06  #: of the steps
    decay: float = 0.05
    longest: float = 2.0  #: that a gradient may be
    average: float = 0.997  #: of the averaged weights is kept at each step
    mixed: float = 0.15  #: of the batches are laid over themselves in another order
    adults: float = 0.4  #: of the films that are shown
    smooth_child: float = 0.04
    smooth_adult: float = 0.2


def descend(films: Films, recipe: Descent, number: int, say: Callable[[str], None]) -> Deep:
    """A network trained on `films`; `number` tells the folds' random numbers apart."""
    torch.manual_seed(100 * recipe.seed + number)
    chance = torch.Generator().manual_seed(1000 * recipe.seed + number)
    draw = np.random.default_rng([recipe.seed, number])
    net = Deep()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kept: Deep = copy.deepcopy(net).eval().requires_grad_(False)
    many, few = ([p for p in net.parameters() if (p.ndim > 1) == large] for large in (True, False))
    groups = [{"params": many, "weight_decay": recipe.decay}, {"params": few, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate)
    smooth = np.where(films.group == ADULT, recipe.smooth_adult, recipe.smooth_child)
    target = torch.from_numpy(films.label * (1 - smooth) + smooth / 2).float()
    pictures, often = torch.from_numpy(films.pictures), weights(films, recipe.adults)
    dealt: list[NDArray[np.int64]] = []
    mean = 0.0
    for step in range(recipe.steps):
        if not dealt:
            dealt = list(_deal(often, recipe.batch, draw))
        rows = dealt.pop()
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * _rate(step, recipe)
        x, y = disguise(pictures[rows], chance), target[rows]
        if draw.random() < recipe.mixed:
            part, order = float(draw.beta(0.5, 0.5)), torch.randperm(len(x), generator=chance)
            x, y = part * x + (1 - part) * x[order], part * y + (1 - part) * y[order]
        with torch.autocast("cpu", torch.bfloat16):
            logit = net(x)
        loss = functional.binary_cross_entropy_with_logits(logit.float(), y)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.longest)
        optimiser.step()
        _average(kept, net, min(recipe.average, (step + 1) / (step + 20)))
        mean += float(loss.detach())
        if (step + 1) % 200 == 0:
            say(f"step {step + 1} of {recipe.steps}, mean loss {mean / 200:.3f}")
            mean = 0.0
    return kept


def answers(net: Deep, given: Iterable[torch.Tensor]) -> NDArray[np.float64]:
    """(n,) logits of films as `fit.shown` gives them: the mean of a film and its mirror image."""
    with torch.inference_mode():
        return np.concatenate([((net(x) + net(x.flip(-1))) / 2).double().numpy() for x in given])


def _deal(often: NDArray[np.float64], batch: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """(_AHEAD, batch) rows: as often as asked, as evenly as can be."""
    count = _AHEAD * batch
    steps = np.cumsum(often)
    rows: NDArray[np.int64] = np.searchsorted(steps, (np.arange(count) + draw.random()) / count * steps[-1])
    draw.shuffle(rows)
    return rows.reshape(_AHEAD, batch)


def _rate(step: int, recipe: Descent) -> float:
    rising = min(1.0, (step + 1) / (recipe.rising * recipe.steps))
    return rising * (0.5 * (1 + math.cos(math.pi * step / recipe.steps)) + 0.002)


def _average(kept: Deep, net: Deep, part: float) -> None:
    with torch.no_grad():
        for mine, theirs in zip(kept.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - part)
            else:
                mine.copy_(theirs)

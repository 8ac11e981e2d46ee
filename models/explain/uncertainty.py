"""
How sure a network is, by asking it several times: with the image mirrored, or asking its siblings.

The mean of the probabilities is the better answer; how much they disagree is the uncertainty. Entropy is
that of the mean, 0 where one class is certain and 1 where all are equally likely; deviation is the standard
deviation of the answers' probabilities, of the class where it is largest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import log
from typing import Literal

import torch
from torch import Tensor

from models.explain.subject import Explainable, Network
from models.prepare.windows import predict

Measure = Literal["entropy", "deviation"]


@dataclass(frozen=True, slots=True)
class Asked:
    """The answers of several runs together."""

    mean: Tensor  #: (K,) or (K, …): mean probabilities
    uncertainty: Tensor  #: () or (…), 0 … 1


def flips(shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """All ways to mirror images (n, C, `shape`), not at all first: 8 for a volume, 4 for a slice of one."""
    every = [axis for axis, size in enumerate(shape, start=2) if size > 1]
    return tuple(chain.from_iterable(combinations(every, many) for many in range(len(every) + 1)))


def flipped(network: Network, mirrored: tuple[int, ...], *, dense: bool) -> Network:
    """`network` asked about the mirrored image, its answer mirrored back."""

    def ask(images: Tensor) -> Tensor:
        answer = network(images.flip(mirrored) if mirrored else images)
        return answer.flip(mirrored) if mirrored and dense else answer

    return ask


def ask(subject: Explainable, by: Literal["flips", "ensemble"], measure: Measure = "entropy") -> Asked:
    """Ask the network of `subject` mirrored, or its ensemble, and see how far the answers agree.

    In windows where the network sees windows; then the means are blended as logits are.
    """
    if by == "flips":
        askers = [
            flipped(subject.network, mirrored, dense=subject.dense)
            for mirrored in flips(subject.given.shape[1:])
        ]
    else:
        askers = [subject.network, *subject.others]

    def all_of(images: Tensor) -> Tensor:  # (n, C, …) → (n, K + 1, …)
        mean, uncertainty = agreement((subject.probabilities(ask(images)) for ask in askers), measure)
        return torch.cat([mean, uncertainty], 1)

    with torch.no_grad():
        if subject.dense and subject.window:
            both = predict(all_of, subject.given, window=subject.window, reduce="logits", plan=subject.plan)
        else:
            both = all_of(subject.given[None])[0]
    return Asked(both[:-1], both[-1].clamp(0, 1))


def agreement(answers: Iterable[Tensor], measure: Measure) -> tuple[Tensor, Tensor]:
    """(mean (n, K, …), uncertainty (n, 1, …)) of probabilities (n, K, …), held one at a time."""
    count, mean, spread = 0, torch.empty(0), torch.empty(0)
    for answer in answers:
        count += 1
        if count == 1:
            mean, spread = answer.float().clone(), torch.zeros_like(answer, dtype=torch.float32)
            continue
        off = answer - mean  # Welford's way: no squares of large numbers are subtracted
        mean.add_(off / count)
        spread.addcmul_(off, answer - mean)
    if not count:
        raise ValueError("nobody was asked")
    if measure == "deviation":
        return mean, (spread / count).sqrt().amax(1, keepdim=True)
    return mean, _entropy(mean)


def _entropy(mean: Tensor) -> Tensor:
    classes = mean.shape[1]
    total = mean.sum(1, keepdim=True)
    if classes > 1 and torch.allclose(total, torch.ones_like(total), atol=1e-3):
        entropy: Tensor = torch.special.entr(mean).sum(1, keepdim=True) / log(classes)
        return entropy
    # Classes that do not exclude each other: the least certain of them.
    either: Tensor = torch.special.entr(mean) + torch.special.entr(1 - mean)
    return either.amax(1, keepdim=True) / log(2)

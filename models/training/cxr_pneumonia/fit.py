"""Filters without labels, features of every film, and a logistic regression on them: all in closed steps."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch.nn import functional

from models.builtin.cxr_pneumonia.both import Both
from models.builtin.cxr_pneumonia.network import FILTERS, PATCH, SEEN, Textures, local_contrast
from models.training.cxr_pneumonia.films import ADULT, CHILD, Films, weights
from models.training.cxr_pneumonia.vary import vary

CHUNK = 32
_STEEP = np.float32(80)  #: beyond it an exponential is too large for a float
Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The defaults are what the shipped weights were made with."""

    seed: int = 6
    folds: int = 5
    films_for_filters: int = 150  #: of each label in each group
    patches: int = 12_000
    rounds: int = 8  #: of clustering
    whitening: float = 0.05  #: added to each variance, in parts of the mean one
    variants: int = 3  #: of each film, besides itself
    pull: float = 0.05  #: towards weights of zero
    adults: float = 0.35  #: part of the loss that films of adults have
    deep: float = 1 / 3  #: of the answer is the second branch's, each taken in its own spread
    smooth_child: float = 0.04  #: of the labels
    smooth_adult: float = 0.2  #: text-mined: many are wrong
    iterations: int = 40


def seen(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """(n, SIDE, SIDE) → (n, 1, SEEN, SEEN), as the model gives them to the network."""
    x = torch.from_numpy(pictures)[:, None].float() / 255
    return functional.interpolate(x, (SEEN, SEEN), mode="bilinear", antialias=True)


def with_filters(films: Films, recipe: Recipe) -> Textures:
    """A network whose filters are learned from patches of the films, and whose weights are nought."""
    chance = np.random.default_rng(recipe.seed)
    x = seen(films.pictures[_few_of_each(films, recipe, chance)])
    net = Textures().eval().requires_grad_(False)
    for layer, given in ((net.fine, x), (net.coarse, functional.avg_pool2d(x, 2))):
        weight, offset = _clusters(local_contrast(given)[:, 0].numpy(), recipe, chance)
        layer.weight.copy_(torch.from_numpy(weight.reshape(FILTERS, 1, PATCH, PATCH)))
        assert layer.bias is not None
        layer.bias.copy_(torch.from_numpy(offset))
    return net


def mean_spoken(net: Both, films: Films, recipe: Recipe) -> torch.Tensor:
    """(PLACES, PLACES): the mean evidence of a few films of each label and group, mirrored too."""
    x = seen(films.pictures[_few_of_each(films, recipe, np.random.default_rng(recipe.seed))])
    with torch.inference_mode():
        parts = [net.spoken(torch.cat((some, some.flip(-1)))).mean((0, 1)) for some in torch.split(x, CHUNK)]
    return torch.stack(parts).mean(0)


def features(net: Textures, given: Iterable[torch.Tensor]) -> Features:
    """(n, features) of a network with filters: the mean of a film and its mirror image."""
    with torch.inference_mode():
        return np.concatenate([((net.fields(x) + net.fields(x.flip(-1))) / 2).numpy() for x in given])


def shown(films: Films) -> Iterator[torch.Tensor]:
    """All films as the networks are given them, a few at a time."""
    for first in range(0, len(films), CHUNK):
        yield seen(films.pictures[first : first + CHUNK])


def varied(films: Films, seed: int) -> Iterator[torch.Tensor]:
    """One variation of every film."""
    chance = torch.Generator().manual_seed(seed)
    for first in range(0, len(films), CHUNK):
        yield vary(torch.from_numpy(films.pictures[first : first + CHUNK]), chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A logistic regression: logit = (features - mean) · weight + offset."""

    weight: Features
    mean: Features
    offset: float

    def logits(self, given: Features) -> NDArray[np.float64]:
        """(n, features) → (n,)."""
        return np.asarray((given - self.mean) @ self.weight + self.offset, np.float64)


def regress(given: Sequence[Features], films: Films, recipe: Recipe) -> Line:
    """The line for `films`, whose groups and labels count as `weights` says; `given` are the features of the
    films, then of their variations.
    """
    mean, spread = given[0].mean(0), given[0].std(0)
    spread = spread + 0.1 * np.median(spread)
    x = (np.concatenate(given) - mean) / spread
    turned = np.ascontiguousarray(x.T)
    often = np.tile(weights(films, recipe.adults) / len(given), len(given)).astype(np.float32)
    smooth = np.where(films.group == ADULT, recipe.smooth_adult, recipe.smooth_child)
    target = np.tile(films.label * (1 - smooth) + smooth / 2, len(given)).astype(np.float32)

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight = at[:-1].astype(np.float32)
        z = x @ weight + np.float32(at[-1])
        value = float((often * (np.logaddexp(0, z) - target * z)).sum())
        away = often * (1 / (1 + np.exp(np.minimum(-z, _STEEP))) - target)
        slope = np.append(turned @ away + 2 * recipe.pull * weight, away.sum())
        return value + recipe.pull * float(weight @ weight), slope.astype(np.float64)

    start = np.zeros(x.shape[1] + 1)
    limits = {"maxiter": recipe.iterations, "maxcor": 8}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=limits).x
    return Line(weight=(found[:-1] / spread).astype(np.float32), mean=mean, offset=float(found[-1]))


def _few_of_each(films: Films, recipe: Recipe, chance: np.random.Generator) -> NDArray[np.int64]:
    rows = []
    for group in (CHILD, ADULT):
        for label in (0, 1):
            here = np.flatnonzero((films.group == group) & (films.label == label))
            rows.append(chance.choice(here, min(recipe.films_for_filters, len(here)), replace=False))
    return np.concatenate(rows)


def _clusters(
    pictures: NDArray[np.float32], recipe: Recipe, chance: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(FILTERS, PATCH²) and (FILTERS,): centres of whitened patches by spherical k-means, as filters whose
    answers have mean 0 and deviation 1.
    """
    count, high = recipe.patches, pictures.shape[1] - PATCH + 1
    which = chance.integers(0, len(pictures), count)
    corner = chance.integers(0, high, (count, 2))
    patches = np.stack(
        [
            pictures[k, r : r + PATCH, c : c + PATCH].reshape(-1)
            for k, (r, c) in zip(which, corner, strict=True)
        ]
    )
    mean = patches.mean(0)
    size, axes = np.linalg.eigh(np.cov((patches - mean).T))
    white = ((axes / np.sqrt(size + recipe.whitening * size.mean())) @ axes.T).astype(np.float32)
    z = (patches - mean) @ white
    centres = _unit(z[chance.choice(count, FILTERS, replace=False)])
    for _ in range(recipe.rounds):
        like = z @ centres.T
        nearest = np.abs(like).argmax(1)
        moved = np.zeros_like(centres)
        np.add.at(moved, nearest, like[np.arange(count), nearest][:, None] * z)
        lonely = np.linalg.norm(moved, axis=1) < 1e-6
        moved[lonely] = z[chance.choice(count, int(lonely.sum()))]
        centres = _unit(moved)
    weight = centres @ white
    spread = (patches @ weight.T).std(0)
    weight = weight / spread[:, None]
    return weight.astype(np.float32), (-(weight @ mean)).astype(np.float32)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found

"""From answers about films that a network had not seen: figures, calibration, and what a usual film is."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.builtin.cxr_pneumonia.gate import Usual, coarse, detail, likeness
from models.training.cxr_pneumonia.films import ADULT, CHILD, Films
from models.training.roc import auc

Numbers = NDArray[np.float64]

DIRECTIONS = 48
_ACCEPTED = 0.995  #: of the films, the share that the gate lets pass
_LESS = 0.9  #: of what the least usual of the films has is enough
_SENSITIVE = _SPECIFIC = 0.95  #: what the ends of the unsure band leave on the wrong side
ILL_AP, WELL_AP = 0.75, 0.4  #: parts of adults imaged AP where it is the ill who lie in bed
_DRAWN = 400  #: times that labels are drawn from what is said
_NARROWEST = 0.1  #: of the band, to either side of the threshold, where films are told apart better than that


def interval(
    label: NDArray[np.int64], score: Numbers, patient: NDArray[np.str_], seed: int
) -> tuple[float, float]:
    """95 % of the AUC by drawing patients again, 1000 times."""
    chance = np.random.default_rng(seed)
    names, member = np.unique(patient, return_inverse=True)
    rows = [np.flatnonzero(member == number) for number in range(len(names))]
    found: list[float] = []
    while len(found) < 1000:
        drawn = np.concatenate([rows[number] for number in chance.integers(0, len(names), len(names))])
        if 0 < label[drawn].sum() < len(drawn):
            found.append(auc(label[drawn], score[drawn]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A calibration with what it comes to on the films that it was fitted to."""

    slope: float
    offset: float
    threshold: float
    unsure: tuple[float, float]
    sensitivity: float
    specificity: float
    error: float  #: expected calibration error, ten bins of equal weight, cross-fitted
    by_chance: float  #: below it lies the error of a true probability on as many films in 19 of 20 draws
    said_ill: tuple[float, float, float]  #: absent, unsure, present, of films with pneumonia
    said_well: tuple[float, float, float]  #: of those without

    def tensor(self, *, calibrated: bool) -> torch.Tensor:
        """As `models.builtin.cxr_pneumonia.weights` reads it."""
        said = [self.slope, self.offset, self.threshold, *self.unsure, float(calibrated)]
        return torch.tensor(said, dtype=torch.float32)


def calibrate(label: NDArray[np.int64], logit: Numbers, weight: Numbers, fold: NDArray[np.int64]) -> Fitted:
    """Platt's fit, the threshold of the best sensitivity plus specificity, and the band around it; each film
    counts by its weight.
    """
    slope, offset = platt(label, logit, weight)
    p = _sigmoid(slope * logit + offset)
    crossed = np.zeros(len(p))
    for number in np.unique(fold):
        here = fold == number
        a, b = platt(label[~here], logit[~here], weight[~here])
        crossed[here] = _sigmoid(a * logit[here] + b)
    ill, well = (
        weight * (label == 1) / weight[label == 1].sum(),
        weight * (label == 0) / weight[label == 0].sum(),
    )
    order = np.argsort(p, kind="stable")
    found = 1 - np.cumsum(ill[order]) + ill[order]  # sensitivity from each film on, and specificity below it
    spared = np.cumsum(well[order]) - well[order]
    best = int((found + spared).argmax())
    threshold = float(p[order][best])
    low = float(p[order][np.searchsorted(np.cumsum(ill[order]), 1 - _SENSITIVE)])
    high = float(p[order][np.searchsorted(np.cumsum(well[order]), _SPECIFIC)])
    low, high = max(0.01, min(low, threshold - _NARROWEST)), min(0.99, max(high, threshold + _NARROWEST))
    chance = np.random.default_rng(len(p))
    drawn = [
        calibration_error((chance.random(len(p)) < crossed).astype(np.int64), crossed, weight)
        for _ in range(_DRAWN)
    ]
    return Fitted(
        slope=slope,
        offset=offset,
        threshold=threshold,
        unsure=(low, high),
        sensitivity=float(found[best]),
        specificity=float(spared[best]),
        error=calibration_error(label, crossed, weight),
        by_chance=float(np.quantile(drawn, 0.95)),
        said_ill=_shares(p, ill, low, high),
        said_well=_shares(p, well, low, high),
    )


def _shares(p: Numbers, weight: Numbers, low: float, high: float) -> tuple[float, float, float]:
    """Parts of the films that are called absent, unsure, present."""
    absent, present = float(weight[p < low].sum()), float(weight[p > high].sum())
    return absent, 1 - absent - present, present


def platt(label: NDArray[np.int64], logit: Numbers, weight: Numbers) -> tuple[float, float]:
    """(slope, offset) of the logistic fit (Platt 1999)."""

    def loss(ab: Numbers) -> float:
        z = ab[0] * logit + ab[1]
        return float((weight * (np.logaddexp(0, z) - label * z)).sum() / weight.sum())

    found = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9})
    return float(found.x[0]), float(found.x[1])


def calibration_error(label: NDArray[np.int64], p: Numbers, weight: Numbers) -> float:
    """Mean distance of said and seen frequency over ten bins of equal weight."""
    order = np.argsort(p, kind="stable")
    before = np.cumsum(weight[order]) - weight[order]
    bins = np.minimum((before / weight.sum() * 10).astype(np.int64), 9)
    away = np.bincount(bins, (weight * (p - label))[order], 10)
    return float(np.abs(away).sum() / weight.sum())


def usual_film(pictures: NDArray[np.uint8], group: NDArray[np.int64], seed: int) -> Usual:
    """Mean, directions and limit of frontal chest films, children and adults counted alike.

    The limit is the strangeness that `_ACCEPTED` of films not used for mean and directions stay below.
    """
    seen = np.stack([coarse(one) for one in pictures])
    part = np.random.default_rng(seed).permutation(len(seen)) % 2
    half = _described(seen[part == 0], group[part == 0])
    strange = np.array([half.strangeness(one) for one in pictures[part == 1]])
    limits = [float(np.quantile(strange[group[part == 1] == one], _ACCEPTED)) for one in (CHILD, ADULT)]
    whole = _described(seen, group)
    fine = np.array([detail(one) for one in pictures])
    like = np.array([likeness(one, whole.mean) for one in seen])
    return replace(
        whole,
        limit=max(limits),
        contrast=float(seen.std(1).min()) * _LESS,
        detail=(float(fine.min()) * _LESS, float(fine.max()) / _LESS),
        likeness=float(like.min()) * _LESS,
    )


def _described(seen: Numbers, group: NDArray[np.int64]) -> Usual:
    weight = np.where(
        group == CHILD, 0.5 / max(1, (group == CHILD).sum()), 0.5 / max(1, (group == ADULT).sum())
    )
    weight /= weight.sum()
    mean = weight @ seen
    away = (seen - mean) * np.sqrt(weight)[:, None]
    _, sizes, directions = np.linalg.svd(away, full_matrices=False)
    variance = sizes**2
    rest = float(variance[DIRECTIONS:].sum() / (seen.shape[1] - DIRECTIONS))
    return Usual(
        mean=mean,
        directions=directions[:DIRECTIONS],
        variance=variance[:DIRECTIONS],
        rest=rest,
        limit=0.0,
        contrast=0.0,
        detail=(0.0, 1.0),
        likeness=-1.0,
    )


def lines(title: str, films: Films, logit: Numbers, seed: int) -> str:
    """AUC by group with its interval; of adults also within each view, and as if the ill were imaged AP."""
    said = []
    for group, name in ((CHILD, "children"), (ADULT, "adults")):
        here = films.group == group
        if len(set(films.label[here])) == 2:
            value = auc(films.label[here], logit[here])
            low, high = interval(films.label[here], logit[here], films.patient[here], seed)
            said.append(f"{name} AUC {value:.3f} ({low:.3f} to {high:.3f}) of {int(here.sum())}")
    by_view = {}
    for view in ("AP", "PA"):
        here = films.view == view
        if len(set(films.label[here])) == 2:
            by_view[view] = here
            said.append(f"{view} {auc(films.label[here], logit[here]):.3f}")
    if len(by_view) == 2:
        here = by_view["AP"] | by_view["PA"]
        elsewhere = auc(films.label[here], logit[here], _as_elsewhere(films.taken(np.flatnonzero(here))))
        said.append(f"if views were as elsewhere {elsewhere:.3f}")
    return f"{title}: " + ", ".join(said)


def _as_elsewhere(films: Films) -> Numbers:
    """Weights that make `ILL_AP` of the films with pneumonia AP, and `WELL_AP` of those without."""
    weight = np.zeros(len(films))
    for label, part in ((1, ILL_AP), (0, WELL_AP)):
        for view, share in (("AP", part), ("PA", 1 - part)):
            here = (films.label == label) & (films.view == view)
            weight[here] = share / here.sum()
    return weight


def _sigmoid(z: Numbers) -> Numbers:
    found: Numbers = 1 / (1 + np.exp(-np.clip(z, -60, 60)))
    return found

"""
FROC: how many nodules are found at how many false marks a scan.

Source: Bunch et al., J Appl Photogr Eng 1978; 4: 166-171; the mean over seven rates is that of LUNA16.

A candidate gives a mark with a score. It is right within the radius of a nodule, 3 mm at least; nodules under
4 mm, and marks on them, count neither way, nor do marks beside a nodule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.nodule_candidates import NONE, Look, Patient

LEAST_MM = 4.0
AT = (1.0, 2.0, 4.0)  #: false marks a scan
CPM_AT = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_RESAMPLED = 2000

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """One chest under one way of scoring."""

    nodules: Scores  #: for each that counts, its highest mark; -inf where it has none
    false: Scores  #: marks on nothing


def apart(patient: Patient, scores: Sequence[float]) -> list[int]:
    """Which candidates are marks, the highest first: of those that overlap the higher one."""
    kept: list[int] = []
    looks = patient.looks
    for index in sorted(range(len(looks)), key=lambda one: -scores[one]):
        look = looks[index]
        if not any(_overlap(look, looks[other]) for other in kept):
            kept.append(index)
    return kept


def _overlap(one: Look, other: Look) -> bool:
    radius_mm = max(one.features.diameter_mm, other.features.diameter_mm) / 2
    return float(np.linalg.norm(one.at_mm - other.at_mm)) < radius_mm


def counts(patient: Patient, nodule: int) -> bool:
    """Whether the nodule of that index is looked for."""
    return nodule >= 0 and patient.nodules[nodule].diameter_mm >= LEAST_MM


def marks_of(patient: Patient, scores: Sequence[float]) -> Marks:
    """The marks of a chest under these scores of its candidates."""
    best = np.full(len(patient.nodules), -np.inf)
    false = []
    for index in apart(patient, scores):
        nodule = patient.looks[index].nodule
        if nodule >= 0:
            best[nodule] = max(best[nodule], scores[index])
        elif nodule == NONE:
            false.append(scores[index])
    looked_for = [number for number in range(len(best)) if counts(patient, number)]
    return Marks(best[looked_for], np.array(false, np.float64))


def sensitivity(marks: Sequence[Marks], false_a_scan: float) -> float:
    """The part of the nodules above the score that leaves so many false marks a scan at most."""
    false = np.sort(np.concatenate([one.false for one in marks]))[::-1]
    allowed = int(false_a_scan * len(marks))
    limit = false[allowed] if allowed < len(false) else -np.inf
    nodules = np.concatenate([one.nodules for one in marks])
    return float((nodules > limit).mean()) if len(nodules) else float("nan")


def cpm(marks: Sequence[Marks]) -> float:
    """Mean sensitivity at an eighth to eight false marks a scan."""
    return float(np.mean([sensitivity(marks, rate) for rate in CPM_AT]))


def interval(figure: Callable[[NDArray[np.intp]], float], count: int, seed: int = 1) -> tuple[float, float]:
    """Of 95 %: `figure` of chests drawn again and again from `count`."""
    random = np.random.default_rng(seed)
    drawn = [figure(random.integers(0, count, count)) for _ in range(_RESAMPLED)]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return float(low), float(high)

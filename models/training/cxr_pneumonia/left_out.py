"""What each branch makes of films of a kind that it was not trained on: how well does it bear a change?

`python -m models.training.cxr_pneumonia --left-out` prints it. Sets of other hospitals are not at hand, so
parts of ours are left out that differ from the rest: a source, a view, a series of numbers.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.training.cxr_pneumonia.films import ADULT, CHILD, Films

Mask = NDArray[np.bool_]
_FIRST = 0.2  #: of a series of numbers
_OUTER = 0.15  #: of a side is the frame of a film


def other_frames(films: Films, seed: int) -> Films:
    """Each film within the outer part of one of its group and of the other label: which is believed?"""
    chance, pictures = np.random.default_rng(seed), films.pictures.copy()
    side = pictures.shape[-1]
    inner = slice(round(_OUTER * side), side - round(_OUTER * side))
    for row in range(len(films)):
        others = np.flatnonzero((films.group == films.group[row]) & (films.label != films.label[row]))
        if len(others):
            pictures[row] = films.pictures[chance.choice(others)]
            pictures[row, inner, inner] = films.pictures[row, inner, inner]
    return replace(films, pictures=pictures)


def kinds(films: Films, fold: NDArray[np.int64]) -> Iterator[tuple[str, str, Mask]]:
    """(short name, title, which films are left out of training and asked about)."""
    child, adult, ill = films.group == CHILD, films.group == ADULT, films.label == 1
    second = np.char.startswith(films.name, "NORMAL2")
    number = np.array([int(re.findall(r"\d+", patient)[-1]) for patient in films.patient])

    def first(mask: Mask) -> Mask:
        return mask & (number <= np.quantile(number[mask], _FIRST)) if mask.any() else mask

    series = (child & ~ill & ~second, second, child & ill)
    low = np.logical_or.reduce([first(one) for one in series])
    yield "low", "children of the lowest numbers of each series, adults PA", low | (films.view == "PA")
    yield (
        "n2",
        "healthy children of the series NORMAL2 with two folds of the ill, adults AP",
        second | (child & ill & (fold < 2)) | (films.view == "AP"),
    )
    yield "adults", "adults, after children alone", adult
    yield "children", "children, after adults alone", child

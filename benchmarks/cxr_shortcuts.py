"""
Can edges, grey values or sharpness alone tell where a film comes from, or what it is labelled?

`python -m benchmarks.cxr_shortcuts ../shared/data` prints the area under the ROC curve (five folds by
patient) of a logistic regression on features that hold no lungs, before and after the standardisation of
`cxr_pneumonia`: 0.5 is what chance reaches.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.cxr_films import chosen, every_film
from models.builtin.cxr_pneumonia.standard import SIDE, standard
from models.training.cxr_pneumonia.films import ADULT, CHILD, Films, folds
from models.training.cxr_pneumonia.fit import Recipe, regress
from models.training.roc import auc

_EDGE = 0.06  #: of a side
_FIELDS = 8  #: along each edge
_EACH = 250  #: films of each label in each group

Row = NDArray[np.float32]


def edges(picture: Row) -> Row:
    """Means and deviations of fields along the four edges."""
    depth = max(2, round(_EDGE * min(picture.shape)))
    bars = (picture[:depth], picture[-depth:], picture[:, :depth].T, picture[:, -depth:].T)
    parts = [field for bar in bars for field in np.array_split(bar, _FIELDS, axis=1)]
    return np.array([one.mean() for one in parts] + [one.std() for one in parts], np.float32)


def greys(picture: Row) -> Row:
    """A histogram."""
    return (np.histogram(picture, 24, (0, 256))[0] / picture.size).astype(np.float32)


def sharpness(picture: Row) -> Row:
    """How much is left above each of six bands, in parts of the whole variation."""
    bands = [np.log(1e-6 + (picture - gaussian_filter(picture, s)).std()) for s in (0.5, 0.7, 1, 1.5, 2, 4)]
    return np.array(bands, np.float32) - np.float32(np.log(1e-6 + picture.std()))


KINDS = {"edges": edges, "grey values": greys, "sharpness": sharpness}


def told(given: Row, question: NDArray[np.int64], patient: NDArray[np.str_]) -> float:
    """How well `given` tells `question`."""
    few = np.zeros((len(given), 1, 1), np.uint8)
    films = Films(
        pictures=few,
        label=question,
        group=np.full(len(given), CHILD),
        patient=patient,
        view=np.full(len(given), ""),
        name=patient,
    )
    recipe = Recipe(adults=0.0, pull=0.001, smooth_child=0.0)
    fold, out = folds(films, 5, recipe.seed), np.zeros(len(given))
    for number in range(5):
        mine, theirs = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        out[theirs] = regress([given[mine]], films.taken(mine), recipe).logits(given[theirs])
    return auc(question, out)


def rows(data: Path) -> Iterator[tuple[str, str, str, str]]:
    """(features, what they tell, before, after)."""
    films = list(chosen(every_film(data)))
    chance = np.random.default_rng(6)
    taken = []
    for group in (CHILD, ADULT):
        for label in (0, 1):
            here = [k for k, film in enumerate(films) if (film.group, film.label) == (group, label)]
            taken += [films[k] for k in chance.choice(here, min(_EACH, len(here)), replace=False)]
    before, after = [], []
    for film in taken:
        with Image.open(film.path) as picture:
            raw = np.asarray(picture.convert("L"), np.float32)
            small = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
        # Sharpness is of the picture as it came; edges and grey values do not depend on its size.
        before.append([edges(small), greys(small), sharpness(raw)])
        seen = standard(raw).picture.astype(np.float32)
        after.append([make(seen) for make in KINDS.values()])
    sets = np.array([film.group for film in taken])
    labels = np.array([film.label for film in taken])
    patient = np.array([film.patient for film in taken])
    questions = (
        ("child or adult set", sets, np.ones(len(taken), bool)),
        ("label, children", labels, sets == CHILD),
        ("label, adults", labels, sets == ADULT),
    )
    for number, kind in enumerate(KINDS):
        states = [np.stack([one[number] for one in state]) for state in (before, after)]
        for question, asked, where in questions:
            said = [f"{told(one[where], asked[where], patient[where]):.2f}" for one in states]
            yield kind, question, said[0], said[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cxr_shortcuts", description=__doc__)
    parser.add_argument("data", type=Path)
    print("| features | tells | before | after |\n|---|---|---|---|")
    for row in rows(parser.parse_args().data):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()

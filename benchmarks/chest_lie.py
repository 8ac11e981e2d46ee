"""
The weights by which `cxr_quality` tells how a frontal radiograph lies: fitted again, and tried.

    python -m benchmarks.chest_lie [--data ../shared/data]

A softmax over the eight ways of lying is told which one is right (Adam, 1500 steps, from zero, so that the
same films give the same numbers). Fitted on the films of half of the patients, those with an even digest of
their name, whole and cut at random at each side, and tried on those of the other half; then the rounded
weights that stand in `models.builtin.cxr_quality.lie` are tried on the same. Of the children with pneumonia
one film each is taken.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.cxr_films import ADULT, CHILD, Film, chosen, every_film
from benchmarks.measured import DATA
from models.builtin.cxr_quality.field import find_field
from models.builtin.cxr_quality.lie import WEIGHTS, ranks, ways

_STEPS, _RATE, _DECAY = 1500, 0.02, 1e-3
_CUTS, _DEEPEST = 2, 0.14  # of each film; of a side at most
_EVERY = {CHILD: 3, ADULT: 1}  # of the films: about as many children as adults
_GROUPS = {"adults": ADULT, "children": CHILD}


def main() -> None:
    """Print the weights, and how often the way is right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chest_lie", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    films, looks = films_and_looks(parser.parse_args().data)
    held = np.array([held_out(film) for film in films])
    fitted = fit(looks[~held].reshape(-1, *looks.shape[2:]))
    print("fitted:", " ".join(f"{weight:.2f}" for weight in fitted), file=sys.stdout)
    for name, weights in (("fitted", fitted), ("rounded", WEIGHTS)):
        for group, number in _GROUPS.items():
            some = held & np.array([film.group == number for film in films])
            for kind, tried in (("whole", looks[some, 0]), ("cut", looks[some, 1])):
                fits = tried @ weights
                wrong = np.sort((fits.max(axis=1) - fits[:, 0])[fits.argmax(axis=1) != 0])[::-1]
                print(
                    f"{name}, {group} held out, {kind}: {len(fits) - len(wrong)} of {len(fits)} as they lie;"
                )
                print(f"    margins of the others: {np.round(wrong, 2).tolist()}")


def films_and_looks(data: Path) -> tuple[list[Film], NDArray[np.float64]]:
    """Films, and for each (whole and cuts, 8, comparisons)."""
    films = list(chosen(every_film(data)))
    kept = [
        film
        for group in _GROUPS.values()
        for film in [one for one in films if one.group == group][:: _EVERY[group]]
    ]
    random = np.random.default_rng(1)
    return kept, np.stack([_looks(film.path, random) for film in kept])


def _looks(path: Path, random: np.random.Generator) -> NDArray[np.float64]:
    with Image.open(path) as picture:
        plane = np.asarray(picture.convert("L"), np.float32)
    field = plane[find_field(plane).inside]
    found = [ways(ranks(field))]
    for _ in range(_CUTS):
        rows, columns = field.shape
        first, last = random.uniform(0, _DEEPEST, 2), 1 - random.uniform(0, _DEEPEST, 2)
        part = field[
            int(first[0] * rows) : int(last[0] * rows), int(first[1] * columns) : int(last[1] * columns)
        ]
        found.append(ways(ranks(part)))
    return np.stack(found)


def held_out(film: Film) -> bool:
    """Whether the films of its patient are tried, and not fitted."""
    return hashlib.sha256(film.patient.encode()).digest()[0] % 2 == 1


def fit(looks: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights for (film, way, comparison), of which way 0 is right."""
    weights = np.zeros(looks.shape[-1])
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, _STEPS + 1):
        fits = looks @ weights
        share = np.exp(fits - fits.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        share[:, 0] -= 1
        slope = np.einsum("nw,nwc->c", share, looks) / len(looks) + _DECAY * weights
        first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
        weights -= _RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
    return weights


if __name__ == "__main__":
    main()

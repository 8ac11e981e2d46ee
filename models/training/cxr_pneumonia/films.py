"""The training films, as the model sees them, and which of them may be trained on together.

`python -m benchmarks.cxr_films` writes them: every JPEG as a DICOM object, read as the product reads one,
through the standardisation of the model.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHILD, ADULT = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Films:
    """One row for each film."""

    pictures: NDArray[np.uint8]  #: (n, SIDE, SIDE)
    label: NDArray[np.int64]  #: 1: pneumonia
    group: NDArray[np.int64]  #: CHILD or ADULT
    patient: NDArray[np.str_]
    view: NDArray[np.str_]  #: AP or PA where the set says it, else empty
    name: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.label)

    def taken(self, rows: NDArray[np.int64]) -> "Films":
        """Those of `rows`."""
        return Films(
            pictures=self.pictures[rows],
            label=self.label[rows],
            group=self.group[rows],
            patient=self.patient[rows],
            view=self.view[rows],
            name=self.name[rows],
        )


def read_films(path: Path) -> Films:
    """What `benchmarks.cxr_films` wrote."""
    with np.load(path) as kept:
        return Films(
            pictures=kept["pictures"],
            label=kept["label"],
            group=kept["group"],
            patient=kept["patient"],
            view=kept["view"],
            name=kept["name"],
        )


def folds(films: Films, count: int, seed: int) -> NDArray[np.int64]:
    """The fold of every film: no patient in two, every label and group spread over all."""
    fold = np.full(len(films), -1, np.int64)
    chance = np.random.default_rng(seed)
    for group in (CHILD, ADULT):
        for label in (1, 0):  # A patient with pneumonia once is dealt out with those.
            here = (films.group == group) & (films.label == label) & (fold < 0)
            patients = np.unique(films.patient[here])
            chance.shuffle(patients)
            for number, patient in enumerate(patients):
                fold[films.patient == patient] = number % count
    return fold


def weights(films: Films, adults: float) -> NDArray[np.float64]:
    """How often to show each film: half of each group, and half of each view in it, with pneumonia.

    So neither the source of a film nor its view tells its label. It matters: in the NIH part at hand two of
    three films without a finding were taken AP, and two of three with pneumonia PA; elsewhere it is the ill
    who are imaged lying in bed, AP.
    """
    share = np.zeros(len(films))
    for group, part in ((CHILD, 1 - adults), (ADULT, adults)):
        for label in (0, 1):
            here = (films.group == group) & (films.label == label)
            views = np.unique(films.view[films.group == group])
            for view in views:
                cell = here & (films.view == view)
                if cell.any():
                    share[cell] = part / 2 / len(views) / cell.sum()
    return np.asarray(share / share.sum())

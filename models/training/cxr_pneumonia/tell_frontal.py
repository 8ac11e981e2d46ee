"""
How the gate learns what a frontal view is: from films, from phantoms seen from two sides, and from drawings.

There is no lateral film and no film of a hand in the sets at hand, so those are phantoms and schemes; the
phantoms are there from the front too, and the schemes as well, lest drawn be taken for strange.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.builtin.cxr_pneumonia.frontal import Frontal, as_ranks
from models.builtin.cxr_pneumonia.standard import SIDE, standard
from models.training.cxr_pneumonia.films import ADULT, CHILD, Films, weights
from models.training.cxr_pneumonia.strangers import KINDS, SIDE_DRAWN, drawings, front
from models.training.lesions import Disease
from models.training.radiographs import View, radiograph
from models.training.thorax import Patient
from models.training.thorax_build import Build

_PASSED = 0.998  #: of the films of each group that were not taught, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """The defaults are what the shipped weights were made with."""

    seed: int = 6
    steps: int = 200
    rate: float = 4e-3
    decay: float = 0.02
    phantoms: int = 10  #: each from the front and from the side
    of_each_kind: int = 500
    fronts: int = 400
    batch: float = 1.0  #: parts of the usual one, which is 226 pictures
    asked: int = 50  #: drawings of each kind that it is asked about


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """What is shown besides films: (n, 1, SIDE_DRAWN, SIDE_DRAWN) each, ranks."""

    frontal: Tensor  #: phantoms
    lateral: Tensor
    drawn: Tensor  #: of all `KINDS`
    fronts: Tensor  #: drawn


def others(lessons: Lessons) -> Others:
    """Phantoms from the front and from the side, and drawings."""
    views: tuple[View, View] = ("PA", "LATERAL")
    frontal, lateral = (
        _small(np.stack([_phantom(lessons.seed, number, view) for number in range(lessons.phantoms)]))
        for view in views
    )
    drawn = drawings(KINDS, len(KINDS) * lessons.of_each_kind, lessons.seed)
    fronts = drawings((front,), lessons.fronts, lessons.seed + 1)
    return Others(
        frontal=frontal,
        lateral=lateral,
        drawn=as_ranks(torch.from_numpy(drawn)[:, None]),
        fronts=as_ranks(torch.from_numpy(fronts)[:, None]),
    )


def teach(films: Films, lessons: Lessons, beside: Others, number: int = 0) -> Frontal:
    """The network taught with `films`; `number` tells random numbers apart."""
    torch.manual_seed(100 * lessons.seed + number)
    chance = torch.Generator().manual_seed(1000 * lessons.seed + number)
    draw = np.random.default_rng([lessons.seed, number, 3])
    net, shown = Frontal(), _Shown(films, beside, chance, draw, lessons.batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lessons.rate, weight_decay=lessons.decay)
    for step in range(lessons.steps):
        for group in optimiser.param_groups:
            falling = 0.5 + 0.5 * math.cos(math.pi * step / lessons.steps) + 0.003
            group["lr"] = lessons.rate * min(1.0, (step + 1) / 30) * falling
        x, y = shown.batch()
        loss = functional.binary_cross_entropy_with_logits(net(x), y * 0.98 + 0.01)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return net.eval().requires_grad_(False)


def limit(films: Films, lessons: Lessons, beside: Others, say: Callable[[str], None]) -> float:
    """Below it a picture is refused: 0, or less where more than `_PASSED` would not let pass of films whose
    patients' half was not taught.
    """
    half = np.array([hash_of(patient) % 2 for patient in films.patient])
    said = np.zeros(len(films))
    for part in (0, 1):
        net = teach(films.taken(np.flatnonzero(half != part)), lessons, beside, part + 1)
        said[half == part] = net.asked(films.pictures[half == part])
        strange = drawings(KINDS, lessons.asked * len(KINDS), lessons.seed + 2 + part)
        x = functional.avg_pool2d(as_ranks(torch.from_numpy(strange)[:, None]), 2)
        with torch.inference_mode():
            let_in = float((net(as_ranks(x)) > 0).float().mean())
        say(f"gate: of {len(strange)} drawings of other kinds {100 * let_in:.1f} % pass")
    found = 0.0
    for group, name in ((CHILD, "children"), (ADULT, "adults")):
        here = said[films.group == group]
        if len(here):
            found = min(found, float(np.quantile(here, 1 - _PASSED)))
            say(f"gate: of {len(here)} films of {name} not taught {int((here < 0).sum())} are below 0")
    return found


def hash_of(patient: str) -> int:
    """The same number for a patient everywhere and always."""
    return sum(ord(letter) * (place + 1) for place, letter in enumerate(patient))


def _phantom(seed: int, number: int, view: View) -> NDArray[np.uint8]:
    """(SIDE, SIDE): a body of any size, every second one ill."""
    chance = np.random.default_rng([seed, number, 5])
    width, depth, height, heart = chance.normal(1, 0.06, 4).clip(0.84, 1.16)
    build = Build(
        scale=float(chance.uniform(0.6, 1.05)),
        width=float(width),
        depth=float(depth),
        height=float(height),
        heart=float(heart),
        fat_mm=float(chance.uniform(5, 24)),
        breasts_mm=float(chance.choice((0, chance.uniform(4, 20)))),
        diaphragm_mm=float(chance.uniform(-6, 10)),
        seed=number,
    )
    extent = float(chance.uniform(0.02, 0.2))
    ill = Disease(kind=("consolidation", "effusion")[number // 2 % 2], where="right", extent=extent)
    patient = Patient(
        seed=number, build=build, diseases=(ill,) if number % 2 else (), arms=bool(chance.random() < 0.3)
    )
    return standard(radiograph(patient, view, pixel_mm=1.5, voxel_mm=4.5).pixels).picture


def _small(pictures: NDArray[np.uint8]) -> Tensor:
    step = SIDE // SIDE_DRAWN
    return functional.avg_pool2d(torch.from_numpy(pictures)[:, None].float() / 255, step)


class _Shown:
    """Batches of what is a frontal film and of what is none."""

    def __init__(
        self, films: Films, beside: Others, chance: torch.Generator, draw: np.random.Generator, part: float
    ) -> None:
        self._films, self._often = _small(films.pictures), weights(films, 0.5)
        self._beside, self._chance, self._draw, self._part_of_all = beside, chance, draw, part

    def batch(self) -> tuple[Tensor, Tensor]:
        """(n, 1, LOOK, LOOK) and (n,): 1 for frontal chest films."""
        beside, place = self._beside, self._placed
        frontal = (
            place(self._some(96)),
            place(self._any(beside.frontal, 10)),
            place(self._any(beside.fronts, 10)),
        )
        strange = (
            place(self._any(beside.lateral, 26)),
            place(self._any(beside.drawn, 50), turn=(-5, 5)),
            place(self._some(10), turn=(40, 320)),
            place(self._part(self._some(10))),
            place(_shuffled(self._some(8), self._chance)),
            1 - place(self._some(6)),
            1 - place(self._any(beside.drawn, 6)),
        )
        counts = sum(map(len, frontal)), sum(map(len, strange))
        label = torch.cat((torch.ones(counts[0]), torch.zeros(counts[1])))
        return self._taken(torch.cat((*frontal, *strange))), label

    def _some(self, count: int) -> Tensor:
        return self._films[self._draw.choice(len(self._films), self._count(count), p=self._often)]

    def _any(self, given: Tensor, count: int) -> Tensor:
        return given[self._draw.integers(0, len(given), self._count(count))]

    def _count(self, count: int) -> int:
        return max(1, round(count * self._part_of_all))

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return torch.rand(n, generator=self._chance) * (high - low) + low

    def _often_of(self, n: int, part: float) -> Tensor:
        return torch.rand(n, generator=self._chance) < part

    def _placed(self, x: Tensor, turn: tuple[float, float] = (-9, 9)) -> Tensor:
        """Turned by degrees, sized 0.85 to 1.2, stretched, shifted up to 6 %, mirrored or not."""
        n = len(x)
        angle, size = self._uniform(n, *turn) * (math.pi / 180), 1 / self._uniform(n, 0.85, 1.2)
        stretch = torch.exp(self._uniform(n, -0.15, 0.15))
        mirror = self._often_of(n, 0.5).float() * 2 - 1
        matrix = torch.zeros(n, 2, 3)
        matrix[:, 0, 0] = mirror * size * stretch * angle.cos()
        matrix[:, 0, 1] = -size * angle.sin()
        matrix[:, 1, 0] = mirror * size * angle.sin()
        matrix[:, 1, 1] = size / stretch * angle.cos()
        matrix[:, 0, 2], matrix[:, 1, 2] = self._uniform(n, -0.12, 0.12), self._uniform(n, -0.12, 0.12)
        return _sampled(x, matrix)

    def _part(self, x: Tensor) -> Tensor:
        """A third to a half of each side of a film, away from its middle: no whole chest."""
        n = len(x)
        matrix = torch.zeros(n, 2, 3)
        matrix[:, 0, 0] = matrix[:, 1, 1] = self._uniform(n, 0.3, 0.5)
        way = self._often_of(n, 0.5).float() * 2 - 1
        matrix[:, 0, 2], matrix[:, 1, 2] = way * self._uniform(n, 0.35, 0.7), self._uniform(n, -0.6, 0.6)
        return _sampled(x, matrix)

    def _taken(self, x: Tensor) -> Tensor:
        """Blurred or sharpened, with noise, small, here and there with a plate, ranked."""
        n = len(x)
        soft = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = x + self._uniform(n, -1, 0.5)[:, None, None, None] * (x - soft)
        noise = self._uniform(n, 0, 0.05)[:, None, None, None]
        x = functional.avg_pool2d(x + noise * torch.randn(x.shape, generator=self._chance), 2)
        dice = torch.rand(n, 6, generator=self._chance).tolist()
        for k, (plate, row, column, high, wide, white) in enumerate(dice):
            if plate < 0.3:
                top, left = int(32 * row), int(32 * column)
                x[k, 0, top : top + 1 + int(5 * high), left : left + 1 + int(7 * wide)] = round(white)
        return as_ranks(x)


def _sampled(x: Tensor, matrix: Tensor) -> Tensor:
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _shuffled(x: Tensor, chance: torch.Generator) -> Tensor:
    """Upper and lower half, or left and right half, changed for each other."""
    half = x.shape[-1] // 2
    down, across = x.roll(half, 2), x.roll(half, 3)
    return torch.where((torch.rand(len(x), generator=chance) < 0.5)[:, None, None, None], down, across)

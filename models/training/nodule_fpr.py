"""
`python -m models.training.nodule_fpr -o FOLDER`: a filter for the candidates of `nodule_ct`, from phantoms.

It is taught on scenes (`nodule_patches`) and on what the search stops at in whole random chests
(`nodule_candidates`), half of each batch from either; all of the first generator. Some chests are kept back:
on their candidates the weights of rules and network together are fitted. What is measured on the second
generator is printed by `python -m benchmarks.nodule_networks`. Cubes are kept in FOLDER/cubes, so that what
was broken off goes on.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from models.builtin.nodule_ct.rules import score_of
from models.training.nodule_candidates import BESIDE, Patient, look_at
from models.training.nodule_nets import Batch, Filter, Lessons, asked, command, taught, timed, varied
from models.training.nodule_patches import nodule_patches
from models.training.roc import auc

PART = 512  #: scenes of one file
_DIAMETER_WEIGHT = 0.1
_SMALLEST_MM = 3.0
_NODULES = 6  # of a chest, the most that `random_chest` draws by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is shown, and how often."""

    scenes: int = 12 * PART
    chests: int = 18
    kept_back: int = 4
    lessons: Lessons = Lessons(batches=2400)  # noqa: RUF009 frozen
    seed: int = 700


@dataclass(frozen=True, slots=True, eq=False)
class Cubes:
    """Cubes of 32 mm and what is in their middle."""

    hu: NDArray[np.int16]  #: (n, 32, 32, 32)
    nodule: NDArray[np.bool_]
    diameter_mm: NDArray[np.float32]  #: 0 where there is none
    points: NDArray[np.float32]  #: logit of the rules' score; 0 of a scene, which has none

    def __len__(self) -> int:
        return len(self.hu)


def scenes(seed: int, count: int = PART) -> Cubes:
    """Of `nodule_patches`, the first generator."""
    drawn = nodule_patches(seed, count)
    hu = drawn.hu.round().clamp(-1024, 3071).short().numpy()
    return Cubes(hu, drawn.nodule.numpy(), drawn.diameter_mm.numpy(), np.zeros(count, np.float32))


def candidates(patient: Patient) -> Cubes:
    """Of a chest, without those that lie beside a nodule or in one of less than 3 mm."""
    kept = [
        one
        for one in patient.looks
        if one.nodule != BESIDE
        and (one.nodule < 0 or patient.nodules[one.nodule].diameter_mm >= _SMALLEST_MM)
    ]
    diameters = [patient.nodules[one.nodule].diameter_mm if one.nodule >= 0 else 0.0 for one in kept]
    return Cubes(
        np.stack([one.cube for one in kept]),
        np.array([one.nodule >= 0 for one in kept]),
        np.array(diameters, np.float32),
        np.array([logit(score_of(one.features)) for one in kept], np.float32),
    )


def _chest(seed: int) -> Cubes:
    return candidates(look_at(seed, nodules=_NODULES))


def logit(probability: float) -> float:
    """Of a number between 0 and 1, both kept off."""
    kept = min(1 - 1e-6, max(1e-6, probability))
    return float(np.log(kept / (1 - kept)))


def joined(parts: Sequence[Cubes]) -> Cubes:
    """One after the other."""
    return Cubes(
        np.concatenate([one.hu for one in parts]),
        np.concatenate([one.nodule for one in parts]),
        np.concatenate([one.diameter_mm for one in parts]),
        np.concatenate([one.points for one in parts]),
    )


def kept(path: Path, make: Callable[[], Cubes]) -> Cubes:
    """What `make` makes, from the file `path` where it was made before."""
    if not path.exists():
        made = make()
        unfinished = path.with_suffix(".part.npz")
        np.savez(unfinished, hu=made.hu, nodule=made.nodule, diameter_mm=made.diameter_mm, points=made.points)
        unfinished.rename(path)
    with np.load(path) as file:
        return Cubes(file["hu"], file["nodule"], file["diameter_mm"], file["points"])


def train_filter(
    sources: Sequence[Cubes], lessons: Lessons, say: Callable[[str], None]
) -> tuple[Filter, list[float]]:
    """A network taught on `sources`, of which each gives the same part of every batch; its losses."""
    torch.manual_seed(lessons.seed)
    return taught(Filter(), _batches(sources, lessons), _loss, lessons, say)


def _batches(sources: Sequence[Cubes], lessons: Lessons) -> Iterator[Batch]:
    random = torch.Generator().manual_seed(lessons.seed)
    each = lessons.size // len(sources)
    orders = [torch.zeros(0, dtype=torch.long) for _ in sources]
    while True:
        drawn = []
        for number, source in enumerate(sources):
            while len(orders[number]) < each:
                again = torch.randperm(len(source), generator=random)
                orders[number] = torch.cat([orders[number], again])
            chosen, orders[number] = orders[number][:each].numpy(), orders[number][each:]
            drawn.append(
                Cubes(
                    source.hu[chosen],
                    source.nodule[chosen],
                    source.diameter_mm[chosen],
                    source.points[chosen],
                )
            )
        batch = joined(drawn)
        hu, _ = varied(torch.from_numpy(batch.hu), random)
        yield hu, torch.from_numpy(batch.nodule).float(), torch.from_numpy(batch.diameter_mm)


def _loss(answer: Tensor, batch: Batch) -> Tensor:
    _, nodule, diameter = batch
    there = functional.binary_cross_entropy_with_logits(answer[:, 0], nodule)
    size = functional.smooth_l1_loss(answer[:, 1], diameter.clamp_min(1).log(), reduction="none")
    return there + _DIAMETER_WEIGHT * (size * nodule).sum() / nodule.sum().clamp_min(1)


def together(points: NDArray[np.float32], said: NDArray[np.float32], nodule: NDArray[np.bool_]) -> Tensor:
    """(3,): of the rules' points, of the network's logit, and an offset, so that their sum is the logit that
    fits `nodule` best: a logistic regression, a little drawn towards 0.
    """
    rows = torch.from_numpy(np.stack([points, said, np.ones_like(said)], 1)).double()
    truth = torch.from_numpy(nodule).double()
    weight = torch.zeros(3, dtype=torch.float64)
    pull = torch.diag(torch.tensor([1e-2, 1e-2, 1e-6], dtype=torch.float64))
    for _ in range(30):
        chance = torch.sigmoid(rows @ weight)
        slope = rows.T @ (truth - chance) - pull @ weight
        bend = rows.T @ (rows * (chance * (1 - chance))[:, None]) + pull
        weight = weight + torch.linalg.solve(bend, slope)
    return weight


def train(output: Path, recipe: Recipe) -> None:
    """Cubes, figures and weights to `output`."""
    say = timed()

    folder = output / "cubes"
    folder.mkdir(parents=True, exist_ok=True)
    first = joined(
        [
            kept(folder / f"scenes-{seed}.npz", partial(scenes, seed))
            for seed in range(recipe.seed, recipe.seed + -(-recipe.scenes // PART))
        ]
    )
    patients = [
        kept(folder / f"chest-{seed}.npz", partial(_chest, seed))
        for seed in range(recipe.seed + 300, recipe.seed + 300 + recipe.chests + recipe.kept_back)
    ]
    chests, back = joined(patients[: recipe.chests]), joined(patients[recipe.chests :])
    say(f"{len(first)} scenes, {len(chests)} candidates of {recipe.chests} chests, {len(back)} kept back")
    network, _ = train_filter((first, chests), recipe.lessons, say)
    said = asked(network, torch.from_numpy(back.hu))[:, 0].numpy()
    weight = together(back.points, said, back.nodule)
    rules, network_alone = (auc(back.nodule, one) for one in (back.points, said))
    say(f"kept back: area under the curve of the rules {rules:.3f}, of the network {network_alone:.3f}")
    say(f"together: {weight[0]:.3f} × points of the rules + {weight[1]:.3f} × network {weight[2]:+.3f}")
    tensors = {f"net.{key}": one.contiguous() for key, one in network.state_dict().items()}
    content = save({**tensors, "together": weight.float()})
    (output / "nodule_fpr.safetensors").write_bytes(content)
    say(f"nodule_fpr.safetensors: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


def read_filter(path: Path) -> tuple[Filter, Tensor]:
    """The network of a file that `train` wrote, and the weights of `together`."""
    tensors = load(path.read_bytes())
    network = Filter()
    network.load_state_dict({key[4:]: one for key, one in tensors.items() if key.startswith("net.")})
    return network.eval().requires_grad_(False), tensors["together"]


if __name__ == "__main__":
    command("nodule_fpr", __doc__, partial(train, recipe=Recipe()))

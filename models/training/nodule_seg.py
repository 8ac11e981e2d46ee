"""
`python -m models.training.nodule_seg -o FOLDER`: an outline for the nodules of `nodule_ct`, from phantoms.

It is taught on scenes with a nodule in the middle (`nodule_patches`, the first generator), on cubes that are
as fine as the nodule is small. What is measured on the second generator is printed by
`python -m benchmarks.nodule_networks`.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.builtin.nodule_ct.spots import Spot
from models.training.nodule_candidates import EDGE, cube_at, middle_mm
from models.training.nodule_nets import Batch, Lessons, Outline, asked, command, taught, timed, varied
from models.training.nodule_patches import SOLID, SUBSOLID, Variant, nodule_patches

STEPS_MM = (0.6, 0.8, 1.0, 1.25)
_PART = 256
_ACROSS = 12.0  # cubes that a nodule is wide, where the steps allow


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is shown, and how often."""

    scenes: int = 12 * _PART
    lessons: Lessons = Lessons(batches=1600, size=16)  # noqa: RUF009 frozen
    seed: int = 800


@dataclass(frozen=True, slots=True, eq=False)
class Outlined:
    """Cubes with a nodule in the middle."""

    hu: NDArray[np.int16]  #: (n, 32, 32, 32)
    nodule: NDArray[np.bool_]  #: of every voxel


def outlined(seed: int, count: int, *, variant: Variant = "first") -> Outlined:
    """Scenes at every one of `STEPS_MM` in turn."""
    hu, nodule = [], []
    for number, begin in enumerate(range(0, count, _PART)):
        step = STEPS_MM[number % len(STEPS_MM)]
        drawn = nodule_patches(
            seed + number, min(_PART, count - begin), spacing_mm=step, nodules=1.0, variant=variant
        )
        hu.append(drawn.hu.round().clamp(-1024, 3071).short().numpy())
        nodule.append(((drawn.labels == SOLID) | (drawn.labels == SUBSOLID)).numpy())
    return Outlined(np.concatenate(hu), np.concatenate(nodule))


def train_outline(
    cubes: Outlined, lessons: Lessons, say: Callable[[str], None]
) -> tuple[Outline, list[float]]:
    """A network taught on `cubes`; its losses."""
    torch.manual_seed(lessons.seed)
    return taught(Outline(), _batches(cubes, lessons), _loss, lessons, say)


def _batches(cubes: Outlined, lessons: Lessons) -> Iterator[Batch]:
    random = torch.Generator().manual_seed(lessons.seed)
    while True:
        order = torch.randperm(len(cubes.hu), generator=random).numpy()
        for begin in range(0, len(order) - lessons.size + 1, lessons.size):
            chosen = order[begin : begin + lessons.size]
            hu, labels = varied(
                torch.from_numpy(cubes.hu[chosen]), random, torch.from_numpy(cubes.nodule[chosen])
            )
            assert labels is not None
            yield hu, labels


def _loss(answer: Tensor, batch: Batch) -> Tensor:
    truth = batch[1][:, None]
    chance = torch.sigmoid(answer)
    shared = (chance * truth).sum((1, 2, 3, 4))
    dice = (2 * shared + 1) / (chance.sum((1, 2, 3, 4)) + truth.sum((1, 2, 3, 4)) + 1)
    return functional.binary_cross_entropy_with_logits(answer, truth) + (1 - dice).mean()


def step_for(diameter_mm: float) -> float:
    """The edge of the cubes for a nodule of about that diameter."""
    return float(np.clip(diameter_mm / _ACROSS, STEPS_MM[0], STEPS_MM[-1]))


def outline(
    network: Outline, spot: Spot, source: NDArray[np.generic], source_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """The voxels of `source` (z, y, x) that the network calls nodule: the piece nearest to the spot."""
    step, middle = step_for(2 * spot.radius_mm), middle_mm(spot)
    cube = torch.from_numpy(cube_at(middle, source, source_mm, step))[None]
    chance = torch.sigmoid(asked(network, cube))[0, 0].numpy()
    from_middle = [
        (np.arange(n) + 0.5) * mm - at for n, mm, at in zip(source.shape, source_mm, middle, strict=True)
    ]
    z, y, x = np.meshgrid(*from_middle, indexing="ij")
    index = np.stack([z, y, x]) / step + (EDGE - 1) / 2
    fine = ndimage.map_coordinates(chance, index, order=1, mode="constant", cval=0.0)
    labels, count = ndimage.label(fine > 0.5)
    if count == 0:
        return np.zeros(source.shape, np.bool_)
    away = np.where(labels > 0, z**2 + y**2 + x**2, np.inf)
    return np.asarray(labels == labels.flat[int(away.argmin())])


def train(output: Path, recipe: Recipe) -> None:
    """Figures and weights to `output`."""
    say = timed()

    output.mkdir(parents=True, exist_ok=True)
    path = output / "outlined.npz"
    if not path.exists():
        made = outlined(recipe.seed, recipe.scenes)
        np.savez(path.with_suffix(".part.npz"), hu=made.hu, nodule=made.nodule)
        path.with_suffix(".part.npz").rename(path)
    with np.load(path) as file:
        cubes = Outlined(file["hu"], file["nodule"])
    say(f"{len(cubes.hu)} scenes with a nodule")
    network, _ = train_outline(cubes, recipe.lessons, say)
    content = save({f"net.{key}": one.contiguous() for key, one in network.state_dict().items()})
    (output / "nodule_seg.safetensors").write_bytes(content)
    say(f"nodule_seg.safetensors: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


def read_outline(path: Path) -> Outline:
    """The network of a file that `train` wrote."""
    network = Outline()
    network.load_state_dict({key[4:]: one for key, one in load(path.read_bytes()).items()})
    return network.eval().requires_grad_(False)


if __name__ == "__main__":
    command("nodule_seg", __doc__, partial(train, recipe=Recipe()))

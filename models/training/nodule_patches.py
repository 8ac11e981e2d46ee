"""
Small cubes of lung for training: a nodule in the middle or what is taken for one, every voxel labelled.

Thousands at a time, in torch, without a whole chest: each cube is a scene of its own, with vessels, sometimes
pleura, rib, fissure or airway, seen by a scanner of its own (blur, slice thickness, noise, offsets). Two
generators share nothing but that plan: the second, for tests of what was trained on the first, has other
shapes, other vessels and another noise.

    patches = nodule_patches(seed=1, count=64)
    patches.hu        # (64, 32, 32, 32) z, y, x, Hounsfield units
"""

from dataclasses import dataclass
from math import pi
from typing import Literal

import torch
from torch import Tensor

from models.training.patch_scenes import Scene

Variant = Literal["first", "second"]
BACKGROUND, SOLID, SUBSOLID, VESSEL = 0, 1, 2, 3  #: of `Patches.labels`
KINDS = ("solid", "part-solid", "ground glass", "calcified", "spiculated")
MIMICS = (
    "end-on",
    "branch point",
    "bend",
    "rib end",
    "fissure thickening",
    "mucus plug",
    "apical scar",
    "airway wall",
    "pleura",
    "nothing",
)
_PAD = 4
_BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """`count` cubes; the middle of each is the middle of a candidate."""

    hu: Tensor  # (n, z, y, x) float32
    labels: Tensor  # (n, z, y, x) uint8: BACKGROUND, SOLID, SUBSOLID, VESSEL
    nodule: Tensor  # (n,) bool: a nodule in the middle
    diameter_mm: Tensor  # (n,) float32: of the ball of the same volume; 0 where there is no nodule
    kind: Tensor  # (n,) uint8: index into KINDS, or into MIMICS where there is no nodule
    spacing_mm: float


def nodule_patches(
    seed: int,
    count: int,
    *,
    size: int = 32,
    spacing_mm: float = 1.0,
    nodules: float = 0.5,
    largest_mm: float | None = None,
    variant: Variant = "first",
    device: str = "cpu",
) -> Patches:
    """`count` cubes of `size` voxels a side; the part `nodules` (0 … 1) of them shows one.

    Diameters run from 3 mm to `largest_mm` (None: what the cube holds, 30 mm at most), evenly by logarithm.
    The same arguments make the same cubes on the same kind of device.
    """
    if not 0 <= nodules <= 1 or count < 1 or size < 16:
        raise ValueError("patches: at least one, at least 16 voxels a side, and a part of nodules in 0 … 1")
    largest = min(30.0, 0.78 * size * spacing_mm) if largest_mm is None else largest_mm
    done = [
        _batch(
            Scene.empty(
                min(_BATCH, count - start),
                size + 2 * _PAD,
                spacing_mm,
                torch.Generator(device).manual_seed((seed * 1_000_003 + start) * 2 + (variant == "second")),
                second=variant == "second",
            ),
            size,
            nodules,
            largest,
        )
        for start in range(0, count, _BATCH)
    ]
    columns = [torch.cat([one[i] for one in done]) for i in range(5)]
    return Patches(columns[0], columns[1], columns[2], columns[3], columns[4], spacing_mm)


def _batch(scene: Scene, size: int, nodules: float, largest_mm: float) -> tuple[Tensor, ...]:
    device = scene.x.device
    is_nodule = scene.uniform(0, 1) < nodules
    mimic = (scene.uniform(0, len(MIMICS) - 1e-4)).long()
    kind = torch.bucketize(scene.uniform(0, 1), torch.tensor([0.42, 0.6, 0.76, 0.85], device=device))
    diameter = 3.0 * (largest_mm / 3.0) ** scene.uniform(0, 1)

    attached = scene.uniform(0, 1)
    on_pleura = is_nodule & (attached < 0.25)
    on_vessel = is_nodule & (attached >= 0.25) & (attached < 0.55)
    on_fissure = is_nodule & (attached >= 0.55) & (attached < 0.63)
    other = ~is_nodule

    def is_mimic(name: str) -> Tensor:
        return other & (mimic == MIMICS.index(name))

    scene.lung()
    near_wall = on_pleura | is_mimic("rib end") | is_mimic("apical scar") | is_mimic("pleura")
    depth = torch.where(on_pleura, 0.22 * diameter, scene.uniform(-1, 1.5))
    depth = torch.where(near_wall, depth, scene.uniform(9, 60))
    fissured = on_fissure | is_mimic("fissure thickening") | (scene.uniform(0, 1) < 0.12)
    scene.fissure(
        fissured, through=on_fissure | is_mimic("fissure thickening"), lens=is_mimic("fissure thickening")
    )
    scene.vessels(
        touching=torch.where(on_vessel, 0.45 * diameter, torch.zeros_like(diameter)),
        end_on=is_mimic("end-on"),
        branch=is_mimic("branch point"),
        bend=is_mimic("bend"),
    )
    scene.airway(is_mimic("airway wall") | (scene.uniform(0, 1) < 0.15), through=is_mimic("airway wall"))
    scene.plug(is_mimic("mucus plug"))
    scene.nodule(is_nodule, kind, diameter)
    scene.wall(depth, bulge=is_mimic("rib end"), scar=is_mimic("apical scar"))
    hu = scene.scanned()
    inner = slice(_PAD, _PAD + size)
    crop = (slice(None), inner, inner, inner)
    volume = scene.nodule_volume_mm3()
    found = torch.where(is_nodule, (6 * volume / pi) ** (1 / 3), torch.zeros_like(volume))
    code = torch.where(is_nodule, kind, mimic).to(torch.uint8)
    return hu[crop].contiguous(), scene.labels[crop].contiguous(), is_nodule, found, code

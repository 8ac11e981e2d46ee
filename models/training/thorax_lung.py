"""
What fills the lungs: aerated tissue, heavier where it hangs low, and the diseases that a patient has.

Every disease is a score over canonical points, in about millimetres; it takes the points of the lowest score,
as many as its extent says. The threshold is found on a lattice of the patient, not on the grid of the images:
the same disease from any side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.training import thorax_anatomy as anatomy
from models.training.lesions import Disease, Where
from models.training.thorax_build import Build
from models.training.thorax_points import Points

PARENCHYMA_HU, EMPHYSEMA_HU, CONSOLIDATED_HU, FLUID_HU, GLASS_HU, SCAR_HU = (
    -862.0,
    -985.0,
    32.0,
    8.0,
    -600.0,
    -20.0,
)
DISEASE_CODES = {"emphysema": 1, "consolidation": 2, "effusion": 3, "scar": 4, "ground glass": 5}
_HU = {
    "emphysema": EMPHYSEMA_HU,
    "consolidation": CONSOLIDATED_HU,
    "effusion": FLUID_HU,
    "scar": SCAR_HU,
    "ground glass": GLASS_HU,
}
_EDGE_MM = {"emphysema": 2.0, "consolidation": 6.0, "effusion": 0.0, "scar": 1.0, "ground glass": 10.0}
_GRAVITY_HU_PER_MM, _TEXTURE_HU = 0.18, 10.0
_STEP_MM, _HALF_MM = 4.0, 200.0
_LOBES: dict[Where, tuple[int, ...]] = {
    "both": (1, 2, 3, 4, 5),
    "right": (1, 2, 3),
    "left": (4, 5),
    "right upper": (1,),
    "right middle": (2,),
    "right lower": (3,),
    "left upper": (4,),
    "left lower": (5,),
}


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """A disease ready to be drawn: where its score is below `below`, in its lobes."""

    disease: Disease
    score: Callable[[Points], Tensor]
    below: float
    lobes: tuple[int, ...]

    @property
    def code(self) -> int:
        return DISEASE_CODES[self.disease.kind]

    @property
    def hu(self) -> float:
        return _HU[self.disease.kind]

    def share(self, at: Points, lobe: Tensor, edge_mm: float) -> Tensor:
        """How much of a voxel at canonical `at`, in `lobe`, is diseased."""
        edge = max(edge_mm, _EDGE_MM[self.disease.kind])
        here = torch.zeros_like(lobe, dtype=torch.bool)
        for one in self.lobes:
            here |= lobe == one
        return (0.5 - (self.score(at) - self.below) / edge).clamp(0, 1) * here


@lru_cache(maxsize=8)
def lattice(seed: int, width_mm: float) -> NDArray[np.float32]:
    """A smooth random field of deviation 1 every 4 mm of the chest, index (x, y, z); periodic."""
    n = int(2 * _HALF_MM / _STEP_MM)
    field = np.random.default_rng([seed, 3]).standard_normal((n, n, n), np.float32)
    field = ndimage.gaussian_filter(field, width_mm / _STEP_MM, mode="wrap")
    return np.asarray(field / field.std(), np.float32)


class Field:
    """A lattice that answers at any canonical points, between its own by trilinear weights."""

    def __init__(self, seed: int, width_mm: float, device: torch.device) -> None:
        field = lattice(seed, width_mm).transpose(2, 1, 0).copy()
        self._field = torch.from_numpy(field)[None, None].to(device)

    def __call__(self, at: Points) -> Tensor:
        where = torch.stack([axis.reshape(-1) for axis in at], -1)
        # align_corners: -1 and 1 are the first and last points of the lattice, 400 - 4 mm apart.
        where = (where + _HALF_MM) / (_HALF_MM - _STEP_MM / 2) - 1
        found = torch.nn.functional.grid_sample(
            self._field.to(where.dtype), where[None, None, None], padding_mode="border", align_corners=True
        )
        return found.reshape(at.x.shape)


def parenchyma(at: Points, texture: Field, *, prone: bool) -> Tensor:
    """Hounsfield units of healthy lung."""
    gravity = _GRAVITY_HU_PER_MM * (-1 if prone else 1)
    return PARENCHYMA_HU + gravity * (at.y - 5) + _TEXTURE_HU * texture(at).clamp(-2.5, 2.5)


def present(
    diseases: tuple[Disease, ...],
    seed: int,
    build: Build,
    down: tuple[float, float, float],
    device: torch.device,
) -> list[Present]:
    """The diseases with their thresholds; `down` is the direction in which fluid runs, canonical."""
    if not diseases:
        return []
    at = _lattice_points(device)
    inside = (anatomy.lungs(at, build) < 0).nonzero()[:, 0]
    at = Points(*(axis[inside] for axis in at))
    lobe = anatomy.lobe(at)
    found = []
    for index, disease in enumerate(diseases):
        lobes = _LOBES[disease.where]
        here = torch.zeros_like(lobe, dtype=torch.bool)
        for one in lobes:
            here |= lobe == one
        own = Points(*(axis[here] for axis in at))
        score = _score(disease, seed * 31 + disease.seed + index, own, build=build, down=down)
        values = score(own)
        rank = max(1, round(disease.extent * values.numel()))
        found.append(Present(disease, score, float(values.kthvalue(min(rank, values.numel())).values), lobes))
    return found


def _lattice_points(device: torch.device) -> Points:
    along = torch.arange(-140.0, 145.0, 3.0, device=device)
    x, y, z = torch.meshgrid(along, along[:72], along, indexing="ij")
    return Points(x.reshape(-1), y.reshape(-1) + 35, z.reshape(-1))


def _score(
    disease: Disease, seed: int, own: Points, *, build: Build, down: tuple[float, float, float]
) -> Callable[[Points], Tensor]:
    """Low where the disease is worst."""
    device = own.x.device
    random = np.random.default_rng([seed, 51])
    pick = int(random.integers(0, max(1, own.x.numel())))
    centre = [float(axis[pick]) for axis in own]
    if disease.kind == "emphysema":
        fine = Field(seed + 900, 5.0, device)
        return lambda at: -8 * fine(at) - 0.02 * at.z
    if disease.kind == "ground glass":
        broad = Field(seed + 901, 14.0, device)
        return lambda at: -14 * broad(at)
    if disease.kind == "consolidation":
        rough = Field(seed + 902, 9.0, device)
        # Airspace disease fills a lobe from the pleura of its back or side inwards.
        return lambda at: _away(at, centre) + 9 * rough(at)
    if disease.kind == "scar":
        rough = Field(seed + 903, 12.0, device)
        normal = random.standard_normal(3)
        normal /= np.linalg.norm(normal)
        return lambda at: 6 * (_along(at, centre, normal) + 3 * rough(at)).abs() + 0.25 * _away(at, centre)
    return lambda at: _fluid(at, build, down)


def _fluid(at: Points, build: Build, down: tuple[float, float, float]) -> Tensor:
    """Height over the deepest point; the fluid climbs a little along the wall: the meniscus."""
    height = -(down[0] * at.x + down[1] * at.y + down[2] * at.z)
    return height - 26 * torch.exp(-(-anatomy.lungs(at, build)).clamp_min(0) / 9)


def _away(at: Points, centre: list[float]) -> Tensor:
    return ((at.x - centre[0]).square() + (at.y - centre[1]).square() + (at.z - centre[2]).square()).sqrt()


def _along(at: Points, centre: list[float], normal: NDArray[np.float64]) -> Tensor:
    return sum(((at[axis] - centre[axis]) * float(normal[axis]) for axis in range(3)), torch.zeros_like(at.x))

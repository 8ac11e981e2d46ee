"""
One chest CT, taken apart: what every model of the chest asks for first.

Everything is found on a working grid of about 2 mm with axes (z, y, x) that run towards head, back and left,
whatever the axes of the images (`models.prepare.orientation`). What is drawn returns to the grid of the
images, where their voxels decide within one working voxel.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray

from models.chest.airways import Airways, find_airways
from models.chest.body import find_body
from models.chest.coverage import Coverage, coverage_of
from models.chest.drawing import draw
from models.chest.lungs import find_lungs
from models.chest.opacity import Opacity, opacity_of
from models.chest.thirds import Reach, heights_mm, reach_of
from models.contract import NotForThisModel
from models.prepare.morphology import Mask, Spacing, depth_mm
from models.prepare.orientation import Canonical
from models.prepare.resample import reduce_volume, working_shape

RIGHT, LEFT, AIRWAYS = 1, 2, 3  #: what a label map of a chest holds

WORKING_MM, THRESHOLD_HU, CLOSING_MM = 2.0, -400.0, 8.0
_CORE_MM, _CORE_VOXELS = 4.0, 30  # so deep in the trachea no wall is seen


class Stages:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what is done within towards `stage`."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chest:
    """A chest and its parts; masks are (z, y, x) on the working grid unless it says otherwise."""

    volume: hd.Volume
    canonical: Canonical  #: how the axes of `volume` become (z, y, x)
    affine: NDArray[np.float64]  #: working index (z, y, x, 1) → LPS mm
    spacing_mm: Spacing  #: of the working grid
    hu: NDArray[np.float32]  #: Hounsfield units on the working grid
    threshold_hu: float  #: what is darker is air
    body: Mask  #: with the air inside it
    airways: Airways  #: trachea and main bronchi; empty where no trachea was seen
    right: Mask  #: with the vessels in it, without airways
    left: Mask
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seconds: dict[str, float] = field(default_factory=dict)  #: by stage

    @property
    def lungs(self) -> Mask:
        """Both."""
        return self.right | self.left

    @property
    def source(self) -> NDArray[np.generic]:
        """The voxels of the volume as (z, y, x), sharing its memory."""
        return self.canonical.view(self.volume.array)

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader must know of how this chest was taken apart."""
        if self.airways.found:
            return ()
        return ("The trachea was not found: airways may be counted as lung.",)

    def lung(self, side: int) -> Mask:
        """The lung RIGHT or LEFT."""
        return self.right if side == RIGHT else self.left

    def coverage(self, side: int) -> Coverage:
        """What the images cut off of the lung RIGHT or LEFT."""
        return coverage_of(self.lung(side), self.spacing_mm)

    def opacity(self, side: int) -> Opacity:
        """What is dense about the lung RIGHT or LEFT: fluid, consolidation, collapse, a mass."""
        one, other = (self.right, self.left) if side == RIGHT else (self.left, self.right)
        return opacity_of(self.hu, self.body, one, other, self.spacing_mm, leftwards=side == LEFT)

    def noise_hu(self) -> float | None:
        """The deviation of the voxels of the images in the middle of the trachea; None where it is too small.

        Air is the same everywhere: what differs there is noise and the kernel that sharpened it. Scanners
        that write nothing below -1024 HU make it look smaller than it is.
        """
        z, y, x = np.nonzero(depth_mm(self.airways.lumen, self.spacing_mm) > _CORE_MM)
        source = self.source
        at = tuple(
            np.minimum(((index + 0.5) * many / few).astype(int), many - 1)
            for index, many, few in zip((z, y, x), source.shape, self.hu.shape, strict=True)
        )
        return float(source[at].std(dtype=np.float64)) if z.size >= _CORE_VOXELS else None

    def reach(self, side: int) -> Reach:
        """From where to where the lung RIGHT or LEFT reaches, of which thirds are parts."""
        return reach_of(self.lung(side), self.affine)

    def thirds(self) -> NDArray[np.uint8]:
        """UPPER, MIDDLE and LOWER of each lung on the working grid; 0 outside (`models.chest.thirds`)."""
        height = sum(heights_mm(self.affine, self.body.shape))
        thirds = np.zeros(self.body.shape, np.uint8)
        for side, mask in ((RIGHT, self.right), (LEFT, self.left)):
            thirds[mask] = self.reach(side).third(np.broadcast_to(height, mask.shape)[mask])
        return thirds

    def label_map(self, *, airways: bool = True) -> NDArray[np.uint8]:
        """RIGHT, LEFT and AIRWAYS (air only, without its wall) on the grid of the volume, axes as there."""
        labels = np.zeros(self.volume.array.shape, np.uint8)
        lungs = {RIGHT: self.right, LEFT: self.left}
        tree = {AIRWAYS: self.airways.lumen} if airways and self.airways.found else {}
        draw(
            self.canonical.view(labels),
            self.source,
            lungs,
            tree,
            threshold_hu=self.threshold_hu,
            device=self.device,
        )
        return labels

    def index_of(self, lps_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Working indices (…, 3) as (z, y, x) of points (…, 3) as (x, y, z) in LPS mm."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(lps_mm @ inverse[:3, :3].T + inverse[:3, 3])


def find_chest(
    volume: hd.Volume,
    *,
    working_mm: float = WORKING_MM,
    threshold_hu: float = THRESHOLD_HU,
    closing_mm: float = CLOSING_MM,
    device: str | torch.device = "cpu",
) -> Chest:
    """The chest in a CT volume (slice, row, column) of Hounsfield units.

    `closing_mm`: notches up to twice as wide (vessels, nodules on the pleura) belong to the lung. Raises
    `NotForThisModel` where there is no body or no two lungs.
    """
    clock, device = Stages(), torch.device(device)
    canonical = Canonical.of(volume)
    source = canonical.view(volume.array)
    shape = working_shape(_triple(source.shape), canonical.spacing_mm, working_mm)
    z, y, x = (
        step * many / few for step, many, few in zip(canonical.spacing_mm, source.shape, shape, strict=True)
    )
    spacing = (z, y, x)
    with clock("resample"):
        hu = reduce_volume(source, shape, device)
        if not np.isfinite(hu).all():
            raise NotForThisModel("Some voxels are not numbers.")
    with clock("body"):
        body = find_body(hu, spacing)
    with clock("airways"):
        air = body & (hu < threshold_hu)
        airways = find_airways(hu, body, air, spacing)
    with clock("lungs"):
        right, left = find_lungs(hu, air, spacing, closing_mm, airways.mask)
    return Chest(
        volume=volume,
        canonical=canonical,
        affine=working_affine(volume.affine, canonical, volume.array.shape, shape),
        spacing_mm=spacing,
        hu=hu,
        threshold_hu=threshold_hu,
        body=body,
        airways=airways,
        right=right,
        left=left,
        device=device,
        seconds=clock.seconds,
    )


def working_affine(
    affine: NDArray[np.float64], canonical: Canonical, many: tuple[int, ...], few: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Index (z, y, x, 1) on a grid of `few` voxels → LPS mm, for a volume of `many` with its own `affine`.

    Both grids cover the same millimetres, edge to edge.
    """
    to_source = np.zeros((4, 4))
    to_source[3, 3] = 1.0
    for axis, (along, back) in enumerate(zip(canonical.source_axes, canonical.reversed, strict=True)):
        step = many[along] / few[axis]
        to_source[along, axis] = -step if back else step
        to_source[along, 3] = many[along] - 0.5 - step / 2 if back else step / 2 - 0.5
    return np.asarray(np.asarray(affine) @ to_source)


def _triple(shape: tuple[int, ...]) -> tuple[int, int, int]:
    z, y, x = shape
    return z, y, x

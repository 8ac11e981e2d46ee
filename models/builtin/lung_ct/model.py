"""
Both lungs on a chest CT, and what they measure: no weights, every step explainable.

    source grid    →  canonical axes (z head, y back, x left)  →  means on about 2 mm
    working grid   →  body → air in it → airways → two lungs → notches closed
    source grid    ←  soft masks, moved to the edge that the source voxels show  →  label map, measurements

Every chapter may refuse (`NotForThisModel`); `run` turns that into findings that say why.
"""

from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ledger.job import Outcome
from models.builtin.lung_ct import quality
from models.builtin.lung_ct.measure import Whole, airways, lung_on, measure, of_both, third_segments
from models.chest.anatomy import CLOSING_MM, LEFT, RIGHT, THRESHOLD_HU, WORKING_MM, Stages, find_chest
from models.contract import Context, Memory, NotForThisModel
from models.ct import WithoutWeights
from results.findings import Findings


class LungSettings(BaseModel, frozen=True, extra="forbid"):
    """What a rule may set."""

    working_mm: float = Field(
        WORKING_MM, ge=1.0, le=4.0
    )  # Airway walls vanish above it, time and noise grow below it.
    threshold_hu: float = Field(THRESHOLD_HU, ge=-700.0, le=-200.0)  # Half way between lung and soft tissue.
    closing_mm: float = Field(
        CLOSING_MM, ge=0.0, le=20.0
    )  # Vessels and nodules on the pleura, up to twice as wide.
    thirds_as_segments: bool = False  # Six more segments in a layer of their own.

    def of_chest(self) -> dict[str, float]:
        """What decides the outline."""
        return self.model_dump(exclude={"thirds_as_segments"})


class LungCT(WithoutWeights[LungSettings]):
    """Lungs on chest CT: implements `models.contract.Model`."""

    folder = Path(__file__).parent
    settings = LungSettings

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The label map, one slab of floats, and about 40 bytes for every working voxel of 2 mm."""
        voxels = int(np.prod(shape))
        slab = 16 * shape[1] * shape[2] * 4 * 8
        working = min(voxels, 12_000_000) * 40
        return Memory(host=voxels + slab + working, device=slab if self._device.type != "cpu" else 0)

    def _findings(self, volume: hd.Volume, context: Context, settings: LungSettings) -> Findings:
        """Both lungs with volumes and densities, and the airways; or why not."""
        quality.refuse_unsuitable(context.headers, self.manifest.input, volume.array.shape, volume.spacing)
        chest = find_chest(volume, **settings.of_chest(), device=self._device)
        clock = Stages()
        with clock("judge"):
            judged = {side: quality.judge(chest, side) for side in (RIGHT, LEFT)}
            noise_hu = chest.noise_hu()
        with clock("draw"):
            label_map = chest.label_map()
        with clock("measure"):
            right, left = (
                lung_on(
                    volume,
                    label_map == side,
                    side,
                    chest.reach(side) if judged[side].whole else None,
                    has_volume=judged[side].outlined,
                )
                for side in (RIGHT, LEFT)
            )
            if not (right.hu.size and left.hu.size):
                raise NotForThisModel("Only one lung was found, or two that could not be told apart.")
            quality.refuse_implausible(right, left)
            segments = [measure(right), measure(left), *([airways()] if chest.airways.found else [])]
        drawn: NDArray[np.uint8] = label_map
        if settings.thirds_as_segments:
            with clock("thirds"):
                thirds = tuple(third_segments((right, left), len(segments) + 1))
                drawn = np.stack([label_map, _third_map(label_map, (right, left), len(segments) + 1)])
                segments += thirds
        return Findings(
            outcome=Outcome.FOUND,
            label_map=drawn,
            segments=tuple(segments),
            measurements=of_both(right, left),
            cautions=(
                *judged[RIGHT].cautions,
                *judged[LEFT].cautions,
                *quality.size_cautions(right, left),
                *chest.cautions,
                *quality.density_cautions(context.headers, volume.spacing[0], noise_hu),
            ),
            timings={**chest.seconds, **clock.seconds},
        )


def _third_map(label_map: NDArray[np.uint8], lungs: tuple[Whole, Whole], first: int) -> NDArray[np.uint8]:
    """The layer (slice, row, column) of the segments of thirds, numbered from `first`."""
    layer = np.zeros_like(label_map)
    for lung in lungs:
        if lung.thirds is not None:
            layer[label_map == lung.number] = lung.thirds + np.uint8(first - 1)
            first += 3
    return layer

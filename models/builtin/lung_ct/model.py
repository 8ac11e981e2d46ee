"""
Both lungs on a chest CT, and what they measure: no weights, every step explainable.

    source grid    →  canonical axes (z head, y back, x left)  →  means on about 2 mm
    working grid   →  body → air in it → airways → two lungs → notches closed
    source grid    ←  soft masks, moved to the edge that the source voxels show  →  label map, measurements

Every chapter may refuse (`NotForThisModel`); `run` turns that into findings that say why.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from ledger.identifiers import Digest
from ledger.job import Outcome
from models.builtin.lung_ct import quality
from models.builtin.lung_ct.airways import find_airways
from models.builtin.lung_ct.lungs import find_body, find_lungs
from models.builtin.lung_ct.measure import LEFT, RIGHT, measure
from models.contract import Context, Memory, NotForThisModel, SettingsNotUnderstood
from models.prepare.morphology import Mask, Spacing, box_of
from models.prepare.orientation import Canonical
from models.prepare.resample import enlarge, reduce_volume, working_shape
from models.registry import read_manifest
from results.findings import Findings, Segment, refused

_PULL = 0.35  # how far the source voxels may move the edge, in parts of the soft mask's 0 … 1
_PULL_HU = 350.0  # so far from the threshold a voxel pulls with all its weight


class LungSettings(BaseModel, frozen=True, extra="forbid"):
    """What a rule may set."""

    working_mm: float = Field(
        2.0, ge=1.0, le=4.0
    )  # Airway walls vanish above it, time and noise grow below it.
    threshold_hu: float = Field(-400.0, ge=-700.0, le=-200.0)  # Half way between lung and soft tissue.
    closing_mm: float = Field(8.0, ge=0.0, le=20.0)  # Vessels and nodules on the pleura, up to twice as wide.


class LungCT:
    """Lungs on chest CT: implements `models.contract.Model`."""

    folder = Path(__file__).parent
    weights_digest: Digest | None = None

    def __init__(self) -> None:
        self.manifest = read_manifest(self.folder / "manifest.toml")
        self._device = torch.device("cpu")

    def load(self, device: str) -> None:
        """There are no weights; resampling will run on `device`."""
        self._device = torch.device(device)

    def unload(self) -> None:
        """Nothing is kept between runs."""
        self._device = torch.device("cpu")

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The label map, one slab of floats, and about 40 bytes for every working voxel of 2 mm."""
        voxels = int(np.prod(shape))
        slab = 16 * shape[1] * shape[2] * 4 * 8
        working = min(voxels, 12_000_000) * 40
        return Memory(host=voxels + slab + working, device=slab if self._device.type != "cpu" else 0)

    def run(self, volume: hd.Volume, context: Context) -> Findings:
        """Two segments, right lung and left lung, each with volume, mean, LAA-950 and Perc15; or why not."""
        try:
            settings = LungSettings.model_validate(dict(context.settings))
        except ValidationError as error:
            raise SettingsNotUnderstood(f"lung_ct cannot use the settings of this rule: {error}") from error
        try:
            return self._findings(volume, context, settings)
        except NotForThisModel as refusal:
            return refused(str(refusal))

    def _findings(self, volume: hd.Volume, context: Context, settings: LungSettings) -> Findings:
        clock = _Stages()
        quality.refuse_unsuitable(context.headers, self.manifest.input, volume.array.shape, volume.spacing)
        canonical = Canonical.of(volume)
        source = canonical.view(volume.array)  # (z, y, x), Hounsfield units
        shape = working_shape(_triple(source.shape), canonical.spacing_mm, settings.working_mm)
        spacing = _triple_mm(
            step * many / few
            for step, many, few in zip(canonical.spacing_mm, source.shape, shape, strict=True)
        )
        with clock("resample"):
            hu = reduce_volume(source, shape, self._device)
            if not np.isfinite(hu).all():
                raise NotForThisModel("Some voxels are not numbers.")
        with clock("body"):
            body = find_body(hu, spacing)
        with clock("airways"):
            air = body & (hu < settings.threshold_hu)
            airways = find_airways(hu, body, air, spacing)
        with clock("lungs"):
            right, left = find_lungs(hu, air, spacing, settings.closing_mm, airways.mask)
            cautions = quality.coverage_cautions(right | left, spacing)
        with clock("upsample"):
            label_map = np.zeros(volume.array.shape, np.uint8)
            self._draw(canonical.view(label_map), source, (right, left), settings.threshold_hu)
        with clock("measure"):
            right_lung, left_lung = _segments(volume, label_map)
            quality.refuse_implausible(right_lung, left_lung)
        if not airways.found:
            cautions.append("The trachea was not found: airways may be counted as lung.")
        cautions += quality.density_cautions(context.headers, volume.spacing[0])
        return Findings(
            outcome=Outcome.FOUND,
            label_map=label_map,
            segments=(right_lung, left_lung),
            cautions=tuple(cautions),
            timings=clock.seconds,
        )

    def _draw(
        self,
        labels: NDArray[np.uint8],
        source: NDArray[np.generic],
        lungs: tuple[Mask, Mask],
        threshold_hu: float,
    ) -> None:
        """Write RIGHT and LEFT into `labels` (z, y, x), the canonical view of the label map.

        The edge of a mask on the working grid is known to about a working voxel. Within that, the source
        decides: a voxel darker than the threshold draws the edge outwards, a brighter one inwards. As `_PULL`
        is below a half, nothing appears away from the mask, and no vessel makes a hole deep inside it.
        """
        soft = np.stack(lungs).astype(np.float32)
        extent = box_of(lungs[0] | lungs[1])[0]
        scale = labels.shape[0] / soft.shape[1]
        first, last = int((extent.start - 1) * scale), int(np.ceil((extent.stop + 1) * scale))
        slices = slice(max(0, first), min(labels.shape[0], last))
        for where, planes in enlarge(soft, _triple(labels.shape), slices, self._device):
            hu = torch.from_numpy(np.ascontiguousarray(source[where], np.float32)).to(self._device)
            pull = ((threshold_hu - hu) / _PULL_HU).clamp_(-1, 1).mul_(_PULL)
            right, left = planes[:, 0], planes[:, 1]
            inside = right + left + pull > 0.5
            side = torch.where(right >= left, RIGHT, LEFT).to(torch.uint8)
            labels[where] = (side * inside).cpu().numpy()


def _segments(volume: hd.Volume, label_map: NDArray[np.uint8]) -> Iterator[Segment]:
    voxel_ml = volume.voxel_volume / 1000
    for number in (RIGHT, LEFT):
        hu = volume.array[label_map == number].astype(np.float32)
        if hu.size == 0:
            raise NotForThisModel("Only one lung was found, or two that could not be told apart.")
        yield measure(number, hu, voxel_ml)


class _Stages:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


def _triple(shape: tuple[int, ...]) -> tuple[int, int, int]:
    z, y, x = shape
    return z, y, x


def _triple_mm(values: Iterator[float]) -> Spacing:
    z, y, x = values
    return z, y, x

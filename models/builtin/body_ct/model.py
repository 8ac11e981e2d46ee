"""
Fat, muscle, bone and liver on CT: what thresholds can say by themselves, and more where organs are drawn.

    working grid   →  body → skin, fat, wall → lungs, where there are any → spine, dome of the diaphragm
    organs         →  of the model that the rule names with `organs`, run on the same images first
    source grid    ←  one segment for everything that is measured, with its values

Fat and muscle are those of a slab: the middle of L3 where that vertebra is drawn, else from the carina to the
top of the right diaphragm, else of all images.
"""

import time
from pathlib import Path

import highdicom as hd
import numpy as np
from pydantic import BaseModel, Field

from ledger.job import Outcome
from models.builtin.body_ct import organs, quality
from models.builtin.body_ct.pieces import Pieces
from models.builtin.body_ct.say import segments_of
from models.builtin.body_ct.trunk import find_trunk
from models.contract import Context, Memory, NotForThisModel, SettingsNotUnderstood
from models.ct import WithoutWeights
from models.prepare.orientation import Canonical
from models.prepare.resample import reduce_volume, working_shape
from results.findings import Findings

_WORKING_MM = 2.0


class BodySettings(BaseModel, frozen=True, extra="forbid"):
    """What a rule may set."""

    #: The model that draws organs on the same images, as a rule names models; empty: thresholds alone. The
    #: worker opens, admits and runs it, and hands over what it drew.
    organs: str = ""
    bones: int = Field(12, ge=1, le=24)  # at most so many vertebral bodies


class BodyCT(WithoutWeights[BodySettings]):
    """Body composition: implements `models.contract.Model`."""

    folder = Path(__file__).parent
    settings = BodySettings

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The label map, a mask of each piece, a slab of floats, and 60 bytes for every working voxel."""
        voxels = int(np.prod(shape))
        slab = 16 * shape[1] * shape[2] * 4 * 8
        working = min(voxels, 12_000_000) * 60
        return Memory(host=20 * voxels + slab + working, device=slab if self._device.type != "cpu" else 0)

    def _findings(self, volume: hd.Volume, context: Context, settings: BodySettings) -> Findings:
        """A segment for each tissue with its values; or why there is none."""
        if settings.organs and context.drawn is None:
            raise SettingsNotUnderstood(
                f"body_ct was to measure organs that {settings.organs} draws, and was given none"
            )
        began = time.perf_counter()
        canonical = Canonical.of(volume)
        source = canonical.view(volume.array) if volume.array.ndim == 3 else volume.array
        quality.refuse_unsuitable(context.headers, self.manifest.input, source.shape, canonical.spacing_mm)
        slices, rows, columns = source.shape
        shape = working_shape((slices, rows, columns), canonical.spacing_mm, _WORKING_MM)
        z, y, x = (
            step * many / few
            for step, many, few in zip(canonical.spacing_mm, source.shape, shape, strict=True)
        )
        hu = reduce_volume(source, shape, self._device)
        if not np.isfinite(hu).all():
            raise NotForThisModel("Some voxels are not numbers.")
        drawn = {} if context.drawn is None else organs.masks_of(context.drawn, canonical)
        trunk = find_trunk(hu, (z, y, x))
        if trunk.chest is None and not drawn:
            raise NotForThisModel(
                "No lungs are seen, and no other model drew organs: thresholds alone do not tell which part "
                "of a body this is."
            )
        found = Pieces(
            trunk=trunk,
            source=source,
            spacing_mm=canonical.spacing_mm,
            headers=context.headers,
            drawn=drawn,
            cautions=quality.cautions(context.headers),
        )
        if context.drawn is not None:
            found.cautions.append(context.drawn.said)
        found.all(settings.bones)
        labels = np.zeros(volume.array.shape, np.uint8)
        segments = segments_of(found.pieces, canonical.view(labels), source, canonical.spacing_mm)
        if not segments:
            raise NotForThisModel(" ".join(["Nothing of the body could be measured.", *found.cautions]))
        return Findings(
            outcome=Outcome.FOUND,
            label_map=labels,
            segments=segments,
            cautions=tuple(found.cautions),
            timings={"body": time.perf_counter() - began},
        )

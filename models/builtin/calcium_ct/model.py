"""
Calcium in the region of the heart on CT without contrast medium: no weights, every step explainable.

    source grid    →  canonical axes (z head, y back, x left)  →  means on about 2 mm
    working grid   →  lungs → skeleton → the soft tissue between → where coronary arteries can be
    source grid    →  slices of 3 mm, scored where that region is  →  label map, score, category

A gated scan gets its score; of any other chest CT only the category is said, for motion blurs calcium.
Every chapter may refuse (`NotForThisModel`); `run` turns that into findings that say why.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from models.builtin.calcium_ct import quality
from models.builtin.calcium_ct.answer import answer
from models.builtin.calcium_ct.bones import find_skeleton
from models.builtin.calcium_ct.gating import HEART_SIZED_MM, Gating, gating
from models.builtin.calcium_ct.region import Heart, find_heart
from models.builtin.calcium_ct.scoring import Limits, Scored, score, slabs
from models.builtin.calcium_ct.view import TISSUE_HU, heart_sized, whole_chest
from models.contract import Context, Memory, NotForThisModel
from models.ct import WithoutWeights
from models.headers import number
from models.prepare.morphology import Spacing, box_of
from models.prepare.orientation import Canonical
from models.prepare.resample import on_source, reduce_volume, working_shape
from results.findings import Findings

_WORKING_MM = 2.0
_METAL_HU = 1800.0  # Calcified plaque stays below; wires, clips and valves do not.
_AROUND_MM = 12.0  # so far from the region a lesion may reach that lies in it


class CalciumSettings(BaseModel, frozen=True, extra="forbid"):
    """What a rule may set."""

    gated: bool | None = None  # None: the headers say. True and False are for scanners whose headers do not.
    limits_hu: tuple[float, float, float, float] | None = None  # of the site's own, for its tube voltage
    mass_mg_per_mm3_hu: float | None = Field(None, gt=0, le=0.01)  # measured by the site; None: no mass
    minimum_area_mm2: float = Field(1.0, ge=0.2, le=5.0)  # Agatston's

    @model_validator(mode="after")
    def _rising(self) -> "CalciumSettings":
        if self.limits_hu is not None and list(self.limits_hu) != sorted(set(self.limits_hu)):
            raise ValueError("limits_hu rise from one weight to the next")
        return self


class CalciumCT(WithoutWeights[CalciumSettings]):
    """Coronary calcium: implements `models.contract.Model`."""

    folder = Path(__file__).parent
    settings = CalciumSettings

    def estimate(self, shape: tuple[int, int, int]) -> Memory:
        """The label map, the region and what is bright in it, a slab of floats, and about 60 bytes for every
        working voxel of 2 mm.
        """
        voxels = int(np.prod(shape))
        slab = 16 * shape[1] * shape[2] * 4 * 8
        working = min(voxels, 12_000_000) * 60
        return Memory(host=3 * voxels + slab + working, device=slab if self._device.type != "cpu" else 0)

    def _findings(self, volume: hd.Volume, context: Context, settings: CalciumSettings) -> Findings:
        """One segment with its score, or a category, or why there is neither."""
        began = time.perf_counter()
        headers = context.headers
        canonical = Canonical.of(volume)
        source = canonical.view(volume.array) if volume.array.ndim == 3 else volume.array
        quality.refuse_unsuitable(headers, self.manifest.input, source.shape, canonical.spacing_mm)
        _refuse_oblique(volume, canonical)
        limits = settings.limits_hu or quality.limits_of(headers)
        thickness = number(headers.get("SliceThickness", "")) or canonical.spacing_mm[0]
        gated = _gating(settings, context, source.shape[2] * canonical.spacing_mm[2])

        heart, cautions = self._heart(source, canonical.spacing_mm, limits)
        found_s = time.perf_counter() - began
        scan = _Scan(canonical.spacing_mm, thickness, limits)
        scored, calcium, noise = _score(source, heart, scan, settings.minimum_area_mm2)
        cautions += quality.noise_cautions(noise)
        cautions += quality.thickness_cautions(thickness, gated=gated.gated)
        full = gated.gated and thickness <= quality.FULL_SCORE_MM + 0.02
        if not gated.gated:
            cautions.append(
                "Category only, estimated without gating: motion blurs calcium, so no score is given "
                f"({gated.because})."
            )
        if settings.limits_hu is not None:
            said = ", ".join(f"{limit:g}" for limit in settings.limits_hu)
            cautions.append(f"Scored with limits that this site set: {said} HU.")
        label_map = np.zeros(volume.array.shape, np.uint8)
        canonical.view(label_map)[calcium] = 1
        return answer(
            scored,
            label_map,
            full=full,
            lowest_hu=limits[0],
            mass_factor=settings.mass_mg_per_mm3_hu,
            cautions=cautions,
            timings={"region": found_s, "score": time.perf_counter() - began - found_s},
        )

    def _heart(
        self, source: NDArray[np.generic], spacing_mm: Spacing, limits: Limits
    ) -> tuple[Heart, list[str]]:
        """The region on the working grid, with what a reader must know of it."""
        shape = working_shape(_triple(source.shape), spacing_mm, _WORKING_MM)
        steps = tuple(
            step * many / few for step, many, few in zip(spacing_mm, source.shape, shape, strict=True)
        )
        spacing = (steps[0], steps[1], steps[2])
        hu = reduce_volume(source, shape, self._device)
        if not np.isfinite(hu).all():
            raise NotForThisModel("Some voxels are not numbers.")
        narrow = source.shape[2] * spacing_mm[2] < HEART_SIZED_MM
        if narrow:
            body = hu > TISSUE_HU
            skeleton = find_skeleton(hu, body, limits[0], spacing)
            view = heart_sized(hu, body, skeleton.middle_x, spacing)
        else:
            view = whole_chest(hu, spacing)
            skeleton = find_skeleton(hu, view.body, limits[0], spacing)
        heart = find_heart(hu, view, skeleton, spacing)
        quality.refuse_enhanced(hu, heart.tissue, limits[0], spacing)
        cautions = []
        if not heart.lower_end_seen:
            cautions.append("The lower end of the heart may be cut off: calcium there is not counted.")
        if not heart.upper_end_seen:
            cautions.append("The upper end of the heart may be cut off: calcium there is not counted.")
        return heart, cautions


@dataclass(frozen=True, slots=True)
class _Scan:
    """How the source slices were made."""

    spacing_mm: Spacing
    thickness_mm: float
    limits_hu: Limits


def _score(
    source: NDArray[np.generic],
    heart: Heart,
    scan: _Scan,
    minimum_area_mm2: float,
) -> tuple[Scored, tuple[NDArray[np.intp], ...], float]:
    """The score of the source slices in the region, the voxels that it counts, and the noise there."""
    mask = on_source(heart.mask, _triple(source.shape))
    if not mask.any():
        raise NotForThisModel("The heart was not found between the lungs.")
    # Whole slabs, counted from the lowest slice: where the region begins decides nothing.
    rows = slabs(source.shape[0], scan.spacing_mm[0], scan.thickness_mm)
    box = box_of(mask, _AROUND_MM, scan.spacing_mm)
    touched = [slab for slab in rows if slab.stop > box[0].start and slab.start < box[0].stop]
    box = (slice(touched[0].start, touched[-1].stop), box[1], box[2])
    scored = score(
        source[box],
        mask[box],
        spacing_mm=scan.spacing_mm,
        thickness_mm=scan.thickness_mm,
        limits_hu=scan.limits_hu,
        minimum_area_mm2=minimum_area_mm2,
        too_bright_hu=_METAL_HU,
    )
    found = np.nonzero(scored.calcium)
    calcium = tuple(axis + side.start for axis, side in zip(found, box, strict=True))
    tissue = on_source(heart.tissue, _triple(source.shape))
    middle = rows[np.argmax([tissue[slab].sum() for slab in rows])]
    plane = np.asarray(source[middle], np.float64).mean(axis=0)
    return scored, calcium, quality.noise_of(plane, np.asarray(tissue[middle].any(axis=0)))


def _gating(settings: CalciumSettings, context: Context, width_mm: float) -> Gating:
    if settings.gated is None:
        return gating(context.headers, width_mm)
    return Gating(settings.gated, "the rule of this site says so")


def _refuse_oblique(volume: hd.Volume, canonical: Canonical) -> None:
    """A score is made of axial slices, and no other slices are."""
    axial = abs(float(volume.affine[2, 0])) / volume.spacing[0]
    if canonical.source_axes[0] != 0 or axial < 0.985:  # 10°
        raise NotForThisModel("These are not axial slices, of which alone a calcium score is made.")


def _triple(shape: tuple[int, ...]) -> tuple[int, int, int]:
    z, y, x = shape
    return z, y, x

"""
How good a fundus photograph is as an image, and its vessel density; no word about the eye.

    image         →  means on a grid on which the field of view is about 560 pixels wide
    working grid  →  round field of view → light over it → vessels (green channel) → disc, to doubt a stated
    side image         →  sharpness of the green channel at its own resolution
    findings      ←  a grade for each aspect, the numbers, field of view and vessels as segments
"""

import math
from pathlib import Path

import numpy as np
from scipy import ndimage

from ledger.job import Outcome
from models.builtin.fundus_quality.disc import Disc, find_disc
from models.builtin.fundus_quality.vessels import find_vessels
from models.builtin.fundus_quality.view import View, find_view
from models.contract import NotForThisModel
from models.images.grid import Mask, Plane, enlarged, reduced
from models.images.measures import edge_width
from models.images.model import WithoutWeights
from results import codes
from results.findings import Findings, Grade, Measurement, Segment

_WORKING = 600  # pixels along the shorter side
_FEWEST_VESSELS = 0.5  # percent of the field: less, and it is no fundus or shows none
_EVEN = 0.45  # darkest over brightest tenth
_DARK = 40.0  # grey steps of 255: the median light of a field that is too dark to be read
_CLIPPED = 0.05  # of the field at the brightest value
_UNSHARP = 3.5  # thousandths of the diameter of the field


class FundusQuality(WithoutWeights):
    """Quality of a fundus photograph: implements `models.contract.Model`."""

    folder = Path(__file__).parent
    colour = True
    bytes_of_pixel = 48

    def _findings(
        self, pixels: Plane, spacing_mm: tuple[float, float] | None, headers: dict[str, str]
    ) -> Findings:
        """A grade for each aspect, vessel density, the field and the vessels."""
        factor = max(1, min(pixels.shape[:2]) // _WORKING)
        return _judged(pixels, reduced(pixels, factor), factor, headers)


def _judged(pixels: Plane, working: Plane, factor: int, headers: dict[str, str]) -> Findings:
    view = find_view(working)
    green = np.ascontiguousarray(working[..., 1])
    vessels = find_vessels(green, view.mask, view.radius)
    percent = 100 * float(vessels.sum()) / float(view.mask.sum())
    disc = find_disc(green + working[..., 0], vessels, view)
    if percent < _FEWEST_VESSELS:
        raise NotForThisModel("No vessels are seen: this is no fundus, or nothing of it can be judged.")
    shape = (pixels.shape[0], pixels.shape[1])
    drawn = enlarged(view.mask, factor, shape)
    edge = _edge(np.ascontiguousarray(pixels[..., 1]), drawn, factor) / (2 * view.radius * factor) * 1000
    evenness, light = _light(working.max(axis=2), view)
    clipped = float((pixels.min(axis=2)[drawn] >= 254).mean())
    judged = (
        _illumination(evenness, light, clipped),
        _sharpness(edge),
        _side(headers, disc),
    )
    label_map = np.zeros((2, 1, *shape), np.uint8)
    label_map[0, 0][drawn] = 1
    label_map[1, 0][enlarged(vessels, factor, shape)] = 2
    return Findings(
        outcome=Outcome.FOUND,
        label_map=label_map,
        segments=_segments(headers),
        grades=tuple(grade for grade, _ in judged),
        measurements=tuple(_measurements(percent, evenness, edge)),
        cautions=(
            "Quality and vessel density only: no grade and no diagnosis.",
            *(caution for _, caution in judged if caution),
        ),
    )


def _edge(green: Plane, view: Mask, factor: int) -> float:
    """The blur of the sharpest edges inside the field, in pixels of the image."""
    inner = view.copy()
    margin = max(3, round(0.04 * min(view.shape)))
    inner &= np.asarray(ndimage.uniform_filter(view.astype(np.float32), 2 * margin + 1) > 0.999)
    # A sensor's noise is finer than a vessel: half of the working grid's pixel is enough to see blur.
    step = max(1, factor // 2)
    return edge_width(reduced(green, step), inner[: inner.shape[0] // step * step : step,
                      : inner.shape[1] // step * step : step]) * step  # fmt: skip


def _light(light: Plane, view: View) -> tuple[float, float]:
    """Darkest over brightest tenth of the smoothed light in the field, and its median."""
    sigma = view.radius / 5
    weight = ndimage.gaussian_filter(view.mask.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(np.where(view.mask, light, 0), sigma) / np.maximum(weight, 1e-3)
    low, middle, high = np.percentile(smooth[view.mask], (10, 50, 90))
    return float(low / high) if high > 0 else 0.0, float(middle)


_Judged = tuple[Grade, str]


def _illumination(evenness: float, light: float, clipped: float) -> _Judged:
    number = Measurement(name=codes.ILLUMINATION, value=100 * evenness, unit=codes.PERCENT)
    words = []
    value = codes.INCONSPICUOUS
    if evenness < _EVEN:
        value = codes.UNEVEN
        words.append(f"the darkest tenth has {100 * evenness:.0f} % of the light of the brightest")
    if light < _DARK:
        value = codes.UNDER_EXPOSED
        words.append("it is too dark")
    if clipped > _CLIPPED:
        value = codes.OVER_EXPOSED
        words.append(f"{100 * clipped:.0f} % of the field are white")
    caution = f"The light of the photograph: {', '.join(words)}." if words else ""
    return Grade(label="Light", scale=codes.IMAGE_QUALITY, value=value, inputs=(number,)), caution


def _sharpness(edge: float) -> _Judged:
    if not math.isfinite(edge):
        return Grade(label="Sharpness", scale=codes.IMAGE_QUALITY, value=codes.NOT_JUDGED), ""
    unsharp = edge >= _UNSHARP
    return (
        Grade(
            label="Sharpness",
            scale=codes.IMAGE_QUALITY,
            value=codes.UNSHARP if unsharp else codes.INCONSPICUOUS,
        ),
        "The photograph is unsharp: fine vessels are lost, and vessel density is too low." if unsharp else "",
    )


def _side(headers: dict[str, str], disc: Disc | None) -> _Judged:
    side = (headers.get("ImageLaterality", "") or headers.get("Laterality", "")).strip().upper()
    not_judged = Grade(label="Side", scale=codes.IMAGE_QUALITY, value=codes.NOT_JUDGED)
    if disc is None or disc.at == "middle" or side not in ("R", "L"):
        return not_judged, "" if side in ("R", "L") else "The headers do not say which eye this is."
    # The disc is nasal of the macula: at the right of the photograph of a right eye.
    if (disc.at == "right") == (side == "R"):
        return Grade(label="Side", scale=codes.IMAGE_QUALITY, value=codes.INCONSPICUOUS), ""
    word = "right" if side == "R" else "left"
    return (
        Grade(label="Side", scale=codes.IMAGE_QUALITY, value=codes.SIDE_CONTRADICTED),
        f"The headers say {word} eye, and the disc lies at the {disc.at} of the photograph: if it is centred "
        "on the macula, the side is wrong or the image is mirrored.",
    )


def _measurements(percent: float, evenness: float, edge: float) -> list[Measurement]:
    found = [
        Measurement(name=codes.VESSEL_DENSITY, value=percent, unit=codes.PERCENT),
        Measurement(name=codes.ILLUMINATION, value=100 * evenness, unit=codes.PERCENT),
    ]
    if math.isfinite(edge):
        found.append(Measurement(name=codes.EDGE_BLUR_OF_FIELD, value=edge, unit=codes.PER_MILLE))
    return found


def _segments(headers: dict[str, str]) -> tuple[Segment, ...]:
    side = (headers.get("ImageLaterality", "") or headers.get("Laterality", "")).strip().upper()
    laterality = {"R": codes.RIGHT, "L": codes.LEFT}.get(side)
    return (
        Segment(
            number=1,
            label="Field of view",
            category=codes.SPATIAL_CONCEPT,
            kind=codes.FIELD_OF_VIEW,
            laterality=laterality,
            colour_rgb=(240, 228, 66),
        ),
        Segment(
            number=2,
            label="Vessels",
            category=codes.ANATOMICAL_STRUCTURE,
            kind=codes.BLOOD_VESSEL,
            laterality=laterality,
            colour_rgb=(86, 180, 233),
            layer=1,
        ),
    )

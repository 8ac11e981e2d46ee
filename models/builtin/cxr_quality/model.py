"""
How good a chest radiograph is as an image; no word about the chest.

    headers   →  view, greys, exposure index against its target
    image     →  field without flat margins  →  how it lies (8 ways)  →  lungs in it (upright, frontal)
              →  contrast, clipping, noise, sharpness of the field
    findings  ←  a grade for each aspect, the numbers that it came from, the field and the lungs as segments

What cannot be judged is left out and said; what is no chest radiograph is refused. Pixels are looked at as
they are stored: windows and VOI LUTs change how an image is shown, and none of this.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ledger.job import Outcome
from models.builtin.cxr_quality import facts, grading
from models.builtin.cxr_quality.facts import Said
from models.builtin.cxr_quality.field import Field, find_field
from models.builtin.cxr_quality.grading import Look
from models.builtin.cxr_quality.greys import measure
from models.builtin.cxr_quality.lie import lie_of
from models.builtin.cxr_quality.lungs import Lungs, find_lungs
from models.contract import NotForThisModel
from models.images.grid import Mask, Plane, enlarged, reduced
from models.images.model import WithoutWeights
from results import codes
from results.findings import Findings, Measurement, Segment

_FINE = 1200  # pixels along the longer side: a field is found on means of no more
_SHARP = 1000  # pixels of the middle of the field, in which noise and sharpness are looked for
_BLACK = 0.4  # of the field: of radiographs of the chest at most a quarter is
_DARK = 0.05  # of the range: so much of it is black
_FILLS = 0.45  # of the image: less is filled by a limb; asked where the headers do not say chest
_CHEST_FIT = 2.0  # of a frontal chest, however it is turned; of real ones the least was 2.4


@dataclass(frozen=True, slots=True)
class _Grid:
    """That of the image, and the coarser one on which the field is found."""

    whole: tuple[int, ...]
    fine: tuple[int, ...]
    factor: int
    mm: tuple[float, float] | None  #: of a fine pixel: between rows, between columns


class ChestQuality(WithoutWeights):
    """Quality of a chest radiograph: implements `models.contract.Model`."""

    folder = Path(__file__).parent
    colour = False
    bytes_of_pixel = 24

    def _findings(
        self, pixels: Plane, spacing_mm: tuple[float, float] | None, headers: dict[str, str]
    ) -> Findings:
        """A grade for each aspect, the numbers behind them, the field and the lungs."""
        said = facts.read(headers)
        factor = math.ceil(max(pixels.shape) / _FINE)
        fine = reduced(pixels, factor)
        mm = (spacing_mm[0] * factor, spacing_mm[1] * factor) if spacing_mm else None
        grid = _Grid(pixels.shape, fine.shape, factor, mm)
        field = find_field(fine)
        inside = fine[field.inside]
        chest = bool(headers.get("BodyPartExamined", "").strip())
        _refuse_other(inside, field.share_of(grid.fine), chest=chest)
        look = _look(pixels, field, inside, factor, said)
        _refuse_no_chest(said, look)
        grades, cautions = grading.judge(said, look)
        lungs = look.lungs(said)
        label_map, segments = _drawn(grid, field, lungs)
        return Findings(
            outcome=Outcome.FOUND,
            label_map=label_map,
            segments=segments,
            grades=grades,
            measurements=(*_of_field(grid, field, lungs), *_of_greys(said, look, spacing_mm)),
            cautions=("Image quality only: no diagnosis.", *cautions),
        )


def _refuse_other(inside: Plane, share: float, *, chest: bool) -> None:
    low, high = np.percentile(inside, (0.5, 99.5))
    black = float((inside < low + _DARK * (high - low)).mean())
    if black > _BLACK:
        raise NotForThisModel("Most of the image is black: no chest fills it.")
    if share < _FILLS and not chest:
        raise NotForThisModel(
            f"Only {100 * share:.0f} % of the image show anything, and the headers do not say that it is a "
            "chest."
        )


def _refuse_no_chest(said: Said, look: Look) -> None:
    if said.frontal and look.fit < _CHEST_FIT:
        raise NotForThisModel(
            "The image does not look like a frontal chest radiograph, in whatever way it is turned"
            + ("." if said.view else ", and the headers do not say that it is a lateral one.")
        )
    if not said.view and not look.frontal:
        raise NotForThisModel(
            "The headers do not say which view this is, and it does not look like a frontal chest radiograph."
        )


def _look(pixels: Plane, field: Field, inside: Plane, factor: int, said: Said) -> Look:
    lie = lie_of(inside)
    turned = said.frontal and grading.is_turned(lie, inside)
    lungs = find_lungs(lie.righted(inside) if turned else inside)
    drawn = _on_field(lungs.mask, inside.shape) if lungs and not turned else None
    middle = _middle(pixels, field, factor)
    greys = measure(inside, middle, drawn, said.steps)
    edge = 1000 * greys.edge_pixels / max(pixels.shape)
    return Look(lie=lie, turned=turned, seen=lungs, greys=greys, edge=edge)


def _middle(pixels: Plane, field: Field, factor: int) -> Plane:
    """The middle of the field as fine as the image is."""
    rows = _within(field.top * factor, field.bottom * factor)
    columns = _within(field.left * factor, field.right * factor)
    return pixels[rows, columns]


def _within(first: int, beyond: int) -> slice:
    spare = max(0, beyond - first - _SHARP) // 2
    return slice(first + spare, beyond - spare)


def _on_field(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """A mask on a square grid, on the field's own."""
    rows, columns = (np.arange(side) * len(mask) // side for side in shape[:2])
    return np.asarray(mask[rows[:, None], columns[None, :]])


def _drawn(grid: _Grid, field: Field, lungs: Lungs | None) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """The field, and the lungs above it."""
    whole = (grid.whole[0], grid.whole[1])
    seen = np.zeros(grid.fine[:2], np.bool_)
    seen[field.inside] = True
    label_map = np.zeros((2, 1, *whole), np.uint8)
    label_map[0, 0][enlarged(seen, grid.factor, whole)] = 1
    area: tuple[Measurement, ...] = ()
    if grid.mm:
        mm2 = float(label_map[0].sum()) * grid.mm[0] * grid.mm[1] / grid.factor**2
        area = (Measurement(name=codes.AREA, value=mm2, unit=codes.SQUARE_MILLIMETRE),)
    exposed = Segment(
        number=1,
        label="Field",
        category=codes.SPATIAL_CONCEPT,
        kind=codes.EXPOSED_FIELD,
        colour_rgb=(240, 228, 66),
        measurements=area,
    )
    if lungs is None:
        return label_map, (exposed,)
    seen[field.inside] = _on_field(lungs.mask, seen[field.inside].shape)
    label_map[1, 0][enlarged(seen, grid.factor, whole)] = 2
    both = Segment(
        number=2,
        label="Lungs, roughly",
        category=codes.ANATOMICAL_STRUCTURE,
        kind=codes.LUNG,
        colour_rgb=(86, 180, 233),
        layer=1,
    )
    return label_map, (exposed, both)


def _of_field(grid: _Grid, field: Field, lungs: Lungs | None) -> list[Measurement]:
    """Its share of the image; where mm are known, its margins, and how far the lungs are from its edges."""
    shape, scale = (grid.fine[0], grid.fine[1]), grid.mm
    found = [Measurement(name=codes.FIELD_SHARE, value=100 * field.share_of(shape), unit=codes.PERCENT)]
    if scale is None:
        return found
    of_side = {"upper": scale[0], "lower": scale[0], "left": scale[1], "right": scale[1]}
    found += [
        Measurement(name=codes.MARGIN_OF_IMAGE[side], value=lines * of_side[side], unit=codes.MILLIMETRE)
        for side, lines in field.margins(shape).items()
    ]
    if lungs is not None:
        height, width = (field.bottom - field.top) * scale[0], (field.right - field.left) * scale[1]
        ends = {
            "upper": lungs.above * height,
            "lower": lungs.below * height,
            "left": lungs.at_left * width,
            "right": lungs.at_right * width,
        }
        found += [
            Measurement(name=codes.LUNGS_TO_EDGE[side], value=mm, unit=codes.MILLIMETRE)
            for side, mm in ends.items()
        ]
    return found


def _of_greys(said: Said, look: Look, spacing_mm: tuple[float, float] | None) -> list[Measurement]:
    greys = look.greys
    found = [Measurement(name=codes.CLIPPED_WHITE, value=100 * greys.white, unit=codes.PERCENT)]
    if look.lungs(said) is not None:
        found.append(Measurement(name=codes.CLIPPED_BLACK, value=100 * greys.black, unit=codes.PERCENT))
    if greys.used is not None:
        found.append(Measurement(name=codes.USED_RANGE, value=100 * greys.used, unit=codes.PERCENT))
    if math.isfinite(greys.noise_ratio):
        found.append(Measurement(name=codes.CONTRAST_TO_NOISE, value=greys.noise_ratio, unit=codes.NO_UNITS))
    if math.isfinite(greys.edge_pixels):
        blur = greys.edge_pixels * (spacing_mm[0] if spacing_mm else 1.0)
        unit = codes.MILLIMETRE if spacing_mm else codes.PIXEL
        found.append(Measurement(name=codes.EDGE_BLUR, value=blur, unit=unit))
    for name, value in (
        (codes.EXPOSURE_INDEX, said.exposure_index),
        (codes.TARGET_EXPOSURE_INDEX, said.target_index),
        (codes.DEVIATION_INDEX, said.deviation),
    ):
        if value is not None:
            found.append(Measurement(name=name, value=value, unit=codes.NO_UNITS))
    return found

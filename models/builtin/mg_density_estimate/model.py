"""
Breast area and percent density of one mammogram: no weights, every step explainable.

    image          →  density: as it is (for presentation) or -log exposure (for processing)  →  means of 0.4
    mm working grid   →  breast → pectoral muscle (oblique views) → rim levelled → dense tissue by threshold
    image          ←  masks on its own grid, areas in mm², percent density

Every chapter may refuse (`NotForThisModel`); `run` turns that into findings that say why.
"""

from pathlib import Path

import numpy as np

from ledger.job import Outcome
from models.builtin.mg_density_estimate import facts
from models.builtin.mg_density_estimate.breast import find_breast, find_pectoral, turned
from models.builtin.mg_density_estimate.density import Density, find_dense
from models.builtin.mg_density_estimate.facts import Mammogram
from models.contract import NotForThisModel
from models.images.grid import Plane, enlarged, reduced
from models.images.model import WithoutWeights
from results import codes
from results.findings import Findings, Measurement, Segment

_WORKING_MM = 0.4
_SMALLEST_MM2, _LARGEST_MM2 = 1500.0, 50_000.0
_BREAST, _DENSE, _MUSCLE = 1, 2, 3


class DensityEstimate(WithoutWeights):
    """Breast area and percent density: implements `models.contract.Model`."""

    folder = Path(__file__).parent
    colour = False
    bytes_of_pixel = 28

    def _findings(
        self, pixels: Plane, spacing_mm: tuple[float, float] | None, headers: dict[str, str]
    ) -> Findings:
        """Segments of the breast, its dense tissue and the muscle, areas and percent density."""
        said = facts.read(headers)
        values = as_density(pixels, headers) if said.processing else pixels
        step = spacing_mm[0] if spacing_mm else 240.0 / pixels.shape[0]
        factor = max(1, round(_WORKING_MM / step))
        working = reduced(values, factor)
        outline = find_breast(working)
        plane, whole = turned(working, outline.wall), outline.breast
        muscle = np.zeros_like(whole)
        if said.view == "MLO":
            muscle = find_pectoral(plane, whole, step * factor)
        breast = whole & ~muscle
        if not breast.any():
            raise NotForThisModel("Nothing but muscle was found: the outline cannot be trusted.")
        # At the rim of an image for processing all is darker for being thin, and of a breast that is dense up
        # to there nobody can say what fat would be: on phantoms the density was off by more than 60 points.
        found = (
            Density(np.zeros_like(breast), told_apart=False, clear=False)
            if said.processing
            else find_dense(plane, breast, whole, air=outline.air, step=step * factor)
        )
        masks = {_BREAST: breast, _DENSE: found.dense, _MUSCLE: muscle}
        masks = {number: turned(mask, outline.wall) for number, mask in masks.items() if mask.any()}
        pixel_mm2 = spacing_mm[0] * spacing_mm[1] if spacing_mm else None
        area = float(breast.sum()) * factor**2 * (pixel_mm2 or 0.0)
        if pixel_mm2 and not _SMALLEST_MM2 <= area <= _LARGEST_MM2:
            raise NotForThisModel(
                f"The breast would measure {area / 100:.0f} cm2, which is outside "
                f"{_SMALLEST_MM2 / 100:.0f} to {_LARGEST_MM2 / 100:.0f} cm2: this is no standard mammogram, "
                "or its pixel spacing is wrong."
            )
        cautions = ["Percent density is an estimate by threshold: no BI-RADS category, and no diagnosis."]
        cautions += _cautions(said, outline.wall, found, muscle=bool(muscle.any()))
        if pixel_mm2 is None:
            cautions.append("The size of a pixel is not given: areas in mm2 are left out.")
        shape = (pixels.shape[0], pixels.shape[1])
        label_map = np.zeros((2, 1, *shape), np.uint8)
        segments = []
        for number, (key, mask) in enumerate(masks.items(), 1):
            layer = int(key == _DENSE)
            drawn = enlarged(mask, factor, shape)
            label_map[layer, 0][drawn] = number
            segments.append(
                _segment(
                    key, number, layer=layer, side=said.side, pixels=float(drawn.sum()), pixel_mm2=pixel_mm2
                )
            )
        percent = 100.0 * float(found.dense.sum()) / float(breast.sum())
        density_said = Measurement(
            name=codes.PERCENT_DENSITY, value=percent, unit=codes.PERCENT, method=codes.BY_THRESHOLD
        )
        return Findings(
            outcome=Outcome.FOUND,
            label_map=label_map,
            segments=tuple(segments),
            measurements=(density_said,) if found.told_apart else (),
            cautions=tuple(cautions),
        )


def as_density(pixels: Plane, headers: dict[str, str]) -> Plane:
    """An image for processing as the attenuation that made it: brighter is denser, in nepers or grey steps.

    MONOCHROME1 was inverted when it was read; the exposure is counted from the other end then.
    """
    relation, sign = facts.transmitted(headers)
    inverted = headers.get("PhotometricInterpretation", "").strip() == "MONOCHROME1"
    if inverted:
        bits = headers.get("BitsStored", "")
        if not bits.isdigit():
            raise NotForThisModel("The headers do not say how many bits a pixel has.")
        pixels = np.float32((1 << int(bits)) - 1) - pixels
    if relation == "LOG":
        return np.asarray(-sign * pixels, np.float32)
    exposure = pixels if sign > 0 else pixels.max() - pixels
    lowest = max(float(np.percentile(exposure[exposure > 0], 0.1)) if (exposure > 0).any() else 1.0, 1e-6)
    return np.asarray(-np.log(np.maximum(exposure, lowest)), np.float32)


def _segment(
    key: int, number: int, *, layer: int, side: str, pixels: float, pixel_mm2: float | None
) -> Segment:
    label, category, kind, colour = {
        _BREAST: ("Breast", codes.ANATOMICAL_STRUCTURE, codes.BREAST, (230, 159, 0)),
        _DENSE: ("Dense tissue", codes.TISSUE, codes.DENSE_TISSUE, (0, 158, 233)),
        _MUSCLE: ("Pectoral muscle", codes.ANATOMICAL_STRUCTURE, codes.PECTORAL_MUSCLE, (204, 121, 167)),
    }[key]
    area: tuple[Measurement, ...] = ()
    if pixel_mm2:
        area = (Measurement(name=codes.AREA, value=pixels * pixel_mm2, unit=codes.SQUARE_MILLIMETRE),)
    return Segment(
        number=number,
        label=label,
        category=category,
        kind=kind,
        laterality={"R": codes.RIGHT, "L": codes.LEFT}.get(side),
        colour_rgb=colour,
        measurements=area,
        layer=layer,
    )


def _cautions(said: Mammogram, wall: str, found: Density, *, muscle: bool) -> list[str]:
    cautions = []
    if said.processing:
        cautions.append(
            "No percent density is given: the image is for processing. Measure it on the one for "
            "presentation."
        )
    if said.wall and said.wall != wall:
        cautions.append(
            f"Mirrored? The chest wall is at the {wall} of the image, and its Patient Orientation says "
            f"{said.wall}: check the side marker."
        )
    if not said.side:
        cautions.append("The headers do not say which breast this is.")
    if said.view == "MLO" and not muscle:
        cautions.append(
            "No edge of the pectoral muscle was found on this oblique view: if there is one, it is counted "
            "as breast, and as dense."
        )
    if not found.told_apart and not said.processing:
        cautions.append(
            "No percent density is given: the breast is nearly all of one kind, fat or dense, and a "
            "threshold cannot tell which."
        )
    elif not found.clear and not said.processing:
        cautions.append("Fat and dense tissue pass into each other: the density is uncertain.")
    return cautions

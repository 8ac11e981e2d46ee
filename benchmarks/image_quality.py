"""
How far the models of single images lie from the truth of drawn phantoms.

    python -m benchmarks.image_quality mg_density_estimate|fundus_quality [--seeds 6]

Phantoms have clean edges and two kinds of tissue: real images do worse.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence

from benchmarks.measured import agreement
from models.builtin.fundus_quality.model import FundusQuality
from models.builtin.mg_density_estimate.model import DensityEstimate
from models.contract import Context, Image
from models.training.breast_phantom import mammogram
from models.training.fundus_phantom import fundus
from results import codes
from results.findings import Concept, Findings

Pairs = list[tuple[float, float]]  #: (measured, true)


def main() -> None:
    parser = argparse.ArgumentParser(description="Models of single images against phantoms.")
    parser.add_argument("model", choices=sorted(_TABLES))
    parser.add_argument("--seeds", type=int, default=6)
    asked = parser.parse_args()
    print("| what | n | bias | limits of agreement |\n|---|---|---|---|")
    for name, pairs in _TABLES[asked.model](range(asked.seeds)):
        measured, truth = zip(*pairs, strict=True)
        print(f"| {name} | {' | '.join(agreement(measured, truth).cells(digits=2))} |", flush=True)


#: What is drawn, and the shares of dense tissue of it.
_DENSITIES = {
    "5 to 65 % dense": (0.05, 0.15, 0.3, 0.5, 0.65),
    "70 to 80 % dense": (0.7, 0.75, 0.8),
    "85 and 90 % dense": (0.85, 0.9),
}


def mammograms(seeds: Sequence[int]) -> Iterator[tuple[str, Pairs]]:
    """Percent density in points and area in percent of the truth, by how the image was made."""
    yield from _mammograms(seeds, "FOR PRESENTATION", "5 to 65 % dense")
    yield from _mammograms(seeds, "FOR PRESENTATION", "70 to 80 % dense")
    yield from _mammograms(seeds, "FOR PRESENTATION", "85 and 90 % dense")
    yield from _mammograms(seeds, "FOR PROCESSING", "5 to 65 % dense")


def _mammograms(seeds: Sequence[int], intent: str, drawn_as: str) -> Iterator[tuple[str, Pairs]]:
    model = DensityEstimate()
    density: Pairs = []
    area: Pairs = []
    muscle: Pairs = []
    silent = 0
    for seed in seeds:
        for true in _DENSITIES[drawn_as]:
            view, side = ("MLO", "CC")[seed % 2], "LR"[seed // 2 % 2]
            phantom = mammogram(
                true,
                view="MLO" if view == "MLO" else "CC",
                side="L" if side == "L" else "R",
                intent="FOR PROCESSING" if intent == "FOR PROCESSING" else "FOR PRESENTATION",
                shape=(300, 230),
                spacing_mm=0.8,
                size=0.85 + 0.05 * (seed % 5),
                noise=1 + seed % 3,
                seed=seed,
            )
            headers = {
                "Modality": "MG",
                "ViewPosition": view,
                "ImageLaterality": side,
                "PresentationIntentType": intent,
                "PixelIntensityRelationship": "LIN",
                "PixelIntensityRelationshipSign": "1",
            }
            findings = model.run(
                Image(array=phantom.stored, spacing_mm=(0.8, 0.8), headers=headers),
                Context(headers=headers),
            )
            said = value_of(findings, codes.PERCENT_DENSITY)
            if said is None:
                silent += 1
            else:
                density.append((said, phantom.percent_density))
            breast = findings.segments[0].measurements[0].value if findings.segments else 0.0
            area.append((100 * breast / phantom.breast_mm2, 100.0))
            if view == "MLO":
                drawn = {one.label: one.measurements[0].value for one in findings.segments}
                true_mm2 = float(phantom.pectoral.sum()) * 0.64
                muscle.append((100 * drawn.get("Pectoral muscle", 0.0) / true_mm2, 100.0))
    name = f"{intent.lower()}, {drawn_as}"
    if density:
        yield f"percent density, points, {name} ({silent} without a value)", density
    yield f"area of the breast, % of the truth, {name}", area
    if drawn_as == "5 to 65 % dense":
        yield f"area of the pectoral muscle, % of the truth, {name}", muscle


def fundi(seeds: Sequence[int]) -> Iterator[tuple[str, Pairs]]:
    """Vessel density in points, diameter of the field in percent of the truth, blur in pixels."""
    model = FundusQuality()
    vessels: Pairs = []
    field: Pairs = []
    blur: Pairs = []
    for seed in seeds:
        for width, blurred in ((0.7, 0.7), (1.0, 0.7), (1.0, 1.5), (1.3, 1.0), (1.0, 3.0)):
            phantom = fundus(side="R" if seed % 2 else "L", vessels=width, blur_pixels=blurred, seed=seed)
            headers = {"Modality": "OP", "ImageLaterality": phantom.side}
            findings = model.run(
                Image(array=phantom.rgb, spacing_mm=None, headers=headers), Context(headers=headers)
            )
            density, edge = (
                value_of(findings, codes.VESSEL_DENSITY),
                value_of(findings, codes.EDGE_BLUR_OF_FIELD),
            )
            if density is None:
                continue
            if blurred < 2:
                vessels.append((density, phantom.vessel_percent))
            seen = findings.mask(1)[0]
            # Of a circle the diameter goes with the root of the area.
            field.append((100 * math.sqrt(float(seen.sum()) / float(phantom.view.sum())), 100.0))
            if edge is not None:
                across = 2 * 0.47 * phantom.rgb.shape[0]
                blur.append((edge * across / 1000, blurred))
    yield "vessel density, points", vessels
    yield "diameter of the field of view, % of the truth", field
    yield "blur, pixels", blur


def value_of(findings: Findings, name: Concept) -> float | None:
    """The measurement `name` of the whole; None where there is none."""
    return next((one.value for one in findings.measurements if one.name == name), None)


_TABLES: dict[str, Callable[[Sequence[int]], Iterator[tuple[str, Pairs]]]] = {
    "mg_density_estimate": mammograms,
    "fundus_quality": fundi,
}


if __name__ == "__main__":
    main()

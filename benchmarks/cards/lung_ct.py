"""What is measured of `lung_ct`: phantoms whose truth is known, and the real chests case by case."""

from collections.abc import Iterator
from functools import cache

import numpy as np

from benchmarks.measured import DATA, Agreement, Measured, Row, agreement
from models.builtin.lung_ct.measure import HAA_HU, LAA_HU, value_of
from models.builtin.lung_ct.model import LungCT
from models.chest.anatomy import LEFT, RIGHT
from models.chest.thirds import LOWER, MIDDLE, NAME, UPPER
from models.contract import Context
from models.training.lesions import Disease
from models.training.phantoms import Phantom, chest
from models.training.scanners import Scanner
from results import codes
from results.findings import Concept, Findings, Segment
from worker.load import load_series

_SHAPE = (120, 160, 160)
_EMPHYSEMA = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
_QUANTITIES = (
    (codes.VOLUME, "volume", "ml", 0),
    (codes.ATTENUATION, "mean density", "HU", 1),
    (codes.LAA_950, "LAA-950", "percentage points", 2),
    (codes.PERC15, "Perc15", "HU", 1),
    (codes.HAA, "high attenuation area", "percentage points", 2),
)
_CT = {"Modality": "CT"}


def _run(given: object, headers: dict[str, str]) -> Findings:
    model = LungCT()
    model.load("cpu")
    return model.run(given, Context(headers=headers))  # type: ignore[arg-type]  # a volume


@cache
def _phantoms() -> tuple[tuple[Findings, Phantom], ...]:
    """Six chests, each with more of the lungs destroyed."""
    made = [chest(_SHAPE, seed=100 + n, emphysema=part) for n, part in enumerate(_EMPHYSEMA)]
    return tuple((_run(one.volume, _CT), one) for one in made)


def _true(phantom: Phantom, inside: np.ndarray) -> tuple[float, ...]:
    """`_QUANTITIES` of the voxels `inside`, as the phantom's images show them."""
    hu = phantom.hu[inside].astype(np.float64)
    return (
        hu.size * phantom.geometry.voxel_volume / 1000,
        float(hu.mean()),
        100 * float((hu <= LAA_HU).mean()),
        float(np.percentile(hu, 15)),
        100 * float(((hu >= HAA_HU[0]) & (hu <= HAA_HU[1])).mean()),
    )


def agreements() -> Iterator[Row]:
    """Each quantity of each lung against what is true of the phantom, then of the thirds."""
    lungs = [
        (segment, _true(phantom, phantom.truth == side))
        for findings, phantom in _phantoms()
        for segment, side in zip(findings.segments[:2], (RIGHT, LEFT), strict=True)
    ]
    for number, (name, said, unit, digits) in enumerate(_QUANTITIES):
        measured = [value_of(segment, name) for segment, _ in lungs]
        yield said, *agreement(measured, [truth[number] for _, truth in lungs]).cells(unit, digits)
    for number, said, unit, digits in ((1, "mean density", "HU", 1), (2, "LAA-950", "percentage points", 2)):
        of_third = codes.ATTENUATION_OF_THIRD if number == 1 else codes.LAA_950_OF_THIRD
        measured, truth = [], []
        for findings, phantom in _phantoms():
            for segment, side in zip(findings.segments[:2], (RIGHT, LEFT), strict=True):
                for third, inside in _thirds(phantom, side):
                    measured.append(value_of(segment, of_third[NAME[third]]))
                    truth.append(_true(phantom, inside)[number])
        yield f"{said} of a third", *agreement(measured, truth).cells(unit, digits)


def _thirds(phantom: Phantom, side: int) -> Iterator[tuple[int, np.ndarray]]:
    """The slices of an axial phantom from head to feet, parted into three of equal height."""
    lung = phantom.truth == side
    slices = np.flatnonzero(lung.any(axis=(1, 2)))
    edges = np.linspace(slices[0], slices[-1] + 1, 4)
    middle = np.arange(len(lung)) + 0.5
    for third, first, last in zip((UPPER, MIDDLE, LOWER), edges[:-1], edges[1:], strict=True):
        yield third, lung & ((middle >= first) & (middle < last))[:, None, None]


def _ill(kind: str, extent: float, where: str = "both") -> tuple[Disease, ...]:
    return (Disease(kind=kind, extent=extent, where=where),)  # type: ignore[arg-type]  # of its literals


def _chests() -> Iterator[tuple[str, Phantom, dict[str, str]]]:
    """What an outline must survive: positions, slices, kernels, contrast, cut images, and diseases."""
    yield "ordinary", chest(_SHAPE, full=True, seed=7), {}
    yield "feet first, prone", chest(_SHAPE, full=True, seed=7, position="FFP"), {}
    yield "coronal images", chest((80, 160, 160), full=True, seed=7, plane="coronal"), {}
    yield "slices of 8 mm", chest((38, 160, 160), full=True, seed=7), {"SliceThickness": "8"}
    sharp = Scanner(kernel="sharp", noise_hu=45)
    yield "sharp kernel", chest(_SHAPE, full=True, seed=7, scanner=sharp), {"ConvolutionKernel": "B70f"}
    yield "a quarter of the dose", chest(_SHAPE, full=True, seed=7, scanner=Scanner(dose=0.25)), {}
    contrast = {"ContrastBolusAgent": "iodine"}
    yield "contrast medium", chest(_SHAPE, full=True, seed=7, contrast_hu=250), contrast
    yield "breathing, steps of 4 mm", chest(_SHAPE, full=True, seed=7, scanner=Scanner(motion_mm=4)), {}
    yield "emphysema 30 %", chest(_SHAPE, seed=7, diseases=_ill("emphysema", 0.3)), {}
    yield "ground glass 30 %", chest(_SHAPE, seed=7, diseases=_ill("ground glass", 0.3)), {}
    yield (
        "consolidation, right lower",
        chest(_SHAPE, seed=7, diseases=_ill("consolidation", 0.4, "right lower")),
        {},
    )
    yield "effusion, left", chest(_SHAPE, seed=7, diseases=_ill("effusion", 0.2, "left")), {}
    yield (
        "apices cut off",
        chest((80, 160, 160), (2.5, 2.4, 2.4), full=True, seed=7, centre_mm=(0, 0, -40)),
        {},
    )


def conditions() -> Iterator[Row]:
    """One chest seen in many ways: outline, volume and densities of each lung against the voxels' own."""
    for said, phantom, headers in _chests():
        findings = _run(phantom.volume, _CT | headers)
        if not findings.segments:
            yield said, "-", "-", "-", "-", "-", findings.because
            continue
        rows = [
            (segment, findings.mask(segment.number), phantom.truth == side)
            for segment, side in zip(findings.segments[:2], (RIGHT, LEFT), strict=True)
        ]
        dice = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for _, mask, truth in rows]
        apart = [
            [
                f"{value_of(segment, name) - _true(phantom, truth)[number]:+.{digits}f}"
                if _has(segment, name)
                else "-"
                for segment, _, truth in rows
            ]
            for number, (name, _, _, digits) in enumerate(_QUANTITIES[:4])
        ]
        yield (
            said,
            " / ".join(f"{one:.3f}" for one in dice),
            *(" / ".join(one) for one in apart),
            "; ".join(dict.fromkeys(_brief(one) for one in findings.cautions)) or "none",
        )


def _has(segment: Segment, name: Concept) -> bool:
    """Whether the model gave the measurement, or left it out."""
    return any(measurement.name == name for measurement in segment.measurements)


def _brief(caution: str) -> str:
    """Its first words: the whole sentence stands in the report."""
    return " ".join(caution.split()[:7]).rstrip(".,:;") + " ..."


def _said(segment: Segment, name: Concept, digits: int) -> str:
    """The value, or nothing where the model leaves it out."""
    return f"{value_of(segment, name):.{digits}f}" if _has(segment, name) else "-"


def real_chests() -> Iterator[Row]:
    """What it says of each real chest."""
    for folder in ("ct_thorax_cip64", "ct_thorax_lungdx_A0002_b40f"):
        loaded = load_series(sorted((DATA / folder).rglob("*.dcm")))
        findings = _run(loaded.volume, dict(loaded.headers))
        values = [
            " / ".join(_said(segment, name, digits) for segment in findings.segments[:2])
            for name, _, _, digits in _QUANTITIES[:4]
        ]
        yield folder, str(findings.outcome), *values, " ".join(findings.cautions) or findings.because


TABLES = (
    Measured(
        name="phantoms",
        title="Both lungs of six phantoms with 0 to 40 % emphysema, against their truth",
        columns=("quantity", *Agreement.COLUMNS),
        rows=agreements,
        note=f"{_SHAPE[0]} slices of 2.5 mm. A phantom has no disease at the edge of its lungs.",
    ),
    Measured(
        name="conditions",
        title="One full thorax seen in many ways, right / left lung against the truth of its own voxels",
        columns=("images", "Dice", "volume, ml", "mean, HU", "LAA-950, points", "Perc15, HU", "cautions"),
        rows=conditions,
        note="The truth is taken from the same noisy voxels: what kernel and noise do is in both. "
        "Consolidation is lung, effusion is not. A dash is a value that the model leaves out.",
    ),
    Measured(
        name="real",
        title="Real chests, right lung / left lung",
        columns=("scan", "outcome", "volume, ml", "mean, HU", "LAA-950, %", "Perc15, HU", "cautions"),
        rows=real_chests,
        needs=("ct_thorax_cip64", "ct_thorax_lungdx_A0002_b40f"),
        note="Two patients are no evidence of accuracy.",
    ),
)

"""Findings of every kind, on a volume or on an image."""

from dataclasses import replace

import numpy as np

from ledger.job import Outcome
from results import codes
from results.findings import Box, Concept, Findings, HeatMap, Measurement, Point, Verdict
from tests.results.images import COLUMNS, ROWS, image_findings
from tests.results.series import KINDS, NODULE, Kind, findings

LUNG_UPPER_LOBE = Concept("45653009", "SCT", "Upper lobe of lung")
PNEUMOTHORAX = Concept("36118008", "SCT", "Pneumothorax")
EFFUSION = Concept("60046008", "SCT", "Pleural effusion")
CARINA = Concept("28700002", "SCT", "Carina")
SALIENCY = Concept("130404", "DCM", "Saliency")
PROBABILITY = Concept("110854", "DCM", "Fractional Probabilistic Segmentation")
ONE = Concept("1", "UCUM", "no units")
YEARS = Concept("a", "UCUM", "year")
BONE_AGE = Concept("BONEAGE", codes.PRIVATE_SCHEME, "Bone age")

DIAMETER = Measurement(name=Concept("81827009", "SCT", "Diameter"), value=6.25, unit=codes.MILLIMETRE)


def boxes() -> tuple[Box, ...]:
    """One over several slices, one between two slices that reaches out of the image."""
    return (
        Box(
            label="Nodule 1",
            kind=NODULE,
            site=LUNG_UPPER_LOBE,
            laterality=codes.RIGHT,
            low=(1.5, 4.25, 5.5),
            high=(4.5, 9.75, 8.5),
            score=0.934,
            measurements=(DIAMETER,),
        ),
        Box(label="Nodule 2", kind=NODULE, low=(5.2, 18.0, -0.5), high=(5.4, 40.0, 3.5), score=0.5),
    )


def points() -> tuple[Point, ...]:
    """One on a slice, one between two."""
    return (
        Point(label="Carina", site=CARINA, at=(3.0, 7.25, 11.5), score=0.75, uncertainty_mm=1.25),
        Point(label="Carina, lower end", site=CARINA, at=(4.4, 8.0, 12.0)),
    )


def verdicts() -> tuple[Verdict, ...]:
    """One present by a calibrated probability, one absent by a score."""
    return (
        Verdict(
            label="Pneumothorax",
            finding=PNEUMOTHORAX,
            present=True,
            probability=0.934,
            threshold=0.3,
            calibrated=True,
            site=codes.LUNG,
        ),
        Verdict(label="Effusion", finding=EFFUSION, present=False, probability=0.0004, threshold=0.5),
    )


def maps(shape: tuple[int, int, int]) -> tuple[HeatMap, ...]:
    """A probability, and what the verdict was decided from: no flip or shift maps either on itself."""
    slices, rows, columns = np.indices(shape, dtype=np.float32)
    ramp = (slices * 7 + rows * 3 + columns) / np.float32(slices.max() * 7 + rows.max() * 3 + columns.max())
    return (
        HeatMap(label="Nodule probability", quantity=PROBABILITY, unit=ONE, values=ramp.astype(np.float32)),
        HeatMap(
            label="Grad-CAM",
            quantity=SALIENCY,
            unit=ONE,
            values=(ramp**2 - np.float32(0.25)).astype(np.float32),
            explains="Pneumothorax",
        ),
    )


BONE_AGES = (Measurement(name=BONE_AGE, value=11.25, unit=YEARS),)


def everything(kind: Kind | str = "axial CT") -> Findings:
    """On a volume: segments, boxes, points, verdicts, maps, and a number of the whole."""
    kind = KINDS[kind] if isinstance(kind, str) else kind
    return replace(
        findings(kind),
        boxes=boxes(),
        points=points(),
        verdicts=verdicts(),
        maps=maps(kind.shape),
        measurements=BONE_AGES,
        cautions=("The lung bases are cut off.",),
    )


def everything_on_an_image() -> Findings:
    """The same on an image of `tests.results.images`."""
    flat = tuple(replace(box, low=(-0.5, *box.low[1:]), high=(0.5, *box.high[1:])) for box in boxes())
    return image_findings(
        boxes=flat,
        points=tuple(replace(point, at=(0.0, *point.at[1:])) for point in points()),
        verdicts=verdicts(),
        maps=maps((1, ROWS, COLUMNS)),
        measurements=BONE_AGES,
    )


def only(kind: str) -> Findings:
    """Findings of but one kind, without anything drawn."""
    one = {
        "boxes": {"boxes": boxes()},
        "points": {"points": points()},
        "verdicts": {"verdicts": verdicts()},
        "measurements": {"measurements": BONE_AGES},
        "maps": {"maps": maps(KINDS["axial CT"].shape)},
    }[kind]
    return Findings(outcome=Outcome.FOUND, **one)

"""The phantom's chest with a nodule in its right lung, and what a model says of it: findings of every kind.

Nothing about it is symmetric, so a result that lies on the wrong side or slice is seen at once.
"""

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ledger.job import Outcome
from models.training.phantoms import LEFT_LUNG, RIGHT_LUNG, Phantom, chest
from results import codes
from results.findings import Box, Concept, Findings, HeatMap, Measurement, Point, Segment, Verdict

NODULE = 3  #: its number in the label map
NODULE_AT, NODULE_MM = (
    (-66.0, -12.0, 38.0),
    14.0,
)  #: LPS mm: in the patient's right lung, in front; its radius
LUNG_NODULE = Concept("427359005", "SCT", "Solitary nodule of lung")
PNEUMOTHORAX = Concept("36118008", "SCT", "Pneumothorax")
CARINA_SITE = Concept("28700002", "SCT", "Carina")
SALIENCY = Concept("130404", "DCM", "Saliency")
ONE = Concept("1", "UCUM", "no units")

RGB = {RIGHT_LUNG: (225, 110, 40), LEFT_LUNG: (60, 130, 225), NODULE: (60, 200, 80)}
LABELS = {RIGHT_LUNG: "Lung, right", LEFT_LUNG: "Lung, left", NODULE: "Nodule 1"}


@cache
def phantom(plane: str) -> tuple[Phantom, NDArray[np.uint8]]:
    """A chest with the nodule in it, and its label map: 1 right lung, 2 left lung, 3 nodule."""
    made = chest(
        shape=(40, 192, 192) if plane == "axial" else (32, 192, 192), emphysema=0.08, seed=7, plane=plane
    )
    index = np.indices(made.hu.shape).reshape(3, -1)
    places = made.geometry.affine[:3, :3] @ index + made.geometry.affine[:3, 3:]
    apart = np.linalg.norm(places - np.array(NODULE_AT)[:, None], axis=0).reshape(made.hu.shape)
    hu, labels = made.hu.copy(), made.truth.copy()
    hu[apart < NODULE_MM], labels[apart < NODULE_MM] = 40, NODULE
    return replace(made, hu=hu), labels


def half_of(where: NDArray[np.int64]) -> tuple[float, float, float]:
    return tuple(float(v) for v in (where.max(0) - where.min(0) + 1) / 2)  # type: ignore[return-value]


def findings(
    labels: NDArray[np.uint8],
    at: tuple[float, ...],
    half: tuple[float, float, float],
    carina: tuple[float, float, float] | None,
    name: str,
) -> Findings:
    """Findings of every kind. `at`, `half` and `carina` are in voxels."""
    index = np.indices(labels.shape, dtype=np.float32)
    # In steps of the nodule's own size: round, whatever the voxels are.
    apart = sum(((index[i] - at[i]) / half[i]) ** 2 for i in range(3))
    heat = np.exp(-apart / 2).astype(np.float32)
    middle = [float(at[i]) for i in range(3)]
    segments = tuple(
        Segment(
            number=number,
            label=LABELS[number],
            category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE
            if number == NODULE
            else codes.ANATOMICAL_STRUCTURE,
            kind=LUNG_NODULE if number == NODULE else codes.LUNG,
            laterality={RIGHT_LUNG: codes.RIGHT, LEFT_LUNG: codes.LEFT}.get(number),
            colour_rgb=RGB[number],
        )
        for number in (RIGHT_LUNG, LEFT_LUNG, NODULE)
    )
    return Findings(
        outcome=Outcome.FOUND,
        label_map=labels,
        segments=segments,
        boxes=(
            Box(
                label="Nodule 1",
                kind=LUNG_NODULE,
                laterality=codes.RIGHT,
                low=tuple(m - h for m, h in zip(middle, half, strict=True)),
                high=tuple(m + h for m, h in zip(middle, half, strict=True)),
                score=0.934,
                measurements=(
                    Measurement(
                        name=Concept("81827009", "SCT", "Diameter"),
                        value=2 * NODULE_MM,
                        unit=codes.MILLIMETRE,
                    ),
                ),
            ),
        ),
        points=() if carina is None else (Point(label="Carina", site=CARINA_SITE, at=carina, score=0.75),),
        verdicts=(
            Verdict(
                label="Pneumothorax", finding=PNEUMOTHORAX, present=False, probability=0.04, threshold=0.5
            ),
        ),
        maps=(
            HeatMap(label="Nodule saliency", quantity=SALIENCY, unit=ONE, values=heat, explains="Nodule 1"),
        ),
        cautions=(f"This is the {name} of a phantom.",),
    )

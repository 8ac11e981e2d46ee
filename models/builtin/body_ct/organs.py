"""
From organs that another model drew: liver, spleen, the first and third lumbar vertebra, and muscles.

A structure is known by its code and side, whichever model drew it (`models.structures`). Each is measured
well inside its outline, so that its neighbours and the other model's edge do not count.
"""

from collections.abc import Mapping

import numpy as np

from ledger.job import Outcome
from models.contract import Drawn, NotForThisModel
from models.prepare.morphology import Mask, Spacing, box_of, depth_mm
from models.prepare.orientation import Canonical
from models.structures import STRUCTURES

LIVER, SPLEEN, L1, L3 = "liver", "spleen", "vertebrae_l1", "vertebrae_l3"
MUSCLE = "skeletal_muscle"
#: Muscles that segmentations of the trunk draw one by one.
MUSCLES = (
    "autochthon_left", "autochthon_right", "iliopsoas_left", "iliopsoas_right", "psoas_major_left",
    "psoas_major_right", "quadratus_lumborum_left", "quadratus_lumborum_right", "erector_spinae_left",
    "erector_spinae_right", "rectus_abdominis_left", "rectus_abdominis_right", "external_oblique_left",
    "external_oblique_right", "internal_oblique_left", "internal_oblique_right",
)  # fmt: skip
_INSIDE_MM = {LIVER: 8.0, SPLEEN: 6.0, L1: 6.0}


def masks_of(drawn: Drawn, canonical: Canonical) -> Mapping[str, Mask]:
    """Key of a structure → its voxels (z, y, x) on the grid of the images, of those that we measure.

    Raises `NotForThisModel` where the other model refused the images.
    """
    findings = drawn.findings
    if findings.outcome is Outcome.REFUSED:
        raise NotForThisModel(
            f"The organs were to be drawn by {drawn.identity}, which refused the images: {findings.because}"
        )
    wanted = {
        (STRUCTURES[key].kind.value, STRUCTURES[key].laterality): key
        for key in (LIVER, SPLEEN, L1, L3, MUSCLE, *MUSCLES)
    }
    found = {}
    for segment in findings.segments:
        key = wanted.get((segment.kind.value, segment.laterality))
        if key is not None and (mask := canonical.view(findings.mask(segment.number))).any():
            found[key] = mask
    return found


def core(key: str, mask: Mask, spacing_mm: Spacing) -> Mask:
    """The inside of an organ, away from its outline; empty where it is thinner."""
    inner = np.zeros_like(mask)
    box = box_of(mask, _INSIDE_MM[key], spacing_mm)
    inner[box] = depth_mm(mask[box], spacing_mm) > _INSIDE_MM[key]
    return inner


def muscle_of(masks: Mapping[str, Mask]) -> Mask | None:
    """All muscle that was drawn; None where none was."""
    if MUSCLE in masks:
        return masks[MUSCLE]
    parts = [masks[key] for key in MUSCLES if key in masks]
    return np.logical_or.reduce(parts) if parts else None


def middle_planes(mask: Mask) -> slice:
    """The middle third of a vertebra from top to bottom, at least one plane."""
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    third = len(planes) // 3
    return slice(int(planes[third]), int(planes[-1 - third]) + 1)

"""
Every kind of object that a run can make, and who makes and who checks it.

A kind is two functions, each in a module of its own: one builds the objects, and one reads them as a viewer
would and compares them with what the model said. Nothing leaves that has not been through both.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from pydicom import Dataset

from ledger.result import Role
from results import (
    blending,
    check_blending,
    check_key_images,
    check_marks,
    check_overlay,
    check_parametric_map,
    check_pdf,
    check_presentation_state,
    check_report,
    check_segmentation,
    check_structure_set,
    check_summary,
    key_images,
    marks,
    overlay,
    parametric_map,
    pdf,
    presentation_state,
    report,
    segmentation,
    structure_set,
    summary,
)
from results.asked import Asked
from results.profile import wording

__all__ = ["ENCODERS", "Asked", "Encoder", "make"]


@dataclass(frozen=True, slots=True)
class Encoder:
    """How objects of one role are made and checked."""

    #: The objects, without file meta information; none where there is nothing to show. Raises `NotEncodable`.
    build: Callable[[Asked], list[Dataset]]
    #: Told what was read back of the role, raises `CheckFailed` unless it is what was asked.
    check: Callable[[Sequence[Dataset], Asked], None]


#: In the order of making, which is that of `Role`: leaves before the root.
ENCODERS: Mapping[Role, Encoder] = MappingProxyType(
    {
        Role.SEGMENTATION: Encoder(segmentation.build, check_segmentation.check),
        Role.PARAMETRIC_MAP: Encoder(parametric_map.build, check_parametric_map.check),
        Role.STRUCTURE_SET: Encoder(structure_set.build, check_structure_set.check),
        Role.PRESENTATION: Encoder(presentation_state.build, check_presentation_state.check),
        Role.BLENDING: Encoder(blending.build, check_blending.check),
        Role.OVERLAY: Encoder(overlay.build, check_overlay.check),
        Role.SUMMARY: Encoder(summary.build, check_summary.check),
        Role.DOCUMENT: Encoder(pdf.build, check_pdf.check),
        Role.KEY_IMAGES: Encoder(key_images.build, check_key_images.check),
        Role.MARKS: Encoder(marks.build, check_marks.check),
        Role.REPORT: Encoder(report.build, check_report.check),
    }
)


#: What was made for other profiles of the same run, by everything that it depends on.
Shared = dict[Hashable, tuple[Dataset, ...]]


def make(asked: Asked, shared: Shared | None = None) -> list[tuple[Role, Dataset]]:
    """The objects of the profile that there is anything to show in. The root is the last.

    What depends on nothing in which the profiles differ is made once and `shared`. Raises `NotEncodable`.
    """
    shared = {} if shared is None else shared
    made: dict[Role, tuple[Dataset, ...]] = {}
    for role in Role:
        if role in asked.profile.kinds and role in ENCODERS:
            key = _depends_on(role, asked, made)
            if key not in shared:
                shared[key] = tuple(ENCODERS[role].build(replace(asked, made=made)))
            made[role] = shared[key]
    return [(role, dataset) for role, datasets in made.items() for dataset in datasets]


def _depends_on(role: Role, asked: Asked, made: Mapping[Role, tuple[Dataset, ...]]) -> Hashable:
    """Beside the run and the findings: the form of pixels, the words on it, and what it refers to."""
    profile = asked.profile
    form: Hashable = (
        role,
        wording(profile),
        profile.segmentation,
        profile.frame_limit,
        profile.transfer_syntax,
    )
    if role not in _REFERRING:
        return form
    uids = tuple(str(dataset.SOPInstanceUID) for datasets in made.values() for dataset in datasets)
    return form, profile.report_title, asked.run.predecessor, uids


#: What refers to other objects of its run.
_REFERRING = (Role.BLENDING, Role.KEY_IMAGES, Role.REPORT)

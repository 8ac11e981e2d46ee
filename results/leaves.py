"""
The other objects of a run, named at the end of its report: whoever opens the report finds them all.

TID 1500 is extensible, and a container of references is what it has for images that were looked at (TID
1600). What a value refers to anyhow, a segment or a map, is not named again.
"""

from collections.abc import Iterator, Sequence

import highdicom as hd
from pydicom import Dataset

from ledger.result import Role
from results import codes

_CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS
#: These are images (PS3.3 §C.17.3, IMAGE); everything else is a COMPOSITE.
_IMAGES = frozenset({Role.SEGMENTATION, Role.PARAMETRIC_MAP, Role.OVERLAY, Role.SUMMARY})


def container_of_leaves(leaves: Sequence[tuple[Role, Dataset]]) -> Iterator[hd.sr.ContainerContentItem]:
    """One container that refers to all of `leaves`; none where there are none."""
    if not leaves:
        return
    container = hd.sr.ContainerContentItem(name=codes.coded(codes.OTHER_RESULTS), relationship_type=_CONTAINS)
    container.ContentSequence = hd.sr.ContentSequence([_reference(role, leaf) for role, leaf in leaves])
    yield container


def _reference(role: Role, leaf: Dataset) -> hd.sr.ContentItem:
    kind = hd.sr.ImageContentItem if role in _IMAGES else hd.sr.CompositeContentItem
    return kind(
        name=codes.coded(codes.RESULT_OF[role]),
        referenced_sop_class_uid=str(leaf.SOPClassUID),
        referenced_sop_instance_uid=str(leaf.SOPInstanceUID),
        relationship_type=_CONTAINS,
    )

"""
What lies on an image of the report's findings, as a document of its own, which viewers draw.

A report shows as text only under a title that OHIF does not draw (`results.report`). Under (126000, DCM,
Imaging Measurement Report) it draws every group that has a shape on an image, with our numbers beside it, and
goes blank where a group has none. So boxes, landmarks and the outlines of lesions go into a second document,
under the Tracking UIDs that they have in the report and in the segmentation: it says nothing new, and the
report stays the root. Organs are not in it: they are in the segmentation, and OHIF would show a mean of their
outline that it computed itself.

It is a Comprehensive SR: everything in it is on an image, and older viewers take no Comprehensive 3D SR.
"""

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from ledger.result import Role
from results import codes
from results.asked import Asked
from results.document import document, finish
from results.finding_groups import box_group, point_group
from results.grid import grid_of
from results.lesions import lesion_group
from results.measurements import Group
from results.occupied import Drawn, drawn_segments
from results.older_report import COMPREHENSIVE_SR_STORAGE
from results.outline import lesions


def build(asked: Asked) -> list[Dataset]:
    """What can be drawn, without file meta information; none where nothing can. Raises `NotEncodable`."""
    findings = asked.findings
    if not (findings.boxes or findings.points or any(one.is_lesion for one in findings.segments)):
        return []
    drawn = drawn_segments(findings)
    groups = [*_groups(asked, drawn)]
    if not groups:
        return []
    dataset = document(
        asked,
        Role.MARKS,
        sop_class=COMPREHENSIVE_SR_STORAGE,
        title=codes.DRAWN_TITLE,
        groups=groups,
        drawn=drawn,
    )
    finish(dataset, asked)
    return [dataset]


def _groups(asked: Asked, drawn: Sequence[Drawn]) -> Iterator[Group]:
    findings, run = asked.findings, asked.run
    if not (findings.boxes or findings.points or any(one.segment.is_lesion for one in drawn)):
        return
    grid = grid_of(asked.source)
    for lesion in lesions(findings, drawn, grid):
        yield lesion_group(lesion, grid=grid, run=run)
    for box in findings.boxes:
        yield box_group(box, grid=grid, run=run)
    for point in findings.points:
        yield point_group(point, grid=grid, run=run)

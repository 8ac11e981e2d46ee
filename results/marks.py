"""
The boxes and landmarks of a report as a document of their own, which viewers draw on the images.

A report shows as text only under a title that OHIF does not draw (`results.report`). Under (126000, DCM,
Imaging Measurement Report) it draws every group that has a shape on an image, with our numbers beside it, and
goes blank where a group has none. So what can be drawn goes into a second document, group by group as it
stands in the report, under the same Tracking UIDs: it says nothing new, and the report stays the root.

It is a Comprehensive SR: everything in it is on an image, and older viewers take no Comprehensive 3D SR.
"""

import copy
from collections.abc import Iterator

from pydicom import Dataset

from ledger.result import Role
from results import codes
from results.content import name_of, walk
from results.expect import as_code, expect
from results.older_report import COMPREHENSIVE_SR_STORAGE
from results.provenance import Run
from results.references import hierarchy, referenced_instances
from results.uids import derived_uid

SERIES_NUMBER = 9103
_OWN = frozenset(
    {
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDescription",
        "ConceptNameCodeSequence",
        "ContentSequence",
        "CurrentRequestedProcedureEvidenceSequence",
        "PredecessorDocumentsSequence",
    }
)


def build_marks(report: Dataset, run: Run) -> Dataset | None:
    """What can be drawn of `report`, without file meta information; None where nothing can."""
    if not any(_drawn(group) for group in _groups(report)):
        return None
    marks = copy.deepcopy(report)
    marks.SOPClassUID = str(COMPREHENSIVE_SR_STORAGE)
    marks.SOPInstanceUID = str(derived_uid(run, Role.MARKS, "instance"))
    marks.SeriesInstanceUID = str(derived_uid(run, Role.MARKS, "series"))
    marks.SeriesNumber = SERIES_NUMBER
    marks.SeriesDescription = str(report.SeriesDescription).replace(" report (", " marks (")
    marks.ConceptNameCodeSequence = [codes.coded(codes.DRAWN_TITLE)]
    # What this one replaces is rejected by name; as a document it follows none.
    if "PredecessorDocumentsSequence" in marks:
        del marks.PredecessorDocumentsSequence
    for container in marks.ContentSequence:
        if name_of(container) == as_code(codes.IMAGING_MEASUREMENTS):
            container.ContentSequence = [group for group in container.ContentSequence if _drawn(group)]
    marks.CurrentRequestedProcedureEvidenceSequence = [_evidence(marks, report)]
    return marks


def check_marks(marks: Dataset, report: Dataset, run: Run) -> None:
    """Raise `CheckFailed` unless `marks`, as read back, draws all that can be drawn of `report`, and that
    alone.
    """
    what = "marks"
    expect(
        marks.SOPClassUID == str(COMPREHENSIVE_SR_STORAGE), f"{what}: SOP Class UID is {marks.SOPClassUID}"
    )
    for keyword, level in (("SOPInstanceUID", "instance"), ("SeriesInstanceUID", "series")):
        uid = str(marks[keyword].value)
        expect(
            uid == str(derived_uid(run, Role.MARKS, level)),
            f"{what}: {keyword} does not derive from this run",
        )
    title = name_of(marks)
    expect(title == as_code(codes.DRAWN_TITLE), f"{what}: the title is {title}, which no viewer draws")
    expect(" marks (" in str(marks.SeriesDescription), f"{what}: is described as {marks.SeriesDescription!r}")
    mine, theirs = ({e.tag: e for e in one if e.keyword not in _OWN} for one in (marks, report))
    other = sorted(str(tag) for tag in mine.keys() | theirs.keys() if mine.get(tag) != theirs.get(tag))
    expect(not other, f"{what}: differs from the report in {', '.join(other)}")
    said, meant = [*_groups(marks)], [group for group in _groups(report) if _drawn(group)]
    expect(said == meant, f"{what}: has other groups than those of the report that lie on an image")
    rest, theirs_rest = (
        [i for i in one.ContentSequence if not _is_measurements(i)] for one in (marks, report)
    )
    expect(rest == theirs_rest, f"{what}: says something else than the report around its groups")
    used = {instance for _, instance in referenced_instances(marks)}
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for study in marks.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    expect(used == listed, f"{what}: evidence and content refer to different instances")


def _groups(report: Dataset) -> Iterator[Dataset]:
    for container in report.ContentSequence:
        if _is_measurements(container):
            yield from container.ContentSequence


def _is_measurements(item: Dataset) -> bool:
    return name_of(item) == as_code(codes.IMAGING_MEASUREMENTS)


def _drawn(group: Dataset) -> bool:
    return any(item.ValueType == "SCOORD" for item in walk(group))


def _evidence(marks: Dataset, report: Dataset) -> Dataset:
    series_of = {
        str(item.ReferencedSOPInstanceUID): str(series.SeriesInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    used = sorted(
        {(series_of[instance], instance, sop_class) for sop_class, instance in referenced_instances(marks)}
    )
    return hierarchy(str(marks.StudyInstanceUID), used)

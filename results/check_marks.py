"""Is everything that lies on an image drawn there, at its very place, and nothing else?"""

from collections.abc import Iterator, Sequence
from functools import partial

from pydicom import Dataset

from ledger.result import Role
from results import codes
from results.asked import Asked
from results.check_document import Check, check_document, check_evidence, check_groups, check_predecessor
from results.check_groups import check_box, check_point
from results.check_lesions import check_lesion, present
from results.content import name_of, numbers, uid_named, walk
from results.expect import as_code, expect
from results.older_report import COMPREHENSIVE_SR_STORAGE
from results.uids import tracking_uid

_WHAT = "marks"


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless the marks draw all that can be drawn of the findings, and that alone."""
    checks = dict(_checks(asked))
    expect(
        len(read) == (1 if checks else 0),
        "what can be drawn on the images and the document that has it drawn do not go together",
    )
    for marks in read:
        _check(marks, asked, checks)


def _check(marks: Dataset, asked: Asked, checks: dict[str, tuple[str, Check]]) -> None:
    expect(
        marks.SOPClassUID == str(COMPREHENSIVE_SR_STORAGE), f"{_WHAT}: SOP Class UID is {marks.SOPClassUID}"
    )
    check_document(_WHAT, marks, asked, Role.MARKS)
    title = name_of(marks)
    expect(title == as_code(codes.DRAWN_TITLE), f"{_WHAT}: the title is {title}, which no viewer draws")
    check_predecessor(_WHAT, marks, None)
    check_evidence(_WHAT, marks, asked, [])
    check_groups(_WHAT, marks, checks, asked.run)
    # One group without a shape, and OHIF shows nothing of any.
    for group in _groups(marks):
        expect(
            any(item.ValueType == "SCOORD" for item in walk(group)),
            f"{_WHAT}: a group has no shape on an image, so viewers would stay black",
        )
    for report in asked.of(Role.REPORT):
        theirs = {uid_named(group, codes.TRACKING_UID): numbers(group) for group in _groups(report)}
        for group in _groups(marks):
            uid = uid_named(group, codes.TRACKING_UID)
            expect(
                numbers(group) == theirs.get(uid),
                f"{_WHAT}: {checks[uid][0]!r} has other values than in the report",
            )


def _groups(dataset: Dataset) -> list[Dataset]:
    return [item for item in walk(dataset) if name_of(item) == as_code(codes.MEASUREMENT_GROUP)]


def _checks(asked: Asked) -> Iterator[tuple[str, tuple[str, Check]]]:
    """By Tracking UID: the label of what can be drawn, and what its group has to be."""
    findings, source, run = asked.findings, asked.source, asked.run
    lesions = [segment for segment in findings.segments if segment.is_lesion]
    for segment in present(asked) if lesions else ():
        if segment.is_lesion:
            uid = str(segment.tracked_as or tracking_uid(run, segment.label))
            yield uid, (segment.label, partial(check_lesion, segment, asked))
    for box in findings.boxes:
        uid = str(box.tracked_as or tracking_uid(run, box.label, "box"))
        yield uid, (box.label, partial(check_box, box, source))
    for point in findings.points:
        yield str(tracking_uid(run, point.label, "point")), (point.label, partial(check_point, point, source))

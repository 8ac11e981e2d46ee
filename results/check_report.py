"""Does the report on disk give the model's numbers, about the segments and images that it names?"""

from collections.abc import Iterator, Sequence
from functools import partial

from pydicom import Dataset

from ledger.result import Role
from results.asked import Asked
from results.check_document import (
    Check,
    check_document,
    check_evidence,
    check_groups,
    check_predecessor,
)
from results.check_follow_up import check_comparisons, check_grade, check_recommendation
from results.check_groups import (
    check_box,
    check_map,
    check_numbers,
    check_point,
    check_segment,
    check_verdict,
)
from results.check_lesions import present
from results.expect import expect
from results.uids import tracking_uid

_WHAT = "report"


def check(read: Sequence[Dataset], asked: Asked) -> None:
    """Raise `CheckFailed` unless there is one report, and it says what the model said of what was made."""
    expect(len(read) == 1, f"the run has {len(read)} reports")
    (dataset,) = read
    findings, run = asked.findings, asked.run
    check_document(_WHAT, dataset, asked, Role.REPORT, _variant(asked))
    check_predecessor(_WHAT, dataset, run.predecessor)
    leaves = [leaf for role in Role if not role.is_root for leaf in asked.of(role)]
    check_evidence(_WHAT, dataset, asked, leaves)
    checks = dict(_checks(asked))
    series = str(tracking_uid(run, None))
    checks[series] = "the series", partial(_check_series, asked)
    check_groups(_WHAT, dataset, checks, run, may=() if findings.measurements else (series,))
    check_comparisons(dataset, findings, run)


def _check_series(asked: Asked, group: Dataset) -> None:
    check_numbers("the series", group, asked.findings.measurements)


def _variant(asked: Asked) -> str:
    """The UIDs of a report say which title it has and what it refers to."""
    leaves = [str(one.SOPInstanceUID) for role in Role if not role.is_root for one in asked.of(role)]
    return f"{asked.profile.report_title} report of {' '.join(leaves)}"


def _checks(asked: Asked) -> Iterator[tuple[str, tuple[str, Check]]]:
    """By Tracking UID: the label of every finding, and what its group has to be."""
    findings, source, run = asked.findings, asked.source, asked.run
    for segment in present(asked):
        uid = str(segment.tracked_as or tracking_uid(run, segment.label))
        yield uid, (segment.label, partial(check_segment, segment, asked.found.get(uid), asked))
    for box in findings.boxes:
        uid = str(box.tracked_as or tracking_uid(run, box.label, "box"))
        yield uid, (box.label, partial(check_box, box, source))
    for point in findings.points:
        yield str(tracking_uid(run, point.label, "point")), (point.label, partial(check_point, point, source))
    for verdict in findings.verdicts:
        uid = str(tracking_uid(run, verdict.label, "verdict"))
        yield uid, (verdict.label, partial(check_verdict, verdict))
    for grade in findings.grades:
        uid = str(tracking_uid(run, grade.label, "grade"))
        yield uid, (grade.label, partial(check_grade, grade, findings, run))
    for one in findings.recommendations:
        uid = str(tracking_uid(run, one.label, "recommendation"))
        yield uid, (one.label, partial(check_recommendation, one, findings, run))
    maps = asked.of(Role.PARAMETRIC_MAP)
    for heat, dataset in zip(findings.maps if maps else (), maps, strict=False):
        uid = str(tracking_uid(run, heat.label, "map"))
        yield uid, (heat.label, partial(check_map, heat, dataset))

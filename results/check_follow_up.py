"""Do grades, recommendations and comparisons stand in the report as the model gave them?"""

from collections.abc import Sequence

from pydicom import Dataset

from results import codes
from results.check_groups import check_numbers
from results.content import codes_named, name_of, text_of, walk
from results.expect import as_code, code_of, expect, near
from results.findings import Comparison, Findings, Grade, Measurement, Recommendation
from results.provenance import Run
from results.uids import tracking_uid
from results.words import long_string, plain

_WHAT = "report"


def check_grade(grade: Grade, findings: Findings, run: Run, group: Dataset) -> None:
    """The value on its scale, the numbers behind it, and of which findings."""
    said = codes_named(group, as_code(grade.scale))
    expect(
        said == [as_code(grade.value)],
        f"{_WHAT}: {grade.label!r} is graded {said}, the model said {grade.value.meaning!r}",
    )
    check_numbers(repr(grade.label), group, grade.inputs)
    _check_derived_from(group, grade.label, grade.about, findings, run)


def check_recommendation(one: Recommendation, findings: Findings, run: Run, group: Dataset) -> None:
    """The sentence, its kind, its code, when, and what it was derived from."""
    kind = as_code(one.kind)
    texts = [text_of(item) for item in walk(group) if item.ValueType == "TEXT" and name_of(item) == kind]
    meant = plain(one.text, 1024)
    expect(texts == [meant], f"{_WHAT}: {one.label!r} recommends {texts}, the model said {meant!r}")
    said = [
        code_of(item, "ConceptCodeSequence")
        for item in walk(group)
        if item.ValueType == "CODE" and name_of(item) == kind
    ]
    coded = [] if one.code is None else [as_code(one.code)]
    expect(said == coded, f"{_WHAT}: {one.label!r} recommends {said}, the model said {coded}")
    due = [str(item.Date) for item in walk(group) if name_of(item) == as_code(codes.FOLLOW_UP_DATE)]
    expect(
        due == ([] if one.due is None else [one.due.strftime("%Y%m%d")]),
        f"{_WHAT}: {one.label!r} is due {due}, the model said {one.due}",
    )
    numbers: list[Measurement] = [*one.inputs, *([] if one.interval is None else [one.interval])]
    check_numbers(repr(one.label), group, numbers)
    _check_derived_from(group, one.label, one.about, findings, run)


def check_comparisons(dataset: Dataset, findings: Findings, run: Run) -> None:
    """Every comparison is there once, with both values, the change, the days and the earlier images."""
    items = [
        item
        for container in dataset.ContentSequence
        if name_of(container) == as_code(codes.DERIVED_MEASUREMENTS)
        for item in container.ContentSequence
    ]
    expect(
        len(items) == len(findings.comparisons),
        f"{_WHAT}: has {len(items)} comparisons, the model made {len(findings.comparisons)}",
    )
    for item, one in zip(items, findings.comparisons, strict=True):
        _check_comparison(item, one, findings, run)


def _check_comparison(item: Dataset, one: Comparison, findings: Findings, run: Run) -> None:
    whose = f"the comparison of {one.about or 'the series'!r}"
    values = {
        text_of(point): child
        for child in item.ContentSequence
        if child.ValueType == "NUM"
        for point in child.ContentSequence
        if name_of(point) == as_code(codes.TIME_POINT)
    }
    expect(set(values) == {"now", "earlier"}, f"{_WHAT}: {whose} has values of {sorted(values)}")
    share = one.then > 0
    change = (one.now / one.then - 1) * 100 if share else one.now - one.then
    for number, meant, unit in (
        (item, change, codes.PERCENT if share else one.unit),
        (values["now"], one.now, one.unit),
        (values["earlier"], one.then, one.unit),
    ):
        measured = number.MeasuredValueSequence[0]
        said = float(measured.NumericValue)
        same = name_of(number) == as_code(one.name)
        same = same and code_of(measured, "MeasurementUnitsCodeSequence") == as_code(unit)
        expect(
            same and near([said], [meant], abs(meant) * 1e-6 + 1e-9),
            f"{_WHAT}: {whose} says {said} where it should say {meant} {unit.value}",
        )
    then = values["earlier"]
    days = [str(child.Date) for child in then.ContentSequence if name_of(child) == as_code(codes.STUDY_DATE)]
    expect(
        days == [one.prior.acquired.strftime("%Y%m%d")], f"{_WHAT}: {whose} is with an examination of {days}"
    )
    images = {
        str(reference.ReferencedSOPInstanceUID)
        for child in walk(then)
        for reference in child.get("ReferencedSOPSequence", [])
    }
    expect(images == {str(image) for _, image in one.prior.images}, f"{_WHAT}: {whose} names other images")
    uids = [str(child.UID) for child in item.ContentSequence if name_of(child) == as_code(codes.TRACKING_UID)]
    meant_uids = _uids_of(one.about, findings, run) if one.about else {str(tracking_uid(run, None))}
    expect(len(uids) == 1 and uids[0] in meant_uids, f"{_WHAT}: {whose} is about {uids}")


def _check_derived_from(
    group: Dataset, label: str, about: Sequence[str], findings: Findings, run: Run
) -> None:
    items = [item for item in walk(group) if name_of(item) == as_code(codes.DERIVED_FROM)]
    said = [text_of(item) for item in items]
    expect(
        said == [long_string(name) for name in about],
        f"{_WHAT}: {label!r} is said to be derived from {said}, the model said {list(about)}",
    )
    for item, name in zip(items, about, strict=True):
        uid = str(item.ContentSequence[0].UID)
        expect(uid in _uids_of(name, findings, run), f"{_WHAT}: {label!r} names {uid}, which is not {name!r}")


def _uids_of(label: str, findings: Findings, run: Run) -> set[str]:
    uids = {
        str(one.tracked_as or tracking_uid(run, label)) for one in findings.segments if one.label == label
    }
    uids |= {
        str(one.tracked_as or tracking_uid(run, label, "box")) for one in findings.boxes if one.label == label
    }
    uids |= {str(tracking_uid(run, label, "point")) for one in findings.points if one.label == label}
    uids |= {str(tracking_uid(run, label, "verdict")) for one in findings.verdicts if one.label == label}
    uids |= {str(tracking_uid(run, label, "grade")) for one in findings.grades if one.label == label}
    return uids | {str(tracking_uid(run, label, "map")) for one in findings.maps if one.label == label}

"""
What follows from the findings: grades, recommendations, and what has changed since an earlier examination.

A grade or a recommendation is a group about the whole (TID 1501) that holds the numbers which it was derived
from, and says by name and Tracking UID which findings. Comparisons are Derived Imaging Measurements of the
report (TID 1500, rows 10 to 12; TID 1420, for which highdicom has no class): the change, inferred from the
value of now and that of then, with the time point of then (TID 1502) and an image of it. By value throughout,
so that older forms of the report can say it as well.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import highdicom as hd

from results import codes
from results.finding_groups import sites, tracking
from results.findings import Comparison, Concept, Findings, Grade, Measurement, Recommendation
from results.measurements import Group, encode, middle_image, seven_digits
from results.observer import algorithm
from results.provenance import Run
from results.source import Source
from results.uids import box_tracking_uid, segment_tracking_uid, tracking_uid
from results.words import long_string, plain

_CONTAINS = hd.sr.RelationshipTypeValues.CONTAINS
_INFERRED_FROM = hd.sr.RelationshipTypeValues.INFERRED_FROM
_OBSERVED = hd.sr.RelationshipTypeValues.HAS_OBS_CONTEXT
_MODIFIED = hd.sr.RelationshipTypeValues.HAS_CONCEPT_MOD
_PROPERTIES = hd.sr.RelationshipTypeValues.HAS_PROPERTIES


def grade_group(grade: Grade, findings: Findings, *, source: Source, run: Run) -> Group:
    """A value on a scale, with what it was derived from."""
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(run, grade.label, "grade"),
        finding_sites=sites(grade.site, None),
        algorithm_id=algorithm(run.provenance),
        measurements=[encode(measurement) for measurement in grade.inputs] or None,
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(name=codes.coded(grade.scale), value=codes.coded(grade.value))
        ],
        source_images=[middle_image(source)],
    )
    _append(group, _derived_from(grade.about, findings, run))
    return group


def recommendation_group(one: Recommendation, findings: Findings, *, source: Source, run: Run) -> Group:
    """What is proposed: a sentence, the same in code where there is one, when, and from what."""
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(run, one.label, "recommendation"),
        algorithm_id=algorithm(run.provenance),
        measurements=[encode(measurement) for measurement in recommendation_numbers(one)] or None,
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(name=codes.coded(one.kind), value=codes.coded(value))
            for value in ([] if one.code is None else [one.code])
        ],
        source_images=[middle_image(source)],
    )
    kind = codes.coded(one.kind)
    said: list[hd.sr.ContentItem] = [
        hd.sr.TextContentItem(kind, plain(one.text, 1024), relationship_type=_CONTAINS)
    ]
    if one.due is not None:
        due = codes.coded(codes.FOLLOW_UP_DATE)
        said.append(hd.sr.DateContentItem(due, one.due, relationship_type=_CONTAINS))
    _append(group, [*said, *_derived_from(one.about, findings, run)])
    return group


def recommendation_numbers(one: Recommendation) -> Iterator[Measurement]:
    """After which interval, and the numbers behind it."""
    if one.interval is not None:
        yield one.interval
    yield from one.inputs


def derived_measurements(findings: Findings, run: Run) -> Iterator[hd.sr.ContainerContentItem]:
    """The comparisons, as a container of the root; none where there are none."""
    if not findings.comparisons:
        return
    container = hd.sr.ContainerContentItem(
        name=codes.coded(codes.DERIVED_MEASUREMENTS), relationship_type=_CONTAINS
    )
    container.ContentSequence = hd.sr.ContentSequence(
        [_compared(one, findings, run) for one in findings.comparisons]
    )
    yield container


def _compared(one: Comparison, findings: Findings, run: Run) -> hd.sr.ContentItem:
    change, unit = one.change_percent, codes.PERCENT
    if change is None:  # It has no share of nothing.
        change, unit = one.now - one.then, one.unit
    item = _number(one.name, change, unit, _CONTAINS)
    identifier, uid = _names(findings, run).get(one.about, (f"{run.provenance.name} series", None))
    told: list[hd.sr.ContentItem] = [
        hd.sr.CodeContentItem(
            codes.coded(codes.DERIVATION), codes.coded(codes.CHANGE), relationship_type=_MODIFIED
        ),
        hd.sr.TextContentItem(
            codes.coded(codes.TRACKING_IDENTIFIER), long_string(identifier), relationship_type=_OBSERVED
        ),
        hd.sr.UIDRefContentItem(
            codes.coded(codes.TRACKING_UID), str(uid or tracking_uid(run, None)), relationship_type=_OBSERVED
        ),
        _at(_number(one.name, one.now, one.unit, _INFERRED_FROM), "now", one.acquired),
    ]
    then = _at(_number(one.name, one.then, one.unit, _INFERRED_FROM), "earlier", one.prior.acquired)
    if one.days is not None:
        then.ContentSequence.append(_number(codes.TEMPORAL_OFFSET, -one.days, codes.DAY, _OBSERVED))
    then.ContentSequence.append(
        hd.sr.UIDRefContentItem(
            codes.coded(codes.STUDY_UID), str(one.prior.study), relationship_type=_OBSERVED
        )
    )
    for sop_class, instance in one.prior.images:
        then.ContentSequence.append(
            hd.sr.ImageContentItem(
                codes.coded(codes.SOURCE_OF_MEASUREMENT),
                str(sop_class),
                str(instance),
                relationship_type=_INFERRED_FROM,
            )
        )
    item.ContentSequence = hd.sr.ContentSequence([*told, then])
    return item


def _number(
    name: Concept, value: float, unit: Concept, relationship: hd.sr.RelationshipTypeValues
) -> hd.sr.NumContentItem:
    return hd.sr.NumContentItem(
        codes.coded(name), seven_digits(value), codes.coded(unit), relationship_type=relationship
    )


def _at(item: hd.sr.NumContentItem, point: str, acquired: date | None) -> hd.sr.NumContentItem:
    """The value with its time point."""
    told: list[hd.sr.ContentItem] = [
        hd.sr.TextContentItem(codes.coded(codes.TIME_POINT), point, relationship_type=_OBSERVED)
    ]
    if acquired is not None:
        day = codes.coded(codes.STUDY_DATE)
        told.append(hd.sr.DateContentItem(day, acquired, relationship_type=_OBSERVED))
    item.ContentSequence = hd.sr.ContentSequence(told)
    return item


def _derived_from(about: Sequence[str], findings: Findings, run: Run) -> Iterator[hd.sr.ContentItem]:
    names = _names(findings, run)
    for label in about:
        identifier, uid = names[label]
        item = hd.sr.TextContentItem(
            codes.coded(codes.DERIVED_FROM), long_string(identifier), relationship_type=_CONTAINS
        )
        item.ContentSequence = hd.sr.ContentSequence(
            [
                hd.sr.UIDRefContentItem(
                    codes.coded(codes.TRACKING_UID), str(uid), relationship_type=_PROPERTIES
                )
            ]
        )
        yield item


def _names(findings: Findings, run: Run) -> dict[str, tuple[str, object]]:
    """Label → (label, Tracking UID). Where a label is that of two kinds, what is drawn goes first."""
    named: dict[str, tuple[str, object]] = {}
    named |= {one.label: (one.label, tracking_uid(run, one.label, "map")) for one in findings.maps}
    named |= {one.label: (one.label, tracking_uid(run, one.label, "grade")) for one in findings.grades}
    named |= {one.label: (one.label, tracking_uid(run, one.label, "verdict")) for one in findings.verdicts}
    named |= {one.label: (one.label, tracking_uid(run, one.label, "point")) for one in findings.points}
    named |= {one.label: (one.label, box_tracking_uid(run, one)) for one in findings.boxes}
    named |= {one.label: (one.label, segment_tracking_uid(run, one)) for one in findings.segments}
    return named


def _append(group: Group, items: Iterator[hd.sr.ContentItem] | Sequence[hd.sr.ContentItem]) -> None:
    for item in items:
        group[0].ContentSequence.append(item)

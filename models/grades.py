"""From a quantity to its place on a scale, and to what the manifest proposes there."""

from collections.abc import Sequence

from models.manifest import GradeOut, Manifest
from results import codes
from results.findings import Grade, Measurement, Recommendation


def grades_of(
    manifest: Manifest, measurements: Sequence[Measurement]
) -> tuple[tuple[Grade, ...], tuple[Recommendation, ...]]:
    """Where the manifest's scales place the quantities, and what it proposes then.

    A quantity that was not measured, or lies below the lowest step, has no grade.
    """
    grades: list[Grade] = []
    proposed: list[Recommendation] = []
    for scale in manifest.grades:
        names = {(one.name, one.unit) for one in manifest.quantities if one.index == scale.index}
        measured = next((one for one in measurements if (one.name, one.unit) in names), None)
        if measured is None or measured.value < scale.steps[0].at_least:
            continue
        graded = _graded(scale, measured)
        grades.append(graded[0])
        proposed += graded[1]
    return tuple(grades), tuple(proposed)


def _graded(scale: GradeOut, measured: Measurement) -> tuple[Grade, list[Recommendation]]:
    step = max((one for one in scale.steps if measured.value >= one.at_least), key=lambda one: one.at_least)
    grade = Grade(label=scale.label, scale=scale.scale, value=step.value, inputs=(measured,))
    if not step.recommendation:
        return grade, []
    interval = None
    if step.interval is not None:
        interval = Measurement(name=codes.FOLLOW_UP_INTERVAL, value=step.interval, unit=codes.MONTH)
    proposed = Recommendation(
        label=f"Recommendation by {scale.label}",
        text=step.recommendation,
        kind=step.kind or codes.RECOMMENDATION,
        interval=interval,
        inputs=(measured,),
        about=(scale.label,),
    )
    return grade, [proposed]

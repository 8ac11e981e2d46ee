"""
Every finding but the organs in one plain line, for whoever reads the report as text: conclusions first.

Most viewers show a report as text, or its comments first. A reader should not have to know that a probability
of 0.93 with a threshold of 0.5 means "present"; nor take a score for a probability.
"""

from collections.abc import Iterator, Sequence

from results import codes
from results.figures import figure, quantity, unit_said, within
from results.findings import (
    Box,
    Comparison,
    Findings,
    Grade,
    HeatMap,
    Point,
    Recommendation,
    Verdict,
)
from results.grid import Grid, grid_of
from results.lesions import lesion_numbers
from results.occupied import Drawn, drawn_segments
from results.outline import Lesion, lesions
from results.regions import slice_next_to, slices_of
from results.source import Source

#: A reader reads no more; the values of every finding are in the report all the same.
LINES_MAX = 40


def sentences(findings: Findings, source: Source, drawn: Sequence[Drawn] | None = None) -> list[str]:
    """One line for each, at most `LINES_MAX` and then how many more there are. `drawn` are the segments that
    have voxels, where somebody has counted them already.
    """
    if drawn is None:
        drawn = drawn_segments(findings) if any(one.is_lesion for one in findings.segments) else ()
    any_lesion = any(one.segment.is_lesion for one in drawn)
    grid = grid_of(source) if findings.boxes or findings.points or any_lesion else None
    lines = [verdict_line(verdict) for verdict in findings.verdicts]
    lines += [grade_line(grade) for grade in findings.grades]
    lines += [recommendation_line(one) for one in findings.recommendations]
    lines += [comparison_line(one) for one in findings.comparisons]
    if grid is not None:
        lines += [_lesion(lesion, source, grid) for lesion in lesions(findings, drawn, grid)]
    lines += [_box(box, source, grid) for box in findings.boxes]
    lines += [_point(point, source, grid) for point in findings.points]
    lines += [_map(one, kept=source.geometry is not None) for one in findings.maps]
    if len(lines) > LINES_MAX:
        lines[LINES_MAX:] = [f"{len(lines) - LINES_MAX} more findings, with their values below."]
    return lines


def grade_line(grade: Grade) -> str:
    """As in: Calcium risk: high (Calcium score 412)."""
    inputs = ", ".join(f"{one.name.meaning} {quantity(one.value, one.unit)}".strip() for one in grade.inputs)
    return f"{grade.label}: {grade.value.meaning}{f' ({inputs})' if inputs else ''}."


def recommendation_line(one: Recommendation) -> str:
    """As in: AI recommendation, not verified: Repeat in 12 months. (From: Calcium risk.)"""
    why = f" (From: {'; '.join(one.about)}.)" if one.about else ""
    return f"AI recommendation, not verified: {one.text.strip().rstrip('.')}.{why}"


def comparison_line(one: Comparison) -> str:
    """As in: Nodule 1: volume 1.9 ml, was 1.5 ml on 2025-06-01 (215 days before): +27 %."""
    apart = "" if one.days is None else f" ({one.days} days before)"
    change = one.change_percent
    by = (
        f"{figure(one.now - one.then, 3, signed=True)} {unit_said(one.unit)}".rstrip()
        if change is None
        else f"{figure(change, 3, signed=True)} %"
    )
    name = within(one.name.meaning) if one.about else one.name.meaning
    return (
        f"{one.about + ': ' if one.about else ''}{name} {quantity(one.now, one.unit)}, was "
        f"{quantity(one.then, one.unit)} on {one.prior.acquired.isoformat()}{apart}: {by}."
    )


def _lesion(lesion: Lesion, source: Source, grid: Grid) -> str:
    """As in: Nodule 1: 12.3 x 8.1 mm, on image 45, volume 0.45 ml, certainty 93 %."""
    outline, segment = lesion.outline, lesion.drawn.segment
    numbers = {one.name: one for one in lesion_numbers(lesion, grid)}
    words = []
    axes = [numbers[name] for name in (codes.LONG_AXIS, codes.SHORT_AXIS) if name in numbers]
    if len(axes) == 2 and axes[0].unit == axes[1].unit:
        words.append(f"{figure(axes[0].value, 3)} x {quantity(axes[1].value, axes[0].unit, 3)}")
    words += _on(source, outline.plane, outline.plane)
    if codes.VOLUME in numbers:
        words.append(f"volume {quantity(numbers[codes.VOLUME].value, numbers[codes.VOLUME].unit, 3)}")
    if segment.score is not None:
        words.append(f"certainty {percent(segment.score)}")
    if outline.parts > 1:
        words.append(f"the largest of {outline.parts} parts there is outlined")
    return f"{segment.label}: {', '.join(words) or 'found'}."


def verdict_line(verdict: Verdict) -> str:
    """As in: Pneumothorax: present, probability 93 % (calibrated; present from 50 %)."""
    word = "unsure" if verdict.unsure else "present" if verdict.present else "absent"
    share, threshold = percent(verdict.probability), percent(verdict.threshold)
    if verdict.calibrated:
        return f"{verdict.label}: {word}, probability {share} (calibrated; present from {threshold})."
    return (
        f"{verdict.label}: {word}, score {share} (not calibrated: no probability; present from {threshold})."
    )


def percent(share: float) -> str:
    """0.934 → "93 %"; near the ends with as many digits as it takes not to say 0 or 100 %."""
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    for digits in (0, 1, 2):
        text = f"{100 * share:.{digits}f}"
        if 0 < float(text) < 100:
            return f"{text} %"
    return "less than 0.01 %" if share < 0.5 else "more than 99.99 %"


def _box(box: Box, source: Source, grid: Grid | None) -> str:
    words = [f"certainty {percent(box.score)}"]
    if grid is not None:
        if grid.step_mm is not None:
            sizes = [
                (high - low) * step for low, high, step in zip(box.low, box.high, grid.step_mm, strict=True)
            ]
            depth, height, width = sizes
            words.append(f"{width:.3g} x {height:.3g} x {depth:.3g} mm")
        used = slices_of(box, grid)
        words += _on(source, used[0], used[-1])
    return f"{box.label}: {', '.join(words)}."


def _point(point: Point, source: Source, grid: Grid | None) -> str:
    words: list[str] = []
    if grid is not None:
        nearest = slice_next_to(point, grid)
        words += _on(source, nearest, nearest)
    if point.score is not None:
        words.append(f"certainty {percent(point.score)}")
    if point.uncertainty_mm is not None:
        words.append(f"+/- {point.uncertainty_mm:.2g} mm")
    return f"{point.label}: {', '.join(words) or 'found'}."


def _map(one: HeatMap, *, kept: bool) -> str:
    if not kept:
        return (
            f"Map {one.label}: not kept. A parametric map needs a place in the patient; the image has none."
        )
    if one.explains:
        return f"Map {one.label}: what {one.explains} was decided from. An explanation, not diagnostic."
    return f"Map {one.label}: {within(one.quantity.meaning)} of every voxel."


def _on(source: Source, first: int, last: int) -> Iterator[str]:
    """The images by the number that viewers show; nothing where they have none, or where there is but one."""
    if len(source.datasets) == 1 and source.frames is None:
        return
    numbers = [_number(source, k) for k in (first, last)]
    if None not in numbers:
        what = "frame" if source.frames is not None else "image"
        low, high = sorted(int(str(number)) for number in numbers)
        yield f"on {what} {low}" if low == high else f"on {what}s {low} to {high}"


def _number(source: Source, k: int) -> int | None:
    if source.frames is not None:
        return source.frames[k]
    number = source.datasets[k].get("InstanceNumber")
    return None if number is None or not str(number).strip() else int(number)

"""How often the versions of a model are agreed with, week by week, as a picture that a page can draw.

Points and bands are laid out here; the page only writes them down. Beside every picture stands the same as a
table, for whoever hears a page or wants the numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from ledger.feedback import Agreement, Judged, WeekOfAgreement, agreement, by_week

WIDTH, HEIGHT = 640, 220  # of the picture, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 12, 34
_LABELS_MAX = 8


@dataclass(frozen=True, slots=True)
class Point:
    """One week of one version: where it lies, and what it says."""

    x: float
    y: float
    low: float  #: y of the lower end of the interval
    high: float
    week: WeekOfAgreement


@dataclass(frozen=True, slots=True)
class Line:
    """One version over time. `mark` counts the versions of a model from 0: dash and shape go by it."""

    version: str
    mark: int
    points: tuple[Point, ...]  #: weeks in which something was judged
    path: str  #: of the line, as SVG writes it
    band: str  #: the interval around it
    whole: Agreement


@dataclass(frozen=True, slots=True)
class Chart:
    """All versions of one model."""

    name: str
    lines: tuple[Line, ...]
    weeks: tuple[tuple[float, date], ...]  #: (x, Monday) of those that have a label
    grid: tuple[tuple[float, int], ...]  #: (y, per cent)
    whole: Agreement


def charts(judged: Sequence[Judged], *, zone: ZoneInfo) -> tuple[Chart, ...]:
    """One picture for each model, by name."""
    weeks = by_week(judged, zone=zone)
    totals = agreement(judged)
    names = sorted({model.partition("@")[0] for model in weeks})
    return tuple(
        _chart(name, {m: w for m, w in weeks.items() if m.partition("@")[0] == name}, totals)
        for name in names
    )


def _chart(
    name: str, versions: Mapping[str, Sequence[WeekOfAgreement]], totals: Mapping[str, Agreement]
) -> Chart:
    first = min(weeks[0].begins for weeks in versions.values())
    last = max(weeks[-1].begins for weeks in versions.values())
    count = (last - first).days // 7 + 1

    def x_of(day: date) -> float:
        place = ((day - first).days // 7 + 0.5) / count
        return round(_LEFT + place * (WIDTH - _LEFT - _RIGHT), 1)

    lines = tuple(
        _line(model, mark, versions[model], totals[model], x_of) for mark, model in enumerate(versions)
    )
    every = -(-count // _LABELS_MAX)
    labelled = [date.fromordinal(first.toordinal() + 7 * n) for n in range(0, count, every)]
    accepted = sum(totals[model].accepted for model in versions)
    return Chart(
        name=name,
        lines=lines,
        weeks=tuple((x_of(day), day) for day in labelled),
        grid=tuple((_y(percent / 100), percent) for percent in (0, 25, 50, 75, 100)),
        whole=Agreement(accepted, sum(totals[model].judged for model in versions)),
    )


def _line(
    model: str, mark: int, weeks: Sequence[WeekOfAgreement], whole: Agreement, x_of: Callable[[date], float]
) -> Line:
    points = []
    for week in weeks:
        share = week.agreement.share
        if share is not None:
            low, high = week.agreement.interval
            points.append(Point(x_of(week.begins), _y(share), _y(low), _y(high), week))
    upper = [f"{one.x} {one.high}" for one in points]
    lower = [f"{one.x} {one.low}" for one in reversed(points)]
    return Line(
        version=model.partition("@")[2] or model,
        mark=mark % 4,
        points=tuple(points),
        path="M" + " L".join(f"{one.x} {one.y}" for one in points),
        band="M" + " L".join([*upper, *lower]) + " Z",
        whole=whole,
    )


def _y(share: float) -> float:
    return round(_TOP + (1 - share) * (HEIGHT - _TOP - _BOTTOM), 1)

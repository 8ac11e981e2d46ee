"""
One page that says it all, before anybody has drawn it: what the summary shows and the document prints.

Whose examination it is stands as far as it helps to tell two pages apart, and no further: date, accession
number and series, never a name, a birth date or a patient's number. Viewers put those beside a page from its
header; what is burned into pixels, no program takes out again. Why so, in
`docs/decisions/0028-pictures-for-plain-viewers.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ledger.job import Outcome
from results.asked import Asked
from results.figures import figure, quantity
from results.findings import Comparison, Findings, Measurement
from results.grid import Grid, NotEncodable, grid_of
from results.lettering import drawable
from results.overlay import drawable as anything_drawable
from results.paint import Colour, Painter
from results.pictures import NOT_DRAWN
from results.sentences import percent, sentences
from results.words import plain

TITLE = "AI result - not verified, not for diagnosis"
PICTURES_MAXIMUM = 4
#: Of what no single finding has: without a name it would seem to be of the one above it.
WHOLE = "Whole examination"

_HEADLINES = {
    Outcome.FOUND: "Findings",
    Outcome.NOTHING: "Nothing found",
    Outcome.REFUSED: "NOT ANALYSED",
}
_DATE_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; a finding's name stands in the first of its lines."""

    finding: str
    quantity: str
    value: str
    colour: Colour | None = None  #: of what is painted on the images


@dataclass(frozen=True, slots=True)
class Page:
    """What stands on it, in order; every text is ASCII and on one line."""

    headline: str  #: how the analysis ended
    because: str  #: why, where nothing was found or analysed
    facts: tuple[str, ...]  #: which model, which images
    lines: tuple[str, ...]
    rows: tuple[Row, ...]
    recommendations: tuple[str, ...]
    cautions: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it, line by line: what must not be missed before the values, of which there may be many."""
        rows = [
            ": ".join(part for part in (one.finding, one.quantity, one.value) if part) for one in self.rows
        ]
        parts = [TITLE, self.headline, self.because, *self.facts, *self.cautions, *self.recommendations]
        return "\n".join(part for part in (*parts, *self.lines, *rows) if part)

    def text_within(self, longest: int) -> str:
        """The same in at most `longest` characters: whole lines, and how many there are besides."""
        lines = self.text.split("\n")
        if len(self.text) <= longest:
            return self.text
        kept, room = 0, longest - len(_more(len(lines)))
        while kept < len(lines) and len(lines[kept]) < room:
            room -= len(lines[kept]) + 1
            kept += 1
        return "\n".join([*lines[:kept], _more(len(lines) - kept)])


def _more(lines: int) -> str:
    return f"and {lines} more lines: see the report."


def page_of(asked: Asked, *, drawn: bool) -> Page:
    """The page of a run; `drawn` says whether the images could be drawn."""
    findings = asked.findings
    cautions = [*findings.cautions]
    if not drawn and anything_drawable(asked) and NOT_DRAWN not in cautions:
        cautions.append(NOT_DRAWN)
    # What has a place of its own on the page is not repeated among the sentences.
    rest = replace(findings, grades=(), recommendations=(), comparisons=())
    return Page(
        headline=_HEADLINES[findings.outcome],
        because=drawable(findings.because),
        facts=tuple(_facts(asked)),
        lines=tuple(drawable(line) for line in sentences(rest, asked.source)),
        rows=tuple(_rows(findings)),
        recommendations=tuple(
            ": ".join(drawable(part) for part in (one.label, one.text) if part)
            for one in findings.recommendations
        ),
        cautions=tuple(drawable(caution) for caution in cautions),
    )


def key_planes(asked: Asked, painter: Painter) -> list[int]:
    """At most `PICTURES_MAXIMUM` planes to show: those of lesions and of marks before those of organs."""
    lesions = [k for k, segment in enumerate(asked.findings.segments) if segment.is_lesion]
    return painter.keys(first=lesions)[:PICTURES_MAXIMUM]


def grid_or_none(asked: Asked) -> Grid | None:
    """The grid of the source, where it has one that something can be drawn on."""
    if not anything_drawable(asked):
        return None
    try:
        return grid_of(asked.source)
    except NotEncodable:
        return None


def _facts(asked: Asked) -> Iterator[str]:
    first, provenance = asked.source.first, asked.run.provenance
    yield plain(f"Model {provenance.name} {provenance.version} of {provenance.source}")
    if provenance.trust:
        yield plain(provenance.trust)
    about = [str(first.get("Modality") or "Images")]
    day = str(first.get("StudyDate") or "")
    if len(day) == _DATE_DIGITS and day.isdigit():
        about.append(f"of {day[:4]}-{day[4:6]}-{day[6:]}")
    accession = str(first.get("AccessionNumber") or "").strip()
    if accession:
        about.append(f"accession {drawable(accession)}")
    yield " ".join(about[:2]) + "".join(f", {one}" for one in about[2:])
    number, described = first.get("SeriesNumber"), str(first.get("SeriesDescription") or "").strip()
    images = len(asked.source.frames or asked.source.datasets)
    series = "Series" if number in (None, "") else f"Series {number}"
    named = f": {drawable(described)}" if described else ""
    yield f"{series}{named} ({images} {'image' if images == 1 else 'images'})"
    yield "Whose images: see the header of this object."


def _rows(findings: Findings) -> Iterator[Row]:
    for grade in findings.grades:
        yield Row(drawable(grade.label), plain(grade.scale.meaning), plain(grade.value.meaning))
    for comparison in findings.comparisons:
        yield _compared(comparison)
    yield from _measured(WHOLE, findings.measurements, None)
    for box in findings.boxes:
        yield from _measured(drawable(box.label), box.measurements, None)
    for segment in findings.segments:
        name = drawable(segment.label)
        certain = [] if segment.score is None else [("Certainty", percent(segment.score))]
        values = [(_named(one), _value(one)) for one in segment.measurements] + certain
        for position, (what, value) in enumerate(values or [("", "found")]):
            yield Row(name if position == 0 else "", what, value, None if position else segment.colour_rgb)


def _measured(label: str, measurements: tuple[Measurement, ...], colour: Colour | None) -> Iterator[Row]:
    for position, one in enumerate(measurements):
        yield Row(label if position == 0 else "", _named(one), _value(one), colour)


def _compared(one: Comparison) -> Row:
    change = one.change_percent
    by = "" if change is None else f" ({change:+.0f} %)"
    return Row(
        drawable(one.about) or WHOLE,
        plain(f"{one.name.meaning}, now and on {one.prior.acquired.isoformat()}"),
        f"{figure(one.now)} and {quantity(one.then, one.unit)}{by}",
    )


def _named(one: Measurement) -> str:
    name = plain(one.name.meaning)
    return name if one.derivation is None else f"{name}, {plain(one.derivation.meaning).lower()}"


def _value(one: Measurement) -> str:
    return quantity(one.value, one.unit)

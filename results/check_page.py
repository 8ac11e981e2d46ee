"""Does a page say what the model said? Both forms of it are read as text, however they were made."""

from collections.abc import Iterator

from ledger.job import Outcome
from results.asked import Asked
from results.expect import expect
from results.lettering import drawable
from results.words import plain

_UNVERIFIED = "not verified, not for diagnosis"


def check_words(what: str, text: str, asked: Asked, *, cut: bool) -> None:
    """Raise `CheckFailed` unless `text` has all that has to stand on the page; where it was `cut`, cautions
    and recommendations may be among what is left out. No patient in the sentence.
    """
    said = _even(text)
    for one in (*_always(asked), *_names(asked)):
        expect(_even(one) in said, f"{what}: it does not say {one!r}")
    for one in _told(asked):
        expect(cut or _even(one) in said, f"{what}: it does not say {one!r}")
    first = asked.source.first
    for keyword in ("PatientName", "PatientID", "PatientBirthDate"):
        value = _even(str(first.get(keyword) or ""))
        # A short one is in many words by chance.
        expect(len(value) < 5 or value not in said, f"{what}: {keyword} is burned into it")


def check_values(what: str, text: str, asked: Asked, *, all_of_them: bool) -> None:
    """Every number with the name of what it is of; or, where there is no room, how many are left out."""
    said, missing = _even(text), []
    for label, name, value in _values(asked):
        if not (label in said and name in said and any(form in said for form in _forms(value))):
            missing.append(f"{name} of {label or 'the whole'}")
    expect(
        not missing or (not all_of_them and "more lines: see the report" in said),
        lambda: f"{what}: it does not say {missing[0]}",
    )


def _always(asked: Asked) -> Iterator[str]:
    findings, provenance = asked.findings, asked.run.provenance
    yield _UNVERIFIED
    yield {Outcome.FOUND: "Findings", Outcome.NOTHING: "Nothing found", Outcome.REFUSED: "NOT ANALYSED"}[
        findings.outcome
    ]
    yield plain(f"{provenance.name} {provenance.version}")
    if findings.because:
        yield drawable(findings.because)


def _told(asked: Asked) -> Iterator[str]:
    """What is only left out where there is no room, and then it says so."""
    for caution in asked.findings.cautions:
        yield drawable(caution)
    for one in asked.findings.recommendations:
        yield drawable(one.text)


def _names(asked: Asked) -> Iterator[str]:
    """Accession number and day: two pages can be told apart."""
    first = asked.source.first
    accession = str(first.get("AccessionNumber") or "").strip()
    if accession:
        yield drawable(accession)
    day = str(first.get("StudyDate") or "")
    if len(day) == 8 and day.isdigit():
        yield f"{day[:4]}-{day[4:6]}-{day[6:]}"


def _values(asked: Asked) -> Iterator[tuple[str, str, float]]:
    findings = asked.findings
    for one in findings.measurements:
        yield "", plain(one.name.meaning), one.value
    things = [(box.label, box.measurements) for box in findings.boxes]
    things += [(segment.label, segment.measurements) for segment in findings.segments]
    for label, measurements in things:
        for one in measurements:
            yield drawable(label), plain(one.name.meaning), one.value


def _forms(value: float) -> list[str]:
    """How a number may be written: to four digits that count."""
    return [f"{value:.4g}", f"{value:.0f}"] if abs(value) >= 1e4 else [f"{value:.4g}"]


def _even(text: str) -> str:
    return " ".join(text.split())

"""What a Structured Report says, read back with nothing but pydicom: for a table that a person looks at.

TID 1500 keeps its values in measurement groups (PS3.16 TID 1411), each with a tracking identifier; this
reader follows that structure and knows nothing of the encoder that wrote it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from console.tables import Value

# (Code Value, Coding Scheme Designator), PS3.16
_MEASUREMENT_GROUP = ("125007", "DCM")
_TRACKING_IDENTIFIER = ("112039", "DCM")
_DERIVATION = ("121401", "DCM")
_COMMENT = ("121106", "DCM")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a report says: its values, and its sentences for the reader."""

    title: str
    values: tuple[Value, ...]
    sentences: tuple[str, ...]


def read_report(path: Path) -> Reading:
    """The report in the file at `path`."""
    report = dcmread(path)
    values = tuple(
        value
        for group in _containers(report, _MEASUREMENT_GROUP)
        for value in _values(group, about=_text(group, _TRACKING_IDENTIFIER) or "series")
    )
    sentences = tuple(
        str(item.TextValue)
        for item in _walk(report)
        if item.get("ValueType") == "TEXT" and _code(item) == _COMMENT
    )
    title = str(report.ConceptNameCodeSequence[0].CodeMeaning)
    return Reading(title, values, sentences)


def try_report(path: Path) -> Reading | None:
    """The same; None where the file is gone, or no report."""
    try:
        return read_report(path)
    except (OSError, InvalidDicomError, AttributeError):
        return None


def _values(group: Dataset, about: str) -> Iterator[Value]:
    for item in _walk(group):
        if item.get("ValueType") == "NUM" and item.get("MeasuredValueSequence"):
            measured = item.MeasuredValueSequence[0]
            unit = measured.MeasurementUnitsCodeSequence[0]
            concept = item.ConceptNameCodeSequence[0]
            derivation = next(
                (mod for mod in item.get("ContentSequence", ()) if _code(mod) == _DERIVATION), None
            )
            # "Attenuation Coefficient" alone would be any of mean, median or percentile.
            how = f"{derivation.ConceptCodeSequence[0].CodeMeaning} " if derivation else ""
            name = f"{how}{str(concept.CodeMeaning).lower() if how else concept.CodeMeaning}"
            yield Value(
                about, name, float(measured.NumericValue), str(unit.CodeValue), str(concept.CodeValue)
            )


def _text(group: Dataset, code: tuple[str, str]) -> str:
    found = (
        str(item.get("TextValue", "")) for item in group.get("ContentSequence", ()) if _code(item) == code
    )
    return next(found, "")


def _containers(root: Dataset, code: tuple[str, str]) -> Iterator[Dataset]:
    return (item for item in _walk(root) if item.get("ValueType") == "CONTAINER" and _code(item) == code)


def _walk(root: Dataset) -> Iterator[Dataset]:
    for item in root.get("ContentSequence", ()):
        yield item
        yield from _walk(item)


def _code(item: Dataset) -> tuple[str, str]:
    if not item.get("ConceptNameCodeSequence"):
        return ("", "")
    concept = item.ConceptNameCodeSequence[0]
    return (str(concept.get("CodeValue", "")), str(concept.get("CodingSchemeDesignator", "")))

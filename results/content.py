"""Reading the content tree of a report (PS3.3 §C.17.3) as anybody would: nothing of the encoder is used."""

from collections.abc import Iterator

from pydicom import Dataset

from results.expect import as_code, code_of
from results.findings import Concept

#: name, unit → value
Numbers = dict[tuple[tuple[str, str], tuple[str, str]], float]


def walk(item: Dataset) -> Iterator[Dataset]:
    """Every content item below `item`, depth first."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from walk(child)


def numbers(group: Dataset) -> Numbers:
    """The NUM items of a measurement group."""
    found: Numbers = {}
    for item in walk(group):
        if item.ValueType == "NUM":
            measured = item.MeasuredValueSequence[0]
            unit = code_of(measured, "MeasurementUnitsCodeSequence")
            found[name_of(item), unit] = float(measured.NumericValue)
    return found


def name_of(item: Dataset) -> tuple[str, str]:
    """(value, scheme) of the item's concept name."""
    return code_of(item, "ConceptNameCodeSequence")


def text_of(item: Dataset) -> str:
    """What a TEXT or UIDREF item says; empty for any other."""
    return str(item.get("TextValue") or item.get("UID") or "")


def uid_named(group: Dataset, concept: Concept) -> str:
    """The first UIDREF item of that name below `group`; empty where there is none."""
    return next((str(item.UID) for item in walk(group) if name_of(item) == as_code(concept)), "")


def codes_named(group: Dataset, name: tuple[str, str]) -> list[tuple[str, str]]:
    """The values of all CODE items of that name below `group`."""
    return [code_of(item, "ConceptCodeSequence") for item in walk(group) if name_of(item) == name]


def references(group: Dataset, value_type: str = "IMAGE") -> list[tuple[str, int | None]]:
    """(SOP Instance UID, frame) of everything that items of `value_type` below `group` refer to."""
    return [
        (
            str(one.ReferencedSOPInstanceUID),
            int(frame) if (frame := one.get("ReferencedFrameNumber")) else None,
        )
        for item in walk(group)
        if item.ValueType == value_type
        for one in item.ReferencedSOPSequence
    ]

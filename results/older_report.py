"""
The report as a SOP class that older archives take: Comprehensive SR (PS3.3 §A.35.3) or Enhanced SR (§A.35.2).

Both are subsets of Comprehensive 3D SR, so nothing is said otherwise: the content tree is the same, item for
item. What a subset cannot say is not left out; then there is no such report. It is an instance of its own in
a series of its own, and its UIDs derive from those of the report: doing it twice is doing it once.

Nothing here knows the findings any more. The report was checked against them when it was made, and
`check_older_report` checks that this one says the same.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from pydicom import Dataset

from ledger.errors import ModelError
from ledger.identifiers import Uid
from results.expect import expect
from results.uids import older_report_uid

COMPREHENSIVE_SR_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.88.33")
ENHANCED_SR_STORAGE = Uid("1.2.840.10008.5.1.4.1.1.88.22")


class CannotSay(ModelError):
    """The older SOP class has no words for something in the report."""


@dataclass(frozen=True, slots=True)
class OlderForm:
    """One of the older SOP classes."""

    name: str
    sop_class: Uid
    further: int  #: how far after the report its Series Number is


OLDER_FORMS: Mapping[str, OlderForm] = {
    "comprehensive": OlderForm("Comprehensive SR", COMPREHENSIVE_SR_STORAGE, 10),
    "enhanced": OlderForm("Enhanced SR", ENHANCED_SR_STORAGE, 20),
}

_VALUES = frozenset({"TEXT", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME"})
_OBJECTS = frozenset({"IMAGE", "WAVEFORM", "COMPOSITE"})
_REGIONS = frozenset({"SCOORD", "TCOORD"})
_ALL = _VALUES | _OBJECTS | _REGIONS | {"NUM", "CONTAINER"}
_SAYING = ("TEXT", "CODE", "NUM")

#: Source → relationship → targets of Enhanced SR, all by value (PS3.3 Table A.35.2-2)
_ENHANCED: Mapping[str, Mapping[str, frozenset[str]]] = {
    "CONTAINER": {
        "CONTAINS": _ALL,
        "HAS OBS CONTEXT": _VALUES | {"NUM", "COMPOSITE"},
        "HAS ACQ CONTEXT": _VALUES | {"NUM", "CONTAINER"},
    },
    **{
        source: {
            "HAS PROPERTIES": _ALL - {"CONTAINER"},
            "INFERRED FROM": _ALL - {"CONTAINER"},
            "HAS OBS CONTEXT": _VALUES | {"NUM", "COMPOSITE"},
            "HAS ACQ CONTEXT": _VALUES | {"NUM", "CONTAINER"} if source == "NUM" else frozenset(),
        }
        for source in _SAYING
    },
    "PNAME": {"HAS PROPERTIES": _VALUES},
    **{source: {"HAS ACQ CONTEXT": _VALUES | {"NUM", "CONTAINER"}} for source in _OBJECTS},
    "SCOORD": {"SELECTED FROM": frozenset({"IMAGE"})},
    "TCOORD": {"SELECTED FROM": frozenset({"SCOORD", "IMAGE", "WAVEFORM"})},
}
#: What Comprehensive 3D SR has beyond Comprehensive SR (PS3.3 §A.35.13.3.1)
_ONLY_3D = frozenset({"SCOORD3D", "TABLE"})

_OWN = frozenset(
    {"SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "PredecessorDocumentsSequence"}
)


def older_report(report: Dataset, form: OlderForm) -> Dataset:
    """`report` in another form, without file meta information. Raises `CannotSay`."""
    _check_words(report, form)
    older = copy.deepcopy(report)
    older.SOPClassUID = str(form.sop_class)
    older.SOPInstanceUID = str(older_report_uid(Uid(report.SOPInstanceUID), form.sop_class, "instance"))
    older.SeriesInstanceUID = str(older_report_uid(Uid(report.SOPInstanceUID), form.sop_class, "series"))
    older.SeriesNumber = int(report.SeriesNumber) + form.further
    for study in older.get("PredecessorDocumentsSequence", []):
        for series in study.ReferencedSeriesSequence:
            # The report before this one was refused as well: what lies there is its older form.
            (item,) = series.ReferencedSOPSequence
            before = Uid(item.ReferencedSOPInstanceUID)
            series.SeriesInstanceUID = str(older_report_uid(before, form.sop_class, "series"))
            item.ReferencedSOPInstanceUID = str(older_report_uid(before, form.sop_class, "instance"))
            item.ReferencedSOPClassUID = str(form.sop_class)
    return older


def check_older_report(older: Dataset, report: Dataset, form: OlderForm) -> None:
    """Raise `CheckFailed` unless `older`, as read back, says what `report` says."""
    what = form.name
    expect(older.SOPClassUID == str(form.sop_class), f"{what}: SOP Class UID is {older.SOPClassUID}")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        expect(older[keyword].value != report[keyword].value, f"{what}: has the {keyword} of the report")
    expect(older.StudyInstanceUID == report.StudyInstanceUID, f"{what}: is in another study")
    mine, theirs = ({e.tag: e for e in one if e.keyword not in _OWN} for one in (older, report))
    other = sorted(str(tag) for tag in mine.keys() | theirs.keys() if mine.get(tag) != theirs.get(tag))
    expect(not other, f"{what}: differs from the report in {', '.join(other)}")


def _check_words(item: Dataset, form: OlderForm) -> None:
    for child in item.get("ContentSequence", []):
        source, relationship, target = item.ValueType, child.RelationshipType, child.get("ValueType", "")
        if form.sop_class == ENHANCED_SR_STORAGE:
            # Any item may have its concept modified (by TEXT or CODE).
            targets = _ENHANCED.get(source, {}).get(relationship, frozenset())
            modifies = relationship == "HAS CONCEPT MOD" and target in ("TEXT", "CODE")
            allowed = target in targets or modifies
        else:
            allowed = target not in _ONLY_3D
        if not allowed:
            said = f"{source} {relationship} {target or 'a reference'}"
            raise CannotSay(f"the report says something ({said}) that {form.name} has no words for")
        _check_words(child, form)

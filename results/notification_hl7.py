r"""
A notice → HL7 v2.5.1 ORU^R01 (chapter 7), as a RIS or an interface engine takes it.

An encoder of our own: a message is segments of fields of components, six characters are escaped, and that is
all; what libraries add is the reading of others' messages.

**Which status.** OBR-25 and OBX-11 are P, preliminary: a machine has spoken and nobody has verified it. What
replaces an earlier message of the same line is C, a correction, or stays P where the receiver takes every C
for a final result. What was given up is X: no results can be obtained.

**Which number.** OBR-3 and OBR-18 are the accession number, by which a RIS finds its order (IHE RAD TF-2
§4.28 keeps it in OBR-18); OBR-20 names our report, the same in all that replaces it. A run that was given up
after an earlier result was told has numbers of its own in OBR-3 and OBR-20: that result still counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from ledger.notification import Occasion
from results.findings import PRIVATE_SCHEME, Concept
from results.notification import Group, Identifier, Name, Notice, Value

_ESCAPED = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})
#: DICOM's names of coding schemes → HL7 table 0396
_SCHEMES: Mapping[str, str] = {
    "SRT": "SRT",
    "SCT": "SCT",
    "DCM": "DCM",
    "LN": "LN",
    "UCUM": "UCUM",
    "UMLS": "UML",
}

_STUDY_UID = Concept("110180", "DCM", "Study Instance UID")
_SERIES_UID = Concept("112002", "DCM", "Series Instance UID")
_REPORT_UID = Concept("REPORTUID", PRIVATE_SCHEME, "SOP Instance UID of the structured report")
_IMPRESSION = Concept("19005-8", "LN", "Radiology Imaging study [Impression]")
_IMAGING_STUDY = Concept("18748-4", "LN", "Diagnostic imaging study")
_VIEWER = Concept("VIEWER", PRIVATE_SCHEME, "Link to the images")
_FINDING = Concept("121071", "DCM", "Finding")
_SITE = Concept("363698007", "SCT", "Finding Site")
_SIDE = Concept("272741003", "SCT", "Laterality")
_TRACKED = Concept("112039", "DCM", "Tracking Identifier")
_TRACKING = Concept("112040", "DCM", "Tracking Unique Identifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """MSH: from whom, to whom, and in which sense."""

    control_id: str  #: MSH-10, at most 20 characters
    sending_application: str = "WETREAD"
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    processing: Literal["P", "T", "D"] = "P"
    correction: Literal["corrected", "preliminary"] = "corrected"
    viewer: str = ""  #: a link that opens the images; empty: none


def oru(notice: Notice, envelope: Envelope) -> str:
    """The message: segments that end with a carriage return (HL7 v2.5.1 §2.8)."""
    status = _status(notice, envelope)
    segments = [_msh(notice, envelope), _pid(notice)]
    if notice.about.admission:
        segments.append(_segment("PV1", {1: "1", 2: "U", 19: _escape(notice.about.admission)}))
    own = Identifier(str(notice.line), "", "", "")
    # X under the number of the order would take away what was told before.
    filler = own if notice.beside else notice.about.accession or own
    segments.append(_segment("ORC", {1: "RE", 3: _ei(filler)}))
    segments.append(_obr(notice, filler, status))
    rows = [*_references(notice, envelope), *_text(notice)]
    for sub_id, group in enumerate(notice.groups, start=1):
        rows += _group(group, sub_id)
    for set_id, row in enumerate(rows, start=1):
        segments.append(_obx(set_id, row, notice, status))
    return "".join(f"{segment}\r" for segment in segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One OBX: its type, what it is, about which group, and its value as it stands in the message."""

    type: Literal["NM", "CE", "TX", "ST", "RP"]
    name: str
    value: str
    sub_id: str = ""
    unit: str = ""
    method: str = ""


def _status(notice: Notice, envelope: Envelope) -> str:
    if notice.occasion is Occasion.GIVEN_UP:
        return "X"
    return "C" if notice.corrects and envelope.correction == "corrected" else "P"


def _msh(notice: Notice, envelope: Envelope) -> str:
    # MSH-1 is the separator itself, and MSH-2 names the other four.
    places = {
        3: _escape(envelope.sending_application),
        4: _escape(envelope.sending_facility),
        5: _escape(envelope.receiving_application),
        6: _escape(envelope.receiving_facility),
        7: _when(notice.at),
        9: "ORU^R01^ORU_R01",
        10: _escape(envelope.control_id),
        11: envelope.processing,
        12: "2.5.1",
        18: "UNICODE UTF-8",
    }
    return "|".join(["MSH", "^~\\&", *(places.get(place, "") for place in range(3, 19))])


def _pid(notice: Notice) -> str:
    subject = notice.subject
    numbers = [one for one in (subject.id, *subject.others) if one is not None]
    sex = {"M": "M", "F": "F", "O": "O"}.get(subject.sex, "U" if subject.sex else "")
    fields = {
        1: "1",
        3: "~".join(_cx(one) for one in numbers),
        5: "~".join(map(_xpn, subject.names)),
        7: subject.birth_date,
        8: sex,
    }
    return _segment("PID", fields)


def _obr(notice: Notice, filler: Identifier, status: str) -> str:
    about, maker = notice.about, notice.maker
    own = Concept(maker.name, PRIVATE_SCHEME, f"AI {maker.name} {maker.version}".strip())
    fields = {
        1: "1",
        3: _ei(filler),
        4: f"{_ce(_IMAGING_STUDY)}^{_ce(own)}",
        7: _when(about.at) if about.at is not None else about.day,
        13: _escape(about.description),
        16: "~".join(_xcn(one) for one in about.referring),
        18: _escape(about.accession.value) if about.accession else "",
        20: _escape(str(notice.line)),
        22: _when(notice.at),
        24: "RAD",
        25: status,
    }
    return _segment("OBR", fields)


def _references(notice: Notice, envelope: Envelope) -> Iterator[_Row]:
    yield _Row(type="ST", name=_ce(_STUDY_UID), value=notice.about.uid)
    if notice.report:
        yield _Row(type="ST", name=_ce(_SERIES_UID), value=notice.report_series)
        yield _Row(type="ST", name=_ce(_REPORT_UID), value=notice.report)
    if envelope.viewer:
        yield _Row(type="RP", name=_ce(_VIEWER), value=f"{_escape(envelope.viewer)}^^TEXT^HTML")


def _text(notice: Notice) -> Iterator[_Row]:
    yield _Row(type="TX", name=_ce(_IMPRESSION), value="~".join(_escape(line) for line in notice.text))


def _group(group: Group, sub_id: int) -> Iterator[_Row]:
    sub = str(sub_id)
    about = ((_FINDING, group.finding), (_SITE, group.site), (_SIDE, group.laterality))
    for name, text in ((_TRACKED, group.label), (_TRACKING, group.tracking)):
        if text:
            yield _Row(type="ST", name=_ce(name), value=_escape(text), sub_id=sub)
    for name, code in about:
        if code is not None:
            yield _Row(type="CE", name=_ce(name), value=_ce(code), sub_id=sub)
    for value in group.values:
        yield _value(value, sub)


def _value(value: Value, sub_id: str) -> _Row:
    if value.number is not None:
        return _Row(
            type="NM",
            name=_ce(value.name),
            value=_number(value.number),
            sub_id=sub_id,
            unit=_ce(value.unit) if value.unit else "",
            method=_ce(value.method) if value.method else "",
        )
    return _Row(type="CE", name=_ce(value.name), value=_ce(value.code) if value.code else "", sub_id=sub_id)


def _obx(set_id: int, row: _Row, notice: Notice, status: str) -> str:
    maker = notice.maker
    device = ""
    if maker.uid:
        named = f"{maker.name} {maker.version}".strip()
        device = f"{_escape(named)}^{_escape(maker.manufacturer)}^{maker.uid}^ISO"
    fields = {
        1: str(set_id),
        2: row.type,
        3: row.name,
        4: row.sub_id,
        5: row.value,
        6: row.unit,
        11: status,
        14: _when(notice.about.at) if notice.about.at is not None else notice.about.day,
        17: row.method,
        18: device,
        19: _when(notice.at),
    }
    return _segment("OBX", fields)


def _segment(name: str, fields: Mapping[int, str]) -> str:
    texts = [fields.get(place, "") for place in range(1, max(fields) + 1)]
    return f"{name}|{'|'.join(texts)}".rstrip("|")


def _number(number: Decimal) -> str:
    """NM has no exponent (HL7 v2.5.1 §2.A.47)."""
    return format(number, "f")


def _ce(code: Concept) -> str:
    scheme = _SCHEMES.get(code.scheme, code.scheme)
    return f"{_escape(code.value)}^{_escape(code.meaning)}^{_escape(scheme)}"


def _cx(one: Identifier) -> str:
    authority = "&".join(map(_escape, (one.namespace, one.universal, one.universal_type))).rstrip("&")
    return f"{_escape(one.value)}^^^{authority}^PI" if authority else f"{_escape(one.value)}^^^^PI"


def _ei(one: Identifier) -> str:
    parts: Sequence[str] = (one.value, one.namespace, one.universal, one.universal_type)
    return "^".join(map(_escape, parts)).rstrip("^")


def _xpn(name: Name) -> str:
    """family^given^middle^suffix^prefix^degree^type^representation (HL7 v2.5.1 §2.A.88)."""
    parts = (name.family, name.given, name.middle, name.suffix, name.prefix, "", "", name.representation)
    return "^".join(map(_escape, parts))


def _xcn(name: Name) -> str:
    """The same behind an identifier that DICOM does not tell (§2.A.86)."""
    parts = ("", name.family, name.given, name.middle, name.suffix, name.prefix)
    return "^".join(map(_escape, parts)).rstrip("^")


def _when(at: datetime) -> str:
    """YYYYMMDDHHMMSS, with the offset from UTC where it is known (§2.A.22)."""
    return at.strftime("%Y%m%d%H%M%S%z")[:19]


def _escape(text: str) -> str:
    """`text` where the delimiters mean nothing (§2.7.1), on one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line.translate(_ESCAPED)

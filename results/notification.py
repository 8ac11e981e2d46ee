"""
What a receiver is told of the end of a run, before it is encoded as HL7 v2 or FHIR.

Everything is read from the root report as it lies in the archive (TID 1500), with nothing of its encoder:
what a RIS is told is what the report says, and no second account of it. A run that was given up without a
report has only what the ledger knows of its study.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal

from pydicom import Dataset
from pydicom.valuerep import PersonName

from ledger.identifiers import Uid
from ledger.notification import Occasion
from results import codes
from results.content import name_of, walk
from results.expect import as_code
from results.findings import Concept
from results.uids import beside_uid, line_uid
from results.words import DISCLAIMER, plain

_TRACKING_IDENTIFIER = Concept("112039", "DCM", "Tracking Identifier")
_DERIVATION = Concept("121401", "DCM", "Derivation")
_GEOMETRIC_PURPOSE = Concept("130400", "DCM", "Geometric purpose of region")
#: Said once, by the device.
_OF_THE_ALGORITHM = {as_code(codes.ALGORITHM_NAME), as_code(codes.ALGORITHM_VERSION)}


@dataclass(frozen=True, slots=True)
class Identifier:
    """A number with who gave it (PS3.3 §10.14; HL7 v2 CX and EI)."""

    value: str
    namespace: str = ""  #: Issuer, as a local name
    universal: str = ""  #: Universal Entity ID
    universal_type: str = ""  #: ISO, DNS, UUID …


@dataclass(frozen=True, slots=True)
class Name:
    """One way of writing a person's name: five components (PS3.5 §6.2.1)."""

    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""
    representation: str = "A"  #: A alphabetic, I ideographic, P phonetic (HL7 table 0465)

    @property
    def text(self) -> str:
        """As people write it."""
        return " ".join(
            part for part in (self.prefix, self.given, self.middle, self.family, self.suffix) if part
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The patient."""

    id: Identifier | None = None
    others: tuple[Identifier, ...] = ()
    names: tuple[Name, ...] = ()
    birth_date: str = ""  #: YYYYMMDD
    sex: str = ""  #: M, F, O


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The study."""

    uid: str
    accession: Identifier | None = None
    admission: str = ""
    at: datetime | None = None  #: without a time zone where the images name none
    day: str = ""  #: YYYYMMDD, where there is no time
    description: str = ""
    referring: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """The algorithm, as TID 1004 and TID 4019 name it."""

    name: str
    version: str = ""
    manufacturer: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One statement: a number with its unit, or a code."""

    name: Concept
    number: Decimal | None = None
    unit: Concept | None = None
    code: Concept | None = None
    method: Concept | None = None  #: how a number was derived: mean, maximum …

    @property
    def label(self) -> str:
        """For people: "Mean Attenuation Coefficient"."""
        return f"{self.method.meaning} {self.name.meaning}" if self.method else self.name.meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What is said of one thing: a measurement group, or the examination as a whole."""

    label: str  #: its Tracking Identifier; empty for the whole
    tracking: str = ""  #: its Tracking Unique Identifier
    finding: Concept | None = None
    site: Concept | None = None
    laterality: Concept | None = None
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """All that a message says."""

    occasion: Occasion
    corrects: bool
    line: Uid  #: one for all that is ever said by one rule about one thing: what comes later replaces it
    beside: bool = False  #: it has a line of its own: an earlier result, which was told, still counts
    at: datetime  #: when it was found, with time zone
    subject: Subject
    about: About
    maker: Maker
    report: str = ""  #: SOP Instance UID of the root report
    report_series: str = ""
    text: tuple[
        str, ...
    ]  #: every sentence that a reader must see; the first says that nobody has verified it
    groups: tuple[Group, ...] = ()
    schemes: tuple[tuple[str, str], ...] = ()  #: private coding schemes: designator, UID


def notice_of(
    report: Dataset,
    *,
    occasion: Occasion,
    corrects: bool,
    rule: str,
    subject: str,
    zone: tzinfo,
    beside: bool = False,
) -> Notice:
    """What `report`, a root report of ours, says; `rule` and `subject` name the line that it belongs to, or
    that it is `beside`.

    `zone` is the clock of a report that does not name its own.
    """
    told_zone = _zone(report)
    study = str(report.StudyInstanceUID)
    device = {name_of(item): _said(item) for item in report.ContentSequence}
    algorithm = {name_of(item): _said(item) for item in walk(report) if name_of(item) in _OF_THE_ALGORITHM}
    comments = [
        str(item.TextValue)
        for item in walk(report)
        if item.ValueType == "TEXT" and name_of(item) == as_code(codes.COMMENT)
    ]
    moment = _moment(str(report.get("ContentDate") or ""), str(report.get("ContentTime") or ""))
    return Notice(
        occasion=occasion,
        corrects=corrects,
        line=_line(study, rule, subject, beside=beside),
        beside=beside,
        at=(moment or datetime(1970, 1, 1)).replace(tzinfo=told_zone or zone),
        subject=_subject(report),
        about=_about(report, told_zone),
        maker=Maker(
            name=device.get(as_code(codes.OBSERVER_MODEL), ""),
            version=algorithm.get(as_code(codes.ALGORITHM_VERSION), ""),
            manufacturer=device.get(as_code(codes.OBSERVER_MANUFACTURER), ""),
            uid=device.get(as_code(codes.OBSERVER_UID), ""),
        ),
        report=str(report.SOPInstanceUID),
        report_series=str(report.SeriesInstanceUID),
        text=tuple(comments) or (DISCLAIMER,),
        groups=tuple(_groups(report)),
        schemes=tuple(
            (str(one.CodingSchemeDesignator), str(one.CodingSchemeUID))
            for one in report.get("CodingSchemeIdentificationSequence", [])
            if one.get("CodingSchemeUID")
        ),
    )


def bare_notice(
    *,
    rule: str,
    subject: str,
    model: str,
    because: str,
    study: str,
    patient_id: str,
    patient_name: str,
    accession: str,
    study_date: str,
    at: datetime,
    beside: bool = False,
) -> Notice:
    """What is known of a run that was given up, where not even its images' headers could be read."""
    name, _, version = model.partition("@")
    return Notice(
        occasion=Occasion.GIVEN_UP,
        corrects=False,
        line=_line(study, rule, subject, beside=beside),
        beside=beside,
        at=at,
        subject=Subject(
            id=Identifier(patient_id) if patient_id else None, names=tuple(_names(PersonName(patient_name)))
        ),
        about=About(uid=study, accession=Identifier(accession) if accession else None, day=_day(study_date)),
        maker=Maker(name=name, version=version),
        text=(DISCLAIMER, plain(f"NOT ANALYSED. {because}", 1024)),
    )


def _line(study: str, rule: str, subject: str, *, beside: bool) -> Uid:
    line = line_uid(study, rule, subject)
    return beside_uid(line) if beside else line


def _subject(report: Dataset) -> Subject:
    others = [
        _identifier(item, "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence")
        for item in report.get("OtherPatientIDsSequence") or []
    ]
    return Subject(
        id=_identifier(report, "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
        others=tuple(one for one in others if one is not None),
        names=tuple(_names(report.get("PatientName"))),
        birth_date=_day(str(report.get("PatientBirthDate") or "")),
        sex=str(report.get("PatientSex") or "").strip().upper()[:1],
    )


def _about(report: Dataset, zone: tzinfo | None) -> About:
    accession = str(report.get("AccessionNumber") or "").strip()
    issuer = next(iter(report.get("IssuerOfAccessionNumberSequence") or []), None)
    day = str(report.get("StudyDate") or "")
    moment = _moment(day, str(report.get("StudyTime") or ""))
    return About(
        uid=str(report.StudyInstanceUID),
        accession=_issued(accession, "", issuer, "LocalNamespaceEntityID") if accession else None,
        admission=str(report.get("AdmissionID") or "").strip(),
        at=moment if moment is None or zone is None else moment.replace(tzinfo=zone),
        day=_day(day),
        description=str(report.get("StudyDescription") or ""),
        referring=tuple(_names(report.get("ReferringPhysicianName"))),
    )


def _identifier(item: Dataset, number: str, issuer: str, qualifiers: str) -> Identifier | None:
    value = str(item.get(number) or "").strip()
    if not value:
        return None
    more = next(iter(item.get(qualifiers) or []), None)
    return _issued(value, str(item.get(issuer) or "").strip(), more, "IdentifierTypeCode")


def _issued(value: str, namespace: str, issuer: Dataset | None, local: str) -> Identifier:
    if issuer is None:
        return Identifier(value, namespace)
    if local == "LocalNamespaceEntityID":
        namespace = namespace or str(issuer.get(local) or "")
    return Identifier(
        value,
        namespace,
        str(issuer.get("UniversalEntityID") or ""),
        str(issuer.get("UniversalEntityIDType") or ""),
    )


def _names(name: object) -> Iterator[Name]:
    """The component groups of a PN (PS3.5 §6.2.1.1)."""
    if not name:
        return
    written = name if isinstance(name, PersonName) else PersonName(str(name))
    for group, representation in (
        (written.alphabetic, "A"),
        (written.ideographic, "I"),
        (written.phonetic, "P"),
    ):
        parts = [part.strip() for part in str(group or "").split("^")]
        if any(parts):
            family, given, middle, prefix, suffix = (*parts, "", "", "", "", "")[:5]
            yield Name(family, given, middle, prefix, suffix, representation)


def _groups(report: Dataset) -> Iterator[Group]:
    for item in walk(report):
        if item.ValueType == "CONTAINER" and name_of(item) == as_code(codes.QUALITATIVE_EVALUATIONS):
            yield Group(label="", values=tuple(_values(item)))
    for item in walk(report):
        if item.ValueType == "CONTAINER" and name_of(item) == as_code(codes.MEASUREMENT_GROUP):
            yield _group(item)


def _group(item: Dataset) -> Group:
    label, tracking = "", ""
    finding = site = laterality = None
    for child in item.get("ContentSequence", []):
        name = name_of(child)
        if name == as_code(_TRACKING_IDENTIFIER):
            label = str(child.get("TextValue") or "")
        elif name == as_code(codes.TRACKING_UID):
            tracking = str(child.get("UID") or "")
        elif name == as_code(codes.FINDING):
            finding = _code(child)
        elif name == as_code(codes.FINDING_SITE):
            site = _code(child)
            sides = [one for one in walk(child) if name_of(one) == as_code(codes.LATERALITY)]
            laterality = _code(sides[0]) if sides else None
    return Group(
        label=label,
        tracking=tracking,
        finding=finding,
        site=site,
        laterality=laterality,
        values=tuple(_values(item)),
    )


def _values(item: Dataset) -> Iterator[Value]:
    """The numbers and codes right below `item`, but for those that say what and where it is."""
    about = {as_code(codes.FINDING), as_code(codes.FINDING_SITE), as_code(_GEOMETRIC_PURPOSE)}
    for child in item.get("ContentSequence", []):
        name = _concept(child.ConceptNameCodeSequence[0]) if child.get("ConceptNameCodeSequence") else None
        if name is None:
            continue
        if child.ValueType == "NUM" and child.get("MeasuredValueSequence"):
            measured = child.MeasuredValueSequence[0]
            derived = [one for one in walk(child) if name_of(one) == as_code(_DERIVATION)]
            yield Value(
                name=name,
                number=Decimal(str(measured.NumericValue)),
                unit=_concept(measured.MeasurementUnitsCodeSequence[0]),
                method=_code(derived[0]) if derived else None,
            )
        elif child.ValueType == "CODE" and name_of(child) not in about:
            yield Value(name=name, code=_code(child))


def _code(item: Dataset) -> Concept | None:
    return _concept(item.ConceptCodeSequence[0]) if item.get("ConceptCodeSequence") else None


def _concept(code: Dataset) -> Concept:
    value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue") or ""
    return Concept(
        str(value), str(code.get("CodingSchemeDesignator") or ""), str(code.get("CodeMeaning") or "")
    )


def _said(item: Dataset) -> str:
    return str(item.get("TextValue") or item.get("UID") or "")


def _zone(report: Dataset) -> tzinfo | None:
    """Timezone Offset From UTC (0008,0201): &ZZXX."""
    text = str(report.get("TimezoneOffsetFromUTC") or "").strip()
    if len(text) != 5 or text[0] not in "+-" or not text[1:].isdecimal():
        return None
    apart = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    if apart > timedelta(hours=14):
        return None
    return timezone(-apart if text[0] == "-" else apart)


def _moment(day: str, time: str) -> datetime | None:
    """DA and TM together; None where either is missing, or is none."""
    digits = time.strip().partition(".")[0].replace(":", "")
    if not _day(day) or len(digits) not in (2, 4, 6) or not digits.isdecimal():
        return None
    try:
        return datetime.strptime(_day(day) + digits.ljust(6, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _day(text: str) -> str:
    """YYYYMMDD, or nothing: a birth date of 00000000 is none."""
    digits = text.strip().replace(".", "")
    if len(digits) != 8:  # strptime takes a month or a day of one digit as well.
        return ""
    try:
        datetime.strptime(digits, "%Y%m%d")
    except ValueError:
        return ""
    return digits

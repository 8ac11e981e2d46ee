"""
A notice → a FHIR R4 DiagnosticReport, with everything it says contained in it.

Contained, and not a bundle of resources: a report with one lesion less than the one it replaces then has one
Observation less, and nothing is left behind that nobody refers to any more. It goes by one conditional
update, `PUT DiagnosticReport?identifier=…` (FHIR R4 §3.1.0.4.3): one report, however often it is sent.

`status` is preliminary: a machine has spoken and nobody has verified it. What replaces an earlier report is
corrected, or stays preliminary where the receiver takes that for final; what was given up is cancelled.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from ledger.notification import Occasion
from results.findings import PRIVATE_SCHEME, Concept
from results.notification import Group, Identifier, Name, Notice, Value

Resource = dict[str, Any]

_URIS: Mapping[str, str] = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "UMLS": "http://www.nlm.nih.gov/research/umls",
    "RADLEX": "http://radlex.org",
}
_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_SEX = {"M": "male", "F": "female", "O": "other"}
_WRITTEN = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_REPRESENTATIONS = {"A": "ABC", "I": "IDE", "P": "SYL"}
_GROUP = Concept("125007", "DCM", "Measurement Group")
_WHOLE = Concept("OUTCOME", PRIVATE_SCHEME, "Outcome of the analysis")
_SIDE = Concept("272741003", "SCT", "Laterality")
_AI = Concept("123110", "DCM", "Artificial Intelligence")


def diagnostic_report(
    notice: Notice, *, correction: Literal["corrected", "preliminary"] = "corrected", viewer: str = ""
) -> str:
    """The resource as JSON, the same text for the same notice. `viewer` is a link that opens the images."""
    status = _status(notice, correction)
    observation_status = "preliminary" if status == "preliminary" else status
    contained: list[Resource] = [_patient(notice), _device(notice)]
    results: list[Resource] = []
    for number, group in enumerate(notice.groups or (Group(label=""),), start=1):
        made = list(_observations(notice, group, f"o{number}", observation_status))
        results.append({"reference": f"#{made[0]['id']}"})
        contained += made
    about = notice.about
    resource: Resource = {
        "resourceType": "DiagnosticReport",
        "contained": contained,
        "identifier": [_by_uid(str(notice.line), system="urn:ietf:rfc:3986")],
        "status": status,
        "category": [
            {"coding": [_coding_of("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")]}
        ],
        "code": {
            "coding": [_coding_of("http://loinc.org", "18748-4", "Diagnostic imaging study")],
            "text": f"AI {notice.maker.name} {notice.maker.version}".strip(),
        },
        "subject": _subject(notice),
        "issued": notice.at.isoformat(timespec="seconds"),
        "imagingStudy": [{"type": "ImagingStudy", "identifier": _by_uid(about.uid)}],
        "result": results,
        "conclusion": "\n".join(notice.text),
    }
    if notice.report:
        resource["identifier"].append(_by_uid(notice.report))
    if about.accession is not None:
        accession = {
            "type": {"coding": [_coding_of(_TYPES, "ACSN", "Accession ID")]},
            **_number(about.accession),
        }
        resource["basedOn"] = [{"type": "ServiceRequest", "identifier": accession}]
    if effective := _effective(notice):
        resource["effectiveDateTime"] = effective
    if viewer:
        resource["presentedForm"] = [
            {"contentType": "text/html", "url": viewer, "title": "Images and results"}
        ]
    return json.dumps(resource, ensure_ascii=False, separators=(",", ":"))


def conditional_query(report: str) -> str:
    """What comes behind `DiagnosticReport?`: the one report that `report`, as made above, is or replaces."""
    identifier = json.loads(report)["identifier"][0]
    named = "|".join((identifier["system"], identifier["value"]))
    return f"identifier={quote(named, safe='')}"


def _status(notice: Notice, correction: str) -> str:
    if notice.occasion is Occasion.GIVEN_UP:
        return "cancelled"
    return "corrected" if notice.corrects and correction == "corrected" else "preliminary"


def _patient(notice: Notice) -> Resource:
    subject = notice.subject
    numbers = [one for one in (subject.id, *subject.others) if one is not None]
    patient: Resource = {"resourceType": "Patient", "id": "patient"}
    if numbers:
        patient["identifier"] = [_number(one) for one in numbers]
    if subject.names:
        patient["name"] = [_human_name(one) for one in subject.names]
    if subject.sex:
        patient["gender"] = _SEX.get(subject.sex, "unknown")
    if subject.birth_date:
        patient["birthDate"] = _date(subject.birth_date)
    return patient


def _subject(notice: Notice) -> Resource:
    reference: Resource = {"reference": "#patient", "type": "Patient"}
    if notice.subject.id is not None:
        reference["identifier"] = _number(notice.subject.id)
    return reference


def _device(notice: Notice) -> Resource:
    maker = notice.maker
    device: Resource = {"resourceType": "Device", "id": "device"}
    if maker.uid:
        device["identifier"] = [_by_uid(maker.uid)]
    if maker.manufacturer:
        device["manufacturer"] = maker.manufacturer
    device["deviceName"] = [{"name": maker.name or "unknown", "type": "model-name"}]
    device["type"] = {"coding": [_coding(notice, _AI)]}
    if maker.version:
        device["version"] = [{"value": maker.version}]
    return device


def _observations(notice: Notice, group: Group, name: str, status: str) -> Iterator[Resource]:
    """The group, then a member for each of its values: a number may say how it was derived."""
    values = list(group.values)
    if group.laterality is not None:
        values.append(Value(name=_SIDE, code=group.laterality))
    code = group.finding or (_WHOLE if not group.label else _GROUP)
    whole = _observation(notice, name, status, _concept(notice, code, group.label))
    if group.tracking:
        whole["identifier"] = [_by_uid(group.tracking)]
    if group.site is not None:
        whole["bodySite"] = _concept(notice, group.site)
    members = [f"{name}v{number}" for number, _ in enumerate(values, start=1)]
    if members:
        whole["hasMember"] = [{"reference": f"#{member}"} for member in members]
    else:
        whole["valueString"] = notice.text[-1]
    yield whole
    for member, value in zip(members, values, strict=True):
        made = _observation(notice, member, status, _concept(notice, value.name, value.label))
        if value.number is not None:
            made["valueQuantity"] = _quantity(notice, value)
        elif value.code is not None:
            made["valueCodeableConcept"] = _concept(notice, value.code)
        if value.method is not None:
            made["method"] = _concept(notice, value.method)
        yield made


def _observation(notice: Notice, name: str, status: str, code: Resource) -> Resource:
    made: Resource = {
        "resourceType": "Observation",
        "id": name,
        "status": status,
        "code": code,
        "subject": _subject(notice),
        "device": {"reference": "#device"},
    }
    if effective := _effective(notice):
        made["effectiveDateTime"] = effective
    return made


def _quantity(notice: Notice, value: Value) -> Resource:
    number = float(value.number or 0)
    quantity: Resource = {"value": int(number) if number.is_integer() else number}
    if value.unit is not None:
        quantity |= {
            "unit": value.unit.meaning,
            "system": _uri(notice, value.unit.scheme),
            "code": value.unit.value,
        }
    return quantity


def _concept(notice: Notice, code: Concept, text: str = "") -> Resource:
    return {"coding": [_coding(notice, code)], "text": text or code.meaning}


def _coding(notice: Notice, code: Concept) -> Resource:
    return _coding_of(_uri(notice, code.scheme), code.value, code.meaning)


def _coding_of(system: str, code: str, display: str) -> Resource:
    return {"system": system, "code": code, "display": display}


def _uri(notice: Notice, scheme: str) -> str:
    own = dict(notice.schemes).get(scheme)
    if own:
        return f"urn:oid:{own}"
    return _URIS.get(scheme, f"urn:wetread:coding-scheme:{quote(scheme)}")


def _by_uid(uid: str, *, system: str = "urn:dicom:uid") -> Resource:
    return {"system": system, "value": f"urn:oid:{uid}"}


def _number(one: Identifier) -> Resource:
    """An identifier of a hospital; its system where a UID or a URL says who gave it."""
    made: Resource = {"value": one.value}
    if one.universal and one.universal_type.upper() == "ISO":
        made["system"] = f"urn:oid:{one.universal}"
    elif one.universal and one.universal_type.upper() == "URI":
        made["system"] = one.universal
    if one.namespace:
        made["assigner"] = {"display": one.namespace}
    return made


def _human_name(name: Name) -> Resource:
    made: Resource = {"text": name.text}
    if name.family:
        made["family"] = name.family
    given = [part for part in (*name.given.split(), *name.middle.split()) if part]
    if given:
        made["given"] = given
    for key, text in (("prefix", name.prefix), ("suffix", name.suffix)):
        if text:
            made[key] = [text]
    made["extension"] = [{"url": _WRITTEN, "valueCode": _REPRESENTATIONS[name.representation]}]
    return made


def _effective(notice: Notice) -> str:
    """FHIR's dateTime has a time zone whenever it has a time (§2.24.0.1)."""
    at: datetime | None = notice.about.at
    if at is not None and at.tzinfo is not None:
        return at.isoformat(timespec="seconds")
    return _date(notice.about.day) if notice.about.day else ""


def _date(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"

"""What a RIS is told is what the report says, in HL7 v2 and in FHIR, as others read them."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.valuerep import PersonName

from ledger.notification import Occasion
from results.notification import Notice, bare_notice, notice_of
from results.notification_fhir import conditional_query, diagnostic_report
from results.notification_hl7 import Envelope, oru
from tests.results.everything import everything
from tests.results.made import make

BERLIN = ZoneInfo("Europe/Berlin")
ENVELOPE = Envelope(control_id="W0123456789ABCDEF", receiving_application="RIS", receiving_facility="Clinic")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("made"), said=everything()).sr


def notice(report: Dataset, occasion: Occasion = Occasion.FOUND, *, corrects: bool = False) -> Notice:
    return notice_of(report, occasion=occasion, corrects=corrects, rule="lungs", subject="1", zone=BERLIN)


def bare(**more: str) -> Notice:
    said = {
        "rule": "lungs", "subject": "1", "model": "lung_ct@1.0.0", "because": "No GPU was found.",
        "study": "1.2.3", "patient_id": "4711", "patient_name": "Doe^Jane", "accession": "A1",
        "study_date": "20260102",
    }  # fmt: skip
    return bare_notice(**{**said, **more}, at=datetime(2026, 1, 2, 12, 30, tzinfo=UTC))


def fields(message: str, name: str) -> list[list[str]]:
    return [line.split("|") for line in message.split("\r") if line.startswith(f"{name}|")]


def observations(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in resource["contained"] if one["resourceType"] == "Observation"}


def test_another_parser_of_hl7_takes_the_message_and_finds_what_the_standard_asks_for(
    report: Dataset,
) -> None:
    parser = pytest.importorskip("hl7apy.parser")
    from hl7apy.consts import VALIDATION_LEVEL

    for one in (notice(report), notice(report, corrects=True), bare(), bare(accession="")):
        message = parser.parse_message(oru(one, ENVELOPE), validation_level=VALIDATION_LEVEL.STRICT)
        assert message.validate()
        assert message.msh.msh_9.to_er7() == "ORU^R01^ORU_R01"
        assert message.msh.msh_18.to_er7() == "UNICODE UTF-8"


def test_every_number_of_the_report_is_in_the_message_with_its_code_and_unit(report: Dataset) -> None:
    rows = fields(oru(notice(report), ENVELOPE), "OBX")
    said = {(row[3].split("^")[0], row[5], row[6].split("^")[0]) for row in rows if row[2] == "NM"}
    for value, number, unit in [
        ("122157", "93.4", "%"),
        ("118565006", "0.2625", "ml"),
        ("BONEAGE", "11.25", "a"),
        ("112031", "-852", "[hnsf'U]"),
    ]:
        assert any(
            code == value and Decimal(text) == Decimal(number) and ucum == unit for code, text, ucum in said
        )
    assert all(row[11] == "P" for row in rows)
    assert all(row[18].endswith("^ISO") for row in rows)  # … and which device said so.
    mean = next(row for row in rows if row[3].startswith("112031^"))
    assert mean[17] == "373098007^Mean^SCT"


def test_the_rows_of_one_finding_belong_together(report: Dataset) -> None:
    rows = fields(oru(notice(report), ENVELOPE), "OBX")
    (named,) = [row for row in rows if row[5].endswith("Nodule 1")]
    about = {row[3].split("^")[1]: row[5] for row in rows if row[4] == named[4]}
    assert about["Finding"] == "27925004^Nodule^SCT"
    assert about["Finding Site"] == "45653009^Upper lobe of lung^SCT"
    assert about["Laterality"] == "24028007^Right^SCT"
    assert Decimal(about["Diameter"]) == Decimal("6.25")
    assert about["Tracking Unique Identifier"].startswith("2.25.")


def test_the_patient_the_order_and_the_study_are_named_as_a_ris_looks_for_them(report: Dataset) -> None:
    message = oru(notice(report), ENVELOPE)
    (patient,), (order,) = fields(message, "PID"), fields(message, "OBR")
    assert patient[3] == f"{report.PatientID}^^^{report.IssuerOfPatientID}^PI"
    assert patient[5] == "Doe^Jane^^^^^^A"
    assert (patient[7], patient[8]) == ("19600229", "F")
    assert order[3] == order[18] == report.AccessionNumber
    assert order[25] == "P"
    uids = [row[5] for row in fields(message, "OBX") if row[2] == "ST"]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert str(report[keyword].value) in uids


def test_the_first_sentence_says_that_nobody_has_verified_it(report: Dataset) -> None:
    for one in (notice(report), bare()):
        (impression,) = [row for row in fields(oru(one, ENVELOPE), "OBX") if row[2] == "TX"]
        assert impression[5].startswith("AI result, not verified.")
        assert json.loads(diagnostic_report(one))["conclusion"].startswith("AI result, not verified.")


def test_names_in_several_scripts_are_repetitions_and_no_name_is_lost(report: Dataset) -> None:
    given = replace_in(report, PatientName=PersonName("Yamada^Tarou^^Dr=山田^太郎=やまだ^たろう"))
    assert fields(oru(notice(given), ENVELOPE), "PID")[0][5] == (
        "Yamada^Tarou^^^Dr^^^A~山田^太郎^^^^^^I~やまだ^たろう^^^^^^P"
    )
    (patient,) = [
        one
        for one in json.loads(diagnostic_report(notice(given)))["contained"]
        if one["resourceType"] == "Patient"
    ]
    assert [name["family"] for name in patient["name"]] == ["Yamada", "山田", "やまだ"]
    assert patient["name"][0]["prefix"] == ["Dr"]


@given(text=st.text(max_size=40))
def test_no_value_can_break_out_of_its_field(text: str) -> None:
    plain, message = oru(bare(), ENVELOPE), oru(bare(patient_name=text, accession=text), ENVELOPE)
    assert message.count("\r") == plain.count("\r")
    (pid,), (obr,) = fields(message, "PID"), fields(message, "OBR")
    assert len(obr) == len(fields(plain, "OBR")[0])
    assert len(pid) <= len(fields(plain, "PID")[0])


def test_delimiters_are_escaped(report: Dataset) -> None:
    odd = replace_in(report, StudyDescription="a|b^c&d~e")
    assert fields(oru(notice(odd), ENVELOPE), "OBR")[0][13] == "a\\F\\b\\S\\c\\T\\d\\R\\e"


def test_times_have_the_zone_of_the_images_else_that_of_the_site(report: Dataset) -> None:
    assert fields(oru(notice(report), ENVELOPE), "MSH")[0][6].endswith("+0100")
    there = replace_in(report, TimezoneOffsetFromUTC="-0330")
    message = oru(notice(there), ENVELOPE)
    assert fields(message, "MSH")[0][6].endswith("-0330")
    assert fields(message, "OBR")[0][7] == "20260102101112-0330"
    assert json.loads(diagnostic_report(notice(there)))["effectiveDateTime"] == "2026-01-02T10:11:12-03:30"
    # FHIR has no time without a zone, and none is made up for the study.
    assert json.loads(diagnostic_report(notice(report)))["effectiveDateTime"] == "2026-01-02"


@pytest.mark.parametrize(
    ("occasion", "corrects", "how", "hl7", "fhir"),
    [
        (Occasion.FOUND, False, "corrected", "P", "preliminary"),
        (Occasion.FOUND, True, "corrected", "C", "corrected"),
        (Occasion.FOUND, True, "preliminary", "P", "preliminary"),
        (Occasion.GIVEN_UP, False, "corrected", "X", "cancelled"),
        (Occasion.GIVEN_UP, True, "corrected", "X", "cancelled"),
    ],
)
def test_the_status_is_never_final(
    report: Dataset, occasion: Occasion, *, corrects: bool, how: Any, hl7: str, fhir: str
) -> None:
    one = notice(report, occasion, corrects=corrects)
    message = oru(one, replace(ENVELOPE, correction=how))
    assert fields(message, "OBR")[0][25] == hl7
    assert {row[11] for row in fields(message, "OBX")} == {hl7}
    resource = json.loads(diagnostic_report(one, correction=how))
    assert resource["status"] == fhir
    assert {each["status"] for each in observations(resource).values()} == {fhir}


def test_the_resource_is_one_of_fhir_and_refers_to_all_that_it_contains(report: Dataset) -> None:
    pytest.importorskip("fhir.resources")
    from fhir.resources.R4B.diagnosticreport import DiagnosticReport

    for one in (notice(report), notice(report, corrects=True), bare(), bare(patient_id="", patient_name="")):
        text = diagnostic_report(one, viewer="https://ohif.example/viewer?StudyInstanceUIDs=1.2.3")
        assert DiagnosticReport.model_validate_json(text).status
        resource = json.loads(text)
        held = {f"#{each['id']}" for each in resource["contained"]}
        assert held == set(references(resource))  # dom-3: nothing is contained that nobody refers to


def references(value: object) -> list[str]:
    """Every reference within the resource."""
    if isinstance(value, dict):
        own = [value["reference"]] if isinstance(value.get("reference"), str) else []
        return own + [one for each in value.values() for one in references(each)]
    return [one for each in value for one in references(each)] if isinstance(value, list) else []


def test_fhir_says_the_same_numbers_as_hl7(report: Dataset) -> None:
    one = notice(report)
    hl7 = sorted(float(row[5]) for row in fields(oru(one, ENVELOPE), "OBX") if row[2] == "NM")
    found = observations(json.loads(diagnostic_report(one))).values()
    quantities = [each["valueQuantity"] for each in found if "valueQuantity" in each]
    assert sorted(each["value"] for each in quantities) == hl7
    assert {each["system"] for each in quantities} == {"http://unitsofmeasure.org"}
    mean = next(each for each in found if each["code"]["text"] == "Mean Attenuation Coefficient")
    assert mean["method"]["coding"][0]["code"] == "373098007"
    # Our own codes have the UID of our own scheme.
    age = next(each for each in found if each["code"]["text"] == "Bone age")
    assert age["code"]["coding"][0]["system"].startswith("urn:oid:2.25.")


def test_what_replaces_a_report_goes_under_the_same_identifier_and_nothing_else_does(report: Dataset) -> None:
    first, second = notice(report), notice(report, corrects=True)
    other = notice_of(
        report, occasion=Occasion.FOUND, corrects=False, rule="nodules", subject="1", zone=BERLIN
    )
    queries = [conditional_query(diagnostic_report(one)) for one in (first, second, other)]
    assert queries[0] == queries[1] != queries[2]
    assert unquote(queries[0]) == f"identifier=urn:ietf:rfc:3986|urn:oid:{first.line}"


def test_the_same_report_is_the_same_message(report: Dataset) -> None:
    assert oru(notice(report), ENVELOPE) == oru(notice(report), ENVELOPE)
    assert diagnostic_report(notice(report)) == diagnostic_report(notice(report))


@pytest.mark.parametrize("birth", ["00000000", "1960229", "196022"])
def test_values_that_are_none_are_left_out(report: Dataset, birth: str) -> None:
    odd = replace_in(report, PatientBirthDate=birth, StudyTime="25:99", PatientSex="")
    assert "birthDate" not in json.loads(diagnostic_report(notice(odd)))["contained"][0]
    message = oru(notice(odd), ENVELOPE)
    (patient,) = fields(message, "PID")
    assert len(patient) <= 8 or (patient[7], patient[8:]) == ("", [])
    assert fields(message, "OBR")[0][7] == "20260102"


def replace_in(report: Dataset, **values: object) -> Dataset:
    import copy

    changed = copy.deepcopy(report)
    for keyword, value in values.items():
        setattr(changed, keyword, value)
    return changed


def test_the_qualifiers_of_an_issuer_name_it_for_machines(report: Dataset) -> None:
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.276.0.76", "ISO"
    known = replace_in(report, IssuerOfPatientIDQualifiersSequence=[issuer])
    message = oru(notice(known), ENVELOPE)
    assert (
        fields(message, "PID")[0][3] == f"{report.PatientID}^^^{report.IssuerOfPatientID}&1.2.276.0.76&ISO^PI"
    )
    subject = json.loads(diagnostic_report(notice(known)))["subject"]["identifier"]
    assert subject["system"] == "urn:oid:1.2.276.0.76"


def test_a_report_can_be_read_back_from_the_file_that_was_delivered(tmp_path: Path) -> None:
    made = make(tmp_path, said=everything())
    assert oru(notice(made.sr), ENVELOPE) == oru(notice(made.sr), ENVELOPE)
    assert notice(made.sr).maker.uid == str(made.run.provenance.device_uid)
    assert notice(made.sr).maker.version == made.run.provenance.version

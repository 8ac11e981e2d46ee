"""Grades, recommendations and comparisons stand in the report as the model gave them, and in words."""

import html
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from ledger.identifiers import Uid
from ledger.job import Outcome
from results import codes
from results.check import CheckFailed
from results.content import codes_named, name_of, numbers, text_of, uid_named, walk
from results.expect import as_code
from results.findings import (
    Comparison,
    Concept,
    Findings,
    Grade,
    Measurement,
    Prior,
    Recommendation,
    refused,
)
from results.grid import NotEncodable
from results.older_report import OLDER_FORMS, check_older_report, older_report
from results.profile import PROFILES
from results.sentences import sentences
from results.write import write
from tests.results.checklist.programs import run
from tests.results.dciodvfy import complaints
from tests.results.lesions import lesions
from tests.results.made import Made, make
from tests.results.pictured import pictured
from tests.results.series import CT, ROOT, a_run, source
from tests.results.test_findings_in_report import groups

RISK = Concept("RISK", codes.PRIVATE_SCHEME, "Nodule risk")
HIGH = Concept("RISK4A", codes.PRIVATE_SCHEME, "category 4A")
CT_SOON = Concept("LOWDOSECT", codes.PRIVATE_SCHEME, "Low dose CT")
LONGEST = Measurement(name=codes.LONG_AXIS, value=8.5, unit=codes.MILLIMETRE)
GRADE = Grade(
    label="Nodule risk", scale=RISK, value=HIGH, inputs=(LONGEST,), about=("Nodule 1",), site=codes.LUNG
)
PROPOSED = Recommendation(
    label="Follow-up",
    text="Low dose CT in 3 months.",
    kind=codes.FOLLOW_UP,
    code=CT_SOON,
    interval=Measurement(name=codes.FOLLOW_UP_INTERVAL, value=3, unit=codes.MONTH),
    due=date(2026, 4, 2),
    inputs=(LONGEST,),
    about=("Nodule risk", "Nodule 2"),
)
PRIOR = Prior(
    acquired=date(2025, 6, 1),
    study=Uid(f"{ROOT}.61"),
    series=Uid(f"{ROOT}.62"),
    images=((Uid(CT), Uid(f"{ROOT}.63")),),
)
GROWN = Comparison(
    about="Nodule 1",
    name=codes.VOLUME,
    unit=codes.MILLILITRE,
    now=0.9,
    then=0.6,
    prior=PRIOR,
    acquired=date(2026, 1, 2),
)
DARKER = Comparison(name=codes.PERC15, unit=codes.HOUNSFIELD_UNIT, now=-930.0, then=-910.0, prior=PRIOR)


def followed() -> Findings:
    """Two lesions, one of them graded and grown, and what is proposed."""
    return replace(lesions(), grades=(GRADE,), recommendations=(PROPOSED,), comparisons=(GROWN, DARKER))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"), said=followed())


def compared(report: Dataset) -> list[Dataset]:
    return [
        item
        for container in report.ContentSequence
        if name_of(container) == as_code(codes.DERIVED_MEASUREMENTS)
        for item in container.ContentSequence
    ]


def test_a_refusal_recommends_nothing() -> None:
    with pytest.raises(ValueError, match="refused result"):
        replace(refused("Too thick."), recommendations=(replace(PROPOSED, about=()),))


def test_two_grades_of_one_name_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(NotEncodable, match="Grade have the same label"):
        make(tmp_path, said=replace(followed(), grades=(GRADE, GRADE)))


def test_recommendations_alone_make_a_report(tmp_path: Path) -> None:
    alone = Findings(outcome=Outcome.FOUND, recommendations=(replace(PROPOSED, about=()),))
    made = make(tmp_path, said=alone)
    made.check()
    assert [*groups(made.sr)] == ["Follow-up"]


def test_a_grade_has_its_inputs_in_its_own_group(made: Made) -> None:
    made.check()
    group = groups(made.sr)["Nodule risk"]
    assert codes_named(group, as_code(RISK)) == [as_code(HIGH)]
    assert numbers(group) == {(as_code(codes.LONG_AXIS), as_code(codes.MILLIMETRE)): 8.5}
    (derived,) = [item for item in walk(group) if name_of(item) == as_code(codes.DERIVED_FROM)]
    assert text_of(derived) == "Nodule 1"
    lesion = groups(made.sr)["Nodule 1"]
    assert str(derived.ContentSequence[0].UID) == uid_named(lesion, codes.TRACKING_UID)


def test_a_recommendation_is_a_sentence_a_code_an_interval_and_a_date(made: Made) -> None:
    group = groups(made.sr)["Follow-up"]
    said = [text_of(item) for item in walk(group) if name_of(item) == as_code(codes.FOLLOW_UP)]
    assert said == ["", "Low dose CT in 3 months."]
    assert codes_named(group, as_code(codes.FOLLOW_UP))[0] == as_code(CT_SOON)
    assert numbers(group)[as_code(codes.FOLLOW_UP_INTERVAL), as_code(codes.MONTH)] == 3
    assert [item.Date for item in walk(group) if item.ValueType == "DATE"] == ["20260402"]
    about = [text_of(item) for item in walk(group) if name_of(item) == as_code(codes.DERIVED_FROM)]
    assert about == ["Nodule risk", "Nodule 2"]


def test_35_a_recommendation_is_never_signed(made: Made) -> None:
    assert (made.sr.VerificationFlag, made.sr.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert "VerifyingObserverSequence" not in made.sr


def test_a_comparison_has_both_values_the_change_and_the_days(made: Made) -> None:
    grown, darker = compared(made.sr)
    assert float(grown.MeasuredValueSequence[0].NumericValue) == pytest.approx(50)
    # Of a value below zero there is no share.
    assert float(darker.MeasuredValueSequence[0].NumericValue) == -20
    now, then = [item for item in grown.ContentSequence if item.ValueType == "NUM"]
    assert [float(one.MeasuredValueSequence[0].NumericValue) for one in (now, then)] == [0.9, 0.6]
    (offset,) = [item for item in walk(then) if name_of(item) == as_code(codes.TEMPORAL_OFFSET)]
    assert float(offset.MeasuredValueSequence[0].NumericValue) == -215


def test_36_the_earlier_study_is_pertinent_other_evidence_and_only_that(made: Made) -> None:
    (study,) = made.sr.PertinentOtherEvidenceSequence
    assert study.StudyInstanceUID == str(PRIOR.study)
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == str(PRIOR.series)
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence] == [f"{ROOT}.63"]
    (current,) = made.sr.CurrentRequestedProcedureEvidenceSequence
    assert current.StudyInstanceUID == made.source.first.StudyInstanceUID
    assert "PertinentOtherEvidenceSequence" not in pydicom.dcmread(made.marks)


def test_36_an_earlier_series_of_the_same_study_is_among_its_own_evidence(tmp_path: Path) -> None:
    here = replace(PRIOR, study=Uid(str(source().first.StudyInstanceUID)))
    said = replace(followed(), comparisons=(replace(GROWN, prior=here),))
    made = make(tmp_path, said=said)
    made.check()
    assert "PertinentOtherEvidenceSequence" not in made.sr


def test_the_lines_say_conclusions_first_and_that_nobody_verified_them(made: Made) -> None:
    lines = sentences(made.findings, made.source)
    assert lines[0] == "Nodule risk: category 4A (Long Axis 8.5 mm)."
    assert lines[1] == (
        "AI recommendation, not verified: Low dose CT in 3 months. (From: Nodule risk; Nodule 2.)"
    )
    assert lines[2] == "Nodule 1: volume 0.9 ml, was 0.6 ml on 2025-06-01 (215 days before): +50 %."
    assert lines[3].endswith("attenuation -930 HU, was -910 HU on 2025-06-01: -20 HU.")
    assert lines[4].startswith("Nodule 1: ")


def test_42_private_codes_of_grades_and_recommendations_are_identified(made: Made) -> None:
    schemes = [one.CodingSchemeDesignator for one in made.sr.CodingSchemeIdentificationSequence]
    assert schemes == [codes.PRIVATE_SCHEME]


def test_dciodvfy_has_nothing_to_say(made: Made) -> None:
    assert complaints(made.report, "Comprehensive3DSR") == []
    assert complaints(made.marks, "ComprehensiveSR") == []


@pytest.mark.parametrize(("form", "iod"), [("comprehensive", "ComprehensiveSR"), ("enhanced", "EnhancedSR")])
def test_older_forms_say_all_of_it(form: str, iod: str, made: Made, tmp_path: Path) -> None:
    older = older_report(made.sr, OLDER_FORMS[form])
    write(older, tmp_path / "older.dcm")
    check_older_report(pydicom.dcmread(tmp_path / "older.dcm"), made.sr, OLDER_FORMS[form])
    assert complaints(tmp_path / "older.dcm", iod) == []


def test_05_the_same_run_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    again = make(tmp_path, said=followed(), run=a_run(source()))
    assert [path.read_bytes() for path in again.files] == [path.read_bytes() for path in made.files]


def first(report: Dataset, concept: Concept) -> Dataset:
    return next(item for item in walk(report) if name_of(item) == as_code(concept))


def other_grade(report: Dataset) -> None:
    first(report, RISK).ConceptCodeSequence[0].CodeValue = "RISK2"


def other_input(report: Dataset) -> None:
    group = groups(report)["Nodule risk"]
    first(group, codes.LONG_AXIS).MeasuredValueSequence[0].NumericValue = "5.5"


def other_words(report: Dataset) -> None:
    group = groups(report)["Follow-up"]
    next(
        i for i in walk(group) if i.ValueType == "TEXT" and name_of(i) == as_code(codes.FOLLOW_UP)
    ).TextValue = "Nothing to do."


def other_date(report: Dataset) -> None:
    first(report, codes.FOLLOW_UP_DATE).Date = "20270402"


def other_interval(report: Dataset) -> None:
    first(report, codes.FOLLOW_UP_INTERVAL).MeasuredValueSequence[0].NumericValue = "30"


def of_another_finding(report: Dataset) -> None:
    one = first(report, codes.DERIVED_FROM)
    one.ContentSequence[0].UID = uid_named(groups(report)["Nodule 2"], codes.TRACKING_UID)


def turned_round(report: Dataset) -> None:
    value = compared(report)[0].MeasuredValueSequence[0]
    value.NumericValue = "-50"


def now_and_then(report: Dataset) -> None:
    points = [i for i in walk(compared(report)[0]) if name_of(i) == as_code(codes.TIME_POINT)]
    points[0].TextValue, points[1].TextValue = "earlier", "now"


def another_day(report: Dataset) -> None:
    item = [i for i in walk(compared(report)[0]) if name_of(i) == as_code(codes.STUDY_DATE)][-1]
    item.Date = "20240601"


def another_study(report: Dataset) -> None:
    report.PertinentOtherEvidenceSequence[0].StudyInstanceUID = f"{ROOT}.99"


def lost(report: Dataset) -> None:
    report.ContentSequence = [
        item for item in report.ContentSequence if name_of(item) != as_code(codes.DERIVED_MEASUREMENTS)
    ]


def wordless(report: Dataset) -> None:
    for item in walk(report):
        if item.ValueType == "TEXT" and "recommendation" in text_of(item):
            item.TextValue = "AI result, not verified."


@pytest.mark.parametrize(
    "mutate",
    [
        other_grade, other_input, other_words, other_date, other_interval, of_another_finding, turned_round,
        now_and_then, another_day, another_study, lost, wordless,
    ],
    ids=lambda f: f.__name__.replace("_", " "),
)  # fmt: skip
def test_what_follows_from_the_findings_and_is_not_as_the_model_gave_it_stays_here(
    mutate: Callable[[Dataset], None], made: Made, tmp_path: Path
) -> None:
    report = made.sr
    mutate(report)
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    with pytest.raises(CheckFailed):
        replace(made, report=tmp_path / "report.dcm").check()


@pytest.mark.peer
def test_32_dcmtk_prints_every_name_value_and_sentence(made: Made, tmp_path: Path) -> None:
    run("dsrdump", made.report)
    run("dsr2html", made.report, tmp_path / "report.html")
    page = html.unescape((tmp_path / "report.html").read_text(encoding="latin-1"))
    for sentence in sentences(made.findings, made.source):
        assert sentence in page
    for item in walk(made.sr):
        if item.ValueType == "NUM":
            assert item.ConceptNameCodeSequence[0].CodeMeaning in page
            assert str(item.MeasuredValueSequence[0].NumericValue) in page
        if item.ValueType == "CODE":
            assert item.ConceptCodeSequence[0].CodeMeaning in page


@pytest.mark.peer
@pytest.mark.parametrize("which", ["report", "marks"])
def test_33_dcmqi_lists_every_measurement_with_its_value_and_unit(
    which: str, made: Made, tmp_path: Path
) -> None:
    path = made.report if which == "report" else made.marks
    run("tid1500reader", "--inputDICOM", path, "--outputMetadata", tmp_path / "read.json")
    read = json.loads((tmp_path / "read.json").read_text(encoding="latin-1"))
    said = {
        group["TrackingUniqueIdentifier"]: {
            (one["quantity"]["CodeValue"], one["units"]["CodeValue"]): float(one["value"])
            for one in group.get("measurementItems", [])
        }
        for group in read["Measurements"]
    }
    meant = {
        uid_named(group, codes.TRACKING_UID): {
            (name[0], unit[0]): value for (name, unit), value in numbers(group).items()
        }
        for group in groups(pydicom.dcmread(path)).values()
    }
    assert said == meant
    assert sum(map(len, said.values())) >= 8


@pytest.mark.parametrize("name", PROFILES)
def test_37_in_every_profile_the_report_refers_to_all_that_was_made(name: str, tmp_path: Path) -> None:
    asked = pictured(said=followed(), profile=PROFILES[name])
    made = make(tmp_path, said=followed(), of=asked.source, profile=PROFILES[name], pictures=asked.pictures)
    made.check()
    referred = {
        str(item.ReferencedSOPInstanceUID)
        for study in made.sr.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    leaves = {
        str(one.SOPInstanceUID) for role, _ in made.written if not role.is_root for one in made.of(role)
    }
    assert leaves
    assert leaves <= referred

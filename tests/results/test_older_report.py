"""The report in an older form says the same, item for item, or there is none."""

import copy
import subprocess
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from ledger.identifiers import Uid
from results.expect import CheckFailed
from results.older_report import OLDER_FORMS, CannotSay, check_older_report, older_report
from results.profile import DEFAULT
from results.write import write
from tests.peers.programs import find
from tests.results.made import make
from tests.results.series import KINDS, a_run, source

FORMS = list(OLDER_FORMS)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("made")).sr


def test_it_is_numbered_after_the_report_wherever_a_site_counts_from(tmp_path: Path) -> None:
    made = make(tmp_path, profile=replace(DEFAULT, series_number=5000))
    numbers = {name: older_report(made.sr, form).SeriesNumber for name, form in OLDER_FORMS.items()}
    assert (made.sr.SeriesNumber, numbers) == (5002, {"comprehensive": 5012, "enhanced": 5022})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["axial CT", *sorted(set(KINDS) - {"axial CT"})[:3]])
def test_dciodvfy_finds_no_error_in_it_and_names_its_class(tmp_path: Path, form: str, kind: str) -> None:
    made = make(tmp_path, kind).sr
    path = tmp_path / "older.dcm"
    write(older_report(made, OLDER_FORMS[form]), path)
    check_older_report(pydicom.dcmread(path), made, OLDER_FORMS[form])
    done = subprocess.run([find("dciodvfy"), "-new", path], capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert errors == []
    assert done.stderr.splitlines()[0] == {"comprehensive": "ComprehensiveSR", "enhanced": "EnhancedSR"}[form]


@pytest.mark.parametrize("form", FORMS)
def test_dcmtk_prints_the_same_document(tmp_path: Path, report: Dataset, form: str) -> None:
    def printed(dataset: Dataset, name: str) -> list[str]:
        write(dataset, tmp_path / name)
        done = subprocess.run(
            [find("dsrdump"), "-Ph", "+Pl", tmp_path / name], capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()[1:]  # The first line is the name of the SOP class.

    assert printed(older_report(report, OLDER_FORMS[form]), "older.dcm") == printed(report, "report.dcm")


def test_making_it_twice_makes_it_once_and_each_form_is_an_instance_of_its_own(
    tmp_path: Path, report: Dataset
) -> None:
    uids = {report.SOPInstanceUID, report.SeriesInstanceUID}
    for name, form in OLDER_FORMS.items():
        for number in range(2):
            write(older_report(report, form), tmp_path / f"{name}{number}")
        assert (tmp_path / f"{name}0").read_bytes() == (tmp_path / f"{name}1").read_bytes()
        older = pydicom.dcmread(tmp_path / f"{name}0")
        uids |= {older.SOPInstanceUID, older.SeriesInstanceUID}
        Uid.parse(older.SOPInstanceUID)
        assert older.file_meta.MediaStorageSOPClassUID == str(form.sop_class)
    assert len(uids) == 6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("relationship", "value_type"), [("CONTAINS", "SCOORD3D"), ("CONTAINS", "TABLE")])
def test_what_an_older_form_has_no_words_for_is_not_left_out(
    report: Dataset, form: str, relationship: str, value_type: str
) -> None:
    richer = copy.deepcopy(report)
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    richer.ContentSequence[-1].ContentSequence.append(item)
    with pytest.raises(CannotSay, match=f"CONTAINER CONTAINS {value_type}"):
        older_report(richer, OLDER_FORMS[form])


def test_a_reference_within_the_document_has_no_words_in_enhanced_sr(report: Dataset) -> None:
    richer = copy.deepcopy(report)
    item = Dataset()
    item.RelationshipType, item.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 1]
    richer.ContentSequence[-1].ContentSequence[0].ContentSequence = [item]
    older_report(richer, OLDER_FORMS["comprehensive"])
    with pytest.raises(CannotSay, match="a reference"):
        older_report(richer, OLDER_FORMS["enhanced"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda older: older.ContentSequence.pop(),
        lambda older: setattr(older, "PatientID", "OTHER"),
        lambda older: setattr(older, "VerificationFlag", "VERIFIED"),
        lambda older: older.CurrentRequestedProcedureEvidenceSequence.clear(),
        lambda older: setattr(older, "SOPClassUID", "1.2.3"),
        lambda older: setattr(older, "StudyInstanceUID", "1.2.3"),
    ],
)
def test_the_last_look_finds_what_differs(report: Dataset, damage) -> None:
    form = OLDER_FORMS["enhanced"]
    older = older_report(report, form)
    check_older_report(older, report, form)
    damage(older)
    with pytest.raises(CheckFailed, match="Enhanced SR"):
        check_older_report(older, report, form)
    same = older_report(report, form)
    same.SOPInstanceUID = report.SOPInstanceUID
    with pytest.raises(CheckFailed, match="has the SOPInstanceUID of the report"):
        check_older_report(same, report, form)


@pytest.mark.parametrize("form", FORMS)
def test_it_replaces_the_older_form_of_what_the_report_replaces(tmp_path: Path, form: str) -> None:
    from dataclasses import replace

    from results.provenance import Predecessor

    first = make(tmp_path / "first").sr
    before = Predecessor(
        study=Uid(first.StudyInstanceUID),
        series=Uid(first.SeriesInstanceUID),
        sop_class=Uid(first.SOPClassUID),
        sop_instance=Uid(first.SOPInstanceUID),
    )
    of = source()
    second = make(tmp_path / "second", of=of, run=replace(a_run(of), predecessor=before)).sr
    older_first, older_second = (older_report(one, OLDER_FORMS[form]) for one in (first, second))
    (study,) = older_second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (item,) = series.ReferencedSOPSequence
    assert series.SeriesInstanceUID == older_first.SeriesInstanceUID
    assert item.ReferencedSOPInstanceUID == older_first.SOPInstanceUID
    assert item.ReferencedSOPClassUID == older_first.SOPClassUID

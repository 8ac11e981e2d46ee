"""A rejection note names exactly what is out of date, of the same patient, and is checked first."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sr.codedict import codes as dictionary

from ledger.identifiers import Uid
from results import codes
from results.check_rejection import check_rejection
from results.expect import CheckFailed
from results.identity import DESCRIBING, IDENTIFYING
from results.rejection import build_rejection
from results.uids import rejection_uid
from results.write import write
from tests.results.notes import VERSION, Note, make_note
from tests.results.series import source

TITLES = [codes.REJECTED_FOR_QUALITY, codes.RETENTION_EXPIRED]


@pytest.fixture(scope="module")
def note(tmp_path_factory) -> Note:
    return make_note(tmp_path_factory.mktemp("note"))


@pytest.mark.parametrize("title", TITLES)
def test_the_titles_mean_what_the_standard_says(title) -> None:
    theirs = dictionary.DCM.RejectedForQualityReasons
    if title is codes.RETENTION_EXPIRED:
        theirs = dictionary.DCM.DataRetentionPolicyExpired
    assert (theirs.value, theirs.scheme_designator, theirs.meaning) == (
        title.value,
        title.scheme,
        title.meaning,
    )


@pytest.mark.parametrize("title", TITLES)
def test_highdicom_reads_the_note_and_finds_what_it_rejects(tmp_path: Path, title) -> None:
    made = make_note(tmp_path, title=title)
    read = hd.ko.KeyObjectSelectionDocument.from_dataset(made.dataset)
    segmentation, report = made.superseded

    for one in made.superseded:
        meant = tuple(str(uid) for uid in (one.study, one.series, one.sop_instance))
        assert read.resolve_reference(str(one.sop_instance)) == meant
    images = read.content.get_references(value_type=hd.sr.ValueTypeValues.IMAGE)
    others = read.content.get_references(value_type=hd.sr.ValueTypeValues.COMPOSITE)
    assert [item.referenced_sop_instance_uid for item in images] == [str(segmentation.sop_instance)]
    assert [item.referenced_sop_instance_uid for item in others] == [str(report.sop_instance)]
    assert read.ConceptNameCodeSequence[0].CodeValue == title.value
    made.check()


def test_the_note_says_in_words_which_report_counts(note: Note) -> None:
    (text,) = [item.TextValue for item in note.dataset.ContentSequence if item.ValueType == "TEXT"
               and item.RelationshipType == "CONTAINS"]  # fmt: skip
    assert str(note.newer.sr.SOPInstanceUID) in text
    assert "Replaced by a newer result of the same analysis" in text


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", "Müller^Änne"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("GB18030", "王^小东"),
    ],
)
def test_patient_and_study_are_the_newer_reports_to_the_letter(tmp_path: Path, charset, name: str) -> None:
    of = source(charset=charset, name=name, PatientBirthDate="00000000", PatientAge="62", StudyID="")
    made = make_note(tmp_path, of)
    said, report = made.dataset, made.newer.sr
    for keyword in (*IDENTIFYING, *DESCRIBING):
        assert said.get(keyword) == report.get(keyword) == (
            None if keyword == "PatientAge" else of.first.get(keyword)
        ), keyword  # fmt: skip
    made.check()


def test_the_same_note_is_the_same_bytes_and_any_other_has_other_uids(tmp_path: Path, note: Note) -> None:
    def made(superseded, *, title=note.title, version=VERSION) -> Dataset:
        return build_rejection(note.newer.sr, superseded, title=title, software_version=version)

    write(made(note.superseded), tmp_path / "again.dcm")
    assert (tmp_path / "again.dcm").read_bytes() == note.path.read_bytes()

    others = [
        made(note.superseded[:1]),
        made(note.superseded, title=codes.RETENTION_EXPIRED),
        made(note.superseded, version="1.2.4"),
    ]
    instances = {str(one.SOPInstanceUID) for one in [note.dataset, *others]}
    series = {str(one.SeriesInstanceUID) for one in [note.dataset, *others]}
    assert (len(instances), len(series), instances & series) == (4, 4, set())


uids = st.integers(1, 10**9).map(lambda number: Uid(f"2.25.{number}"))


@given(report=uids, rejected=st.lists(uids, min_size=1, unique=True), data=st.data())
def test_a_notes_uid_depends_on_what_it_names_and_not_on_the_order(report, rejected, data) -> None:
    def uid(names) -> Uid:
        return rejection_uid("instance", title="113001", report=report, rejected=names, software_version="1")

    assert uid(rejected) == uid(data.draw(st.permutations(rejected)))
    assert uid(rejected) != uid([*rejected, Uid("1.2.3")])


Mutant = Callable[[Dataset], None]


def _another_patient(note: Dataset) -> None:
    note.PatientID = "SOMEBODY-ELSE"


def _another_study(note: Dataset) -> None:
    note.StudyInstanceUID = "1.2.3"


def _one_instance_less(note: Dataset) -> None:
    del note.ContentSequence[-1]


def _one_instance_twice(note: Dataset) -> None:
    note.ContentSequence.append(note.ContentSequence[-1])


def _the_newer_one(note: Dataset) -> None:
    note.ContentSequence[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3.4"


def _evidence_less(note: Dataset) -> None:
    del note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[-1]


def _evidence_elsewhere(note: Dataset) -> None:
    note.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID = "1.2.3"


def _another_title(note: Dataset) -> None:
    note.ConceptNameCodeSequence[0].CodeValue = "113000"


def _another_model(note: Dataset) -> None:
    note.ContributingEquipmentSequence[-1].ManufacturerModelName = "other"


def _another_observer(note: Dataset) -> None:
    note.ContentSequence[1].UID = "1.2.3"


def _an_own_uid(note: Dataset) -> None:
    note.SOPInstanceUID = note.file_meta.MediaStorageSOPInstanceUID = "1.2.3"


def _an_own_series(note: Dataset) -> None:
    note.SeriesInstanceUID = "1.2.3"


def _no_modality(note: Dataset) -> None:
    del note.Modality


def _another_time(note: Dataset) -> None:
    note.ContentTime = "000000"


def _other_words(note: Dataset) -> None:
    text = next(item for item in note.ContentSequence if item.RelationshipType == "CONTAINS")
    text.TextValue = "Nothing to see here."


@pytest.mark.parametrize(
    "mutant",
    [
        _another_patient, _another_study, _one_instance_less, _one_instance_twice, _the_newer_one,
        _evidence_less, _evidence_elsewhere, _another_title, _another_model, _another_observer, _an_own_uid,
        _an_own_series, _no_modality, _another_time, _other_words,
    ],
)  # fmt: skip
def test_a_note_that_says_something_else_stays_here(tmp_path: Path, note: Note, mutant: Mutant) -> None:
    broken = note.dataset
    mutant(broken)
    path = tmp_path / "broken.dcm"
    broken.save_as(path)
    with pytest.raises(CheckFailed) as caught:
        replace(note, path=path).check()
    assert "SOMEBODY" not in str(caught.value)


def test_a_note_that_rejects_what_counts_stays_here(tmp_path: Path, note: Note) -> None:
    """Faithful to what was asked, and wrong all the same."""
    counts = replace(note.superseded[0], sop_instance=Uid(note.newer.seg.SOPInstanceUID))
    path = tmp_path / "note.dcm"
    write(build_rejection(note.newer.sr, [counts], title=note.title, software_version=VERSION), path)
    with pytest.raises(CheckFailed, match="which counts"):
        check_rejection(path, note.newer.sr, [counts], title=note.title, software_version=VERSION)


def test_a_note_about_another_study_stays_here(tmp_path: Path, note: Note) -> None:
    elsewhere = [replace(one, study=Uid("1.2.3")) for one in note.superseded]
    path = tmp_path / "note.dcm"
    write(build_rejection(note.newer.sr, elsewhere, title=note.title, software_version=VERSION), path)
    with pytest.raises(CheckFailed, match="evidence"):
        check_rejection(path, note.newer.sr, elsewhere, title=note.title, software_version=VERSION)


def test_a_note_that_was_cut_off_stays_here(tmp_path: Path, note: Note) -> None:
    path = tmp_path / "short.dcm"
    path.write_bytes(note.path.read_bytes()[:200])
    with pytest.raises(CheckFailed):
        replace(note, path=path).check()

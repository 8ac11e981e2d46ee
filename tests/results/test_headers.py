"""A result is filed with its images: patient, study and character set are theirs, byte for byte."""

import hashlib
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from ledger.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ledger.profile import DEFAULT, EXPLAINING, PROFILES, complaint
from ledger.result import Role
from results.identity import DESCRIBING, IDENTIFYING, PRESENT_EVEN_IF_EMPTY
from results.making import ENCODERS
from results.words import DISCLAIMER, long_string, plain, series_description
from tests.results.everything import everything
from tests.results.made import Made, asked, make
from tests.results.pictured import Ramp
from tests.results.series import KINDS, a_run, not_analysed, nothing_found, source, with_pixels

NAMES = {
    "Latin-1": ("ISO_IR 100", "Müller^Jürgen"),
    "Unicode": ("ISO_IR 192", "Ôçéañ^Ünïcode=王^小东"),
    "Chinese GB18030": ("GB18030", "Wang^XiaoDong=王^小东"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "Japanese half-width": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "Arabic": ("ISO_IR 127", "قباني^لنزار"),
    "Greek": ("ISO_IR 126", "Διονυσιος"),
    "Russian": ("ISO_IR 144", "Люкceмбypг"),
    "no character set": ("", "Plain^Name"),
}


def _reread(made: Made, folder: Path) -> Dataset:
    """The source as an archive has it: written and read again."""
    import pydicom

    path = folder / "source.dcm"
    with_pixels(made.source.first).save_as(path, enforce_file_format=True)
    return pydicom.dcmread(path)


@pytest.mark.parametrize("charset", NAMES)
def test_03_names_survive_in_every_character_set(charset: str, tmp_path: Path) -> None:
    encoding, name = NAMES[charset]
    of = source(charset=encoding, name=name, ReferringPhysicianName=name)
    made = make(tmp_path, of=of)
    original = _reread(made, tmp_path)
    for dataset in (made.seg, made.sr):
        assert str(dataset.PatientName) == str(original.PatientName) == name
        assert str(dataset.ReferringPhysicianName) == name
        assert dataset.get("SpecificCharacterSet") == original.get("SpecificCharacterSet")
        raw, theirs = dataset["PatientName"].value, original["PatientName"].value
        assert raw.original_string == theirs.original_string
    made.check()


@pytest.mark.parametrize("kind", KINDS)
def test_01_patient_and_study_are_those_of_the_images(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind)
    for dataset in (made.seg, made.sr):
        for keyword in (*IDENTIFYING, *DESCRIBING):
            assert dataset.get(keyword) == made.source.first.get(keyword), keyword
        assert dataset.PatientID == "MRN-0815"
        assert dataset.IssuerOfPatientID == "Hospital A"
        assert dataset.AccessionNumber == "ACC-1"
        assert dataset.StudyTime == "101112"


def test_01_what_the_images_lack_is_present_and_empty(tmp_path: Path) -> None:
    made = make(tmp_path, of=source(**dict.fromkeys(PRESENT_EVEN_IF_EMPTY)))
    for dataset in (made.seg, made.sr):
        for keyword in PRESENT_EVEN_IF_EMPTY:
            assert keyword in dataset
            assert not dataset.get(keyword)
    made.check()


def test_01_wrong_values_are_repeated_and_not_corrected(tmp_path: Path) -> None:
    made = make(tmp_path, of=source(PatientSex="X", PatientBirthDate="18000101"))
    assert made.sr.PatientSex == "X"
    assert made.seg.PatientBirthDate == "18000101"
    made.check()


def test_01_what_only_describes_is_left_out_where_it_is_no_valid_value(tmp_path: Path) -> None:
    of = source()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for image in of.datasets:
            image.PatientAge, image.PatientBirthDate, image.PatientComments = "62", "00000000", "calm"
            image.PregnancyStatus, image.PatientWeight = 4, "71.5"
    made = make(tmp_path, of=of)
    for dataset in (made.seg, made.sr):
        assert "PatientAge" not in dataset
        assert dataset.PatientBirthDate == "00000000"
        assert dataset.PatientComments == "calm"
        assert (dataset.PregnancyStatus, dataset.PatientWeight) == (4, 71.5)
    made.check()


def test_07_each_result_is_alone_in_a_series_of_its_own(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert made.seg.SeriesInstanceUID != made.sr.SeriesInstanceUID
    assert (made.seg.Modality, made.sr.Modality) == ("SEG", "SR")
    assert (made.seg.SeriesNumber, made.sr.SeriesNumber) == (9101, 9102)
    assert made.seg.SeriesDescription == "AI not verified: segmentation, lung_ct 1.0.0"
    assert made.sr.SeriesDescription == "AI not verified: report, lung_ct 1.0.0"
    assert (made.seg.InstanceNumber, made.sr.InstanceNumber) == (1, 1)


def test_07_a_refusal_can_be_seen_in_the_list_of_series(tmp_path: Path) -> None:
    made = make(tmp_path, said=not_analysed())
    assert made.sr.SeriesDescription == "AI NOT ANALYSED: report, lung_ct 1.0.0"


def test_08_body_part_is_copied_and_an_unpaired_part_has_no_side(tmp_path: Path) -> None:
    made = make(tmp_path)
    for dataset in (made.seg, made.sr):
        assert dataset.BodyPartExamined == "CHEST"
        assert "Laterality" not in dataset


def test_10_the_file_says_which_implementation_wrote_it(tmp_path: Path) -> None:
    made = make(tmp_path)
    for dataset in (made.seg, made.sr):
        assert dataset.file_meta.ImplementationClassUID == str(IMPLEMENTATION_CLASS_UID)
        assert dataset.file_meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
        assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert len(IMPLEMENTATION_VERSION_NAME) <= 16


def test_times_are_the_runs_own_on_the_clock_of_the_study(tmp_path: Path) -> None:
    of = source(TimezoneOffsetFromUTC="-0530")
    made = make(tmp_path, of=of, run=a_run(of, at=datetime(2026, 1, 2, 3, 0, tzinfo=UTC)))
    for dataset in (made.seg, made.sr):
        assert (dataset.ContentDate, dataset.ContentTime) == ("20260101", "213000.000000")
        assert dataset.ContributingEquipmentSequence[-1].ContributionDateTime == "20260102030000.000000+0000"


def test_times_are_told_in_the_zone_of_the_run_where_the_study_has_none(tmp_path: Path) -> None:
    of = source()
    at = datetime(2026, 1, 2, 3, 0, tzinfo=timezone(timedelta(hours=1)))
    assert make(tmp_path, of=of, run=a_run(of, at=at)).sr.ContentTime == "030000.000000"


def test_every_result_says_that_it_is_not_for_diagnosis(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert made.seg.ContentDescription == DISCLAIMER
    assert made.sr.CompletionFlagDescription == DISCLAIMER
    for dataset in (made.seg, made.sr):
        assert "not for diagnosis" in dataset.ContributingEquipmentSequence[-1].ContributionDescription


def test_every_result_says_what_the_model_was_given_and_where_its_card_is(tmp_path: Path) -> None:
    of = source()
    run = a_run(of, settings={f"setting_{k}": "x" * 40 for k in range(40)})
    made = make(tmp_path, of=of, run=run)
    listed = "\n".join(sorted(str(uid) for uid in run.inputs)).encode()
    for dataset in (made.seg, made.sr):
        said = dataset.ContributingEquipmentSequence[-1].ContributionDescription
        assert f"{len(run.inputs)} input instances" in said
        assert hashlib.sha256(listed).hexdigest() in said
        # Settings may be longer than the room there is, and are cut; nothing else is.
        assert "model card https://example.org/lung_ct" in said
        assert "settings {" in said
        assert len(said) <= 1024


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("slices ≤ 3 mm × 2 – “thin”", 'slices <= 3 mm x 2 - "thin"'),
        ("Größe é", "Groe e".replace("Groe", "Gro?e")),
        ("two\nlines\tand\0nothing", "two lines and nothing"),
    ],
)
def test_our_own_words_are_ascii_so_that_every_character_set_has_them(said: str, read: str) -> None:
    assert plain(said) == read


def test_a_long_label_is_cut_to_what_lo_holds() -> None:
    cut = long_string("a\\b" + "x" * 80)
    assert len(cut) == 64
    assert "\\" not in cut


@pytest.mark.parametrize(
    "template", ["AI {model} {version} {status}", "AI {model} {version} {what} ({status})"]
)
def test_a_template_that_is_allowed_never_makes_a_description_too_long(template: str) -> None:
    room = 0
    while not complaint(replace(DEFAULT, series_description=template + "x" * (room + 1))):
        room += 1
    profile = replace(DEFAULT, series_description=template + "x" * room)
    of = source()
    run = a_run(of, version="2026.11.21-rc1+local")
    for what in ("presentation state", "overlay of a map with a long name"):
        for status in ("", EXPLAINING):
            said = series_description(asked(nothing_found(), of, run, profile=profile), what, status)
            assert len(said) <= 64, said


def test_a_site_words_every_description_also_that_of_a_map_in_another_form(tmp_path: Path) -> None:
    of = source()
    profile = replace(
        PROFILES["plain-pacs"],
        kinds=frozenset(ENCODERS),
        series_description="Hospital A, AI {model} {what} ({status})",
    )
    pictures = Ramp(KINDS["axial CT"].shape)
    made = make(tmp_path, said=everything(), of=of, profile=profile, pictures=pictures)
    for role, path in made.written:
        said = str(pydicom.dcmread(path, stop_before_pixels=True).SeriesDescription)
        assert said.startswith("Hospital A, AI "), role
        assert "(not verified" in said, role
    assert {Role.BLENDING, Role.OVERLAY, Role.PARAMETRIC_MAP} <= {role for role, _ in made.written}

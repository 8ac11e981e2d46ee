"""Identity and headers (points 1 to 10): whose it is, and what it is."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from ledger.identifiers import Digest, Uid
from ledger.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ledger.result import Role
from tests.results.checklist.exhibits import CHARACTER_SETS, Exhibit, make_again
from tests.results.checklist.programs import consistent, news, run
from tests.results.notes import make_note
from tests.results.series import with_pixels
from tests.results.test_headers import NAMES

pytestmark = pytest.mark.peer

#: What identifies patient and study: equal to the last byte.
OF_PATIENT_AND_STUDY = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
    "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip

MODALITY = {
    Role.SEGMENTATION: "SEG",
    Role.PARAMETRIC_MAP: "OT",
    Role.STRUCTURE_SET: "RTSTRUCT",
    Role.PRESENTATION: "PR",
    Role.BLENDING: "PR",
    Role.OVERLAY: "OT",
    Role.SUMMARY: "OT",
    Role.DOCUMENT: "DOC",
    Role.KEY_IMAGES: "KO",
    Role.MARKS: "SR",
    Role.REPORT: "SR",
}

#: Warnings of dciodvfy that we know and mean.
MEANT = (
    # AIR asks for Device UID in Contributing Equipment; dciodvfy's tables do not have it there.
    "Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",
    # Copied from the images on purpose: archives and viewers sort by it.
    "Attribute is not present in standard DICOM IOD - (0x0018,0x0015) CS Body Part Examined",
    "Dicom dataset contains attributes not present in standard DICOM IOD",
    # Our own scheme, which the object itself explains.
    "Unrecognized defined term <99WETREAD>",
    "Unrecognized defined term <2.25.303938861247064953302436189453168276487>",
)

#: Its tables let an item refer to a segment of a segmentation, and not yet of a label map (Supplement 243).
NOT_KNOWN_OF_LABEL_MAPS = (
    "Error - Shall not be present for Referenced SOP Class that is not segmentation"
    " - attribute <ReferencedSegmentNumber>"
)


def test_point_01_patient_and_study_are_those_of_the_images(exhibit: Exhibit) -> None:
    for dataset in exhibit.datasets:
        for keyword in OF_PATIENT_AND_STUDY:
            assert dataset[keyword].value == exhibit.image[keyword].value, (dataset.Modality, keyword)
        for keyword in ("PatientName", "ReferringPhysicianName"):
            assert dataset[keyword].value.original_string == exhibit.image[keyword].value.original_string


def test_point_02_dcentvfy_finds_images_and_results_of_a_study_consistent(exhibit: Exhibit) -> None:
    assert consistent([*exhibit.images, *exhibit.held]) == []


def test_point_02_a_rejection_note_is_consistent_with_what_it_rejects(tmp_path: Path) -> None:
    note = make_note(tmp_path)
    images = [tmp_path / f"image{index}.dcm" for index in range(len(note.newer.source.datasets))]
    for path, image in zip(images, note.newer.source.datasets, strict=True):
        with_pixels(image).save_as(path, enforce_file_format=True)
    assert consistent([*images, *note.older.files, *note.newer.files, note.path]) == []


@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_point_03_names_survive_in_the_character_set_of_the_images(
    name: str, exhibits: dict[str, Exhibit]
) -> None:
    exhibit, (_, patient) = exhibits[name], NAMES[name]
    for dataset in exhibit.datasets:
        assert dataset.get("SpecificCharacterSet") == exhibit.image.get("SpecificCharacterSet")
        assert str(dataset.PatientName) == str(dataset.ReferringPhysicianName) == patient


def test_point_03_every_string_can_be_written_in_the_objects_character_set(exhibit: Exhibit) -> None:
    for _, path in exhibit.paths:
        dataset = pydicom.dcmread(path)
        dataset.decode()  # Raises a warning, here an error, where a byte stands for no character.
        again = path.with_suffix(".again")
        dataset.save_as(again)
        assert pydicom.dcmread(again) == dataset


def test_point_04_uids_are_new_registered_and_not_too_long(exhibit: Exhibit) -> None:
    taken = {str(image.SOPInstanceUID) for image in exhibit.source.datasets}
    taken |= {str(exhibit.image.SeriesInstanceUID), str(exhibit.image.StudyInstanceUID)}
    for dataset in exhibit.datasets:
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            uid = str(dataset[keyword].value)
            assert uid not in taken, keyword
            assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]{0,38})", uid), uid
            assert len(uid) <= 64


def test_point_05_a_retry_makes_the_same_bytes(exhibit: Exhibit, tmp_path: Path) -> None:
    again = make_again(exhibit, tmp_path)
    for first, second in zip(exhibit.made.files, again.files, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


@pytest.mark.parametrize("changed", ["version", "settings", "weights", "code", "inputs", "at", "software"])
def test_point_06_another_model_parameter_or_input_makes_other_uids(
    changed: str, exhibits: dict[str, Exhibit], tmp_path: Path
) -> None:
    exhibit = exhibits["axial CT"]
    run, provenance = exhibit.run, exhibit.run.provenance
    other = {
        "version": replace(run, provenance=replace(provenance, version="1.0.1")),
        "settings": replace(run, provenance=replace(provenance, settings={"erode": 3})),
        "weights": replace(run, provenance=replace(provenance, weights_digest=Digest("cd" * 32))),
        "code": replace(run, provenance=replace(provenance, code_digest=Digest("ef" * 32))),
        "inputs": replace(run, inputs=(*run.inputs, Uid("2.25.5"))),
        "at": replace(run, at=datetime(2027, 1, 1, tzinfo=UTC)),
        "software": replace(run, software_version="9.9"),
    }[changed]
    others = make_again(exhibit, tmp_path, run=other)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        ours = {str(one[keyword].value) for one in exhibit.datasets}
        theirs = {str(pydicom.dcmread(path)[keyword].value) for path in others.files}
        assert len(ours) == len(theirs)
        assert not ours & theirs, keyword


def test_point_07_each_result_is_alone_in_a_series_that_says_what_it_is(exhibit: Exhibit) -> None:
    series = [str(one.SeriesInstanceUID) for one in exhibit.datasets]
    assert len(set(series)) == len(series)
    for role, found in exhibit.by_role.items():
        for dataset in found:
            assert dataset.Modality == MODALITY[role]
            assert 9100 <= dataset.SeriesNumber <= 9199
            said = str(dataset.SeriesDescription)
            assert re.match(r"AI .*\blung_ct\b", said), said
            assert re.search(r"not verified|NOT ANALYSED", said), said
            assert len(said) <= 64


def test_point_08_body_part_is_copied_and_an_unpaired_one_has_no_side(exhibit: Exhibit) -> None:
    for dataset in exhibit.datasets:
        assert dataset.BodyPartExamined == exhibit.image.BodyPartExamined == "CHEST"
        assert "Laterality" not in dataset


def test_point_09_dciodvfy_finds_no_error(exhibit: Exhibit) -> None:
    for path in exhibit.held:
        if exhibit.name.startswith("label map"):
            said = run("dciodvfy", path, may_end=(0, 1))
            assert news(said.splitlines(), (*MEANT, NOT_KNOWN_OF_LABEL_MAPS)) == []
            continue
        said = run("dciodvfy", path)
        assert "Error" not in said, said
        assert news(said.splitlines(), MEANT) == []


def test_point_09_dciodvfy_and_dcmtk_read_a_rejection_note(tmp_path: Path) -> None:
    note = make_note(tmp_path)
    said = run("dciodvfy", note.path)
    assert said.startswith("KeyObjectSelectionDocument")
    assert "Error" not in said, said
    assert news(said.splitlines(), MEANT) == []
    printed = run("dsrdump", "+Pl", "+Pu", "+Pc", note.path)
    for one in note.superseded:
        assert str(one.sop_instance) in printed
    run("dsr2html", note.path, tmp_path / "note.html")
    assert "Replaced by a newer result of the same analysis" in (tmp_path / "note.html").read_text(
        encoding="latin-1"
    )


def test_point_10_the_file_says_that_the_product_wrote_it(exhibit: Exhibit) -> None:
    for path in exhibit.made.files:
        meta: Dataset = pydicom.dcmread(path, stop_before_pixels=True).file_meta
        assert meta.ImplementationClassUID == str(IMPLEMENTATION_CLASS_UID)
        assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME

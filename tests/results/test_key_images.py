"""The images to look at are those where most of a finding is, and nobody takes the list for a rejection."""

import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes as dictionary

from dicom_node.not_images import NO_IMAGES
from ledger.job import Outcome
from ledger.result import Role
from results import codes, key_images
from results.findings import Findings
from results.source import Source
from tests.peers.programs import find
from tests.results.companions import EVERYTHING, companions, image_companions, lesions, with_lesions
from tests.results.dciodvfy import complaints
from tests.results.everything import everything, maps, verdicts
from tests.results.images import image_source
from tests.results.made import Made, asked, make
from tests.results.series import KINDS, findings, not_analysed, source


def _key_images(made: Made) -> Dataset:
    made.check()
    ((dataset),) = made.of(Role.KEY_IMAGES)
    return dataset


def _named(dataset: Dataset) -> list[tuple[str, int | None]]:
    return [
        (str(one.ReferencedSOPInstanceUID), one.get("ReferencedFrameNumber"))
        for item in dataset.ContentSequence
        if item.ValueType == "IMAGE"
        for one in item.ReferencedSOPSequence
    ]


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["axial CT", "enhanced CT", "CR", "US cine"])
def test_dciodvfy_and_dcmtk_read_it(kind: str, tmp_path: Path) -> None:
    made = companions(tmp_path, kind) if kind in KINDS else image_companions(tmp_path, kind)
    dataset = _key_images(made)
    ((path),) = [path for role, path in made.written if role is Role.KEY_IMAGES]
    assert complaints(path, "KeyObjectSelectionDocument") == []
    dumped = subprocess.run(
        [find("dsrdump"), "+Pl", "+Pu", "+Pc", path], capture_output=True, text=True, check=True
    )
    assert '(113000,DCM,"Of Interest")' in dumped.stdout
    assert "not verified" in dumped.stdout
    for uid, _ in _named(dataset):
        assert uid in dumped.stdout


def test_highdicom_reads_it_and_resolves_every_reference(tmp_path: Path) -> None:
    made = companions(tmp_path)
    read = hd.ko.KeyObjectSelectionDocument.from_dataset(_key_images(made))
    for item in read.content.get_references():
        study, series, _ = read.resolve_reference(item.referenced_sop_instance_uid)
        assert study == made.source.first.StudyInstanceUID
        assert series
    title = dictionary.DCM.OfInterest
    assert (title.value, title.scheme_designator, title.meaning) == (
        codes.OF_INTEREST.value,
        codes.OF_INTEREST.scheme,
        codes.OF_INTEREST.meaning,
    )


def test_its_title_is_none_that_archives_put_things_away_by() -> None:
    """CID 7031 and the rest of what IHE IOCM acts upon."""
    acted_upon = {"113001", "113037", "113038", "113039"}
    assert codes.OF_INTEREST.value not in acted_upon
    assert {codes.REJECTED_FOR_QUALITY.value, codes.RETENTION_EXPIRED.value} <= acted_upon


def test_our_own_node_takes_it_for_no_image() -> None:
    assert str(key_images.KEY_OBJECT_SELECTION_DOCUMENT_STORAGE) in NO_IMAGES


def test_a_lesion_is_shown_where_it_is_largest_and_with_the_marks_on_it(tmp_path: Path) -> None:
    said = replace(with_lesions(), boxes=(), points=(), verdicts=())
    made = make(tmp_path, said=said, profile=EVERYTHING)
    dataset = _key_images(made)
    labels = lesions(KINDS["axial CT"])
    largest = {int(np.argmax((labels == number).sum(axis=(1, 2)))) for number in (1, 2)}
    images = {str(made.source.datasets[k].SOPInstanceUID) for k in largest}
    beside = {str(one.SOPInstanceUID) for role in key_images.SHOWING for one in made.of(role)}
    assert {uid for uid, _ in _named(dataset)} - beside == images
    ((state),) = made.of(Role.PRESENTATION)
    for item in dataset.ContentSequence:
        for one in item.get("ReferencedSOPSequence", []):
            if str(one.ReferencedSOPInstanceUID) in images:
                assert one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == state.SOPInstanceUID


def test_a_frame_is_named_where_the_images_are_one_object(tmp_path: Path) -> None:
    made = companions(tmp_path, "enhanced CT")
    image = str(made.source.first.SOPInstanceUID)
    frames = [frame for uid, frame in _named(_key_images(made)) if uid == image]
    assert frames
    assert len(set(frames)) == len(frames)
    assert all(frames)


def test_a_verdict_on_a_volume_is_shown_where_its_explanation_is_highest(tmp_path: Path) -> None:
    one = maps(KINDS["axial CT"].shape)[1]
    said = Findings(outcome=Outcome.FOUND, verdicts=verdicts(), maps=(one,))
    made = make(tmp_path, said=said, profile=EVERYTHING)
    highest = int(np.unravel_index(np.argmax(one.values), one.values.shape)[0])
    assert (str(made.source.datasets[highest].SOPInstanceUID), None) in _named(_key_images(made))


@pytest.mark.parametrize(
    ("said", "of"),
    [
        (findings(), source()),  # organs alone
        (not_analysed(), source()),
        (Findings(outcome=Outcome.FOUND, verdicts=verdicts()), source()),  # no slice shows it
        (Findings(outcome=Outcome.FOUND, verdicts=verdicts()[1:]), image_source("CR")),  # absent
        (
            Findings(outcome=Outcome.FOUND, verdicts=verdicts()),
            Source(datasets=(*image_source("CR").datasets, *image_source("DX").datasets), geometry=None),
        ),
    ],
)
def test_where_no_image_is_more_of_interest_than_another_there_is_none(said: Findings, of: Source) -> None:
    assert key_images.build(asked(said, of)) == []


def test_it_says_whose_choice_it_was_and_of_what(tmp_path: Path) -> None:
    dataset = _key_images(companions(tmp_path))
    texts = [str(one.TextValue) for one in dataset.ContentSequence if one.ValueType == "TEXT"]
    description = next(text for text in texts if "not verified" in text)
    for label in ("Lesion 1", "Lesion 2", "Nodule 1", "Carina"):
        assert label in description
    assert dataset.SeriesDescription.startswith("AI not verified: ")


def test_other_objects_to_name_make_another_selection(tmp_path: Path) -> None:
    """Equal UIDs are equal bytes, whatever the profile asks for."""
    few = replace(EVERYTHING, name="few", kinds=EVERYTHING.kinds - {Role.PRESENTATION, Role.BLENDING})
    first = _key_images(make(tmp_path / "a", said=everything(), profile=EVERYTHING))
    again = _key_images(make(tmp_path / "b", said=everything(), profile=EVERYTHING))
    second = _key_images(make(tmp_path / "c", said=everything(), profile=few))
    assert first.SOPInstanceUID == again.SOPInstanceUID
    assert (tmp_path / "a/key images.dcm").read_bytes() == (tmp_path / "b/key images.dcm").read_bytes()
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert pydicom.dcmread(tmp_path / "a/key images.dcm").Modality == "KO"

"""Provenance (points 11 to 16; IHE AIR Rev 1.3, Vol 3 §6.5.3.1): who made it, in the files alone."""

from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from ledger.result import Role
from results.check import check_results
from results.content import text_of, walk
from results.expect import code_of
from tests.results.checklist.exhibits import Exhibit

pytestmark = pytest.mark.peer

SAID = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID")


def models(dataset: Dataset) -> list[Dataset]:
    """The items of Contributing Equipment that are algorithms."""
    return [
        item
        for item in dataset.ContributingEquipmentSequence
        if code_of(item, "PurposeOfReferenceCodeSequence") == ("109102", "DCM")
    ]


def texts(report: Dataset, value: str) -> set[str]:
    """What all items of that name (value, DCM) say."""
    items = (one for one in walk(report) if code_of(one, "ConceptNameCodeSequence") == (value, "DCM"))
    return {text_of(one) for one in items}


def assert_contributing_equipment(exhibit: Exhibit) -> None:
    for dataset in exhibit.datasets:
        assert len(models(dataset)) == 1, "one item for the one model"
        for keyword in SAID:
            assert models(dataset)[0].get(keyword), (dataset.Modality, keyword)


def assert_all_say_the_same(exhibit: Exhibit) -> None:
    said = {tuple(str(m[keyword].value) for keyword in SAID) for d in exhibit.datasets for m in models(d)}
    ((source, name, version, device),) = said
    for report in exhibit.all(Role.REPORT, Role.MARKS, Role.OLDER_REPORT):
        assert texts(report, "121012") == {device}, "Device Observer UID"
        assert texts(report, "121014") == {source}, "Device Observer Manufacturer"
        assert texts(report, "121015") == {name}, "Device Observer Model Name"
        assert texts(report, "111001") == {name}, "Algorithm Name"
        assert texts(report, "111003") == {version}, "Algorithm Version"
    for segmentation in exhibit.all(Role.SEGMENTATION):
        for segment in segmentation.SegmentSequence:
            for one in segment.get("SegmentationAlgorithmIdentificationSequence", []):
                assert one.AlgorithmSource == source
                assert (one.AlgorithmName, one.AlgorithmVersion) == (name, version)


def assert_segments_name_their_algorithm(exhibit: Exhibit) -> None:
    for segmentation in exhibit.all(Role.SEGMENTATION):
        for segment in segmentation.SegmentSequence:
            if segment.SegmentNumber == 0 or segment.SegmentAlgorithmType == "MANUAL":
                continue  # the background of a label map
            assert segment.SegmentAlgorithmName
            (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
            assert code_of(algorithm, "AlgorithmFamilyCodeSequence") == ("123110", "DCM")


def assert_equipment_is_complete(exhibit: Exhibit) -> None:
    for dataset in exhibit.datasets:
        for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
            assert dataset.get(keyword), (dataset.Modality, keyword)


def test_point_11_the_model_is_contributing_equipment_of_every_object(exhibit: Exhibit) -> None:
    assert_contributing_equipment(exhibit)


def test_point_12_observer_algorithm_and_equipment_say_the_same(exhibit: Exhibit) -> None:
    assert_all_say_the_same(exhibit)


def test_point_14_every_segment_names_the_algorithm_and_its_family(exhibit: Exhibit) -> None:
    assert_segments_name_their_algorithm(exhibit)


def test_point_15_general_equipment_is_complete_in_every_object(exhibit: Exhibit) -> None:
    assert_equipment_is_complete(exhibit)


def test_point_16_the_archive_kept_every_attribute_that_was_sent(exhibit: Exhibit) -> None:
    for sent, held in zip(exhibit.made.files, exhibit.held, strict=True):
        assert sent != held
        assert pydicom.dcmread(held) == pydicom.dcmread(sent)


def test_point_16_what_comes_back_from_the_archive_passes_the_check(exhibit: Exhibit, tmp_path: Path) -> None:
    again = []
    for (role, held), sent in zip(exhibit.paths, exhibit.made.files, strict=True):
        dataset = pydicom.dcmread(held)
        # Orthanc writes its own file meta information: the check wants ours.
        dataset.file_meta = pydicom.dcmread(sent, stop_before_pixels=True).file_meta
        again.append((role, tmp_path / held.name))
        dataset.save_as(again[-1][1], enforce_file_format=True)
    check_results(exhibit.made.asked, again)

"""Structured report (points 31 to 43, without 40, which is for viewers): what a reader is told."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes as dictionary

from ledger.result import Role
from results import codes
from results.content import name_of, text_of, uid_named, walk
from results.expect import as_code, code_of
from results.findings import Measurement
from results.uids import tracking_uid
from tests.peers.pixelmed import one_kind_of_group_each, validate
from tests.results.checklist.exhibits import Exhibit, make_again
from tests.results.checklist.programs import run
from tests.results.made import make
from tests.results.series import KINDS, findings

pytestmark = pytest.mark.peer

#: Few, for each takes seconds: every template, every outcome, a volume, frames, and an image.
JUDGED_BY_PIXELMED = ("enhanced MR", "DX", "nothing found", "an empty mask")
#: Context group 100 of the validator is of 2019: it does not yet have the projection X-ray of today's.
NEWER_THAN_THE_VALIDATOR = 'Code (43468-8,LN,"XR unspecified body region") not found in context group 100'
REPORTS = (Role.REPORT, Role.MARKS, Role.OLDER_REPORT)


def groups(report: Dataset) -> list[Dataset]:
    return [item for item in walk(report) if name_of(item) == as_code(codes.MEASUREMENT_GROUP)]


def report_of(exhibit: Exhibit) -> list[Dataset]:
    return exhibit.all(*REPORTS)


def measured(exhibit: Exhibit) -> Iterator[tuple[str, Measurement]]:
    """(label, measurement) of everything that the model measured and that is drawn."""
    said = exhibit.findings
    for finding in (*said.segments, *said.boxes):
        if exhibit.name != "an empty mask":
            yield from ((finding.label, one) for one in finding.measurements)
    yield from (("", one) for one in said.measurements)


@pytest.fixture(scope="module")
def judged(
    exhibits: dict[str, Exhibit], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[list[str]]]:
    """What PixelMed says of each report, of all in one Java machine: name of exhibit and role → answers."""
    work = tmp_path_factory.mktemp("pixelmed")
    asked = {
        f"{name} {role}": one_kind_of_group_each(path, work / name.replace(" ", "-"))
        for name in JUDGED_BY_PIXELMED
        for role, path in exhibits[name].paths
        if role in REPORTS
    }
    said = validate([path for paths in asked.values() for path in paths], work)
    return {name: [said[path] for path in paths] for name, paths in asked.items()}


@pytest.mark.parametrize("name", JUDGED_BY_PIXELMED)
def test_point_31_pixelmed_recognises_tid_1500_and_finds_no_error(
    name: str, judged: dict[str, list[list[str]]]
) -> None:
    answers = [answer for asked, found in judged.items() if asked.startswith(f"{name} ") for answer in found]
    assert answers
    for said in answers:
        assert "Found Root Template TID_1500 (MeasurementReport)" in said
        assert "Root Template Validation Complete" in said
        assert "IOD validation complete" in said
        errors = [line for line in said if line.startswith("Error")]
        assert [line for line in errors if NEWER_THAN_THE_VALIDATOR not in line] == []


def test_point_32_dcmtk_prints_every_name_and_value_and_sentence(exhibit: Exhibit, tmp_path: Path) -> None:
    for role, path in exhibit.paths:
        if role in REPORTS:
            # DCMTK 3.6.7 is older than label maps: an item that refers to one is read, with a warning.
            lenient = ["-Ee"] if exhibit.name.startswith("label map") else []
            run("dsrdump", *lenient, path)
            # It writes Korean only as Unicode, and Japanese only as it comes.
            convert = ["+U8"] if exhibit.name == "Korean" else []
            run("dsr2html", *convert, *lenient, path, tmp_path / f"{role}.html")
    page = html.unescape((tmp_path / "report.html").read_text(encoding="latin-1"))
    assert str(exhibit.image.PatientID) in page
    for _, one in measured(exhibit):
        assert one.name.meaning in page
        assert f"{one.value:.7g}" in page, one
    for verdict in exhibit.findings.verdicts:
        assert verdict.finding.meaning in page
    for sentence in (exhibit.findings.because, *exhibit.findings.cautions):
        assert sentence in page


@pytest.mark.parametrize("name", [*KINDS, "segments only", "Japanese"])
def test_point_33_dcmqi_reads_every_measurement_of_a_segment_with_its_value_and_unit(
    name: str, exhibits: dict[str, Exhibit], tmp_path: Path
) -> None:
    exhibit = exhibits[name]
    run("tid1500reader", "--inputDICOM", exhibit.report_path, "--outputMetadata", tmp_path / "read.json")
    read = json.loads((tmp_path / "read.json").read_text(encoding="latin-1"))
    (segmentation,) = exhibit.all(Role.SEGMENTATION)
    theirs = {
        group["TrackingUniqueIdentifier"]: group
        for group in read["Measurements"]
        if "ReferencedSegment" in group
    }
    assert len(theirs) == len(segmentation.SegmentSequence)
    for segment, item in zip(exhibit.findings.segments, segmentation.SegmentSequence, strict=True):
        group = theirs[item.TrackingUID]
        assert group["ReferencedSegment"] == item.SegmentNumber
        assert group["segmentationSOPInstanceUID"] == segmentation.SOPInstanceUID
        assert group["Laterality"]["CodeValue"] == segment.laterality.value
        said = {
            (one["quantity"]["CodeValue"], one["units"]["CodeValue"]): float(one["value"])
            for one in group["measurementItems"]
        }
        assert said == {
            (one.name.value, one.unit.value): pytest.approx(one.value, rel=1e-6)
            for one in segment.measurements
        }


def test_point_34_title_procedure_language_and_device_observer_are_there(exhibit: Exhibit) -> None:
    cid_7021 = {(one.value, one.scheme_designator) for one in _members(7021)}
    cid_100 = {(one.value, one.scheme_designator) for one in _members(100)}
    for report in report_of(exhibit):
        assert name_of(report) in cid_7021
        said = {name_of(item): item for item in report.ContentSequence}
        assert code_of(said["121058", "DCM"], "ConceptCodeSequence") in cid_100, "Procedure reported"
        assert code_of(said["121049", "DCM"], "ConceptCodeSequence")[0].startswith("en"), "Language"
        assert code_of(said["121005", "DCM"], "ConceptCodeSequence") == ("121007", "DCM"), "Observer Type"
        for concept in (codes.OBSERVER_UID, codes.OBSERVER_MANUFACTURER, codes.OBSERVER_MODEL):
            assert text_of(said[as_code(concept)])


def _members(cid: int) -> list:
    group = getattr(dictionary, f"cid{cid}")
    return [getattr(group, name) for name in group.dir()]


def test_point_34_the_procedure_says_how_the_images_were_made(exhibits: dict[str, Exhibit]) -> None:
    said = {
        name: code_of(item, "ConceptCodeSequence")
        for name, exhibit in exhibits.items()
        for item in exhibit.report.ContentSequence
        if name_of(item) == ("121058", "DCM")
    }
    assert {said[name] for name in ("axial CT", "enhanced CT")} == {("25045-6", "LN")}
    assert {said[name] for name in ("coronal MR", "enhanced MR")} == {("25056-3", "LN")}
    assert {said[name] for name in ("CR", "DX", "MG")} == {("43468-8", "LN")}
    # There is neither ultrasound nor photography in CID 100: it is an imaging procedure, and no X-ray.
    assert {said[name] for name in ("US", "US cine", "OP")} == {("363679005", "SCT")}


def test_point_35_nobody_has_verified_it(exhibit: Exhibit) -> None:
    for report in report_of(exhibit):
        assert report.VerificationFlag == "UNVERIFIED"
        assert report.CompletionFlag == "COMPLETE"
        assert "VerifyingObserverSequence" not in report
        assert not any(name_of(item) == ("121006", "DCM") for item in walk(report)), "a person observed"


def test_point_36_evidence_is_what_the_content_refers_to_and_all_of_it_is_there(exhibit: Exhibit) -> None:
    ours = {str(one.SOPInstanceUID) for one in exhibit.datasets}
    there = ours | {str(image.SOPInstanceUID) for image in exhibit.source.datasets}
    for report in report_of(exhibit):
        used = {
            str(one.ReferencedSOPInstanceUID)
            for item in walk(report)
            for one in item.get("ReferencedSOPSequence", [])
        }
        listed = [
            (str(study.StudyInstanceUID), str(one.ReferencedSOPInstanceUID))
            for study in report.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for one in series.ReferencedSOPSequence
        ]
        assert {study for study, _ in listed} == {str(report.StudyInstanceUID)}
        assert len(set(listed)) == len(listed)
        assert used == {instance for _, instance in listed} <= there


def test_point_37_the_one_root_refers_to_every_leaf(exhibit: Exhibit) -> None:
    (root,) = exhibit.all(Role.REPORT)
    listed = {
        str(one.ReferencedSOPInstanceUID)
        for study in root.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    missing = [
        str(leaf.SeriesDescription) for leaf in exhibit.leaves if str(leaf.SOPInstanceUID) not in listed
    ]
    assert missing == []


def test_point_38_a_finding_has_one_tracking_uid_in_every_object(exhibit: Exhibit) -> None:
    said = exhibit.findings
    in_report = [uid_named(group, codes.TRACKING_UID) for group in groups(exhibit.report)]
    assert all(in_report)
    assert len(set(in_report)) == len(in_report), "one group for one finding"
    drawn = {str(tracking_uid(exhibit.run, segment.label)) for segment in said.segments}
    segments = [
        one
        for segmentation in exhibit.all(Role.SEGMENTATION)
        for one in segmentation.SegmentSequence
        if one.SegmentNumber
    ]
    ours = [str(one.TrackingUID) for one in segments]
    assert len(set(ours)) == len(ours)
    assert set(ours) <= set(in_report)
    assert set(ours) == (drawn if segments else set())
    assert all(one.TrackingID for one in segments)
    for marks in exhibit.all(Role.MARKS):
        assert {uid_named(group, codes.TRACKING_UID) for group in groups(marks)} <= set(in_report)


def test_point_38_a_retry_has_the_same_tracking_uids_and_another_patient_has_others(
    exhibits: dict[str, Exhibit], tmp_path: Path
) -> None:
    exhibit = exhibits["axial CT"]
    again = make_again(exhibit, tmp_path)

    def tracked(report: Dataset) -> set[str]:
        return {uid_named(group, codes.TRACKING_UID) for group in groups(report)}

    assert tracked(again.sr) == tracked(exhibit.report)
    assert not tracked(exhibit.report) & tracked(exhibits["reversed CT"].report)


def test_point_39_every_group_of_the_marks_is_drawn_inside_an_image(exhibits: dict[str, Exhibit]) -> None:
    """Sub-pixel convention (PS3.3 §C.10.5.1.2): the top left corner of the first pixel is 0\\0, its centre
    0.5\\0.5.
    """
    seen = 0
    for exhibit in exhibits.values():
        images = {str(image.SOPInstanceUID) for image in exhibit.source.datasets}
        for marks in exhibit.all(Role.MARKS):
            assert name_of(marks) == ("126000", "DCM")
            for group in groups(marks):
                shapes = [item for item in walk(group) if item.ValueType in {"SCOORD", "SCOORD3D"}]
                assert shapes, "a group without a shape leaves a viewer black"
                for shape in shapes:
                    assert shape.ValueType == "SCOORD"
                    (selected,) = [one for one in walk(shape) if one.ValueType == "IMAGE"]
                    (reference,) = selected.ReferencedSOPSequence
                    assert str(reference.ReferencedSOPInstanceUID) in images
                    points = np.asarray(shape.GraphicData, dtype=float).reshape(-1, 2)
                    corner = (exhibit.image.Columns, exhibit.image.Rows)
                    assert (points >= 0).all()
                    assert (points <= corner).all()
                    if shape.GraphicType == "POLYLINE" and _is_region(shape):
                        assert (points[0] == points[-1]).all(), "closed"
                    seen += 1
    assert seen > 20


def _is_region(shape: Dataset) -> bool:
    """Whether it outlines the finding; a Path is an axis along which something was measured."""
    return name_of(shape) == as_code(codes.IMAGE_REGION)


def test_point_39_a_box_is_a_closed_polyline_of_five_points(exhibits: dict[str, Exhibit]) -> None:
    exhibit = exhibits["axial CT"]
    (marks,) = exhibit.all(Role.MARKS)
    boxes = {str(tracking_uid(exhibit.run, box.label, "box")) for box in exhibit.findings.boxes}
    found = 0
    for group in groups(marks):
        if uid_named(group, codes.TRACKING_UID) in boxes:
            for shape in (item for item in walk(group) if item.ValueType == "SCOORD" and _is_region(item)):
                assert shape.GraphicType == "POLYLINE"
                assert len(shape.GraphicData) == 10
                found += 1
    assert found >= len(boxes) == 2


def test_point_41_every_value_is_a_number_and_no_group_is_of_nothing(exhibit: Exhibit) -> None:
    present = {
        str(one.TrackingUID) for seg in exhibit.all(Role.SEGMENTATION) for one in seg.SegmentSequence
        if one.SegmentNumber
    }  # fmt: skip
    absent = {str(tracking_uid(exhibit.run, one.label)) for one in exhibit.findings.segments} - present
    for report in report_of(exhibit):
        tracked = {uid_named(group, codes.TRACKING_UID) for group in groups(report)}
        assert not tracked & absent
        for item in walk(report):
            if item.ValueType == "NUM":
                if item.MeasuredValueSequence:
                    assert np.isfinite(float(item.MeasuredValueSequence[0].NumericValue))
                else:
                    assert item.NumericValueQualifierCodeSequence


def test_point_41_an_empty_segment_has_no_group_but_a_sentence(tmp_path: Path) -> None:
    labels = np.array(findings().label_map)
    labels[labels == 2] = 0
    made = make(tmp_path, said=findings(label_map=labels))
    assert len(groups(made.sr)) == 1
    assert any("Not found: Left lung." in text_of(item) for item in walk(made.sr))


def test_point_42_private_codes_say_whose_they_are_and_there_is_no_placeholder(exhibit: Exhibit) -> None:
    for dataset in exhibit.datasets:
        schemes = {str(one.value) for one in _elements(dataset, "CodingSchemeDesignator")}
        identified = {
            str(one.CodingSchemeDesignator) for one in dataset.get("CodingSchemeIdentificationSequence", [])
        }
        private = {one for one in schemes if one.startswith("99")}
        assert private <= identified
        for keyword in ("CodeValue", "LongCodeValue", "CodeMeaning"):
            for element in _elements(dataset, keyword):
                assert str(element.value).strip(), keyword
                assert not re.search(r"(?i)newcode|placeholder|todo|dummy|test|xxx|99ihe", str(element.value))


def _elements(dataset: Dataset, keyword: str) -> Iterator:
    for element in dataset.iterall():
        if element.keyword == keyword:
            yield element


def test_point_43_units_are_ucum(exhibit: Exhibit) -> None:
    for report in report_of(exhibit):
        for item in walk(report):
            if item.ValueType == "NUM" and item.MeasuredValueSequence:
                unit, scheme = code_of(item.MeasuredValueSequence[0], "MeasurementUnitsCodeSequence")
                assert scheme == "UCUM"
                assert unit


@pytest.mark.parametrize("name", ["axial CT", "enhanced MR", "DX", "US cine"])
def test_point_43_a_probability_is_in_percent_and_the_models(name: str, exhibits: dict[str, Exhibit]) -> None:
    exhibit = exhibits[name]
    by_uid = {uid_named(group, codes.TRACKING_UID): group for group in groups(exhibit.report)}
    shares = {str(tracking_uid(exhibit.run, one.label, "verdict")): one.probability
              for one in exhibit.findings.verdicts}  # fmt: skip
    shares |= {str(tracking_uid(exhibit.run, one.label, "box")): one.score for one in exhibit.findings.boxes}
    assert shares
    for uid, share in shares.items():
        (item,) = [
            one for one in walk(by_uid[uid])
            if name_of(one) in (as_code(codes.CERTAINTY), as_code(codes.PROBABILITY))
        ]  # fmt: skip
        (value,) = item.MeasuredValueSequence
        assert code_of(value, "MeasurementUnitsCodeSequence") == ("%", "UCUM")
        assert float(value.NumericValue) == pytest.approx(share * 100, rel=1e-6)

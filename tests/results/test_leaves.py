"""The report is the root: whoever opens it finds every other object of its run."""

from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from ledger.result import Role
from results import codes
from results.check_document import check_evidence
from results.content import name_of, walk
from results.expect import CheckFailed, as_code
from results.older_report import OLDER_FORMS, check_older_report, older_report
from results.report import build
from results.uids import derived_uid
from results.write import write
from tests.results.dciodvfy import complaints
from tests.results.lesions import lesions
from tests.results.made import Made, make

#: SOP classes of what is named as an image, and of what is not (PS3.4 §B.5).
OTHERS = {
    Role.STRUCTURE_SET: ("1.2.840.10008.5.1.4.1.1.481.3", "COMPOSITE"),
    Role.PRESENTATION: ("1.2.840.10008.5.1.4.1.1.11.1", "COMPOSITE"),
    Role.BLENDING: ("1.2.840.10008.5.1.4.1.1.11.8", "COMPOSITE"),
    Role.OVERLAY: ("1.2.840.10008.5.1.4.1.1.7.4", "IMAGE"),
    Role.SUMMARY: ("1.2.840.10008.5.1.4.1.1.7", "IMAGE"),
    Role.DOCUMENT: ("1.2.840.10008.5.1.4.1.1.104.1", "COMPOSITE"),
    Role.KEY_IMAGES: ("1.2.840.10008.5.1.4.1.1.88.59", "COMPOSITE"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"), said=lesions())


def with_all(made: Made) -> dict[Role, tuple[Dataset, ...]]:
    """An object of every kind, by name; overlays are several."""
    kinds: dict[Role, tuple[Dataset, ...]] = {
        Role.SEGMENTATION: (made.seg,),
        Role.MARKS: (pydicom.dcmread(made.marks),),
    }
    for role, (sop_class, _) in OTHERS.items():
        kinds[role] = ()
        for number in range(2 if role is Role.OVERLAY else 1):
            one = Dataset()
            one.SOPClassUID = sop_class
            one.StudyInstanceUID = made.source.first.StudyInstanceUID
            one.SOPInstanceUID = str(derived_uid(made.run, role, "instance", str(number)))
            one.SeriesInstanceUID = str(derived_uid(made.run, role, "series", str(number)))
            kinds[role] = (*kinds[role], one)
    return kinds


def report_of(made: Made, kinds: dict[Role, tuple[Dataset, ...]]) -> Dataset:
    (report,) = build(replace(made.asked, made=kinds))
    return report


def test_37_every_leaf_is_referred_to_and_stands_in_the_evidence(made: Made) -> None:
    kinds = with_all(made)
    report = report_of(made, kinds)
    leaves = [leaf for datasets in kinds.values() for leaf in datasets]
    check_evidence("report", report, made.asked, leaves)
    (container,) = [i for i in report.ContentSequence if name_of(i) == as_code(codes.OTHER_RESULTS)]
    said = [(name_of(item), item.ValueType) for item in container.ContentSequence]
    meant = [
        (as_code(codes.RESULT_OF[role]), OTHERS[role][1] if role in OTHERS else "COMPOSITE")
        for role in Role
        if role in kinds and role is not Role.SEGMENTATION
        for _ in kinds[role]
    ]
    assert said == meant


def test_37_what_a_value_refers_to_is_not_named_twice(made: Made) -> None:
    report = report_of(made, with_all(made))
    used = [
        str(one.ReferencedSOPInstanceUID)
        for item in walk(report)
        if name_of(item) != as_code(codes.REFERENCED_SEGMENT)
        for one in item.get("ReferencedSOPSequence", [])
    ]
    assert str(made.seg.SOPInstanceUID) not in used


def test_37_a_leaf_that_is_not_referred_to_is_noticed(made: Made) -> None:
    kinds = with_all(made)
    report = report_of(made, {role: leaves for role, leaves in kinds.items() if role is not Role.SUMMARY})
    with pytest.raises(CheckFailed, match="every other result"):
        check_evidence("report", report, made.asked, [leaf for leaves in kinds.values() for leaf in leaves])


def test_06_another_set_of_leaves_is_another_report(made: Made) -> None:
    kinds = with_all(made)
    fewer = {role: leaves for role, leaves in kinds.items() if role is not Role.DOCUMENT}
    assert report_of(made, kinds).SOPInstanceUID != report_of(made, fewer).SOPInstanceUID


def test_it_is_legal_and_older_forms_refer_to_all_of_it_too(made: Made, tmp_path: Path) -> None:
    report = report_of(made, with_all(made))
    write(report, tmp_path / "report.dcm")
    assert complaints(tmp_path / "report.dcm", "Comprehensive3DSR") == []
    for name, iod in (("comprehensive", "ComprehensiveSR"), ("enhanced", "EnhancedSR")):
        older = older_report(report, OLDER_FORMS[name])
        write(older, tmp_path / f"{name}.dcm")
        check_older_report(pydicom.dcmread(tmp_path / f"{name}.dcm"), report, OLDER_FORMS[name])
        assert complaints(tmp_path / f"{name}.dcm", iod) == []


def test_42_the_names_of_the_leaves_have_a_scheme_that_somebody_answers_for(made: Made) -> None:
    report = report_of(made, with_all(made))
    (scheme,) = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == codes.PRIVATE_SCHEME
    assert all(len(one.value) <= 16 for one in codes.RESULT_OF.values())

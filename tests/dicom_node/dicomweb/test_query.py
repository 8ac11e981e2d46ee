"""QIDO-RS, and that results are found and given out as part of their study."""

from pathlib import Path

import pydicom
import pytest

from ledger.identifiers import Digest, Uid
from ledger.job import Outcome
from ledger.result import NewResult, Role
from tests.dicom_node.datasets import ct_slice, write
from tests.dicom_node.dicomweb.conftest import Web, as_json, values
from tests.dicom_node.objects import write_instance
from tests.ledger.site import close, new_job

ROOT = "1.2.826.0.1.3680043.8.498.77"


@pytest.fixture
def filled(web: Web, tmp_path: Path) -> Web:
    """Study 1: Yamada, CT of 3 slices; study 2: Müller, CT of 1 and MR of 2; study 3 with no name."""
    slices = [ct_slice(n) for n in (1, 2, 3)]
    for ds in slices:
        ds.PatientName, ds.PatientID, ds.AccessionNumber = "Yamada^Tarou=山田^太郎", "P_1", "ACC1"
        ds.SeriesDescription, ds.StudyTime = "Axial 1.0", "101530"
    second = [ct_slice(1, study=f"{ROOT}.2", series=f"{ROOT}.2.1")]
    second += [ct_slice(n, study=f"{ROOT}.2", series=f"{ROOT}.2.2") for n in (1, 2)]
    for ds in second:
        ds.PatientName, ds.PatientID, ds.AccessionNumber, ds.StudyDate = (
            "MÜLLER^Eva",
            "PX1",
            "ACC2",
            "20260215",
        )
    for ds in second[1:]:
        ds.Modality = "MR"
    third = ct_slice(1, study=f"{ROOT}.3", series=f"{ROOT}.3.1")
    third.PatientName = third.StudyDate = third.PatientID = ""
    web.stored(*write(tmp_path / "in", *slices, *second, third))
    return web


def found(web: Web, query: str, tag: str = "0020000D") -> set[str]:
    return {values(entry, tag)[0].removeprefix(f"{ROOT}.") for entry in as_json(web.get(query))}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "123"),
        ("PatientID=P_1", "1"),  # An underscore is no wildcard,
        ("PatientID=p_1", ""),  # and case counts.
        ("PatientID=P?1", "12"),
        ("00100020=P*", "12"),
        ("PatientName=yamada*", "1"),
        ("PatientName=山田*", "1"),
        ("PatientName=yamada^tarou", "1"),
        ("PatientName=müller^e*", "2"),
        ("PatientName=*", "123"),
        ("PatientName=%25", ""),
        ("AccessionNumber=ACC2", "2"),
        ("StudyDate=20260101", "1"),
        ("StudyDate=20260101-20260228", "12"),
        ("StudyDate=-20260131", "1"),
        ("StudyDate=20260201-", "2"),
        ("StudyTime=1000-1100", "1"),
        ("StudyTime=101530", "1"),
        ("ModalitiesInStudy=MR", "2"),
        (f"StudyInstanceUID={ROOT}.1,{ROOT}.3", "13"),
        (f"StudyInstanceUID={ROOT}.1%5C{ROOT}.2&ModalitiesInStudy=CT&PatientID=PX1", "2"),
        ("StudyInstanceUID=1.2.3", ""),
        ("limit=0", ""),
        ("offset=9", ""),
    ],
)
def test_studies_are_found_by_what_they_say(filled: Web, query: str, expected: str) -> None:
    assert found(filled, f"studies?{query}") == set(expected)


def test_limit_and_offset_walk_through_all(filled: Web) -> None:
    pages = [as_json(filled.get(f"studies?limit=1&offset={n}")) for n in range(4)]
    assert [len(page) for page in pages] == [1, 1, 1, 0]
    assert {values(page[0], "0020000D")[0][-1] for page in pages[:3]} == set("123")


def test_a_study_tells_what_viewers_list(filled: Web) -> None:
    (study,) = filled.client.search_for_studies(search_filters={"PatientID": "P_1"})
    assert values(study, "00100010") == [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]
    assert values(study, "00080061") == ["CT"]
    assert values(study, "00201206") == [1]
    assert values(study, "00201208") == [3]
    assert values(study, "00080056") == ["ONLINE"]
    assert values(study, "00081190") == [f"{filled.url}/studies/{ROOT}.1"]
    assert study["00080005"]["Value"] == ["ISO_IR 192"]


def test_series_and_instances_below_and_across_studies(filled: Web) -> None:
    client = filled.client
    assert len(client.search_for_series(f"{ROOT}.2")) == 2
    (mr,) = client.search_for_series(search_filters={"Modality": "MR"})
    assert values(mr, "00201209") == [2]
    assert values(mr, "0020000D") == [f"{ROOT}.2"]
    assert len(client.search_for_instances()) == 7
    assert len(client.search_for_instances(f"{ROOT}.2", f"{ROOT}.2.2")) == 2
    (one,) = client.search_for_instances(f"{ROOT}.1", search_filters={"InstanceNumber": "2"})
    assert values(one, "00280010") == [32]
    assert values(one, "00080018") == [f"{ROOT}.1.1.2"]
    assert values(one, "00081190") == [
        f"{filled.url}/studies/{ROOT}.1/series/{ROOT}.1.1/instances/{ROOT}.1.1.2"
    ]
    (series,) = as_json(
        filled.get("series?SeriesDescription=Axial*&StudyDate=20260101&includefield=PixelSpacing")
    )
    assert values(series, "00280030") == [1.0, 1.0]
    assert found(filled, f"instances?SOPInstanceUID={ROOT}.2.2.1", "00080018") == {"2.2.1"}


@pytest.mark.parametrize(
    "query",
    [
        "studies?StudyInstanceUID=1.02",
        "studies?StudyDate=yesterday",
        "studies?NoSuchThing=1",
        "studies?Modality=CT",
        "studies?limit=-1",
        "studies?limit=1e3",
        "studies?PatientName=*a*b*c*d*e*f*g*h*i",
        "studies?includefield=NoSuchThing",
        "studies?PatientName=" + "x" * 3000,
        "series?RequestAttributesSequence.AccessionNumber=1",
        "studies/../../etc/series",
        "studies/..%2f..%2fetc/series",
        "studies/1.2.3;rm/series",
        "studies/1..2/metadata",
    ],
)
def test_a_question_that_is_none_is_refused_with_a_sentence(filled: Web, query: str) -> None:
    answer = filled.get(query)
    assert answer.status_code in (400, 404)
    assert "passwd" not in answer.text


def test_fuzzy_matching_is_not_done_and_said_so(filled: Web) -> None:
    answer = filled.get("studies?PatientName=Yamadda^Tarou&fuzzymatching=true")
    assert as_json(answer) == []
    assert "fuzzymatching parameter is not supported" in answer.headers["Warning"]
    assert "Warning" not in filled.get("studies?fuzzymatching=false").headers


def test_an_answer_that_was_cut_says_so(start_web, tmp_path: Path) -> None:
    web = start_web(results_max=2)
    web.stored(
        *write(tmp_path, *(ct_slice(1, study=f"{ROOT}.{n}", series=f"{ROOT}.{n}.1") for n in range(4)))
    )
    answer = web.get("studies")
    assert len(as_json(answer)) == 2
    assert "additional results" in answer.headers["Warning"]
    assert "Warning" not in web.get("studies?limit=1").headers


def test_results_are_served_with_their_study_until_they_are_made_again(web: Web, tmp_path: Path) -> None:
    web.stored(*write(tmp_path / "in", ct_slice(1), ct_slice(2)))
    ledger, spool = web.node.ledger, web.node.spool

    def make(name: str) -> str:
        (study,) = ledger.studies()
        job = new_job(ledger, study.id)
        (job_id,) = close(ledger, study.id, [job])
        claim = ledger.claim_job(job_id, owner="test", lease_s=60, attempts_max=3)
        path = write_instance(
            tmp_path / name,
            sop_class="1.2.840.10008.5.1.4.1.1.66.4",
            study=f"{ROOT}.1",
            series=f"{ROOT}.9.{name}",
            change=lambda ds: setattr(ds, "Modality", "SEG"),
        )
        digest, size, kept = spool.keep_result(path)
        sop = pydicom.dcmread(path).SOPInstanceUID
        ledger.finish_job(
            claim,
            outcome=Outcome.FOUND,
            because="done",
            model_identity="lung_ct@1",
            results=[
                NewResult(
                    role=Role.SEGMENTATION,
                    sop_class=Uid("1.2.840.10008.5.1.4.1.1.66.4"),
                    sop_instance=Uid(sop),
                    study=Uid(f"{ROOT}.1"),
                    series=Uid(f"{ROOT}.9.{name}"),
                    transfer_syntax=Uid("1.2.840.10008.1.2.1"),
                    digest=Digest(str(digest)),
                    size=size,
                    path=kept,
                )
            ],
            timings={},
        )
        return sop

    first = make("1")
    (study,) = as_json(web.get("studies?ModalitiesInStudy=SEG"))
    assert values(study, "00080061") == ["CT", "SEG"]
    assert values(study, "00201208") == [3]
    (series,) = as_json(web.get("series?Modality=SEG"))
    assert values(series, "0020000E") == [f"{ROOT}.9.1"]
    assert {ds.SOPInstanceUID for ds in web.client.retrieve_study(f"{ROOT}.1")} > {first}
    assert len(as_json(web.get(f"studies/{ROOT}.1/metadata"))) == 3
    # A late slice opens the study again: its new result takes the place of the old one.
    web.stored(*write(tmp_path / "late", ct_slice(3)))
    second = make("2")
    sops = {values(entry, "00080018")[0] for entry in as_json(web.get(f"studies/{ROOT}.1/instances"))}
    assert second in sops
    assert first not in sops

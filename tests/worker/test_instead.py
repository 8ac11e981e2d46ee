"""What an archive does not take is never lost and never silent: its settings say what goes instead."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ParametricMapStorage,
    SegmentationStorage,
)
from pynetdicom import AE, evt

from console.alarms import alarms
from console.decide import retry
from console.why import why
from dicom_node.peers import PeerSettings
from ledger.delivery import DeliveryState
from ledger.identifiers import JobId
from ledger.result import Role
from results.older_report import OLDER_FORMS
from tests.dicom_node.raw_peer import peer
from tests.dicom_node.web_peers import Request, says, web_server
from tests.ledger.site import OPERATOR
from tests.peers.dcmtk import storescp
from tests.peers.programs import find
from tests.results.everything import everything, only
from tests.worker.overtaken import Overtaken, overtaken

SEG, SR_3D = str(SegmentationStorage), str(Comprehensive3DSRStorage)
PM = str(ParametricMapStorage)
SR_COMPREHENSIVE, SR_ENHANCED = str(ComprehensiveSRStorage), str(EnhancedSRStorage)
ALL = {SEG, SR_3D, SR_COMPREHENSIVE, SR_ENHANCED}
OLDER = {"profile": {"instead": {"report": ("comprehensive", "enhanced")}}}
ENHANCED = {"profile": {"instead": {"report": ("enhanced",)}}}


@contextmanager
def archive(*takes: str, answers: int = 0x0000, **settings: object) -> Iterator[tuple[PeerSettings, list]]:
    """An archive that accepts only some SOP classes, and what it holds: (SOP class, SOP instance)."""
    held: list[tuple[str, str]] = []

    def on_store(event: evt.Event) -> int:
        if event.request.AffectedSOPClassUID == SR_3D and answers:
            return answers
        held.append((str(event.request.AffectedSOPClassUID), str(event.request.AffectedSOPInstanceUID)))
        return 0x0000

    ae = AE("ARCHIVE")
    for sop_class in takes:
        ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        yield peer(server.server_address[1], superseded="keep", confirm="answer", **settings), held
    finally:
        server.shutdown()


def stands(site: Overtaken, job_id: JobId) -> dict[str, DeliveryState]:
    """Role and SOP class → state of its delivery."""
    return {_name(one.result): one.state for one in site.ledger.deliveries_of(job_id)}


def _name(result) -> str:
    form = next((name for name, each in OLDER_FORMS.items() if each.sop_class == result.sop_class), "")
    return f"{result.role} {form}".strip()


def because(site: Overtaken, job_id: JobId, role: Role, peer: str = "archive") -> str:
    """What is said of the first delivery of `role`."""
    theirs = [one for one in site.ledger.deliveries_of(job_id) if one.peer == peer]
    return next(one.because for one in theirs if one.result.role is role)


def words(site: Overtaken) -> list[str]:
    """The alarms that an operator sees."""
    ended = [DeliveryState.SENT, DeliveryState.COMMITTED, DeliveryState.DECLINED]
    found = alarms(
        site.ledger.counts(),
        None,
        site.site.spool,
        parked=[],
        deliveries=site.ledger.deliveries(states=[DeliveryState.PARKED]),
        declined=site.ledger.deliveries(states=ended),
        now=site.ledger.now(),
    )
    return [one.words for one in found]


@pytest.mark.parametrize(
    ("takes", "arrives"),
    [
        ({SEG, SR_COMPREHENSIVE, SR_ENHANCED}, SR_COMPREHENSIVE),
        ({SEG, SR_ENHANCED}, SR_ENHANCED),
    ],
)
def test_point_48_the_report_goes_in_the_first_form_that_the_archive_takes(
    tmp_path: Path, takes: set[str], arrives: str
) -> None:
    with archive(*takes, **OLDER) as (there, held), overtaken(tmp_path, there) as site:
        job_id = site.result()
        site.deliver()
        assert [sop_class for sop_class, _ in held] == [SEG, arrives]
        assert stands(site, job_id)["report"] is DeliveryState.DECLINED
        older = [one for one in site.ledger.deliveries_of(job_id) if one.state is DeliveryState.COMMITTED]
        assert {str(one.result.sop_class) for one in older} == {SEG, arrives}
        assert because(site, job_id, Role.REPORT) == (
            "it does not accept Comprehensive 3D SR Storage: its administrator has to allow that there; "
            "sent instead: Comprehensive SR"
        )
        study = site.ledger.studies()[0]
        told = why(study, [], site.ledger.jobs_of(study.id), {job_id: site.ledger.deliveries_of(job_id)})
        assert ", and archive has it, but archive not all of it as it was made: it does not" in told
        assert any(one.event == "declined" for one in site.ledger.history(job_id=job_id))
        assert any("archive does not take every result" in each for each in words(site))
        # What came back from the archive would not be taken for an image.
        assert all(site.ledger.is_our_result(one.result.sop_instance) for one in older)


def test_an_archive_that_takes_no_form_of_the_report_leaves_it_to_an_operator(tmp_path: Path) -> None:
    with archive(SEG, **OLDER) as (there, held), overtaken(tmp_path, there) as site:
        job_id = site.result()
        site.deliver()
        assert [sop_class for sop_class, _ in held] == [SEG]
        assert stands(site, job_id) == {
            "segmentation": DeliveryState.COMMITTED,
            "report": DeliveryState.DECLINED,
            "older report comprehensive": DeliveryState.DECLINED,
            "older report enhanced": DeliveryState.PARKED,
        }
        assert any("refused 1 result for good: it does not accept Enhanced SR" in one for one in words(site))


def test_without_settings_a_refusal_says_what_could_be_set(tmp_path: Path) -> None:
    with archive(SR_COMPREHENSIVE) as (there, held), overtaken(tmp_path, there) as site:
        job_id = site.result()
        site.deliver()
        assert held == []
        assert set(stands(site, job_id).values()) == {DeliveryState.PARKED}
        assert because(site, job_id, Role.REPORT).endswith(
            'has to allow that there; report = ["comprehensive", "enhanced"] in its [peer.profile.instead] '
            "would send an older form"
        )
        assert because(site, job_id, Role.SEGMENTATION) == (
            "it does not accept Segmentation Storage: its administrator has to allow that there; "
            'segmentation = ["nothing"] in its [peer.profile.instead] would do without'
        )


def test_point_48_an_archive_without_segmentations_gets_the_report(tmp_path: Path) -> None:
    with (
        archive(SR_3D, profile={"instead": {"segmentation": ("nothing",)}}) as (there, held),
        overtaken(tmp_path, there) as site,
    ):
        job_id = site.result()
        site.deliver()
        assert [sop_class for sop_class, _ in held] == [SR_3D]
        assert stands(site, job_id) == {
            "segmentation": DeliveryState.DECLINED,
            "report": DeliveryState.COMMITTED,
        }
        assert "the rest goes without it" in because(site, job_id, Role.SEGMENTATION)
        # Nothing more is owed to anybody: the images may go with the rest.
        study = site.ledger.studies()[0]
        assert [one.id for one in site.ledger.purgeable_studies(older_than=site.ledger.now() + 1)] == [
            study.id
        ]


def test_an_archive_that_takes_maps_gets_them_before_the_report_that_refers_to_them(tmp_path: Path) -> None:
    with archive(*ALL, PM) as (there, held), overtaken(tmp_path, there) as site:
        site.result(only("maps"))
        site.deliver()
        assert [sop_class for sop_class, _ in held] == [PM, PM, SR_3D]


def test_point_48_an_archive_without_maps_gets_the_rest_and_nobody_is_asked(tmp_path: Path) -> None:
    with archive(*ALL) as (there, held), overtaken(tmp_path, there) as site:
        job_id = site.result(everything())
        site.deliver()
        assert {sop_class for sop_class, _ in held[:-1]} == {SEG, SR_COMPREHENSIVE}
        assert held[-1][0] == SR_3D
        assert stands(site, job_id)["parametric map"] is DeliveryState.DECLINED
        assert because(site, job_id, Role.PARAMETRIC_MAP) == (
            "it does not accept Parametric Map Storage: the rest goes without it, as its profile says, "
            "and the report still names it"
        )
        said = "status 0x0000: stored; it names what was refused there: parametric map"
        assert said in [one.because for one in site.ledger.history(job_id=job_id)]


def test_an_archive_that_does_not_take_what_draws_gets_the_report_that_says_the_same(tmp_path: Path) -> None:
    with archive(SR_3D) as (there, held), overtaken(tmp_path, there) as site:
        job_id = site.result(only("boxes"))
        site.deliver()
        assert [sop_class for sop_class, _ in held] == [SR_3D]
        assert because(site, job_id, Role.MARKS).endswith(
            "the report, which says the same in words, goes without it"
        )


def test_maps_wait_for_an_operator_where_the_site_wants_them_there(tmp_path: Path) -> None:
    with (
        archive(*ALL, profile={"instead": {"parametric map": ()}}) as (there, _),
        overtaken(tmp_path, there) as site,
    ):
        job_id = site.result(only("maps"))
        site.deliver()
        assert stands(site, job_id)["parametric map"] is DeliveryState.PARKED
        assert because(site, job_id, Role.PARAMETRIC_MAP).endswith(
            'parametric-map = ["nothing"] in its [peer.profile.instead] would do without'
        )


def test_maps_that_are_out_of_date_are_rejected_with_the_rest(tmp_path: Path) -> None:
    note = "1.2.840.10008.5.1.4.1.1.88.59"
    with archive(*ALL, PM, note) as (quiet, held):
        with overtaken(tmp_path, quiet.model_copy(update={"superseded": "reject"})) as site:
            for _ in range(2):
                site.result(everything())
                site.deliver()
            site.reject()
            site.deliver()
            (record,) = site.notes()
            roles = sorted(str(one.result.role) for one in record.names)
            assert roles == ["marks", "parametric map", "parametric map", "report", "segmentation"]
    assert held[-1][0] == note


@pytest.mark.parametrize("status", [0x0122, 0xA900])
def test_a_status_that_refuses_the_kind_counts_like_a_context_that_was_not_accepted(
    tmp_path: Path, status: int
) -> None:
    with archive(*ALL, answers=status, **OLDER) as (there, held), overtaken(tmp_path, there) as site:
        site.result()
        site.deliver()
        assert [sop_class for sop_class, _ in held] == [SEG, SR_COMPREHENSIVE]


def test_once_the_archive_allows_it_an_operator_sends_the_report_after_all(tmp_path: Path) -> None:
    with overtaken(tmp_path, peer(1, confirm="answer")) as before:
        with archive(SEG, SR_COMPREHENSIVE, **OLDER) as (there, _):
            before.site = before.site.model_copy(update={"peers": (there,)})
            site = before.again()
            job_id = site.result()
            site.deliver()
        with archive(*ALL, **OLDER) as (there, held):
            site.site = site.site.model_copy(update={"peers": (there,)})
            after = site.again()
            assert "will be sent again" in retry(after.ledger, job_id, "enabled there", by=OPERATOR)
            after.deliver()
            assert [sop_class for sop_class, _ in held] == [SR_3D]
            assert stands(after, job_id)["report"] is DeliveryState.COMMITTED
            assert words(after) == []


def test_two_archives_that_decline_the_same_get_the_same_bytes(tmp_path: Path) -> None:
    with (
        archive(SEG, SR_ENHANCED, name="first", **ENHANCED) as (first, held),
        archive(SEG, SR_ENHANCED, name="second", **ENHANCED) as (second, also_held),
        overtaken(tmp_path, first, second) as site,
    ):
        job_id = site.result()
        site.deliver()
        assert held == also_held
        assert [sop_class for sop_class, _ in held] == [SEG, SR_ENHANCED]
        assert len(site.ledger.results_of(job_id)) == 3


def test_a_report_that_a_late_image_overtakes_names_the_older_form_of_the_one_before(tmp_path: Path) -> None:
    with archive(SEG, SR_ENHANCED, **ENHANCED) as (there, held):
        with overtaken(tmp_path, there) as site:
            first, second = site.result(), None
            site.deliver()
            second = site.result()
            site.deliver()
            older = {}
            for job_id in (first, second):
                (made,) = [o for o in site.ledger.results_of(job_id) if o.role is Role.OLDER_REPORT]
                older[job_id] = pydicom.dcmread(site.spool.absolute(made.path))
            (study,) = older[second].PredecessorDocumentsSequence
            (item,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
            assert item.ReferencedSOPInstanceUID == older[first].SOPInstanceUID
            assert item.ReferencedSOPClassUID == SR_ENHANCED
    assert [sop_class for sop_class, _ in held] == [SEG, SR_ENHANCED] * 2


def test_what_went_instead_is_rejected_like_any_result_once_it_is_out_of_date(tmp_path: Path) -> None:
    note = "1.2.840.10008.5.1.4.1.1.88.59"
    with archive(
        SR_ENHANCED, note, profile={"instead": {"report": ("enhanced",), "segmentation": ("nothing",)}}
    ) as (quiet, held):
        with overtaken(tmp_path, quiet.model_copy(update={"superseded": "reject"})) as site:
            first = site.result()
            site.deliver()
            site.result()
            site.deliver()
            site.reject()
            site.deliver()
            (record,) = site.notes()
            (named,) = record.names
            assert (named.job_id, named.result.role) == (first, Role.OLDER_REPORT)
    assert [sop_class for sop_class, _ in held] == [SR_ENHANCED, SR_ENHANCED, note]


def test_an_archive_on_the_web_that_refuses_the_kind_gets_the_older_form(tmp_path: Path) -> None:
    stored: list[str] = []

    def answer(request: Request, connection, over) -> None:
        part = request.body.split(b"\r\n\r\n", 1)[1]
        dataset = pydicom.dcmread(BytesIO(part), stop_before_pixels=True)
        if dataset.SOPClassUID in (SR_3D, SEG):
            failed = {
                "00081155": {"vr": "UI", "Value": [dataset.SOPInstanceUID]},
                "00081197": {"vr": "US", "Value": [0x0122]},
            }
            says("409 Conflict", body={"00081198": {"vr": "SQ", "Value": [failed]}})(
                request, connection, over
            )
            return
        stored.append(str(dataset.SOPClassUID))
        says("200 OK")(request, connection, over)

    with web_server(
        answer, profile={"instead": {"report": ("comprehensive", "enhanced"), "segmentation": ("nothing",)}}
    ) as server:
        with overtaken(tmp_path, server.peer.model_copy(update={"superseded": "keep"})) as site:
            job_id = site.result()
            site.deliver()
            assert stored == [SR_COMPREHENSIVE]
            assert because(site, job_id, Role.SEGMENTATION).startswith(
                "status 0x0122: it does not support the SOP class: Segmentation Storage: its administrator"
            )


@pytest.mark.peer
def test_dcmtk_with_a_short_list_of_sop_classes_gets_a_report_that_it_can_print(tmp_path: Path) -> None:
    configuration = tmp_path / "storescp.cfg"
    configuration.write_text(
        "[[TransferSyntaxes]]\n[Implicit]\nTransferSyntax1 = LittleEndianImplicit\n"
        "[[PresentationContexts]]\n[Old]\nPresentationContext1 = EnhancedSRStorage\\Implicit\n"
        "[[Profiles]]\n[Default]\nPresentationContexts = Old\n"
    )
    accepts = ("-xf", str(configuration), "Default")
    with storescp(tmp_path / "in", accepts=accepts) as scp:
        there = peer(
            scp.port,
            superseded="keep",
            confirm="answer",
            profile={"instead": {"report": ("comprehensive", "enhanced"), "segmentation": ("nothing",)}},
        )
        with overtaken(tmp_path, there) as site:
            job_id = site.result()
            site.deliver()
            assert stands(site, job_id)["older report enhanced"] is DeliveryState.COMMITTED
        (received,) = scp.received()
    assert pydicom.dcmread(received).SOPClassUID == SR_ENHANCED
    printed = subprocess.run([find("dsrdump"), received], capture_output=True, text=True, check=True).stdout
    assert "AI result, not verified" in printed

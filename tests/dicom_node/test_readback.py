"""The archive is asked for what it was given."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.reach import PeerAway
from dicom_node.readback import STUDY_ROOT_FIND, QueryRefused, find_instance
from dicom_node.send import AnswerKind, send
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.objects import write_instance
from tests.dicom_node.raw_peer import peer
from tests.patience import patient
from tests.peers.dcmtk import storescp
from tests.peers.loopback import free_port
from tests.peers.orthanc import orthanc

WETREAD = AETitle("WETREAD")
STUDY, SERIES, INSTANCE, OTHER = (Uid(f"1.2.826.0.1.3680043.8.498.9.{n}") for n in (1, 2, 3, 4))
ASKED = {
    "calling": WETREAD,
    "study": STUDY,
    "series": SERIES,
    "sop_instance": INSTANCE,
    "deadline_s": patient(20.0),
}


@pytest.mark.peer
def test_orthanc_finds_what_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    file = write_instance(tmp_path, study=str(STUDY), series=str(SERIES), sop_instance=str(INSTANCE))
    with orthanc(tmp_path / "orthanc") as archive:
        there = peer(archive.dicom_port, ae_title="ORTHANC")

        assert not find_instance(there, **ASKED)
        assert send(file, there, calling=WETREAD, deadline_s=patient(20)).kind is AnswerKind.ACCEPTED
        assert find_instance(there, **ASKED)
        assert not find_instance(there, **{**ASKED, "sop_instance": OTHER})
        assert not find_instance(there, **{**ASKED, "series": OTHER})


@pytest.mark.peer
def test_a_peer_without_queries_refuses_the_question(tmp_path: Path) -> None:
    with storescp(tmp_path / "in") as archive, pytest.raises(QueryRefused, match="does not answer C-FIND"):
        find_instance(peer(archive.port), **ASKED)


def test_an_archive_that_is_away_leaves_it_unknown() -> None:
    with pytest.raises(PeerAway):
        find_instance(peer(free_port()), **ASKED)


def _ask(*answers: tuple[int, str | None]) -> bool:
    """What is made of these answers: status and SOP Instance UID of each."""

    def on_find(event: evt.Event) -> object:
        assert event.identifier.QueryRetrieveLevel == "IMAGE"
        assert event.identifier.StudyInstanceUID == str(STUDY)
        assert event.identifier.SeriesInstanceUID == str(SERIES)
        assert event.identifier.SOPInstanceUID == str(INSTANCE)
        for status, sop_instance in answers:
            match = Dataset()
            if sop_instance is not None:
                match.SOPInstanceUID = sop_instance
                match.PatientName = "Somebody"
            yield status, match if status in (0xFF00, 0xFF01) else None

    ae = AE("ARCHIVE")
    ae.add_supported_context(str(STUDY_ROOT_FIND), ImplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find)])
    try:
        return find_instance(peer(server.server_address[1]), **ASKED)
    finally:
        server.shutdown()


def test_an_archive_that_ignores_the_key_does_not_convince() -> None:
    assert not _ask((0xFF00, str(OTHER)), (0xFF00, str(STUDY)))
    assert _ask((0xFF00, str(OTHER)), (0xFF01, str(INSTANCE)))


def test_no_match_is_no() -> None:
    assert not _ask()


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC001, 0xFE00])
def test_a_failed_query_leaves_it_unknown(status: int) -> None:
    with pytest.raises(QueryRefused, match=f"0x{status:04X}"):
        _ask((0xFF00, str(INSTANCE)), (status, None))

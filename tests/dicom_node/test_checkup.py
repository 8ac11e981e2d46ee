"""A peer looked at step by step: what fails is named, what needs it is not tried, nobody waits for ever."""

import socket
import threading
import time
from pathlib import Path

import pytest
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.sop_class import Verification

from dicom_node.checkup import Check, Finding, Step, check_up
from dicom_node.peers import PeerSettings
from ledger.identifiers import AETitle
from tests.dicom_node.raw_peer import Behaviour, acceptance, raw_peer, read_pdu
from tests.patience import patient
from tests.peers.certificates import authority
from tests.peers.dcmqrscp import dcmqrscp
from tests.peers.dcmtk import storescp, tls_options
from tests.peers.loopback import free_port
from tests.peers.orthanc import orthanc

WETREAD = AETitle("WETREAD")
WELL, ILL, ATTENTION, NOT_TRIED = Finding.WELL, Finding.ILL, Finding.ATTENTION, Finding.NOT_TRIED


def look_at(deadline_s: float = 20.0, **settings: object) -> dict[Step, Check]:
    given = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", **settings}
    peer = PeerSettings.model_validate(given)
    return {one.step: one for one in check_up(peer, calling=WETREAD, now=time.time(), deadline_s=deadline_s)}


def findings(seen: dict[Step, Check]) -> dict[Step, Finding]:
    return {step: one.finding for step, one in seen.items()}


def test_a_name_that_nobody_knows_is_ill_and_nothing_else_is_tried() -> None:
    seen = look_at(host="archive.invalid", port=104)
    assert seen[Step.NAME].finding is ILL
    assert "the host name archive.invalid is not known here" in seen[Step.NAME].words
    assert set(findings(seen).values()) == {ILL, NOT_TRIED}
    assert seen[Step.ECHO].words == "something before it failed"


def test_a_name_server_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(
        "dicom_node.checkup.socket.getaddrinfo", lambda *_, **__: over.wait(patient(30)) and []
    )
    try:
        seen = look_at(host="archive.example", port=104, deadline_s=0.3)
    finally:
        over.set()
    assert "the name server did not answer in time" in seen[Step.NAME].words
    assert seen[Step.ASSOCIATION].finding is NOT_TRIED


def test_a_port_that_nobody_listens_on_is_ill() -> None:
    port = free_port()
    seen = look_at(port=port)
    assert findings(seen)[Step.NAME] is WELL
    assert seen[Step.NAME].words == "127.0.0.1 is an address: there is no name to look up"
    assert seen[Step.CONNECTION].finding is ILL
    assert f"no connection to 127.0.0.1 port {port}: connection refused" in seen[Step.CONNECTION].words
    assert {seen[one].finding for one in (Step.TLS, Step.ASSOCIATION, Step.PROOF)} == {NOT_TRIED}


def says_nothing(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)
    over.wait(patient(30))


def accepts_and_hangs(connection: socket.socket, over: threading.Event) -> None:
    read_pdu(connection)
    connection.sendall(acceptance(Verification, ImplicitVRLittleEndian))
    over.wait(patient(30))


@pytest.mark.parametrize("behaviour", [says_nothing, accepts_and_hangs])
def test_a_peer_that_hangs_is_waited_for_until_the_deadline_and_no_longer(behaviour: Behaviour) -> None:
    with raw_peer(behaviour) as hanging:
        began = time.monotonic()
        seen = look_at(port=hanging.port, deadline_s=1.0)
        assert time.monotonic() - began < patient(3.0)
    ill = [one for one in seen.values() if one.finding is ILL]
    assert ill
    assert "it did not finish within 1 s" in ill[0].words
    assert len(seen) == 8


@pytest.mark.peer
def test_an_archive_that_does_not_know_us_says_which_title(tmp_path: Path) -> None:
    with dcmqrscp(tmp_path) as archive:
        seen = look_at(port=archive.port, ae_title="NOBODY")
    assert seen[Step.ASSOCIATION].finding is ILL
    assert "it does not answer to the AE title NOBODY" in seen[Step.ASSOCIATION].words
    assert seen[Step.PROOF].finding is NOT_TRIED


@pytest.mark.peer
def test_an_archive_that_is_well_says_what_it_takes_and_what_proves_it(tmp_path: Path) -> None:
    with dcmqrscp(tmp_path) as archive:
        seen = look_at(port=archive.port, retrieve="move")
    assert findings(seen) | {Step.OBJECTS: WELL} == {
        Step.NAME: WELL, Step.CONNECTION: WELL, Step.TLS: NOT_TRIED, Step.ASSOCIATION: WELL, Step.ECHO: WELL,
        Step.OBJECTS: WELL, Step.PROOF: WELL, Step.FETCHING: WELL,
    }  # fmt: skip
    assert "can read along" in seen[Step.TLS].words
    assert seen[Step.FETCHING].words == "it offers C-MOVE"
    assert "it answers C-FIND" in seen[Step.PROOF].words


@pytest.mark.peer
def test_what_a_destination_lacks_is_named(tmp_path: Path) -> None:
    # DCMTK's storescp takes no questions and vouches for nothing.
    with storescp(tmp_path / "held") as scp:
        seen = look_at(port=scp.port, confirm="commitment", retrieve="get", count="find")
    assert seen[Step.PROOF].finding is ILL
    assert 'confirm = "commitment" asks for it' in seen[Step.PROOF].words
    assert seen[Step.FETCHING].finding is ILL
    assert 'C-FIND (count = "find") and C-GET (retrieve = "get")' in seen[Step.FETCHING].words
    with storescp(tmp_path / "held") as scp:
        best = look_at(port=scp.port)
    assert best[Step.PROOF].finding is ATTENTION
    assert "its answer is the only proof" in best[Step.PROOF].words


@pytest.mark.peer
def test_tls_says_how_long_the_certificate_is_good_for(tmp_path: Path) -> None:
    ours = authority(tmp_path / "ca")
    shown, pair = ours.sign("archive"), ours.sign("wetread")
    tls = {"ca_file": ours.ca, "certificate_file": pair.certificate, "key_file": pair.key}
    with storescp(tmp_path / "held", *tls_options(shown, ours)) as scp:
        seen = look_at(port=scp.port, tls=tls)
        assert seen[Step.TLS].finding in (WELL, ATTENTION)
        assert "its certificate is good for" in seen[Step.TLS].words
        assert seen[Step.ECHO].finding is WELL
        other = authority(tmp_path / "other")
        stranger = look_at(port=scp.port, tls={**tls, "ca_file": other.ca})
    assert stranger[Step.TLS].finding is ILL
    assert "vouches for its certificate" in stranger[Step.TLS].words
    assert stranger[Step.ASSOCIATION].finding is NOT_TRIED


@pytest.mark.peer
def test_a_peer_on_the_web_is_asked_there(tmp_path: Path) -> None:
    with orthanc(tmp_path) as archive:
        web = {"url": f"{archive.url}/dicom-web"}
        seen = look_at(ae_title="", host="", port=0, web=web)
        assert list(seen) == [Step.WEB]
        assert seen[Step.WEB].finding is WELL
        wrong = look_at(ae_title="", host="", port=0, web={"url": f"{archive.url}/elsewhere"})
    assert wrong[Step.WEB].finding is ILL
    assert "what stands before /studies" in wrong[Step.WEB].words

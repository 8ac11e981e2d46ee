"""Fetched over the web: what comes is filed like anything else, and nothing but what was asked for."""

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.listing import Portion
from dicom_node.peers import PeerSettings
from dicom_node.requestor import PeerGone, PeerSilent
from dicom_node.retrieve import RetrievalRefused, RetrievalStopped, Retrieved
from dicom_node.retrieve_web import WebGetter
from dicom_node.upper_layer import PeerConfused
from ledger.errors import PeerError
from ledger.fetch import FetchState, NewFetch, Purpose
from ledger.identifiers import AETitle, StudyId, Uid
from tests.dicom_node.conftest import Running
from tests.dicom_node.dicomweb.conftest import multipart
from tests.dicom_node.objects import data_set_digest, write_instance
from tests.dicom_node.test_fetching import (
    CURRENT,
    FIRST,
    archive_of,
    counted,
    fetching,
    settled,
    store,
    write_study,
)
from tests.dicom_node.web_peers import Answer, Request, dribbles, falls_silent, head, says, sends, web_server
from tests.patience import patient
from tests.peers.loopback import until

TYPE = 'multipart/related; type="application/dicom"; boundary=wetread-test'
STUDY = Uid("1.2.826.0.1.3680043.8.498.1")
ASKED = [Portion(level="STUDY", study=STUDY)]


def getter(
    node: Running, peer: PeerSettings, stored: Callable[[StudyId], None] = lambda _: None, **changes: object
) -> WebGetter:
    told: dict[str, object] = {
        "deadline_s": patient(10.0),
        "silence_s": patient(10.0),
        "stopping": threading.Event(),
        **changes,
    }
    receiver, limits = node.node.receiver, node.site.node
    own = AETitle("WETREAD")
    return WebGetter(peer=peer, own=own, receiver=receiver, limits=limits, stored=stored, **told)


def uid_of(path: Path) -> Uid:
    return Uid(path.stem)


def fetched(node: Running, answer: Answer, *wanted: Uid, **changes: object) -> Retrieved:
    with web_server(answer) as server:
        return getter(node, server.peer, **changes).get(ASKED, wanted)


@pytest.mark.peer
def test_what_orthanc_has_more_of_is_fetched_by_wado_and_told(tmp_path: Path, node: Running) -> None:
    files = write_study(tmp_path / "in", CURRENT, on="20260101", images=5)
    study_id = store(node, files[:3])
    before = write_study(tmp_path / "in", FIRST, on="20240101")
    with archive_of("orthanc", tmp_path, [*files, *before], node.port) as dicom:
        port = json.loads((tmp_path / "orthanc" / "orthanc.json").read_text())["HttpPort"]
        web = {"url": f"http://127.0.0.1:{port}/dicom-web"}
        there = PeerSettings.model_validate({"name": dicom.name, "web": web, "retrieve": "wado"})
        with fetching(node, there):
            counted(node, study_id, 5)
            [asked] = until(lambda: node.ledger.fetches_of(CURRENT), within_s=5, what="it is asked for")
            record = settled(node, asked.id)
            assert record.state is FetchState.FETCHED
            assert record.because.startswith("2 of 2 fetched from archive by WADO-RS, in ")
            assert len(node.instances()) == 5
            # As Orthanc holds it, which writes the lengths of sequences anew when it takes a C-STORE.
            kept = [pydicom.dcmread(node.spool.absolute(path)) for path in node.spooled()]
            sent = {uid_of(path): pydicom.dcmread(path) for path in files}
            assert {Uid(one.SOPInstanceUID) for one in kept} == sent.keys()
            assert all(one == sent[Uid(one.SOPInstanceUID)] for one in kept)

            priors = node.ledger.ask_fetch(
                NewFetch(
                    purpose=Purpose.PRIORS,
                    study=CURRENT,
                    peer="archive",
                    told_with=study_id,
                    because="a rule wants them",
                    terms={"number": 1, "within_days": 3650, "modality": "CT"},
                )
            )
            assert priors is not None
            assert settled(node, priors).because == "1 of the studies of archive are priors"
            [prior] = until(lambda: node.ledger.fetches_of(FIRST), within_s=5, what="the prior is asked for")
            assert settled(node, prior.id).state is FetchState.FETCHED
    assert len(node.instances()) == 8


def test_each_instance_goes_to_the_spool_and_only_what_was_asked_for(tmp_path: Path, node: Running) -> None:
    wanted, other = (write_instance(tmp_path) for _ in range(2))
    deflated = write_instance(tmp_path, transfer_syntax=ExplicitVRLittleEndian)
    contents = deflated.read_bytes().replace(
        f"{ExplicitVRLittleEndian}\0".encode(), f"{DeflatedExplicitVRLittleEndian}".encode(), 1
    )
    body = multipart(wanted.read_bytes(), other.read_bytes(), b"no DICOM", contents)
    studies: list[StudyId] = []
    answer = says(body=body, media_type=TYPE)
    came = fetched(node, answer, uid_of(wanted), uid_of(deflated), stored=studies.append)
    assert (came.completed, came.failed) == (1, 3)
    assert any("not asked for" in one for one in came.said)
    assert any("no file of Part 10" in one for one in came.said)
    assert list(node.instances()) == [str(uid_of(wanted))]
    assert len(studies) == 1
    (kept,) = (node.spool.absolute(path) for path in node.spooled())
    assert data_set_digest(kept) == data_set_digest(wanted)


def test_single_instances_are_asked_for_one_by_one_and_may_come_bare(tmp_path: Path, node: Running) -> None:
    files = [write_instance(tmp_path) for _ in range(2)]

    def bare(request: Request, connection: socket.socket, over: threading.Event) -> None:
        name = request.line.split(" ")[1].rpartition("/")[2]
        contents = (tmp_path / f"{name}.dcm").read_bytes()
        says(body=contents, media_type="application/dicom")(request, connection, over)

    series = Uid("1.2.826.0.1.3680043.8.498.2")
    portion = Portion(level="IMAGE", study=STUDY, series=series, instances=tuple(map(uid_of, files)))
    with web_server(bare) as server:
        assert getter(node, server.peer).get([portion], portion.instances).completed == 2
    assert [one.headers["accept"] for one in server.requests] == [
        'multipart/related; type="application/dicom"; transfer-syntax=*'
    ] * 2
    assert len(node.instances()) == 2


@pytest.mark.fault
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says("404 Not Found"), RetrievalRefused),
        (says("406 Not Acceptable"), RetrievalRefused),
        (says(body=b"<html>", media_type="text/html"), PeerConfused),
        (says(body=b"no boundary", media_type="multipart/related"), PeerConfused),
        (says(body=b"--wetread-test\r\nContent-Type: a/b\r\n\r\nab", media_type=TYPE), PeerConfused),
        (sends(head(Content_Type=TYPE, Content_Length=10 << 40)), PeerConfused),
        (sends(head(Content_Type=TYPE, Content_Length=500) + b"--wetread-test\r\n"), PeerGone),
    ],
)  # fmt: skip
def test_what_is_no_answer_leaves_nothing_behind(
    node: Running, answer: Answer, error: type[PeerError]
) -> None:
    with pytest.raises(error):
        fetched(node, answer, Uid("1.2.3"))
    assert node.spooled() == []
    assert list((node.spool.path / "incoming").glob("*.part")) == []


@pytest.mark.fault
def test_an_instance_that_is_cut_or_too_large_leaves_those_before_it(tmp_path: Path, node: Running) -> None:
    first, second = (write_instance(tmp_path, pixel_bytes=1 << 20) for _ in range(2))
    body = multipart(first.read_bytes(), second.read_bytes())
    cut = sends(head(Content_Type=TYPE, Content_Length=len(body)) + body[: len(body) - 5000])
    with pytest.raises(PeerGone):
        fetched(node, cut, uid_of(first), uid_of(second))
    assert list(node.instances()) == [str(uid_of(first))]

    huge = write_instance(tmp_path, pixel_bytes=3 << 20)
    with web_server(says(body=multipart(huge.read_bytes()), media_type=TYPE)) as server:
        small = server.peer.model_copy(update={"instance_bytes_max": 2 << 20})
        with pytest.raises(PeerConfused, match="an instance of more than 2097152 bytes"):
            getter(node, small).get(ASKED, [uid_of(huge)])
    assert len(node.spooled()) == 1
    assert list(node.spool.path.rglob("*.part")) == []


@pytest.mark.fault
@pytest.mark.parametrize(
    ("answer", "limits"),
    [
        (falls_silent(head(Content_Type=TYPE) + b"--wetread-test\r\n"), {"silence_s": 0.4}),
        (dribbles(head(Content_Type=TYPE), b"\r"), {"deadline_s": 0.4}),
    ],
    ids=["silent", "dribbles"],
)
def test_a_server_that_stalls_is_given_up(node: Running, answer: Answer, limits: dict[str, float]) -> None:
    began = time.monotonic()
    with pytest.raises(PeerSilent):
        fetched(node, answer, Uid("1.2.3"), **limits)
    assert time.monotonic() - began < patient(3)


def test_a_node_that_stops_leaves_the_rest_for_the_next_start(tmp_path: Path, node: Running) -> None:
    file = write_instance(tmp_path)
    stopping = threading.Event()
    stopping.set()
    answer = says(body=multipart(file.read_bytes()), media_type=TYPE)
    with pytest.raises(RetrievalStopped):
        fetched(node, answer, uid_of(file), stopping=stopping)


def test_wado_needs_an_address_on_the_web() -> None:
    with pytest.raises(ValueError, match=r"retrieve = \"wado\" needs a \[peer.web\]"):
        PeerSettings(name="a", ae_title="A", host="127.0.0.1", port=1, retrieve="wado")

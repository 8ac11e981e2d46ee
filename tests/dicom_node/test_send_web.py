"""One file to one peer over the web: the bytes stay the same, and every answer has a meaning."""

import socket
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest

from dicom_node.peers import PeerSettings
from dicom_node.send import Answer, AnswerKind, Objection, ResultUnreadable
from dicom_node.send_web import answer, send_web
from dicom_node.web_session import Reply
from ledger.identifiers import Uid
from tests.dicom_node.objects import write_instance
from tests.dicom_node.web_peers import Answer as ServerAnswer
from tests.dicom_node.web_peers import Request, dribbles, falls_silent, head, says, sends, web_server
from tests.patience import patient
from tests.peers.loopback import free_port
from tests.peers.orthanc import orthanc

UID, OTHER = "1.2.826.0.1.3680043.8.498.9.7", "1.2.826.0.1.3680043.8.498.9.8"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_instance(tmp_path_factory.mktemp("out"), sop_instance=UID)


def response(*, stored: object = None, failed: object = None, reason: int = 0x0110) -> dict[str, object]:
    """A Store Instances Response about one instance."""

    def named(uid: object) -> dict[str, object]:
        return {"00081155": {"vr": "UI", "Value": [uid]}}

    told: dict[str, object] = {}
    if stored:
        told["00081199"] = {"vr": "SQ", "Value": [named(stored)]}
    if failed:
        item = named(failed) | {"00081197": {"vr": "US", "Value": [reason]}}
        told["00081198"] = {"vr": "SQ", "Value": [item]}
    return told


def sent(
    file: Path, server_answer: ServerAnswer, deadline_s: float = patient(10.0), **settings: object
) -> Answer:
    with web_server(server_answer, **settings) as server:
        return send_web(file, server.peer, deadline_s=deadline_s)


@pytest.mark.peer
def test_orthanc_holds_the_bytes_that_were_sent_once(tmp_path: Path, file: Path) -> None:
    login = tmp_path / "login"
    login.write_text("wetread:secret\n")
    guarded = {"AuthenticationEnabled": True, "RegisteredUsers": {"wetread": "secret"}}
    with orthanc(tmp_path / "orthanc", settings=guarded) as archive:
        web = {"url": f"{archive.url}/dicom-web/", "auth": "basic", "login_file": login}
        there = PeerSettings.model_validate({"name": "archive", "web": web})
        assert send_web(file, there, deadline_s=patient(20)) == Answer(0, AnswerKind.ACCEPTED, "stored")
        assert send_web(file, there, deadline_s=patient(20)).kind in (AnswerKind.ACCEPTED, AnswerKind.WARNING)
        (held,) = archive.instances()
        assert sha256(archive.file(held)).hexdigest() == sha256(file.read_bytes()).hexdigest()

        login.write_text("wetread:wrong\n")
        refused = send_web(file, there, deadline_s=patient(20))
    assert (refused.kind, refused.status) == (AnswerKind.RETRY, None)
    assert "does not take our user and password (401)" in refused.because
    assert "wrong" not in refused.because


def test_the_request_is_one_part_with_the_file_as_it_lies_there(file: Path) -> None:
    with web_server(says(body=response(stored=UID))) as server:
        send_web(file, server.peer, deadline_s=patient(10))
    (request,) = server.requests
    assert request.line == "POST /dicom-web/studies HTTP/1.1"
    content_type = request.headers["content-type"]
    assert content_type.startswith('multipart/related; type="application/dicom"; boundary=')
    assert "transfer-encoding" not in request.headers
    boundary = content_type.rpartition("=")[2].encode()
    begin, part, end = request.body.split(b"--" + boundary)
    assert (begin, end) == (b"", b"--\r\n")
    assert part == b"\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() + b"\r\n"


@pytest.mark.parametrize(
    ("status", "body", "kind", "objects_to"),
    [
        (200, response(stored=UID), AnswerKind.ACCEPTED, None),
        (200, b"", AnswerKind.ACCEPTED, None),
        (200, b"{broken", AnswerKind.ACCEPTED, None),
        (202, response(stored=UID), AnswerKind.ACCEPTED, None),
        (202, b"", AnswerKind.UNKNOWN, None),
        (202, response(stored=OTHER), AnswerKind.UNKNOWN, None),
        (202, response(failed=UID, reason=0xA700), AnswerKind.RETRY, None),
        (200, response(failed=UID, reason=0x0110), AnswerKind.RETRY, None),
        (409, response(failed=UID, reason=0x0122), AnswerKind.REFUSED, Objection.SOP_CLASS),
        (409, response(failed=UID, reason=0xA900), AnswerKind.REFUSED, Objection.SOP_CLASS),
        (409, response(failed=UID, reason=0xC122), AnswerKind.REFUSED, Objection.TRANSFER_SYNTAX),
        (409, response(failed=UID, reason=0xC000), AnswerKind.REFUSED, None),
        (409, response(failed=UID, reason=0x0124), AnswerKind.RETRY, None),
        (409, response(failed=UID, reason=0x0111), AnswerKind.WARNING, None),
        (409, response(failed=UID, reason=0), AnswerKind.UNKNOWN, None),
        (409, b"", AnswerKind.REFUSED, None),
        (400, b"", AnswerKind.REFUSED, None),
        (404, b"", AnswerKind.RETRY, None),
        (413, b"", AnswerKind.REFUSED, None),
        (415, b"", AnswerKind.REFUSED, Objection.TRANSFER_SYNTAX),
        (500, b"", AnswerKind.UNKNOWN, None),
        (503, b"", AnswerKind.RETRY, None),
        (599, b"", AnswerKind.UNKNOWN, None),
    ],
)
def test_a_status_decides_what_happens_next(
    file: Path, status: int, body: object, kind: AnswerKind, objects_to: Objection | None
) -> None:
    said = sent(file, says(f"{status} Words", body=body))
    assert (said.kind, said.objects_to) == (kind, objects_to)
    assert said.because


def test_every_status_of_http_has_a_meaning() -> None:
    for status in range(100, 600):
        said = answer(Reply(status, "text/html", b"<html>"), Uid(UID), Uid(CT))
        assert said.kind in AnswerKind
        assert (said.kind is AnswerKind.ACCEPTED) == (status in (200, 201, 204))


def test_an_archive_that_refuses_the_kind_of_object_refuses_it_by_name(file: Path) -> None:
    said = sent(file, says("409 Conflict", body=response(failed=UID, reason=0x0122)))
    assert said.because == "status 0x0122: it does not support the SOP class: CT Image Storage"


# -------------------------------------------------------------------------------------- peers that misbehave


@pytest.mark.fault
def test_a_connection_that_is_cut_in_the_body_leaves_it_unknown(tmp_path: Path) -> None:
    large = write_instance(tmp_path, pixel_bytes=16 << 20)

    def cuts(_request: Request, connection: socket.socket, _over: threading.Event) -> None:
        connection.recv(65536)

    said = sent(large, cuts, read_body=False)
    assert said.kind is AnswerKind.UNKNOWN


@pytest.mark.fault
def test_a_connection_that_is_lost_after_the_body_leaves_it_unknown(file: Path) -> None:
    assert sent(file, sends(b"")).kind is AnswerKind.UNKNOWN
    assert sent(file, sends(head(Content_Length=100) + b"{")).kind is AnswerKind.UNKNOWN


@pytest.mark.fault
@pytest.mark.parametrize("stalls", [falls_silent(), dribbles(head(), b" ")], ids=["silent", "dribbles"])
def test_a_server_that_never_answers_costs_the_deadline_and_leaves_it_unknown(
    file: Path, stalls: ServerAnswer
) -> None:
    began = time.monotonic()
    said = sent(file, stalls, deadline_s=0.5)
    assert time.monotonic() - began < patient(3)
    assert (said.kind, "within 0.5 s" in said.because) == (AnswerKind.UNKNOWN, True)


@pytest.mark.fault
def test_a_server_that_takes_nothing_costs_the_deadline(tmp_path: Path) -> None:
    large = write_instance(tmp_path, pixel_bytes=16 << 20)
    began = time.monotonic()
    said = sent(large, falls_silent(), deadline_s=0.5, read_body=False)
    assert time.monotonic() - began < patient(3)
    assert said.kind is AnswerKind.UNKNOWN


@pytest.mark.fault
def test_a_server_that_refuses_in_the_middle_of_the_body_is_asked_again(tmp_path: Path) -> None:
    large = write_instance(tmp_path, pixel_bytes=16 << 20)
    said = sent(large, says("413 Too Large"), read_body=False)
    assert said.kind in (AnswerKind.REFUSED, AnswerKind.UNKNOWN)  # As the reset overtakes the answer or not.


def test_an_archive_that_is_away_or_elsewhere_is_tried_again(file: Path, tmp_path: Path) -> None:
    away = PeerSettings.model_validate({"name": "a", "web": {"url": f"http://127.0.0.1:{free_port()}"}})
    assert send_web(file, away, deadline_s=patient(5)).kind is AnswerKind.RETRY
    moved = sent(file, sends(head("307 Moved", Location="https://elsewhere.example/", Content_Length=0)))
    assert (moved.kind, "sends us to elsewhere.example" in moved.because) == (AnswerKind.RETRY, True)
    token = {"auth": "bearer", "token_file": str(tmp_path / "none")}
    ours = sent(file, says(), web=token)
    assert (ours.kind, "none cannot be read" in ours.because) == (AnswerKind.RETRY, True)


def test_a_file_that_is_gone_or_no_dicom_is_our_own_trouble(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("text")
    with web_server(says()) as server:
        for name in ("gone.dcm", "text.dcm"):
            with pytest.raises(ResultUnreadable, match=name):
                send_web(tmp_path / name, server.peer, deadline_s=patient(5))
    assert server.requests == []

"""Who may ask, what is refused, and what the server survives."""

import hashlib
import io
import json
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from pydantic import ValidationError

from dicom_node.dicomweb.app import ROOT
from dicom_node.dicomweb.multipart import MultipartReader, PartEnds
from dicom_node.dicomweb.server import listen
from dicom_node.dicomweb.settings import DicomWebSettings
from ledger import journal
from tests.dicom_node.datasets import ct_slice, write
from tests.dicom_node.dicomweb.conftest import BOUNDARY, Web, multipart
from tests.patience import patient
from tests.peers.crowd import closed, silent, status_from
from tests.peers.loopback import until

STUDY = "1.2.826.0.1.3680043.8.498.77.1"
SERIES = f"{STUDY}.1"
TOKEN = "correct horse battery staple"
STRANGER = "127.0.9.9"


def test_others_than_this_machine_need_a_token() -> None:
    with pytest.raises(ValidationError, match="token_sha256"):
        DicomWebSettings(host="0.0.0.0")
    assert DicomWebSettings(host="0.0.0.0", token_sha256="0" * 64).enabled
    assert not DicomWebSettings(host="0.0.0.0", enabled=False).enabled
    with pytest.raises(ValidationError, match="no origin"):
        DicomWebSettings(origins=("https://viewer.example/path",))
    assert "0" * 64 not in repr(DicomWebSettings(token_sha256="0" * 64))


def test_a_token_opens_and_nothing_else_does(start_web) -> None:
    web = start_web(token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest())
    assert web.get("studies", Authorization=f"Bearer {TOKEN}").status_code == 200
    for wrong in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        answer = web.get("studies", Authorization=wrong)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_whoever_is_refused_is_in_the_history(start_web) -> None:
    web = start_web(token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest())
    web.get("studies", Authorization="Bearer guessed")
    web.get("studies", Authorization=f"Bearer {TOKEN}", Origin="https://evil.example")
    web.stow(b"not DICOM", Authorization=f"Bearer {TOKEN}")
    ledger = web.node.ledger
    until(lambda: len(ledger.refusals(since=0.0)) == 3, within_s=5, what="three refusals in the history")
    told = {(each.event, each.because) for each in ledger.refusals(since=0.0)}
    assert told == {
        ("web_refused", "a valid bearer token is needed"),
        ("web_refused", "this origin is not allowed: see origins in [dicomweb]"),
        ("refused", "this is no file of Part 10: there is no DICM at byte 128"),
    }
    assert {each.detail["address"] for each in ledger.refusals(since=0.0)} == {"127.0.0.1"}


def test_web_pages_from_elsewhere_are_kept_out(start_web) -> None:
    web = start_web(origins=("https://viewer.example",))
    assert web.get("studies", Host="evil.example").status_code == 421  # DNS rebinding
    assert web.get("studies", Origin="https://evil.example").status_code == 403
    assert web.get("studies", Origin="null").status_code == 403
    assert web.stow(b"x", Origin="https://evil.example").status_code == 403
    allowed = web.get("studies", Origin="https://viewer.example")
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
    preflight = requests.options(
        f"{web.url}/studies", headers={"Origin": "https://viewer.example"}, timeout=patient(10)
    )
    assert preflight.status_code == 204
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert web.get("studies", Origin=f"http://127.0.0.1:{web.port}").status_code == 200


def test_every_answer_says_how_browsers_shall_treat_it(web: Web) -> None:
    for path in ("studies", "studies/1.2.3", "nothing"):
        headers = web.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "server" not in headers


@pytest.mark.usefixtures("journal_as_before")
def test_the_log_names_no_patient_and_no_study(web: Web, tmp_path: Path) -> None:
    stream = io.StringIO()
    journal.configure(json=True, stream=stream)
    web.stored(*write(tmp_path, ct_slice()))
    web.get(f"studies/{STUDY}/metadata")
    web.get("studies?PatientName=ZZPHI^CANARY")
    until(lambda: stream.getvalue().count("web.answered") >= 3, within_s=5, what="three lines of log")
    assert "ZZPHI" not in stream.getvalue()
    assert STUDY not in stream.getvalue()
    assert "/dicom-web/studies/{study}/metadata" in stream.getvalue()


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("studies", "text/html", 406),
        ("studies", "application/dicom+xml", 406),
        ("studies", "application/json", 200),
        ("studies", "text/html, */*;q=0.1", 200),
        ("studies", "x" * 5000, 400),
        ("studies", "*/*;q=high", 400),
        ("studies", ",".join(["a/b"] * 100), 400),
        (f"studies/{STUDY}", "application/dicom", 200),
        (
            f"studies/{STUDY}",
            'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90',
            406,
        ),
        (f"studies/{STUDY}/series/1.2.3", None, 404),
        (f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/frames/2", None, 404),
        (f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/frames/0", None, 404),
        (f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/frames/x", None, 400),
        (f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/frames/1", "image/jp2", 406),
        (f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/rendered", "video/mp4", 406),
        (f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/bulkdata/../../x", None, 400),
        (f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1/bulkdata/%2e%2e", None, 400),
        ("studies/1.2.3", None, 404),
        ("studies/not-a-uid", None, 400),
    ],
)
def test_what_cannot_be_given_has_its_own_status(web: Web, tmp_path: Path, path, accept, status) -> None:
    web.stored(*write(tmp_path, ct_slice()))
    answer = web.get(path, accept)
    assert answer.status_code == status, answer.text[:200]


def test_a_report_has_no_picture(web: Web, tmp_path: Path) -> None:
    ds = ct_slice()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    del ds.PixelData
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    web.stored(*write(tmp_path, ds))
    url = f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1"
    assert [web.get(f"{url}/{what}").status_code for what in ("rendered", "thumbnail", "frames/1")] == [
        404
    ] * 3


def test_headers_beyond_measure_end_the_connection(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=patient(10)) as peer:
        peer.sendall(b"GET /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: ")
        answer = b""
        try:
            for _ in range(40):
                peer.sendall(b"x" * 8192)
            answer = peer.recv(1000)
        except OSError:
            pass
        assert answer == b"" or b" 400 " in answer.split(b"\r\n")[0]
    assert web.get("studies").status_code == 200


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("none", b"", 400),
        ('multipart/related; type="application/dicom+json"; boundary=x', b"", 415),
        ('multipart/related; type="application/dicom"', b"", 400),
        ('multipart/related; type="application/dicom"; boundary=x', b"", 400),
        ('multipart/related; type="application/dicom"; boundary=x', b"--x--\r\n", 400),
        ('multipart/related; type="application/dicom"; boundary=x', b"--x\r\nA: b\r\n\r\ncut", 400),
        ('multipart/related; type="application/dicom"; boundary=x', b"--x\r\n" + b"A" * 40000, 400),
        (
            'multipart/related; type="application/dicom"; boundary=x',
            b"--x\r\nContent-Type: text/html\r\n\r\nx\r\n--x--",
            415,
        ),
        (f'multipart/related; type="application/dicom"; boundary={"y" * 100}', b"", 400),
        ("application/dicom", b"not DICOM", 409),
    ],
)
def test_a_broken_upload_is_refused_and_leaves_nothing(web: Web, content_type, body, status) -> None:
    answer = requests.post(
        f"{web.url}/studies", data=body, headers={"Content-Type": content_type}, timeout=patient(10)
    )
    assert answer.status_code == status, answer.text
    assert web.node.instances() == {}
    assert list(web.node.spool.files("incoming")) == []


def test_uploads_have_a_size(start_web, tmp_path: Path) -> None:
    web = start_web(instance_bytes_max=1 << 20, upload_bytes_max=3 << 20)
    small, large = (p.read_bytes() for p in write(tmp_path, ct_slice(1), ct_slice(2, rows=800)))
    assert web.stow(small, large).status_code == 413
    assert web.stow(small, b"x" * (1 << 20), b"x" * (1 << 20), b"x" * (1 << 20)).status_code == 413
    # What was stored before the limit was reached stays, as it would over C-STORE.
    assert len(web.node.instances()) == 1


def test_the_body_may_come_in_any_pieces(web: Web, tmp_path: Path) -> None:
    files = [path.read_bytes() for path in write(tmp_path, ct_slice(1), ct_slice(2))]
    body = multipart(*files)
    answer = requests.post(
        f"{web.url}/studies",
        data=(body[n : n + 7] for n in range(0, len(body), 7)),
        headers={"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'},
        timeout=patient(30),
    )
    assert answer.status_code == 200
    assert len(web.node.instances()) == 2


def test_without_a_node_nothing_is_promised(web: Web, tmp_path: Path) -> None:
    (path,) = write(tmp_path, ct_slice())
    web.node.node._back_door.close()
    answer = web.stow(path.read_bytes())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    (failed,) = json.loads(answer.content)["00081198"]["Value"]
    assert failed["00081197"]["Value"] == [0xA700]


def test_silent_and_greedy_clients_are_let_go(start_web, tmp_path: Path) -> None:
    web = start_web(head_s=0.5, stall_s=0.5, connections=8)
    big = ct_slice(rows=2000)
    web.stored(*write(tmp_path, big))
    asks = b"GET /dicom-web/studies/%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % STUDY.encode()
    half = b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/dicom\r\n"
    half += b"Content-Length: 99\r\n\r\n"
    peers = []
    for words in (b"", b"GET /dicom", half, asks):
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(patient(10))
        peer.connect(("127.0.0.1", web.port))
        peer.sendall(words)
        peers.append(peer)
    for peer in peers[:3]:
        with peer:
            with suppress(ConnectionResetError):
                assert peer.recv(100)[:12] in (b"", b"HTTP/1.1 400")

    def cut() -> bool:
        try:
            return peers[3].send(b"x", socket.MSG_NOSIGNAL) == 0
        except OSError:
            return True

    until(cut, within_s=10, what="the client that does not read is let go")
    peers[3].close()
    assert web.get("studies").status_code == 200


def test_a_damaged_spool_file_is_a_refusal_and_no_crash(web: Web, tmp_path: Path) -> None:
    web.stored(*write(tmp_path, ct_slice()))
    (spooled,) = web.node.spooled()
    path = web.node.spool.absolute(spooled)
    path.write_bytes(path.read_bytes()[:400])
    url = f"studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1"
    for what in ("/frames/1", "/rendered", "/metadata", "/bulkdata/7FE00010"):
        assert web.get(url + what).status_code in (200, 404, 406)
    path.unlink()
    assert web.get(url).status_code == 404


def test_a_strangers_silent_connections_keep_nobody_out(start_web) -> None:
    web = start_web(connections=8, connections_per_address=4, head_s=patient(60))
    with silent(web.port, *[STRANGER] * 12) as strangers:
        assert [closed(each) for each in strangers[4:]] == [True] * 8  # unread, and at once
        assert [web.get("studies").status_code for _ in range(3)] == [200] * 3
        # Whoever leaves makes room for another of the same address.
        strangers[0].close()
        until(
            lambda: status_from(STRANGER, web.port, f"{ROOT}/studies") == 200,
            within_s=5,
            what="the place that was left is free",
        )


def test_a_crowd_of_silent_strangers_gives_way(start_web) -> None:
    web = start_web(connections=8, connections_per_address=4, head_s=patient(60))
    with silent(web.port, *(f"127.0.9.{n}" for n in range(1, 9))) as strangers:
        assert web.get("studies").status_code == 200
        assert closed(strangers[0])  # the one that had waited longest


def test_a_proxy_stands_for_many_clients(start_web) -> None:
    web = start_web(connections=8, connections_per_address=1, proxies=[STRANGER])
    with silent(web.port, *[STRANGER] * 4):
        assert status_from(STRANGER, web.port, f"{ROOT}/studies") == 200


@pytest.mark.parametrize("words", [b"", b"GET /dicom-web/studies HTTP/1.1\r\nHost: "])
def test_who_does_not_say_what_he_wants_is_let_go_soon(start_web, words: bytes) -> None:
    web = start_web(head_s=0.3, stall_s=patient(1000))
    with silent(web.port, STRANGER) as (peer,):
        peer.sendall(words)
        assert closed(peer)


def test_an_upload_has_so_many_parts(start_web, tmp_path: Path) -> None:
    web = start_web(upload_parts_max=3)
    (file,) = (path.read_bytes() for path in write(tmp_path, ct_slice()))
    assert web.stow(file, b"x", b"x").status_code == 202
    answer = web.stow(b"x", b"x", b"x", b"x")
    assert answer.status_code == 413
    assert answer.json() == {"error": "a request may have 3 instances: send them in several"}


def test_a_body_of_tiny_parts_is_read_as_fast_as_it_comes() -> None:
    began = time.process_time()
    body = b"--x\r\n\r\ny\r\n" * 90_000
    assert sum(isinstance(event, PartEnds) for event in MultipartReader("x").feed(body)) == 89_999
    assert time.process_time() - began < patient(0.4)  # s; each part once moved the whole mebibyte


def test_small_answers_wait_for_no_acknowledgement() -> None:
    with listen(DicomWebSettings(port=0), "dicomweb") as listening:
        with socket.create_connection(listening.getsockname()) as _, listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

"""HTTP with a peer that dribbles, babbles, redirects, lies or dies: it costs a deadline and no memory."""

import resource
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from dicom_node.peers import PeerSettings
from dicom_node.query import QueryRefused
from dicom_node.reach import PeerAway, PeerSilent
from dicom_node.requestor import PeerGone
from dicom_node.upper_layer import PeerConfused
from dicom_node.web_peer import WebPeerSettings
from dicom_node.web_query import count_study
from dicom_node.web_session import NotAdmitted, Redirected, SecretMissing, WebRefused
from ledger.errors import PeerError
from ledger.identifiers import Uid
from tests.dicom_node.web_peers import (
    Answer,
    Request,
    dribbles,
    falls_silent,
    head,
    number,
    says,
    sends,
    uid,
    web_server,
)
from tests.patience import patient
from tests.peers.certificates import Authority, authority
from tests.peers.loopback import free_port

STUDY = Uid("1.2.826.0.1.3680043.8.498.9.1")
FIVE = [{"0020000D": uid(STUDY), "00201208": number(5)}]


def ask(peer: PeerSettings, deadline_s: float = patient(10.0)) -> int | None:
    counted = count_study(peer, study=STUDY, deadline_s=deadline_s)
    return counted.instances if counted else None


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


def served_by(trusted: Authority, *, clients: Authority | None = None) -> ssl.SSLContext:
    pair = trusted.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.ca)
    return context


# ------------------------------------------------------------------------------------------- the deadline


@pytest.mark.fault
@pytest.mark.parametrize(
    "stalls",
    [
        falls_silent(),
        falls_silent(b"HTTP/1.1 200 OK\r\nContent-Le"),
        falls_silent(head(Content_Length=5000) + b"["),
        dribbles(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a"),
        dribbles(head(), b" "),
        dribbles(head(Transfer_Encoding="chunked"), b"1\r\n \r\n"),
    ],
    ids=["says nothing", "half a head", "half a body", "dribbles the head", "dribbles the body", "in chunks"],
)
def test_whatever_a_server_dribbles_ends_at_the_deadline(stalls: Answer) -> None:
    began = time.monotonic()
    with web_server(stalls) as server, pytest.raises(PeerSilent, match=r"within 0\.5 s"):
        ask(server.peer, deadline_s=0.5)
    assert time.monotonic() - began < patient(3)


@pytest.mark.fault
def test_a_handshake_that_never_ends_ends_at_the_deadline(trusted: Authority) -> None:
    began = time.monotonic()
    with web_server(falls_silent(), read_body=False) as server:
        url = server.peer.web.url.replace("http:", "https:")
        peer = server.peer.model_copy(update={"web": WebPeerSettings(url=url, ca_file=trusted.ca)})
        with pytest.raises(PeerError):
            ask(peer, deadline_s=0.5)
    assert time.monotonic() - began < patient(3)


def test_an_exchange_that_ends_in_time_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with web_server(says(body=FIVE)) as server:
        assert ask(server.peer) == 5
        timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        for timer in timers:
            timer.join(patient(5))
        assert not any(timer.is_alive() for timer in timers)
    assert threading.active_count() <= before


# -------------------------------------------------------------------------------------------- the answer


@pytest.mark.fault
def test_an_answer_of_ten_gigabytes_is_not_begun() -> None:
    with web_server(sends(head(Content_Length=10 << 30) + b" " * 65536)) as server:
        with pytest.raises(PeerConfused, match="10737418240 bytes; at most 33554432"):
            ask(server.peer)


@pytest.mark.fault
def test_an_answer_that_does_not_say_how_long_it_is_is_read_to_the_limit_and_no_further() -> None:
    def floods(_request: Request, connection: socket.socket, _over: threading.Event) -> None:
        connection.sendall(head(Content_Type="application/dicom+json"))
        while True:
            connection.sendall(b" " * (1 << 20))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with web_server(floods, web={"answer_bytes_max": 2 << 20}) as server:
        with pytest.raises(PeerConfused, match="longer than 2097152 bytes"):
            ask(server.peer)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.fault
def test_a_compressed_answer_is_not_unpacked() -> None:
    with web_server(sends(head(Content_Encoding="gzip", Content_Length=3) + b"abc")) as server:
        with pytest.raises(PeerConfused, match="compressed"):
            ask(server.peer)
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.fault
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says(body=b"{not json"), PeerConfused),
        (says(body=b"[" * 100_000), PeerConfused),
        (says(body=b'["\xff\xfe"]'), PeerConfused),
        (says(body="text"), PeerConfused),
        (says(body=[1, 2]), PeerConfused),
        (sends(b"220 smtp.hospital.example ESMTP\r\n"), PeerError),
        (sends(head(Content_Length=5000) + b"[{"), PeerGone),
        (sends(b""), PeerError),
        (says("500 Oops"), WebRefused),
        (says("404 Not Found"), QueryRefused),
        (says("401 Unauthorized"), NotAdmitted),
        (says("403 Forbidden"), NotAdmitted),
    ],
    ids=[
        "no JSON",
        "deep",
        "no text",
        "no list",
        "no matches",
        "no HTTP",
        "cut",
        "nothing",
        "500",
        "404",
        "401",
        "403",
    ],
)
def test_what_is_no_answer_is_said_to_be_none(answer: Answer, error: type[PeerError]) -> None:
    with web_server(answer) as server, pytest.raises(error) as raised:
        ask(server.peer)
    assert str(raised.value)


def test_odd_values_count_for_nothing() -> None:
    odd = [{"0020000D": uid(STUDY), "00201208": {"vr": "IS", "Value": [{"a": 1}]}}, {"0020000D": 7}]
    with web_server(says(body=odd), says(body=[])) as server:
        assert ask(server.peer) == 0  # It knows the study, and lists no series of it.


def test_counts_that_are_text_count_as_well() -> None:
    with web_server(says(body=[{"0020000D": uid(STUDY), "00201208": number("12")}])) as server:
        assert ask(server.peer) == 12


def test_a_peer_that_is_away_is_away() -> None:
    away = PeerSettings.model_validate({"name": "a", "web": {"url": f"http://127.0.0.1:{free_port()}"}})
    with pytest.raises(PeerAway, match="nobody listens there"):
        ask(away)


# ----------------------------------------------------------------------------------------- who we say we are


@pytest.mark.fault
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_nobody_sends_our_token_elsewhere(tmp_path: Path, status: str) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with web_server(says(body=FIVE)) as elsewhere:
        there = sends(head(status, Location=f"{elsewhere.peer.web.url}/studies", Content_Length=0))
        with web_server(there, web={"auth": "bearer", "token_file": str(token)}) as server:
            with pytest.raises(Redirected, match=r"sends us to 127\.0\.0\.1"):
                ask(server.peer)
    assert elsewhere.requests == []


def test_a_token_that_was_renewed_counts_from_the_next_exchange_on(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")

    def guarded(request: Request, connection: socket.socket, over: threading.Event) -> None:
        good = request.headers.get("authorization") == "Bearer new"
        (says(body=FIVE) if good else says("401 Unauthorized"))(request, connection, over)

    with web_server(guarded, web={"auth": "bearer", "token_file": str(token)}) as server:
        with pytest.raises(NotAdmitted, match=r"token.* is wrong or has expired") as refused:
            ask(server.peer)
        token.write_text("new\n")
        assert ask(server.peer) == 5
    assert "old" not in str(refused.value)


def test_user_and_password_come_from_a_file(tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("wetread:pa:ss wörd")
    with web_server(says(body=FIVE), web={"auth": "basic", "login_file": str(login)}) as server:
        assert ask(server.peer) == 5
    assert server.requests[0].headers["authorization"] == "Basic d2V0cmVhZDpwYTpzcyB3w7ZyZA=="


@pytest.mark.parametrize("contents", [None, "", "two\nlines", "no-colon"])
def test_a_login_that_is_none_is_our_own_trouble_and_never_quoted(
    tmp_path: Path, contents: str | None
) -> None:
    login = tmp_path / "login"
    if contents is not None:
        login.write_text(contents)
    with web_server(says(body=FIVE), web={"auth": "basic", "login_file": str(login)}) as server:
        with pytest.raises(SecretMissing, match="login") as raised:
            ask(server.peer)
    assert server.requests == []
    assert not contents or contents not in str(raised.value)


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with web_server(says(body=FIVE)) as server:
        assert ask(server.peer) == 5
    assert "authorization" not in server.requests[0].headers


def test_a_server_is_believed_if_the_sites_authority_vouches_for_it(
    trusted: Authority, tmp_path: Path
) -> None:
    with web_server(says(body=FIVE), context=served_by(trusted), web={"ca_file": str(trusted.ca)}) as server:
        assert ask(server.peer) == 5
    other = authority(tmp_path / "other")
    with web_server(says(body=FIVE), context=served_by(trusted), web={"ca_file": str(other.ca)}) as server:
        with pytest.raises(PeerAway, match=r'not trusted here .* "ca_file"'):
            ask(server.peer)
    with web_server(says(body=FIVE), context=served_by(trusted)) as server:
        with pytest.raises(PeerAway, match="not trusted here"):
            ask(server.peer)


def test_a_server_of_another_name_is_not_believed(trusted: Authority) -> None:
    context = served_by(trusted)
    with web_server(says(body=FIVE), context=context, web={"ca_file": str(trusted.ca)}) as server:
        url = server.peer.web.url.replace("127.0.0.1", "127.0.0.2")
        peer = server.peer.model_copy(update={"web": server.peer.web.model_copy(update={"url": url})})
        with pytest.raises(PeerAway):
            ask(peer)


def test_tls_1_1_is_not_spoken(trusted: Authority) -> None:
    old = served_by(trusted)
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with web_server(says(body=FIVE), context=old, web={"ca_file": str(trusted.ca)}) as server:
        with pytest.raises(PeerError):
            ask(server.peer)
    assert server.requests == []


def test_our_certificate_lets_us_in_and_without_it_we_stay_out(trusted: Authority) -> None:
    ours = trusted.sign("wetread")
    named = {"certificate_file": str(ours.certificate), "key_file": str(ours.key), "auth": "certificate"}
    context = served_by(trusted, clients=trusted)
    with web_server(says(body=FIVE), context=context, web={"ca_file": str(trusted.ca), **named}) as server:
        assert ask(server.peer) == 5
    with web_server(says(body=FIVE), context=context, web={"ca_file": str(trusted.ca)}) as server:
        with pytest.raises(PeerError):
            ask(server.peer)
    assert server.requests == []


def test_a_certificate_that_cannot_be_read_is_our_own_trouble(trusted: Authority, tmp_path: Path) -> None:
    (tmp_path / "ours.pem").write_text("nothing")
    web = {
        "auth": "certificate",
        "certificate_file": str(tmp_path / "ours.pem"),
        "url": "https://127.0.0.1:1",
    }
    peer = PeerSettings.model_validate({"name": "archive", "web": web})
    with pytest.raises(SecretMissing, match=r"ours\.pem"):
        ask(peer)


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("web", "why"),
    [
        ({"url": "ftp://x"}, "http or https"),
        ({"url": "https://user:password@x"}, "no user and password in a URL"),
        ({"url": "https://x", "auth": "bearer"}, "needs token_file"),
        ({"url": "https://x", "token_file": "t"}, '"bearer" uses it'),
        ({"url": "https://x", "key_file": "k"}, "no certificate_file"),
        ({"url": "http://127.0.0.1", "auth": "certificate", "certificate_file": "c"}, "needs https"),
        (
            {"url": "http://pacs.hospital.example", "auth": "basic", "login_file": "l"},
            "would show the secret",
        ),
        ({"url": "https://x", "password": "p"}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(web: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        PeerSettings.model_validate({"name": "archive", "web": web})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, r"needs ae_title, host and port, or a \[peer.web\]"),
        ({"ae_title": "PACS", "host": "pacs"}, "'port' is missing"),
        ({"host": "pacs", "port": 104}, "'ae_title' is missing"),
        (
            {"web": {"url": "https://x"}, "confirm": "commitment"},
            "commitment.* needs ae_title, host and port",
        ),
    ],
)
def test_a_peer_has_to_be_reached_somehow(settings: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        PeerSettings.model_validate({"name": "archive", **settings})

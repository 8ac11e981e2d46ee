"""DICOM over TLS to others: whom we believe, what we show, and that nobody holds us in a handshake."""

import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.peers import PeerSettings
from dicom_node.reach import Deadline, PeerSilent, PeerUntrusted, reach
from dicom_node.send import AnswerKind, EchoAnswer, echo, send_many
from dicom_node.tls_settings import PeerTlsSettings
from ledger.identifiers import AETitle
from tests.dicom_node.datasets import data_set_of
from tests.dicom_node.objects import write_instance
from tests.dicom_node.raw_peer import acceptance, raw_peer, read_pdu
from tests.patience import patient
from tests.peers.certificates import Authority, Pair, authority
from tests.peers.dcmtk import storescp, tls_options
from tests.peers.orthanc import orthanc

WETREAD = AETitle("WETREAD")
DEADLINE_S = 0.8


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def we(ours: Authority) -> Pair:
    return ours.sign("wetread")


@pytest.fixture(scope="module")
def archive(ours: Authority) -> Pair:
    return ours.sign("archive")


def tls(ours: Authority, we: Pair | None, **more: object) -> PeerTlsSettings:
    shown = {"certificate_file": we.certificate, "key_file": we.key} if we is not None else {}
    return PeerTlsSettings.model_validate({"ca_file": ours.ca, **shown, **more})


def at(port: int, settings: PeerTlsSettings, **more: object) -> PeerSettings:
    return PeerSettings.model_validate(
        {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, "tls": settings, **more}
    )


def ask(port: int, settings: PeerTlsSettings, **more: object) -> EchoAnswer:
    return echo(at(port, settings, **more), WETREAD, 10.0)


# ------------------------------------------------------------------ real archives


@pytest.mark.peer
def test_results_go_to_dcmtk_over_tls_to_the_byte(
    ours: Authority, we: Pair, archive: Pair, tmp_path: Path
) -> None:
    files = [write_instance(tmp_path / "out", pixel_bytes=size) for size in (2, 16_384, 2_000_001)]
    with storescp(tmp_path / "in", "--require-peer-cert", *tls_options(archive, ours)) as peer:
        answers = send_many(files, at(peer.port, tls(ours, we)), calling=WETREAD, deadline_s=patient(20))

        assert [answer.kind for answer in answers] == [AnswerKind.ACCEPTED] * 3, answers
        received = sorted(data_set_of(path.read_bytes()) for path in peer.received())
        assert received == sorted(data_set_of(path.read_bytes()) for path in files)


@pytest.mark.peer
def test_orthanc_takes_our_results_over_tls_and_sends_to_us_over_tls(
    ours: Authority, we: Pair, archive: Pair, tmp_path: Path, start_node
) -> None:
    node = start_node(
        node={
            "port": 0,
            "tls": {
                "port": 0,
                "certificate_file": str(we.certificate),
                "key_file": str(we.key),
                "ca_file": str(ours.ca),
            },
        },
        peers=[{"name": "orthanc", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": 104,
                "tls": {"fingerprints": [archive.fingerprint]}}],
    )  # fmt: skip
    changes = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(archive.certificate),
        "DicomTlsPrivateKey": str(archive.key),
        "DicomTlsTrustedCertificates": str(ours.ca),
        "DicomModalities": {
            "WETREAD": {
                "AET": "WETREAD", "Host": "127.0.0.1", "Port": node.node.tls_port, "UseDicomTls": True,
            }
        },
    }  # fmt: skip
    path = write_instance(tmp_path / "out")
    with orthanc(tmp_path / "orthanc", settings=changes) as running:
        (answer,) = send_many(
            [path], at(running.dicom_port, tls(ours, we)), calling=WETREAD, deadline_s=patient(20)
        )
        assert answer.kind is AnswerKind.ACCEPTED, answer
        (instance,) = running.instances()

        running.post("/modalities/WETREAD/store", instance)

    assert len(node.instances()) == 1


# ------------------------------------------------------------------ whom we believe


@pytest.mark.peer
def test_an_archive_is_believed_by_its_ca_its_name_and_its_fingerprint(
    ours: Authority, we: Pair, archive: Pair, tmp_path: Path
) -> None:
    strangers = authority(tmp_path / "strangers")
    nameless = ours.sign("nameless", names="DNS:device-0815")
    with storescp(tmp_path / "in", *tls_options(archive, ours)) as peer:
        assert ask(peer.port, tls(ours, we)).reached
        assert ask(peer.port, tls(ours, we, fingerprints=[archive.fingerprint])).reached
        assert ask(peer.port, tls(ours, we, server_name="localhost")).reached

        wrong_ca = ask(peer.port, tls(strangers, None))
        assert "nobody in ca_file vouches for its certificate" in wrong_ca.because
        wrong_name = ask(peer.port, tls(ours, we, server_name="pacs.hospital.example"))
        assert "its certificate is for another name" in wrong_name.because
        renewed = ask(peer.port, tls(ours, we, fingerprints=[nameless.fingerprint]))
        assert "not among the fingerprints" in renewed.because
        assert not any(answer.reached for answer in (wrong_ca, wrong_name, renewed))
    with storescp(tmp_path / "in2", *tls_options(nameless, ours)) as peer:
        assert not ask(peer.port, tls(ours, we)).reached
        pinned = tls(ours, we, check_name=False, fingerprints=[nameless.fingerprint])
        assert ask(peer.port, pinned).reached


@pytest.mark.peer
def test_an_expired_archive_is_not_sent_anything(ours: Authority, we: Pair, tmp_path: Path) -> None:
    expired = ours.sign("expired", days=-1)
    with storescp(tmp_path / "in", *tls_options(expired, ours)) as peer:
        answer = ask(peer.port, tls(ours, we))
    assert "its certificate has expired" in answer.because


@pytest.mark.peer
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_archive_that_does_not_take_our_certificate_is_named_as_the_reason(
    ours: Authority, archive: Pair, version: ssl.TLSVersion
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(archive.certificate, archive.key)
    context.load_verify_locations(ours.ca)
    context.verify_mode = ssl.CERT_REQUIRED

    def demand(connection: socket.socket, over: threading.Event) -> None:
        wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with wrapped as secured:
            # Closed at once, with our request unread, it would be reset before its alert is read.
            with suppress(OSError):
                secured.do_handshake()
            over.wait(10)

    with raw_peer(demand) as peer:
        answer = ask(peer.port, tls(ours, None))

    assert not answer.reached
    assert any(words in answer.because for words in ("wants a certificate of ours", "certificate of ours"))


def test_an_archive_that_speaks_plain_dicom_is_told_as_such(ours: Authority, we: Pair) -> None:
    def plain(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(4096)
        connection.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x02")  # A-ABORT

    with raw_peer(plain) as peer:
        answer = ask(peer.port, tls(ours, we))

    assert "does not speak TLS" in answer.because


def test_our_own_broken_files_are_a_reason_to_wait_and_not_to_stop(
    ours: Authority, we: Pair, archive: Pair, tmp_path: Path
) -> None:
    path = write_instance(tmp_path)
    broken = tls(ours, we).model_copy(update={"key_file": archive.key})

    (answer,) = send_many([path], at(1, broken), calling=WETREAD, deadline_s=patient(5))

    assert answer.kind is AnswerKind.RETRY
    assert "does not belong to the certificate" in answer.because


# ------------------------------------------------------------------ nobody holds us


def _says_nothing(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(4096)


def _half_a_hello(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(4096)
    # A handshake record of 122 bytes with a ServerHello, of which a third comes.
    connection.sendall(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(30))


def _a_byte_now_and_then(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(4096)
    for byte in b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(100):
        connection.sendall(bytes([byte]))
        if over.wait(0.05):
            return


@pytest.mark.parametrize("behave", [_says_nothing, _half_a_hello, _a_byte_now_and_then])
def test_a_handshake_that_stalls_ends_at_the_deadline(ours: Authority, we: Pair, behave) -> None:
    with raw_peer(behave) as peer:
        began = time.monotonic()
        with pytest.raises(PeerSilent, match="agreeing on TLS"):
            reach(at(peer.port, tls(ours, we)), Deadline(DEADLINE_S))
        assert time.monotonic() - began < patient(DEADLINE_S + 0.5)


def test_an_archive_that_takes_its_bytes_slowly_does_not_extend_the_deadline(
    ours: Authority, we: Pair, archive: Pair, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(archive.certificate, archive.key)
    path = write_instance(tmp_path, pixel_bytes=4_000_000)

    def slow(connection: socket.socket, over: threading.Event) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with context.wrap_socket(connection, server_side=True) as secured:
            read_pdu(secured)
            secured.sendall(acceptance(CTImageStorage, ExplicitVRLittleEndian, maximum_length=0))
            while not over.wait(0.05):
                if not secured.recv(2048):
                    return

    with raw_peer(slow) as peer:
        began = time.monotonic()
        (answer,) = send_many([path], at(peer.port, tls(ours, we)), calling=WETREAD, deadline_s=DEADLINE_S)
        took_s = time.monotonic() - began

    assert answer.kind is AnswerKind.UNKNOWN
    assert took_s < patient(DEADLINE_S + 1.0)


def test_who_is_not_trusted_is_a_peer_error_with_host_and_port(ours: Authority, tmp_path: Path) -> None:
    stranger = authority(tmp_path).sign("stranger")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(stranger.certificate, stranger.key)

    def serve(connection: socket.socket, over: threading.Event) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with raw_peer(serve) as peer, pytest.raises(PeerUntrusted, match=f"port {peer.port}"):
        reach(at(peer.port, tls(ours, None)), Deadline(5))

"""DICOMweb over HTTPS: the same files and rules as for DICOM."""

import shutil
import socket
import ssl
from pathlib import Path

import pytest
import requests

from dicom_node.dicomweb.app import ROOT
from tests.patience import patient
from tests.peers.certificates import Authority, authority
from tests.peers.crowd import closed, silent
from tests.peers.loopback import until


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ours"))


def shown_at(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=patient(10))


def test_viewers_ask_over_https_and_plain_http_gets_nothing(start_web, ours: Authority) -> None:
    pair = ours.sign("web")
    web = start_web(tls={"certificate_file": pair.certificate, "key_file": pair.key})

    answer = requests.get(
        f"https://127.0.0.1:{web.port}{ROOT}/studies", verify=str(ours.ca), timeout=patient(30)
    )

    assert answer.status_code in (200, 204)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{web.port}{ROOT}/studies", timeout=patient(30))


def test_with_a_ca_clients_need_a_certificate(start_web, ours: Authority, tmp_path: Path) -> None:
    pair, viewer = ours.sign("web"), ours.sign("viewer")
    stranger = authority(tmp_path / "strangers").sign("viewer")
    web = start_web(tls={"certificate_file": pair.certificate, "key_file": pair.key, "ca_file": ours.ca})

    def ask(cert: tuple[str, str] | None) -> int:
        url = f"https://127.0.0.1:{web.port}{ROOT}/studies"
        return requests.get(url, verify=str(ours.ca), cert=cert, timeout=patient(30)).status_code

    assert ask((str(viewer.certificate), str(viewer.key))) in (200, 204)
    for cert in (None, (str(stranger.certificate), str(stranger.key))):
        with pytest.raises(requests.ConnectionError):
            ask(cert)


def test_a_renewed_certificate_is_shown_without_a_restart(start_web, ours: Authority, tmp_path: Path) -> None:
    pair = ours.sign("web")
    shutil.copy(pair.certificate, tmp_path / "web.pem")
    shutil.copy(pair.key, tmp_path / "web.key")
    web = start_web(tls={"certificate_file": tmp_path / "web.pem", "key_file": tmp_path / "web.key"})
    before = shown_at(web.port)

    renewed = ours.sign("renewed")
    shutil.copy(renewed.key, tmp_path / "web.key")
    shutil.copy(renewed.certificate, tmp_path / "web.pem")

    until(lambda: shown_at(web.port) != before, within_s=10, what="the new certificate is shown")


def test_a_silent_client_keeps_nobody_waiting(start_web, ours: Authority) -> None:
    pair = ours.sign("web")
    web = start_web(tls={"certificate_file": pair.certificate, "key_file": pair.key})
    lines = [socket.create_connection(("127.0.0.1", web.port), 10) for _ in range(5)]

    answer = requests.get(
        f"https://127.0.0.1:{web.port}{ROOT}/studies", verify=str(ours.ca), timeout=patient(5)
    )

    assert answer.status_code in (200, 204)
    for line in lines:
        line.close()


def test_a_handshake_that_never_begins_is_not_waited_for(start_web, ours: Authority) -> None:
    pair = ours.sign("web")
    web = start_web(
        tls={"certificate_file": pair.certificate, "key_file": pair.key},
        connections_per_address=2,
        head_s=0.3,
    )
    with silent(web.port, *["127.0.9.9"] * 3) as strangers:
        strangers[0].settimeout(30)  # s; asyncio alone would wait for 60
        assert [closed(each) for each in strangers] == [True] * 3

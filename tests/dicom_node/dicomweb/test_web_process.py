"""`python -m dicom_node.dicomweb` as the process tree starts it, beside a node of its own process."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from dicomweb_client.api import DICOMwebClient

from tests.dicom_node.datasets import ct_slice, write
from tests.dicom_node.dicomweb.conftest import BOUNDARY, multipart
from tests.dicom_node.node_process import REPOSITORY, node_process, site_json
from tests.patience import patient
from tests.peers.loopback import until
from tests.peers.programs import find

STUDY = "1.2.826.0.1.3680043.8.498.77.1"


@contextmanager
def web_process(folder: Path, **settings: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """The process and the first line of what it prints. What it logs is in `folder`/web.log."""
    whole = json.loads(site_json(folder))
    site = {key: whole[key] for key in ("ledger", "spool")}
    # Not a pipe: one that nobody reads is full after some hundred requests.
    with (folder / "web.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.dicomweb"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        process.stdin.write(json.dumps({**site, "dicomweb": {"port": 0, **settings}}))
        process.stdin.close()
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(patient(10))
        process.stdout.close()


@pytest.mark.peer
def test_what_dcmtk_sends_the_web_shows_and_what_the_web_stores_survives_the_node(tmp_path: Path) -> None:
    first, second, third = write(tmp_path / "in", *(ct_slice(n) for n in (1, 2, 3)))
    url, head = "", {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'}
    with node_process(tmp_path) as node, web_process(tmp_path) as (web, ready):
        url = f"http://127.0.0.1:{ready.split()[1]}/dicom-web"
        subprocess.run(
            [find("storescu"), "-aec", "WETREAD", "127.0.0.1", str(node.port), first],
            check=True,
            timeout=patient(20),
        )
        (study,) = DICOMwebClient(url=url).search_for_studies()
        assert study["0020000D"]["Value"] == [STUDY]
        stored = requests.post(
            f"{url}/studies", multipart(second.read_bytes()), headers=head, timeout=patient(20)
        )
        assert stored.status_code == 200
        node.process.kill()
        node.process.wait(patient(10))
        refused = requests.post(
            f"{url}/studies", multipart(third.read_bytes()), headers=head, timeout=patient(20)
        )
        assert refused.status_code == 503
        # Reading needs no node; and the next node finds its door again.
        assert len(DICOMwebClient(url=url).retrieve_study(STUDY)) == 2
        with node_process(tmp_path) as again:
            assert again.port
            stored = requests.post(
                f"{url}/studies", multipart(third.read_bytes()), headers=head, timeout=patient(20)
            )
            assert stored.status_code == 200
            assert len(DICOMwebClient(url=url).retrieve_study(STUDY)) == 3
        web.send_signal(signal.SIGTERM)
        assert web.wait(patient(10)) == 0


def test_a_port_that_is_taken_is_told_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with web_process(tmp_path, port=taken.getsockname()[1]) as (web, ready):
            assert ready == ""
            assert web.wait(patient(20)) == 2
            assert "[dicomweb] cannot listen at 127.0.0.1" in (tmp_path / "web.log").read_text()


def test_a_closed_study_is_not_judged_complete_while_an_upload_goes_on(web, tmp_path: Path) -> None:
    (path,) = write(tmp_path / "in", ct_slice())
    body = multipart(path.read_bytes())
    cut = body.index(b"--" + BOUNDARY.encode() + b"--")
    with socket.create_connection(("127.0.0.1", web.port), timeout=patient(20)) as peer:
        peer.sendall(
            b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            + f"Content-Type: multipart/related; type=application/dicom; boundary={BOUNDARY}\r\n".encode()
            + f"Content-Length: {len(body) + (2 << 20)}\r\n\r\n".encode()
        )
        # The second part is long enough for the first to be filed before the body ends.
        peer.sendall(body[:cut] + b"--" + BOUNDARY.encode() + b"\r\nContent-Type: application/dicom\r\n\r\n")
        peer.sendall(bytes(1 << 20))
        until(web.node.instances, within_s=10, what="the first instance is filed")
        (study,) = web.node.ledger.studies()
        assert web.node.node.senders.open_for(study.id) == 1
    until(
        lambda: web.node.node.senders.open_for(study.id) == 0, within_s=10, what="the upload counts as over"
    )

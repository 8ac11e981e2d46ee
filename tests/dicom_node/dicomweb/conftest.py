"""A node and its DICOMweb server on free ports, and DCMTK-independent ways to put something in."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from dicomweb_client.api import DICOMwebClient

from dicom_node.dicomweb.app import ROOT, DicomWeb
from dicom_node.dicomweb.readers import Readers
from dicom_node.dicomweb.server import Server, listen
from dicom_node.dicomweb.settings import DicomWebSettings, WebSite
from dicom_node.refusals import Refusals
from tests.dicom_node.conftest import Running, ledger, migrated, node, start_node  # noqa: F401 (fixtures)
from tests.patience import patient

BOUNDARY = "wetread-test"


@dataclass
class Web:
    """A server that serves."""

    node: Running
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{ROOT}"

    @property
    def client(self) -> DICOMwebClient:
        return DICOMwebClient(url=self.url)

    def get(self, path: str, accept: str | None = None, **headers: str) -> requests.Response:
        headers = {"Accept": accept, **headers} if accept else headers
        return requests.get(f"{self.url}/{path}", headers=headers, timeout=patient(30))

    def stow(self, *files: bytes, study: str | None = None, **headers: str) -> requests.Response:
        """Store files of Part 10 by hand."""
        return requests.post(
            f"{self.url}/studies" + (f"/{study}" if study else ""),
            data=multipart(*files),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
                "Accept": "application/dicom+json",
                **headers,
            },
            timeout=patient(30),
        )

    def stored(self, *paths: Path) -> None:
        """Store files, all of which have to be taken."""
        answer = self.stow(*(path.read_bytes() for path in paths))
        assert answer.status_code == 200, answer.text


def multipart(*files: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + file + b"\r\n" for file in files) + f"--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def start_web(start_node: Callable[..., Running]) -> Iterator[Callable[..., Web]]:  # noqa: F811
    with ExitStack() as stack:

        def start(*, running: Running | None = None, **settings: object) -> Web:
            running = running or start_node()
            web = DicomWebSettings(**{"port": 0, "decoders": 1, **settings})
            site = WebSite(
                ledger=running.site.ledger,
                spool=running.site.spool,
                dicomweb=web,
                data_set=running.site.data_set,
            )
            readers = Readers(processes=web.decoders, limit_s=web.decode_s, bytes_max=web.decode_bytes_max)
            stack.callback(readers.close)
            listening = listen(web, "dicomweb")
            ready = threading.Event()
            refusals = Refusals(running.ledger)
            refusals.start()
            stack.callback(refusals.stop, within_s=patient(5))
            app = DicomWeb(site, running.ledger, running.spool, readers, refusals).app()
            server = Server(app, web, ready.set)
            thread = threading.Thread(target=server.serve_at, args=(listening,), daemon=True)
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join(patient(15))
                assert not thread.is_alive()

            stack.callback(stop)
            assert ready.wait(patient(10))
            return Web(running, listening.getsockname()[1])

        yield start


@pytest.fixture
def web(start_web: Callable[..., Web]) -> Web:
    return start_web()


def values(entry: dict, tag: str) -> list:
    return entry.get(tag, {}).get("Value", [])


def as_json(answer: requests.Response) -> list:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/dicom+json"
    return json.loads(answer.content)

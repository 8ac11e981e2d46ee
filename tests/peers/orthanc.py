"""A real Orthanc as the archive."""

import base64
import io
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom

from tests.patience import patient
from tests.peers.loopback import free_port, until
from tests.peers.programs import find


@dataclass
class Orthanc:
    """An archive that can be stopped and started again with what it holds."""

    folder: Path
    http_port: int
    dicom_port: int
    ae_title: str = "ORTHANC"
    process: subprocess.Popen | None = None
    #: Settings of Orthanc's own that this archive has beside or instead of the usual ones.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: AE title → port on loopback of those whom it knows and calls back; its name for each is the AE title.
    modalities: Mapping[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}{path}")
        for user, password in self.settings.get("RegisteredUsers", {}).items():
            login = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        with urllib.request.urlopen(request, timeout=patient(30)) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers.get("Content-Type", "") else body

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", data=json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=patient(30)) as answer:
            return json.loads(answer.read())

    def instances(self) -> list[str]:
        """Orthanc's own identifiers of all that it holds."""
        return list(self.get("/instances"))

    def file(self, instance: str) -> bytes:
        """An instance as Orthanc gives it back: a Part 10 file."""
        return bytes(self.get(f"/instances/{instance}/file"))

    def datasets(self) -> list[pydicom.Dataset]:
        """Everything it holds, read back."""
        return [pydicom.dcmread(io.BytesIO(self.file(instance))) for instance in self.instances()]

    def alive(self) -> bool:
        try:
            return bool(self.get("/system"))
        except (urllib.error.URLError, OSError):
            return False

    def start(self) -> None:
        settings = self.folder / "orthanc.json"
        settings.write_text(json.dumps({
            "Name": "Archive",
            "StorageDirectory": str(self.folder / "db"), "IndexDirectory": str(self.folder / "db"),
            "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
            "HttpPort": self.http_port, "DicomPort": self.dicom_port, "DicomAet": self.ae_title,
            "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": True,
            "UnknownSopClassAccepted": True, "StorageCompression": False, "TcpNoDelay": True,
            "DicomModalities": {title: [title, "127.0.0.1", port] for title, port in self.modalities.items()},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **self.settings,
        }))  # fmt: skip
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(
                [find("Orthanc"), settings], stdout=log, stderr=log, cwd=self.folder
            )
        until(self.alive, within_s=30, what="Orthanc answers")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(patient(15))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(patient(5))
            self.process = None


@contextmanager
def orthanc(
    folder: Path,
    *,
    modalities: Mapping[str, int] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Orthanc]:
    """A running, empty Orthanc that listens on loopback and knows `modalities`: AE title → port."""
    find("Orthanc")
    folder.mkdir(parents=True, exist_ok=True)
    archive = Orthanc(folder, free_port(), free_port(), modalities=modalities or {}, settings=settings or {})
    try:
        archive.start()
        yield archive
    finally:
        archive.stop()

"""A site that received a chest CT and made results of it, and nothing else: no archive, no proxy."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pydicom
import pytest
from playwright.sync_api import Browser

from models.training.phantom_series import write_series
from models.training.phantoms import Phantom, chest
from tests.journey.site import site
from tests.peers.browser import chromium
from tests.peers.dcmtk import dcmsend
from tests.peers.loopback import free_port, listening, until

# Nobody gets the results: they are looked at where they were made.
RULE = """
[[rule]]
name = "chest CT"
model = "lung_ct"
modality = "CT"
at_least = 20
deliver_to = []
"""


@dataclass(frozen=True)
class Shown:
    """What the viewers are shown."""

    dicomweb: str  #: the URL of the site's DICOMweb
    study: str  #: Study Instance UID
    phantom: Phantom
    viewer_port: int  #: from where the site lets a viewer's pages ask

    def series(self) -> list[dict]:
        """QIDO-RS: all series."""
        request = urllib.request.Request(
            f"{self.dicomweb}/series", headers={"Accept": "application/dicom+json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"[]")


@pytest.fixture(scope="package")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("shown")
    phantom = chest(shape=(60, 160, 160), emphysema=0.1, seed=3)
    files = write_series(phantom, folder / "study", accession="A-1")
    web, viewer = free_port(), free_port()
    dicomweb = f'port = {web}\norigins = ["http://127.0.0.1:{viewer}"]'
    with site(folder / "site", None, more=RULE, dicomweb=dicomweb) as running:
        running.start("serve")
        running.listens()
        until(lambda: listening(web), within_s=60, what="DICOMweb listens")
        assert dcmsend(running.port, folder / "study").returncode == 0
        study = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
        made = Shown(f"http://127.0.0.1:{web}/dicom-web", study, phantom, viewer)
        until(lambda: len(made.series()) == 3, within_s=120, what="CT, SEG and SR are there to be seen")
        yield made


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running

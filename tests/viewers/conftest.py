"""What the viewers are shown: a site alone with what it made, and an archive with every kind of result."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Browser

from models.training.phantom_series import write_series
from models.training.phantoms import Phantom, chest
from tests.journey.site import site
from tests.patience import patient
from tests.peers.browser import chromium
from tests.peers.dcmtk import dcmsend
from tests.peers.loopback import free_port, listening, until
from tests.peers.orthanc import orthanc
from tests.viewers import corpus, ohif, studies
from tests.viewers.corpus import Case

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
    config: Path  #: of the site

    def series(self) -> list[dict]:
        """QIDO-RS: all series."""
        request = urllib.request.Request(
            f"{self.dicomweb}/series", headers={"Accept": "application/dicom+json"}
        )
        with urllib.request.urlopen(request, timeout=patient(30)) as answer:
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
        made = Shown(f"http://127.0.0.1:{web}/dicom-web", study, phantom, viewer, running.config)
        until(lambda: len(made.series()) == 3, within_s=120, what="CT, SEG and SR are there to be seen")
        yield made


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@dataclass(frozen=True)
class Archive:
    """An Orthanc that holds the corpus, and OHIF before it."""

    cases: dict[str, Case]  #: whose objects are what Orthanc gave back
    ohif: str  #: URL

    def case(self, name: str) -> Case:
        return self.cases[name]


@pytest.fixture(scope="package")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """A hospital's archive, and a viewer on the same origin. Everything was checked as it came back."""
    folder, port = tmp_path_factory.mktemp("corpus"), free_port()
    made = {name: build(folder / name) for name, build in studies.CASES.items()}
    with orthanc(folder / "archive") as held:
        files = [path for case in made.values() for path in corpus.write_case(case, folder / "results")]
        for path in files:  # Not by DCMTK, which does not know label maps.
            put = urllib.request.Request(f"{held.url}/instances", data=path.read_bytes(), method="POST")
            urllib.request.urlopen(put, timeout=patient(30)).close()
        back = {str(one.SOPInstanceUID): one for one in held.datasets()}
        cases = {name: corpus.came_back(case, back) for name, case in made.items()}
        config = ohif.settings(f"http://127.0.0.1:{port}/dicom-web", f"http://127.0.0.1:{port}/wado")
        with ohif.served(port, config, {"/dicom-web": held.url, "/wado": held.url}) as url:
            yield Archive(cases, url)


@pytest.fixture(scope="package")
def viewer(browser: Browser, archive: Archive) -> Iterator[ohif.Ohif]:
    """One tab for all tests: OHIF starts anew with every study that is opened."""
    opened = ohif.Ohif(browser, archive.ohif)
    yield opened
    opened.close()

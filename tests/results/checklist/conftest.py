"""One archive and one corpus for the whole checklist."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.orthanc import Orthanc, orthanc
from tests.results.checklist.exhibits import Exhibit, corpus, exhibit_all

NAMES = tuple(one.name for one in corpus())


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A real Orthanc, as a site sets it up for all kinds of results."""
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="session")
def exhibits(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exhibit]:
    """By name: the results of everything, as the archive gives them back."""
    return exhibit_all(corpus(), tmp_path_factory.mktemp("exhibits"), archive)


@pytest.fixture(params=NAMES)
def exhibit(request: pytest.FixtureRequest, exhibits: dict[str, Exhibit]) -> Exhibit:
    """Each of them in turn."""
    return exhibits[request.param]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder for what a peer writes."""
    return tmp_path

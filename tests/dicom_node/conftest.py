"""A node in this process, on a free port, with a ledger and a spool of its own."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.__main__ import hush_libraries
from dicom_node.node import Node
from dicom_node.settings import NodeSite
from dicom_node.spool import INSTANCES, QUARANTINE, Spool
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.dicom_node.node_process import site_json

hush_libraries()


@dataclass
class Running:
    """A node that serves, and what it answers for."""

    site: NodeSite
    ledger: Ledger
    spool: Spool
    node: Node

    @property
    def port(self) -> int:
        return self.node.port

    def instances(self) -> dict[str, str]:
        """SOP Instance UID → digest, as the ledger has it once it has all that was promised."""
        self.node.books.settle()
        return {
            str(instance.sop_instance): str(instance.digest)
            for study in self.ledger.studies(limit=1000)
            for series in self.ledger.series_of(study.id)
            for instance in series.instances
        }

    def spooled(self) -> list[str]:
        return sorted(self.spool.files(INSTANCES))

    def quarantined_files(self) -> list[str]:
        return sorted(self.spool.files(QUARANTINE))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger; making its tables once saves half a second in each test."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    Ledger.open(LedgerSettings(url=f"sqlite:///{path}")).close()
    return path


@pytest.fixture
def ledger(tmp_path: Path, migrated: Path) -> Iterator[Ledger]:
    shutil.copy(migrated, tmp_path / "ledger.sqlite")
    opened = Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path / 'ledger.sqlite'}"))
    yield opened
    opened.close()


@pytest.fixture
def start_node(tmp_path: Path, migrated: Path) -> Iterator[Callable[..., Running]]:
    """Starts a node; keywords are sections of the site with changed fields."""
    shutil.copy(migrated, tmp_path / "ledger.sqlite")
    with ExitStack() as stack:

        def start(**changes: object) -> Running:
            site = NodeSite.model_validate(json.loads(site_json(tmp_path, **changes)))
            ledger = Ledger.open(site.ledger)
            stack.callback(ledger.close)
            spool = Spool(site.spool)
            return Running(site, ledger, spool, stack.enter_context(Node(site, ledger, spool)))

        yield start


@pytest.fixture
def node(start_node: Callable[..., Running]) -> Running:
    return start_node()

"""C-ECHO from the command line, to ourselves: what a health check asks."""

from pathlib import Path

import pytest

from console.echo import echo_ourselves
from console.settings import load_site
from tests.dicom_node.node_process import node_process
from tests.peers.loopback import free_port

pytestmark = pytest.mark.peer


def here(folder: Path, port: int):
    (folder / "wetread.toml").write_text(f"[node]\nport = {port}\n")
    return load_site(folder / "wetread.toml")


def test_a_node_that_runs_answers(tmp_path: Path) -> None:
    with node_process(tmp_path) as node:
        assert echo_ourselves(here(tmp_path, node.port)) == (
            True,
            f"the node (WETREAD at 127.0.0.1:{node.port}) answers.",
        )


def test_a_node_that_lets_only_its_peers_in_is_well_all_the_same(tmp_path: Path) -> None:
    with node_process(tmp_path, node={"callers": "known"}) as node:
        well, words = echo_ourselves(here(tmp_path, node.port))

    assert well
    assert "by refusing" in words


def test_a_node_that_is_gone_is_not_well(tmp_path: Path) -> None:
    well, words = echo_ourselves(here(tmp_path, free_port()))

    assert not well
    assert "does not answer" in words

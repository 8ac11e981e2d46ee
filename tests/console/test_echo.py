"""C-ECHO from the command line, to ourselves: what a health check asks."""

import signal
from pathlib import Path

import pytest

from console.pulse import echo_ourselves, node_alarms
from console.settings import load_site
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.dicom_node.node_process import node_process
from tests.peers.loopback import free_port

pytestmark = pytest.mark.peer


def here(folder: Path, port: int):
    (folder / "wetread.toml").write_text(f'[node]\nport = {port}\n[spool]\npath = "spool"\n')
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
        # Asked every few seconds for years, it is no news: neither in the history nor in the log.
        with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
            assert [event.event for event in ledger.history()] == ["started"]
        assert not [line for line in node.log if "association" in line]


def test_a_node_that_is_gone_is_not_well(tmp_path: Path) -> None:
    well, words = echo_ourselves(here(tmp_path, free_port()))

    assert not well
    assert "does not answer" in words


def test_a_node_that_is_gone_or_hangs_is_an_alarm(tmp_path: Path) -> None:
    assert node_alarms(here(tmp_path, 11112)) == []  # There is no spool here: its node is not ours to judge.
    with node_process(tmp_path) as node:
        site = here(tmp_path, node.port)
        assert node_alarms(site) == []
        node.process.send_signal(signal.SIGSTOP)
        (silent,) = node_alarms(site)
        assert silent.urgent
        assert f"the node (WETREAD at 127.0.0.1:{node.port}) does not answer" in silent.words
    (down,) = node_alarms(site)
    assert down.urgent
    assert "start `wetread serve`" in down.words

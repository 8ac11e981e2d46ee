"""`wetread serve`: everything starts with one command and is gone after one signal."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from dicom_node.peers import PeerSettings
from dicom_node.send import echo
from ledger.identifiers import AETitle
from tests.console.conftest import ROOT, Wetread
from tests.patience import patient
from tests.peers.loopback import free_port, until

pytestmark = pytest.mark.peer


@dataclass
class Serving:
    process: "subprocess.Popen[bytes]"
    folder: Path
    port: int

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log
        return "is ready. Tell the PACS" in self.log

    def part(self, name: str) -> psutil.Process:
        """The process of one part, by its command line."""
        return next(one for one in self.tree() if any(name in word for word in one.cmdline()))


@contextmanager
def serving(folder: Path, more: str = "") -> Iterator[Serving]:
    port = free_port()
    (folder / "wetread.toml").write_text(
        f"[node]\nport = {port}\n[dicomweb]\nport = 0\n[console]\nport = 0\n"
        f"[spool]\nreserve_bytes = 0\nhard_percent = 100\nresume_percent = 100\n{more}"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "console", "serve"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    one = Serving(process, folder, port)
    try:
        until(one.is_ready, within_s=60, what="it is ready")
        yield one
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(patient(35))


def gone(processes: list[psutil.Process]) -> bool:
    return not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_the_first_start_says_what_to_tell_the_pacs(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        for words in (
            "WETREAD",
            "127.0.0.1",
            str(site.port),
            "wetread init",
            "Only this machine can reach it",
        ):
            assert words in site.log
        answer = echo(
            PeerSettings(name="us", ae_title="WETREAD", host="127.0.0.1", port=site.port), AETitle("PACS")
        )
        assert answer.reached, answer.because

        (password,) = re.findall(r"as admin with the password (\S+)", site.log)
        assert site.log.count(password) == 1
        (address,) = re.findall(r"Open the console +(http://\S+)", site.log)
        form = {"name": "admin", "password": password}
        signed_in = requests.post(
            f"{address}/sign-in",
            data=form,
            headers={"Origin": address},
            allow_redirects=False,
            timeout=patient(30),
        )
        assert signed_in.status_code == 303
        assert "wetread=" in signed_in.headers["set-cookie"]


def test_sigterm_ends_everything_within_30_s_and_leaves_nothing_running(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        processes = site.tree()
        assert len(processes) >= 6  # itself, Redis, node, compute with its child, deliver, dispatch
        began = time.monotonic()
        site.process.send_signal(signal.SIGTERM)
        assert site.process.wait(patient(30)) == 0
        assert time.monotonic() - began < patient(30)
        assert gone(processes)
        with socket.socket() as probe:
            # Connections that ended are remembered for a while; what counts is that nobody listens.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", site.port))


def test_nothing_is_left_when_serve_itself_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        processes = site.tree()
        site.process.kill()
        site.process.wait()
        until(lambda: gone(processes), within_s=30, what="the parts have stopped, too")


def test_a_part_that_is_killed_comes_back(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        node = site.part("dicom_node")
        node.kill()
        until(lambda: site.log.count('"part": "node"') >= 3, within_s=30, what="the node was started again")
        peer = PeerSettings(name="us", ae_title="WETREAD", host="127.0.0.1", port=site.port)
        until(lambda: echo(peer, AETitle("PACS")).reached, within_s=30, what="the node answers again")


def test_only_one_may_serve_a_data_folder(tmp_path: Path, wetread: Wetread) -> None:
    with serving(tmp_path) as site:
        done = wetread("serve")
        assert done.returncode == 1
        assert f"process {site.process.pid} already serves the data folder" in done.stderr


def test_a_port_that_is_taken_stops_the_start_with_the_reason(tmp_path: Path, wetread: Wetread) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "wetread.toml").write_text(
            f"[node]\nport = {port}\n[dicomweb]\nport = 0\n[console]\nport = 0\n"
        )
        done = wetread("serve")
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "node could not start" in done.stderr


def test_the_queue_is_not_reachable_from_the_network(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        redis = site.part("redis-server")
        listening = [c for c in redis.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert listening == []
        # The settings, with their passwords, are on no command line.
        assert not [one for one in site.tree() if any("ledger.sqlite" in word for word in one.cmdline())]

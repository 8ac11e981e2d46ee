"""A real Prometheus, as Debian ships it: it scrapes what a test serves, and answers queries."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.patience import patient
from tests.peers.loopback import free_port, until
from tests.peers.programs import find


@dataclass
class Prometheus:
    """One that runs."""

    port: int

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API has under `path`."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        answer = requests.get(url, params=parameters, timeout=patient(10))
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has at this moment."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def answers(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/-/ready", timeout=patient(1)).ok
        except requests.RequestException:
            return False


@contextmanager
def prometheus(folder: Path, target: str, rules: Path) -> Iterator[Prometheus]:
    """One that scrapes `target` (host:port) every second, and evaluates `rules`."""
    program = find("prometheus")
    folder.mkdir(parents=True)
    (folder / "prometheus.yaml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
        f"rule_files: ['{rules}']\n"
        "scrape_configs:\n"
        f"  - {{job_name: wetread, static_configs: [{{targets: ['{target}']}}]}}\n"
    )
    running = Prometheus(free_port())
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program, f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{running.port}", "--log.level=warn",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(running.answers, within_s=10, what="Prometheus answers")
        yield running
    finally:
        process.kill()
        process.wait(patient(10))

"""A site as an administrator would run it: a wetread.toml and the product's own commands."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.patience import patient
from tests.peers.loopback import free_port, listening, until
from tests.peers.orthanc import Orthanc

ROOT = Path(__file__).resolve().parents[2]

# Production waits 5 s, 60 s and so on; nothing else differs.
QUICK = """
[closing]
quiet_s = 1.0
[delivery]
first_s = 0.5
proof_s = 0.5
proof_after_s = 0.1
[worker]
threads = 2
[spool]
reserve_bytes = 0
hard_percent = 100
resume_percent = 100
"""

RULE = """
[[rule]]
name = "chest CT"
model = "lung_ct"
modality = "CT"
at_least = 20
deliver_to = ["archive"]
"""


@dataclass
class Site:
    """The processes of one site, and where they keep things."""

    folder: Path
    port: int
    ledger_url: str
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "wetread.toml"

    @property
    def log(self) -> str:
        """Everything that the site's processes have said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def start(self, *command: str) -> subprocess.Popen:
        """Start `wetread COMMAND`; what it says goes to a log of its own."""
        name = f"{len(self.processes)}-{command[0]}.log"
        with (self.folder / name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "console", *command, "--config", self.config],
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `wetread COMMAND` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "console", *command, "--config", self.config], cwd=self.folder,
            capture_output=True, text=True, timeout=patient(60), check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"},
        )  # fmt: skip

    def listens(self) -> None:
        """Wait until the node accepts associations."""
        until(lambda: listening(self.port) or self._died(), within_s=60, what="the node listens")

    def _died(self) -> bool:
        for process in self.processes:
            if process.poll() is not None:
                raise AssertionError(f"a process ended with {process.returncode}:\n{self.log}")
        return False

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The site's ledger, as the console reads it."""
        opened = Ledger.open(LedgerSettings(url=self.ledger_url))
        try:
            yield opened
        finally:
            opened.close()

    def stop(self) -> None:
        """SIGTERM to each, as a service manager would; whatever is left after 30 s breaks the promise."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        try:
            for process in self.processes:
                process.wait(patient(30))
        finally:
            for process in self.processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def site(
    folder: Path,
    archive: Orthanc | None,
    *,
    ledger: str | None = None,
    queue: str | None = None,
    more: str = "",
    dicomweb: str = "port = 0",
) -> Iterator[Site]:
    """A site whose rule sends chest CT to `lung_ct` and the results to `archive`; nothing is started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    data = folder / "data"
    url = ledger or f"sqlite:///{data}/ledger.sqlite"
    text = f'[site]\ndata = "{data}"\n[node]\nport = {port}\n[dicomweb]\n{dicomweb}\n[console]\nport = 0\n'
    text += f'[ledger]\nurl = "{url}"\n{QUICK}'
    if queue:
        text += f'[queue]\nurl = "{queue}"\n'
    if archive:
        text += (
            f'[[peer]]\nname = "archive"\nae_title = "{archive.ae_title}"\nhost = "127.0.0.1"\n'
            f'port = {archive.dicom_port}\nconfirm = "find"\n{RULE}'
        )
    (folder / "wetread.toml").write_text(text + more)
    running = Site(folder, port, url)
    try:
        yield running
    finally:
        running.stop()

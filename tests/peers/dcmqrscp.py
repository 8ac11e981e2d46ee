"""DCMTK's archive: C-STORE, C-FIND, C-MOVE and C-GET over a folder."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.patience import patient
from tests.peers.loopback import free_port, listening, until
from tests.peers.programs import find


@dataclass
class Dcmqrscp:
    """A running `dcmqrscp` with the AE title ARCHIVE."""

    port: int
    folder: Path

    def files(self) -> list[Path]:
        """What it holds."""
        return sorted(path for path in self.folder.glob("*.dcm"))


@contextmanager
def dcmqrscp(
    folder: Path, *options: str, destinations: Mapping[str, int] | None = None
) -> Iterator[Dcmqrscp]:
    """A running `dcmqrscp` that knows `destinations` of C-MOVE: AE title → port on loopback."""
    held = folder / "held"
    held.mkdir(parents=True, exist_ok=True)
    port = free_port()
    hosts = [
        f"to{n} = ({title}, 127.0.0.1, {at})" for n, (title, at) in enumerate((destinations or {}).items())
    ]
    settings = folder / "dcmqrscp.cfg"
    lines = (
        f"NetworkTCPPort = {port}", "MaxPDUSize = 65536", "MaxAssociations = 16",
        "HostTable BEGIN", *hosts, "HostTable END", "VendorTable BEGIN", "VendorTable END",
        "AETable BEGIN", f"ARCHIVE {held} RW (200, 1024mb) ANY", "AETable END", "",
    )  # fmt: skip
    settings.write_text("\n".join(lines))
    with (folder / "dcmqrscp.log").open("ab") as log:
        # It forks for each association: a session of its own, so that none outlives the test.
        process = subprocess.Popen(
            [find("dcmqrscp"), "-v", "-c", settings, *options],
            stdout=log, stderr=log, env={"TCP_NODELAY": "1", "PATH": "/usr/bin"}, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: listening(port), within_s=10, what="dcmqrscp listens")
        yield Dcmqrscp(port, held)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(patient(10))

"""`python -m dicom_node` as its administrator starts it, for tests that kill it."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.patience import patient

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class NodeProcess:
    """A node that runs, or ran."""

    process: subprocess.Popen
    port: int
    folder: Path
    log: list[str] = field(default_factory=list)

    @property
    def spool(self) -> Path:
        return self.folder / "spool"


def site_json(folder: Path, **changes: object) -> str:
    """A `NodeSite` in `folder`; each keyword is a section whose fields are changed."""
    site: dict[str, object] = {
        "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
        "spool": {
            "path": str(folder / "spool"),
            "hard_percent": 100,
            "resume_percent": 100,
            "reserve_bytes": 0,
            "ballast_bytes": 0,
        },
        "node": {"port": 0},
        "closing": {"quiet_s": 3600, "quiet_open_s": 3600, "longest_s": 36000},
    }
    for section, values in changes.items():
        site[section] = {**site.get(section, {}), **values} if isinstance(values, dict) else values
    return json.dumps(site)


@contextmanager
def node_process(
    folder: Path, *, prefix: Sequence[str] = (), environment: dict[str, str] | None = None, **changes: object
) -> Iterator[NodeProcess]:
    """A node with its ledger and spool in `folder`, ended with the block if it still runs.

    `port` is 0 where it ended before it was ready. `prefix` is put before the command, such as strace.
    """
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "dicom_node"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    )
    node = NodeProcess(process, 0, folder)
    reader = threading.Thread(target=lambda: node.log.extend(process.stderr), daemon=True)
    reader.start()
    try:
        try:
            process.stdin.write(site_json(folder, **changes))
            process.stdin.close()
        except BrokenPipeError:
            pass
        ready = process.stdout.readline().split()
        if ready[:1] == ["ready"]:
            node.port = int(ready[1])
        yield node
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(patient(10))
        reader.join(patient(5))
        process.stdout.close()
        process.stderr.close()

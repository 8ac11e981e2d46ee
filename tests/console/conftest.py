"""`wetread` as it is typed, and a site whose ledger can be filled by hand."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]

Wetread = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def wetread(tmp_path: Path) -> Wetread:
    """Run `wetread …` in `tmp_path`, as an administrator would in an empty folder."""

    def run(*arguments: object, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "console", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "COLUMNS": "220",
                "NO_COLOR": "1",
                "TZ": "Europe/Berlin",
            },
        )

    return run


@dataclass
class FilledSite:
    """A site whose node runs elsewhere, with a ledger to write into."""

    folder: Path
    ledger: Ledger


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FilledSite]:
    (tmp_path / "wetread.toml").write_text(
        "[spool]\nreserve_bytes = 0\nsoft_percent = 100\nhard_percent = 100\nresume_percent = 100\n"
        '[[peer]]\nname = "PACS"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\n'
    )
    data = tmp_path / "wetread-data"
    (data / "spool").mkdir(parents=True)
    # Its node runs, as far as one can see from here.
    with (
        (data / "spool" / "node.lock").open("w") as lock,
        Ledger.open(LedgerSettings(url=f"sqlite:///{data}/ledger.sqlite")) as ledger,
    ):
        lock.write("another-host")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield FilledSite(tmp_path, ledger)

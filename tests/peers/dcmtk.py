"""DCMTK's own programs as scanner and as archive."""

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.patience import patient
from tests.peers.certificates import Authority, Pair
from tests.peers.loopback import free_port, listening, until
from tests.peers.programs import find


def dcmsend(
    port: int, *what: Path, calling: str = "SCANNER", called: str = "WETREAD", options: Iterable[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Send files or folders on one association, decompressing nothing. The answer has returncode and
    stderr.
    """
    return subprocess.run(
        [find("dcmsend"), "-v", "-aet", calling, "-aec", called, "--decompress-never", "+sd", "+r", *options,
         "127.0.0.1", str(port), *map(str, what)],
        capture_output=True, text=True, timeout=patient(120), check=False, env={"TCP_NODELAY": "1", "PATH":
        "/usr/bin"},
    )  # fmt: skip


def storescu(
    port: int, *what: Path, calling: str = "SCANNER", called: str = "WETREAD", options: Iterable[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Send files one by one with `storescu`: it answers for each one in its verbose output."""
    return subprocess.run(
        [find("storescu"), "-v", "-aet", calling, "-aec", called, "+sd", "+r", *options,
         "127.0.0.1", str(port), *map(str, what)],
        capture_output=True, text=True, timeout=patient(120), check=False, env={"TCP_NODELAY": "1", "PATH":
        "/usr/bin"},
    )  # fmt: skip


def echoscu(
    port: int, *, calling: str = "SCANNER", called: str = "WETREAD", options: Iterable[str] = ()
) -> subprocess.CompletedProcess[str]:
    """One C-ECHO."""
    return subprocess.run(
        [find("echoscu"), "-v", "-aet", calling, "-aec", called, *options, "127.0.0.1", str(port)],
        capture_output=True, text=True, timeout=patient(60), check=False,
        env={"TCP_NODELAY": "1", "PATH": "/usr/bin"},
    )  # fmt: skip


def tls_options(identity: Pair, authority: Authority) -> list[str]:
    """What makes any of the programs speak TLS as `identity`, and trust `authority`."""
    return ["+tls", str(identity.key), str(identity.certificate), "+cf", str(authority.ca)]


@dataclass
class Storescp:
    """DCMTK's storage SCP with a folder of what it received."""

    port: int
    folder: Path
    process: subprocess.Popen

    def received(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())


@contextmanager
def storescp(
    folder: Path,
    *options: str,
    port: int | None = None,
    verbose: bool = True,
    accepts: tuple[str, ...] = ("+xa",),
) -> Iterator[Storescp]:
    """A running `storescp`; `options` are its own, such as `--abort-during` or `--refuse`; it
    `accepts` all transfer syntaxes, or what its own options say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    # Bit-preserving: what arrives is what lies there. The log stays outside the folder of what was received.
    log = folder.with_name(f"{folder.name}.log").open("ab")
    process = subprocess.Popen(
        [find("storescp"), *(["-v"] if verbose else []), "-aet", "ARCHIVE", "-od", folder, "+B",
         *accepts, *options, str(port)],
        stdout=log, stderr=log, env={"TCP_NODELAY": "1", "PATH": "/usr/bin"},
    )  # fmt: skip
    log.close()
    try:
        until(lambda: listening(port), within_s=10, what="storescp listens")
        yield Storescp(port, folder, process)
    finally:
        process.kill()
        process.wait(patient(10))

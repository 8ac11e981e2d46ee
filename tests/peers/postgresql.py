"""A real PostgreSQL in a folder of its own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.patience import patient
from tests.peers.loopback import free_port, until
from tests.peers.programs import find, missing


def _ordinary_user() -> dict[str, int]:
    """PostgreSQL refuses to run as root: become the user that its package made."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        missing(
            "PostgreSQL refuses to run as root, and there is no user postgres (its Debian package makes it)"
        )
    return {"user": user.pw_uid, "group": user.pw_gid}


@dataclass
class PostgreSQL:
    """A database server that can be stopped and started again."""

    folder: Path
    port: int
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """As the ledger's settings take it."""
        return f"postgresql+pg8000://wetread@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        log = (self.folder.parent / f"{self.folder.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [find("postgres"), "-D", self.folder, "-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-F",
                 "-c", "synchronous_commit=on"],
                stdout=log, stderr=log, cwd="/", **_ordinary_user(),
            )  # fmt: skip
        until(self.ready, within_s=30, what="PostgreSQL accepts connections")

    def ready(self) -> bool:
        import pg8000.native

        try:
            pg8000.native.Connection("wetread", host="127.0.0.1", port=self.port, database="postgres").close()
        except Exception:  # the driver's own errors and refused connections alike: not ready yet
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(patient(30))
            self.process = None


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """A running, empty PostgreSQL with the superuser `wetread` and no password, on loopback only."""
    initdb = find("initdb")
    # Not below pytest's folder: that one is closed to the user postgres.
    home = Path(tempfile.mkdtemp(prefix="wetread-postgresql-"))
    try:
        user = _ordinary_user()
        if user:
            os.chown(home, user["user"], user["group"])
        data = home / "data"
        subprocess.run(
            [initdb, "-D", data, "-U", "wetread", "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            check=True, capture_output=True, cwd="/", **user,
        )  # fmt: skip
        server = PostgreSQL(data, free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)

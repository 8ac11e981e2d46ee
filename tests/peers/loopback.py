"""Free ports, and waiting for something to become true."""

import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from tests.patience import patient

T = TypeVar("T")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on.

    It lies below those that the kernel gives to connections and to listeners on port 0 (32768 and up on
    Linux): else one of them may have it before the peer that is to get it has started.
    """
    while True:
        port = 15_000 + secrets.randbelow(17_000)  # Not `random`: Hypothesis makes that the same everywhere.
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listening(port: int) -> bool:
    """Whether somebody accepts connections on `port`."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], T], *, within_s: float, what: str) -> T:
    """What `condition` gives once it is true; fails with `what` after `within_s`, patiently taken.

    For peers that offer no event to wait for: it looks again every few milliseconds.
    """
    deadline = time.monotonic() + patient(within_s)
    pause = 0.005
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {patient(within_s):g} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)

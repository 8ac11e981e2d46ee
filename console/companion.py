"""A process that the demo needs beside it: started, waited for until it says so, and gone when the block
ends.
"""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from console.tree import INSTALLED_AT, STOP_S, die_with_parent, kill_group
from ledger.errors import SiteError

_READY_S = 120.0
_LAST_WORDS = 12  # lines of its log


class CompanionLost(SiteError):
    """A process of the demo is not there any more, or never was."""


@dataclass(slots=True)
class Companion:
    """One process and its log."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def check(self) -> None:
        """Raise `CompanionLost` with its last words if it has ended."""
        if self.process.poll() is not None:
            words = "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_WORDS:])
            raise CompanionLost(
                f"{self.name} ended with exit code {self.process.returncode}; its log ends:\n{words}"
            )


@contextmanager
def companion(name: str, command: tuple[str, ...], log: Path, *, says: str) -> Iterator[Companion]:
    """Run `command` until the block ends; enter the block once it has said `says`. Raises `CompanionLost`."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=INSTALLED_AT,
            process_group=0,  # Ctrl-C reaches only the demo, which then stops its companions in order.
            preexec_fn=die_with_parent,  # noqa: PLW1509  Only calls prctl.
        )
    one = Companion(name, process, log)
    try:
        _wait_until_said(one, says)
        yield one
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S + 5.0)
        except subprocess.TimeoutExpired:
            kill_group(process)


def _wait_until_said(one: Companion, says: str) -> None:
    pause = threading.Event()
    for _ in range(int(_READY_S / 0.05)):
        if says in one.log.read_text(errors="replace"):
            return
        one.check()
        pause.wait(0.05)
    raise CompanionLost(f"{one.name} was not ready after {_READY_S:.0f} s; see {one.log}")

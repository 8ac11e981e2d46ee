"""
Places where a test may make a process die, stop or stumble.

Rule 1: an unarmed failpoint costs one comparison and does nothing.
Rule 2: every name stands in `NAMES` with the sentence that says where it is, so a test that goes through
`NAMES` goes through every failpoint there is, also through those that are added later.
Rule 3: only a `__main__` arms one, from WETREAD_FAILPOINT; nothing is read when this module is imported.
"""

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from ledger.errors import SiteError

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "spool_written": "An instance's bytes are in a temporary file, synced, under no name yet.",
        "spool_renamed": "The file has its name; the folder is not yet synced.",
        "folder_synced": "The file would survive a power cut; the ledger does not know it.",
        "arrivals_committed": "The ledger knows the instances; no peer was told Success.",
        "page_written": "The instance is durable in the daybook; no peer was told Success.",
        "file_written": "A large instance is durable as a file without a row; no peer was told Success.",
        "files_named": "What was in the daybook has its files, not synced; the ledger does not know them.",
        "pages_recorded": "The ledger knows the instances; only the daybook would survive a power cut.",
        "files_synced": "The files would survive a power cut; the daybook still counts the pages as its own.",
        "before_series_commit": "A series is judged complete, its study is not; nothing is written.",
        "before_close_commit": "The study is judged complete; nothing is written.",
        "after_close_commit": "The study is closed and its jobs are opened; the queue knows nothing.",
        "hint_published": "The queue has the id; the outbox still says that it has not.",
        "job_claimed": "A worker holds the lease; the work has not begun.",
        "results_kept": "The results lie in the spool; the ledger does not know them.",
        "job_finished": "The job is done and its deliveries are opened; the queue knows nothing.",
        "delivery_claimed": "A worker may send; nothing was sent.",
        "delivery_sent": "The peer answered; the ledger does not know.",
        "instead_kept": "What goes instead of a refused result lies in the spool; the ledger knows nothing.",
        "note_kept": "A rejection note lies in the spool; the ledger does not know it.",
        "note_opened": "The note's delivery is opened; the queue knows nothing.",
        "stand_in_kept": "The report of a run that was given up lies in the spool; the ledger knows nothing.",
        "notification_made": "The message is made; the ledger does not know it.",
        "notification_opened": "The ledger has the message; the queue knows nothing.",
        "notification_claimed": "A worker may send the message; nothing was sent.",
        "notification_sent": "The receiver answered; the ledger does not know.",
        "notification_recorded": "The receiver's answer is recorded; the worker still holds its message.",
        "workitem_listed": "A workitem and its key are in the ledger; its task manager was not asked for it.",
        "workitem_answered": "The task manager gave us the workitem; the ledger does not know.",
        "workitem_ended": "The ledger knows how a workitem ends; its task manager does not.",
        "delivery_recorded": "The answer is recorded; the worker still holds its message.",
    }
)


class Action(StrEnum):
    """What happens at an armed failpoint."""

    KILL = "kill"  #: The process gets SIGKILL: no cleaning up, as in a power cut.
    STOP = "stop"  #: The process gets SIGSTOP: it sleeps until somebody sends SIGCONT.
    RAISE = "raise"  #: `FailpointReached` is raised.


class FailpointReached(Exception):
    """Raised where a test asked for it. It is nobody's fault, so it is none of the four kinds."""


class UnknownFailpoint(SiteError):
    """The failpoint asked for does not exist."""


@dataclass(frozen=True, slots=True)
class _Armed:
    name: str
    action: Action
    nth: int


# A failpoint has to be reachable from everywhere without being handed through every signature, so this is the
# one place with state of its own.
_lock = threading.Lock()
_armed: _Armed | None = None
_passed = 0


def arm(text: str) -> None:
    """Arm the failpoint described as `name:action` or `name:action:nth`; `nth` counts from 1, the default.

    It acts once, at the nth passing. Raises `UnknownFailpoint` for a name or action that does not exist.
    """
    global _armed, _passed
    name, _, rest = text.partition(":")
    action, _, nth = rest.partition(":")
    if name not in NAMES:
        raise UnknownFailpoint(f"there is no failpoint {name!r}; there are {', '.join(NAMES)}")
    if action not in set(Action) or not (nth or "1").isdecimal() or int(nth or "1") < 1:
        raise UnknownFailpoint(
            f"{text!r} is not name:kill, name:stop or name:raise, with :1, :2, … or without"
        )
    with _lock:
        _armed, _passed = _Armed(name, Action(action), int(nth or "1")), 0


def disarm() -> None:
    """Forget what was armed."""
    global _armed  # noqa: PLW0603
    with _lock:
        _armed = None


def failpoint(name: str) -> None:
    """Act if `name` is armed and this is its turn. Raises `FailpointReached` only where `raise` was armed."""
    global _armed, _passed  # noqa: PLW0603
    if _armed is None:
        return
    assert name in NAMES, f"{name} is not registered in failpoint.NAMES"
    with _lock:
        armed = _armed
        if armed is None or armed.name != name:
            return
        _passed += 1
        if _passed != armed.nth:
            return
        _armed = None
    if armed.action is Action.RAISE:
        raise FailpointReached(f"failpoint {name}, passing {armed.nth}")
    if armed.action is Action.KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    # Sent to the process, it may be taken by another thread, while this one goes on for a moment.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

"""
The process that owns torch: it reads requests from one pipe, answers on another, and knows nothing else.

Up to three runs are in here at once, each in another step (`worker.lanes`): every message says whose it is.

It has no ledger, no broker and no archive: only the paths of the files of one job and a folder for its
results. It may be killed at any moment, and nothing is lost by it. Run as `python -m worker.child` by
`worker.attempt`.
"""

import argparse
import ctypes
import errno
import faulthandler
import gc
import os
import resource
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from pydantic import BaseModel

from ledger import journal
from ledger.errors import ModelError, SiteError, StudyError
from worker.exchange import Crowded, Failed, Forget, Ready, frame, read_request

if TYPE_CHECKING:
    from worker.lanes import Traffic

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_NO_NEW_PRIVS = 38
_FAULTS: dict[type[Exception], Literal["crowded", "study", "model", "site"]] = {
    Crowded: "crowded",
    StudyError: "study",
    ModelError: "model",
    SiteError: "site",
}
_OURS_TO_MEND = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    options = argparse.ArgumentParser(prog="worker.child")
    options.add_argument("--parent", type=int, required=True)
    options.add_argument("--device", default="auto")
    options.add_argument("--memory-mib", type=int)
    options.add_argument("--threads", type=int)
    options.add_argument("--memory-share", type=float, default=0.8)
    options.add_argument("--memory-reserve-mib", type=int, default=256)
    options.add_argument("--memory-limit-mib", type=int)
    options.add_argument("--log", choices=["json", "text"], default="json")
    asked = options.parse_args()

    _die_with(asked.parent)
    _limit(asked.memory_mib)
    requests, answers = _pipes()
    faulthandler.enable()  # Says where a segmentation fault happened; shows no values.
    # Warnings of pydicom quote the offending values, and those are patient data: the journal withholds them.
    journal.configure(json=asked.log == "json", level="warning")

    # Here and not on top: everything above is in force before the first line of third-party code runs.
    import pydicom  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from worker.encode import warm_up  # noqa: PLC0415
    from worker.lanes import Traffic  # noqa: PLC0415
    from worker.memory import budget_of, gpu_uuid  # noqa: PLC0415
    from worker.residents import Residents, device_named  # noqa: PLC0415

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    if asked.threads:
        torch.set_num_threads(asked.threads)

    voice = _Voice(answers)
    try:
        budget = budget_of(
            device_named(asked.device),
            share=asked.memory_share,
            reserve_mib=asked.memory_reserve_mib,
            limit_mib=asked.memory_limit_mib,
        )
    except SiteError as error:  # No study's fault: the parent keeps its job and tells why.
        voice.say(Failed(fault="site", error=type(error).__name__, because=str(error)))
        sys.exit(2)
    residents = Residents(asked.device, budget=budget)
    warm_up()
    gc.collect()
    gc.freeze()  # What was imported stays: before a model is measured, only what came later is searched.

    traffic = Traffic(residents, voice.say, _explained)
    voice.say(
        Ready(
            device=residents.device_name,
            budget_bytes=budget.on_device if budget.on_gpu else budget.host,
            gpu=gpu_uuid(residents.device),
        )
    )
    threading.Thread(target=_listen, args=(requests, traffic), name="requests", daemon=True).start()
    traffic.work()


def _listen(requests: BinaryIO, traffic: "Traffic") -> None:
    """Pass on what the parent says until it closes the pipe, or says something that is no message."""
    try:
        while (said := read_request(requests)) is not None:
            if isinstance(said, Forget):
                traffic.forget(said.forget)
            else:
                traffic.begin(said)
    finally:
        traffic.close()


class _Voice:
    """Says one message at a time."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._lock = threading.Lock()

    def say(self, message: BaseModel) -> None:
        left = memoryview(frame(message))
        with self._lock:
            while left:
                left = left[self._answers.write(left) :]


def _explained(error: BaseException) -> Failed:
    """Whose fault it is, as the parent shall hear it."""
    for kind, fault in _FAULTS.items():
        if isinstance(error, kind):
            return Failed(fault=fault, error=type(error).__name__, because=str(error))
    return _unforeseen(error)


def _unforeseen(error: BaseException) -> Failed:
    """Say what happened without the message of `error`: it may quote values of the images' headers."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.errno in _OURS_TO_MEND:
        return Failed(
            fault="disk", error=name, because=f"the child could not write: {os.strerror(error.errno)}"
        )
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return Failed(fault="memory", error=name, because="there was not enough memory")
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
    return Failed(fault="crash", error=name, because=f"{name} was raised{where}")


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Requests and answers on descriptors of their own; whatever a library prints goes to standard error."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _die_with(parent: int) -> None:
    """Be killed when the parent is, however it ends: a model that nobody waits for only heats the room."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:  # It died before we asked to be told.
        os._exit(1)
    # Stopping is the parent's decision: a Ctrl-C for the whole terminal must not look like a crash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _limit(memory_mib: int | None) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A core dump holds the patient's images.
    if memory_mib is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))


if __name__ == "__main__":
    main()

"""
The parent's side of one run: it owns the clock, the kill signal and every credential; the child owns torch.

CUDA does not survive a fork, a hung kernel ends only from outside, and third-party model code is code. So the
child is a new process in a process group of its own, speaks over two pipes, and lives for many runs:
importing torch and loading weights costs seconds. Whatever it does, the answer of `run` comes within the
limits.
"""

import contextlib
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from worker.claim import Bell, Interruption, steady_s
from worker.exchange import BrokenFrame, Done, Entered, Failed, Inbox, Ready, RunRequest, frame
from worker.settings import WorkerSettings

log = structlog.get_logger()

_DOING = {
    "start": "while it started",
    "open": "while it opened the model",
    "load": "while it read the images",
    "model": "while the model ran",
    "encode": "while it encoded the results",
    "check": "while it checked the results",
}
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Lost:
    """The child is gone: it died, or had to be killed. `because` says which, and at what.

    `before_work`: it never got as far as the request, so the request cannot be the reason.
    """

    because: str
    before_work: bool = False


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The run was broken off on our side, and the child killed."""

    why: Interruption


class _BrokenOff(Exception):
    """Leaves the conversation with the child; never leaves this file."""

    def __init__(self, answer: Lost | Interrupted) -> None:
        self.answer = answer


class Child:
    """One spawned process at a time, started again whenever it was lost. Used by one thread at a time."""

    def __init__(
        self, settings: WorkerSettings, environment: Mapping[str, str], *, log: str = "json"
    ) -> None:
        """`environment` is all that the child sees of ours: it must hold no credentials."""
        self._settings = settings
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._inbox = Inbox()
        self._stage = "start"
        self._limit_s = settings.start_s
        self._deadline = 0.0
        self._run_ends = 0.0  # However often the child says that it enters a stage.
        self._ready = False
        self._runs = 0
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process that computes, if one is alive."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the process, unless there is one. Returns at once; importing torch goes on meanwhile.

        Linux ties the child's life to the calling thread (PR_SET_PDEATHSIG): it must be one that stays.
        """
        with self._lock:
            if self.pid is not None:
                return
            self._bury()
            options = [f"--parent={os.getpid()}", f"--device={self._settings.device}", f"--log={self._log}"]
            if self._settings.child_memory_mib is not None:
                options.append(f"--memory-mib={self._settings.child_memory_mib}")
            if self._settings.threads is not None:
                options.append(f"--threads={self._settings.threads}")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker.child", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,  # Its own process group: killing it takes along whatever it started.
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            os.set_blocking(self._process.stdout.fileno(), False)
            os.set_blocking(self._process.stdin.fileno(), False)
            self._inbox = Inbox()
            self._ready = False
            self._runs = 0
            self._run_ends = math.inf
            self._enter("start", self._settings.start_s)

    def run(self, request: RunRequest, bell: Bell) -> Done | Failed | Lost | Interrupted:
        """Have the child work on `request`, within the limits of its stages, or until `bell` rings.

        After `Lost`, `Interrupted` and a crash the process is dead and a new one is starting.
        """
        if bell.rung is not None:
            return Interrupted(bell.rung)
        self.start()
        answer: Done | Failed | Lost | Interrupted
        try:
            answer = self._converse(request, bell)
            self._runs += 1
            # What nobody foresaw may have broken more than one run: a CUDA context, for one, never recovers.
            broken = isinstance(answer, Failed) and answer.fault == "crash"
            if not broken and self._runs < self._settings.runs_per_child:
                return answer
        except _BrokenOff as off:
            answer = off.answer
        except BrokenFrame as error:
            answer = self._lost(str(error))
        self.kill()
        if bell.rung is not Interruption.STOPPING:
            self.start()
        return answer

    def _converse(self, request: RunRequest, bell: Bell) -> Done | Failed:
        while not self._ready:
            said = self._next(bell)
            if isinstance(said, Failed):
                raise _BrokenOff(self._lost(said.because))
            self._ready = isinstance(said, Ready)
        self._run_ends = steady_s() + self._settings.longest_s
        self._enter("open", self._settings.stage_s)
        self._say(frame(request), bell)
        while True:
            message = self._next(bell)
            if isinstance(message, Entered):
                self._enter(message.stage, message.limit_s)
            elif isinstance(message, Done | Failed):
                return message

    def kill(self) -> None:
        """End the process and everything that it started. Nothing survives this, hung kernels included."""
        with self._lock:
            self._bury()

    def _bury(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _enter(self, stage: str, limit_s: float | None) -> None:
        self._stage = stage
        now = steady_s()
        self._limit_s = self._settings.stage_s if limit_s is None else limit_s
        self._deadline = now + self._limit_s
        if self._deadline > self._run_ends:
            self._limit_s = self._settings.longest_s
            self._deadline = self._run_ends

    def _next(self, bell: Bell) -> Ready | Entered | Done | Failed:
        """The child's next message."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        while True:
            message = self._inbox.take()
            if message is not None:
                return message
            self._wait(process.stdout.fileno(), selectors.EVENT_READ, bell)
            try:
                piece = os.read(process.stdout.fileno(), _PIECE_BYTES)
            except BlockingIOError:
                continue
            if not piece:
                raise _BrokenOff(self._lost(self._obituary(process)))
            self._inbox.feed(piece)

    def _say(self, message: bytes, bell: Bell) -> None:
        # A pipe holds 64 KiB and a request may be longer: a child that does not read must not stop us.
        process = self._process
        assert process is not None
        assert process.stdin is not None
        left = memoryview(message)
        while left:
            self._wait(process.stdin.fileno(), selectors.EVENT_WRITE, bell)
            try:
                left = left[os.write(process.stdin.fileno(), left[:_PIECE_BYTES]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise _BrokenOff(self._lost(self._obituary(process))) from None

    def _wait(self, descriptor: int, event: int, bell: Bell) -> None:
        """Until the pipe is ready. Leaves by `_BrokenOff` at the stage's limit, or when the bell rings."""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            selector.register(bell, selectors.EVENT_READ)
            ready = selector.select(max(0.0, self._deadline - steady_s()))
        if bell.rung is not None:
            raise _BrokenOff(Interrupted(bell.rung))
        if not ready:
            limit = f"killed after {self._limit_s:g} s, its time limit, {_DOING[self._stage]}"
            raise _BrokenOff(self._lost(f"the child was {limit}"))

    def _lost(self, because: str) -> Lost:
        return Lost(because, before_work=not self._ready)

    def _obituary(self, process: subprocess.Popen[bytes]) -> str:
        # The pipe is closed, so it is dying; a child that closed it on purpose and lives on is killed here.
        try:
            status = process.wait(1.0)
        except subprocess.TimeoutExpired:
            return f"the child fell silent {_DOING[self._stage]}"
        if status < 0:
            return f"the child was killed by signal {-status} ({_signal_name(-status)}) {_DOING[self._stage]}"
        return f"the child ended with exit status {status} {_DOING[self._stage]}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"

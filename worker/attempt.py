"""
The parent's side of runs: it owns the clock, the kill signal and every credential; the child owns torch.

CUDA does not survive a fork, a hung kernel ends only from outside, and third-party model code is code. So the
child is a new process in a process group of its own, speaks over two pipes, and lives for many runs:
importing torch and loading weights costs seconds. Whatever it does, the answer of `run` comes within the
limits.

Several runs may be in the child at once, each in another step. When it dies, those that were working are to
blame, for nobody can tell which of them it was; those that only waited are bystanders. When it is killed
because of one run, all others are bystanders.
"""

import contextlib
import itertools
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import structlog

from ledger.errors import SiteError
from worker.claim import Bell, Interruption, steady_s
from worker.exchange import (
    Admitted,
    BrokenFrame,
    Done,
    Entered,
    Failed,
    Forget,
    FromChild,
    Inbox,
    Progressed,
    Ready,
    RunRequest,
    frame,
)
from worker.settings import WorkerSettings
from worker.stages import DOING, StageClock

log = structlog.get_logger()

_PIECE_BYTES = 1 << 16
_PAUSE_S = 1.0  #: before the next try, where even starting a process fails


class ChildNotStarted(SiteError):
    """The system starts no process for the child now."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The child is gone: it died, or had to be killed. `because` says which, and at what.

    `before_work`: it never got as far as the request, so the request cannot be the reason.
    """

    because: str
    before_work: bool = False
    killed: bool = False  #: by signal 9, and not by us: the kernel does so when memory runs out


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The run was broken off on our side, or the child was lost for another run's sake."""

    why: Interruption


Answer = Done | Failed | Lost | Interrupted
Hear = Callable[[Entered | Admitted | Progressed], None]


@dataclass(slots=True)
class _Run:
    """One run on its way through the child."""

    request: RunRequest  #: under a number that no other run of this worker has
    job: int
    bell: Bell
    hear: Hear
    clock: StageClock
    alone: bool
    sent: bool = False
    deserted: bool = False  #: answered already; the child has not let go of it yet
    answer: Answer | None = None
    answered: threading.Event = field(default_factory=threading.Event)

    def end(self, answer: Answer) -> None:
        if self.answer is None:
            self.answer = answer
            self.answered.set()


def _hear_nothing(message: Entered | Admitted | Progressed) -> None:
    pass


class Child:
    """One spawned process at a time, started again whenever it was lost. `run` may be called by several
    threads at once.
    """

    def __init__(
        self, settings: WorkerSettings, environment: Mapping[str, str], *, log: str = "json"
    ) -> None:
        """`environment` is all that the child sees of ours: it must hold no credentials."""
        self._settings = settings
        self._environment = dict(environment)
        self._log = log
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False  # Whether a process shall be there although no run waits for one.
        self._closed = threading.Event()
        self._numbers = itertools.count(1)
        self._runs: dict[int, _Run] = {}
        self._inbox = Inbox()
        self._outgoing = bytearray()
        self._start_deadline = math.inf
        self._idle_deadline = math.inf  # All runs wait, and for nothing that could ever come.
        self._ended = 0
        self._poke_read, self._poke_write = os.pipe()
        os.set_blocking(self._poke_read, False)
        os.set_blocking(self._poke_write, False)
        self.ready: Ready | None = None  #: what the living child said of itself
        # Linux ties the child's life to the thread that started it (PR_SET_PDEATHSIG): this one stays.
        threading.Thread(target=self._drive, name="child", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """The process that computes, if one is alive."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Have a process started, unless there is one. Returns at once; importing torch goes on meanwhile."""
        with self._lock:
            self._wanted = True
        self._poke()

    def run(
        self, request: RunRequest, bell: Bell, *, hear: Hear = _hear_nothing, alone: bool = False
    ) -> Answer:
        """Have the child work on `request`, within the limits of its stages, or until `bell` rings.

        `hear` is told of every stage as it begins, and how far the model is.
        A run that is `alone` shares the child with no other.
        `request.number` is the job's, for sentences only: a job that was given back may come again while the
        child still has its earlier run, so each run goes under a number of its own.
        After `Lost` and a crash the process is dead and a new one is starting.
        """
        if bell.rung is not None:
            return Interrupted(bell.rung)
        clock = StageClock(stage_s=self._settings.stage_s, longest_s=self._settings.longest_s)
        with self._lock:
            if self._closed.is_set():
                return Interrupted(Interruption.STOPPING)
            number = next(self._numbers)
            numbered = request.model_copy(update={"number": number})
            run = self._runs[number] = _Run(numbered, request.number, bell, hear, clock, alone)
        self._poke()
        run.answered.wait()
        assert run.answer is not None
        return run.answer

    def let_go(self, bell: Bell) -> bool:
        """Break off the run of `bell` for another worker's sake, if it only waits; whether it did.

        No bell rings for that: by the time that one is heard, the run may have begun to compute, and ending
        it would cost the child with every model that it keeps.
        """
        with self._lock:
            for run in self._runs.values():
                if run.bell is bell and run.answer is None and (not run.sent or run.clock.stage == "ready"):
                    self._call_off(run, Interruption.SOMEBODY_IDLE)
                    self._poke()
                    return True
        return False

    def kill(self) -> None:
        """End the process and everything that it started, and start no other. Nothing survives this, hung
        kernels included.
        """
        with self._lock:
            self._closed.set()
            self._bury()
            for run in self._runs.values():
                run.end(Interrupted(Interruption.STOPPING))
        self._poke()

    # Below, everything is done by the driver, with the lock held but for while it waits.

    def _drive(self) -> None:
        while not self._closed.is_set():
            try:
                self._turn()
                continue
            except ChildNotStarted as error:
                log.error("child.not_started", because=str(error))  # noqa: TRY400 - the sentence says it all
                because = str(error)
            except Exception as error:  # the outermost loop of this thread: no run may wait for ever
                log.exception("child.not_understood", error=type(error).__name__, exc_info=False)
                because = f"{type(error).__name__} was raised beside the child"
            with self._lock:
                self._lost(because)
            self._closed.wait(_PAUSE_S)  # What fails at once would fail a thousand times in a second.

    def _turn(self) -> None:
        with self._lock:
            if self._closed.is_set():
                return
            self._tend()
            selector, deadline = self._watched()
        with selector:
            found = selector.select(max(0.0, deadline - steady_s()))
        with self._lock:
            if self._closed.is_set():
                return
            with contextlib.suppress(BlockingIOError):
                os.read(self._poke_read, _PIECE_BYTES)
            self._look({key.data for key, _ in found})

    def _poke(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._poke_write, b"!")

    def _tend(self) -> None:
        """Let go of who was called off, start a process where one is needed, and give it what it may have."""
        for run in list(self._runs.values()):
            if run.bell.rung is not None and not run.deserted:
                self._call_off(run, run.bell.rung)
        waiting = [run for run in self._runs.values() if not run.sent]
        if self._process is None and (waiting or self._wanted):
            self._spawn()
        if self.ready is None or self._ended >= self._settings.runs_per_child:
            if self.ready is not None and not self._sent():
                self._bury()  # A library that leaks is forgiven so.
                self._spawn()
            return
        for run in waiting:
            sent = self._sent()
            if sent and (run.alone or any(other.alone for other in sent)):
                return  # In order: nobody overtakes who waits to be alone.
            run.sent = True
            run.clock.begin(steady_s())
            self._outgoing += frame(run.request)

    def _sent(self) -> list[_Run]:
        return [run for run in self._runs.values() if run.sent]

    def _spawn(self) -> None:
        """Raises `ChildNotStarted`; then one is wanted still, whoever waits for it."""
        settings = self._settings
        self._wanted = True
        options = {
            "parent": os.getpid(),
            "device": settings.device,
            "log": self._log,
            "memory-mib": settings.child_memory_mib,
            "threads": settings.threads,
            "memory-share": settings.memory_share,
            "memory-reserve-mib": settings.memory_reserve_mib,
            "memory-limit-mib": settings.memory_mib,
        }
        said = [f"--{name}={value}" for name, value in options.items() if value is not None]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker.child", *said],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,  # Its own process group: killing it takes along whatever it started.
            )
        except OSError as error:
            raise ChildNotStarted(
                f"this machine could not start the process that computes ({error.strerror or error}); "
                "its jobs are given back, and it is tried again: look whether memory, processes or files "
                "have run out"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        os.set_blocking(self._process.stdin.fileno(), False)
        self._inbox, self._outgoing = Inbox(), bytearray()
        self.ready, self._wanted, self._ended = None, False, 0
        self._start_deadline = steady_s() + settings.start_s

    def _watched(self) -> tuple[selectors.BaseSelector, float]:
        """What may wake the driver, and when it has to look by itself."""
        selector = selectors.DefaultSelector()
        selector.register(self._poke_read, selectors.EVENT_READ, "poke")
        for run in self._runs.values():
            if not run.deserted:
                selector.register(run.bell.fileno(), selectors.EVENT_READ, "bell")
        process = self._process
        if process is None:
            return selector, steady_s() + 3600.0
        assert process.stdin is not None
        assert process.stdout is not None
        selector.register(process.stdout.fileno(), selectors.EVENT_READ, "said")
        if self._outgoing:
            # A pipe holds 64 KiB and a request may be longer: a child that does not read must not stop us.
            selector.register(process.stdin.fileno(), selectors.EVENT_WRITE, "listens")
        sent = self._sent()
        if not sent or any(not run.clock.waits for run in sent):
            self._idle_deadline = math.inf
        elif self._idle_deadline == math.inf:
            self._idle_deadline = steady_s() + self._settings.stage_s
        starting = self._start_deadline if self.ready is None else math.inf
        deadlines = [run.clock.deadline for run in sent]
        return selector, min([starting, self._idle_deadline, steady_s() + 3600.0, *deadlines])

    def _look(self, happened: Collection[str]) -> None:
        """Take in what happened."""
        process = self._process
        if process is None:
            return
        try:
            if "said" in happened:
                self._hear(process)
            if "listens" in happened and process is self._process:
                self._speak(process)
        except BrokenFrame as error:
            self._lost(str(error))
        if process is self._process:
            self._judge(steady_s())

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        try:
            piece = os.read(process.stdout.fileno(), _PIECE_BYTES)
        except BlockingIOError:
            return
        if not piece:
            self._died(process)
            return
        self._inbox.feed(piece)
        while process is self._process and (message := self._inbox.take()) is not None:
            self._take(message)

    def _speak(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            del self._outgoing[: os.write(process.stdin.fileno(), self._outgoing[:_PIECE_BYTES])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._died(process)

    def _take(self, message: FromChild) -> None:
        if isinstance(message, Ready):
            self.ready = message
            return
        if self.ready is None:
            self._lost(message.because if isinstance(message, Failed) else "the child spoke out of turn")
            return
        run = self._runs.get(message.number)
        if run is None or not run.sent:
            raise BrokenFrame(f"the child speaks of a run {message.number} that it was not given")
        if isinstance(message, Entered):
            run.clock.enter(message.stage, message.limit_s, steady_s())
        if isinstance(message, Entered | Admitted | Progressed):
            if not run.deserted:
                run.hear(message)
            return
        del self._runs[run.request.number]
        self._ended += 1
        broken = isinstance(message, Failed) and message.fault in ("crash", "memory")
        if broken:
            self._bury()
        run.end(message)
        if broken:
            # What nobody foresaw may have broken more than one run: a CUDA context, for one, never recovers.
            self._end_all(Interrupted(Interruption.BYSTANDER), Interrupted(Interruption.BYSTANDER))

    def _call_off(self, run: _Run, why: Interruption) -> None:
        """Nobody here wants the answer of `run` any more."""
        if run.sent and run.clock.stage in ("open", "model"):
            self._bury()  # Before anybody is told.
        run.end(Interrupted(why))
        if not run.sent:
            del self._runs[run.request.number]
        elif run.clock.stage in ("open", "model"):  # Only a kill ends that.
            self._end_all(Interrupted(Interruption.BYSTANDER), Interrupted(Interruption.BYSTANDER))
            self._wanted = why is not Interruption.STOPPING
        else:
            run.deserted = True
            self._outgoing += frame(Forget(forget=run.request.number))

    def _judge(self, now: float) -> None:
        """Kill the child where a limit has passed."""
        if self.ready is None:
            if now >= self._start_deadline:
                limit = f"killed after {self._settings.start_s:g} s, its time limit, {DOING['start']}"
                self._lost(f"the child was {limit}")
            return
        late = [run for run in self._sent() if now >= run.clock.deadline]
        if late:
            clock = late[0].clock
            limit = f"killed after {clock.limit_s:g} s, its time limit, {DOING[clock.stage]}"
            self._bury()  # Before anybody is told: who is told that it was killed may rely on that.
            for run in late:
                run.end(Lost(f"the child was {limit}"))
            self._end_all(Interrupted(Interruption.BYSTANDER), Interrupted(Interruption.BYSTANDER))
        elif now >= self._idle_deadline:
            self._lost(f"the child was killed: nothing went on in it for {self._settings.stage_s:g} s")

    def _died(self, process: subprocess.Popen[bytes]) -> None:
        # The pipe is closed, so it is dying; a child that closed it on purpose and lives on is killed here.
        doing = " and ".join(dict.fromkeys(DOING[run.clock.stage] for run in self._working()))
        doing = doing or DOING["start" if self.ready is None else "ready"]
        try:
            status = process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._lost(f"the child fell silent {doing}")
            return
        if status < 0:
            name = _signal_name(-status)
            because = f"the child was killed by signal {-status} ({name}) {doing}"
            self._lost(because, killed=-status == signal.SIGKILL)
        else:
            self._lost(f"the child ended with exit status {status} {doing}")

    def _working(self) -> list[_Run]:
        return [run for run in self._sent() if not run.clock.waits]

    def _lost(self, because: str, *, killed: bool = False) -> None:
        """The child is gone, and it was none of our doing, or something that no run can be blamed for."""
        if self.ready is None:
            early = Lost(because, before_work=True)
            self._bury()
            for run in self._runs.values():
                run.end(early)
            self._runs.clear()
            return
        jobs = [str(run.job) for run in self._working()]
        if len(jobs) > 1:
            because = f"{because} (jobs {', '.join(jobs)} were at work in it)"
        innocent = Interrupted(Interruption.BYSTANDER)
        everybody_waits = not self._working()
        self._end_all(Lost(because, killed=killed), Lost(because) if everybody_waits else innocent)

    def _end_all(self, working: Answer, waiting: Answer) -> None:
        """End the process, and with it every run that it was given; start a new one."""
        self._bury()
        for run in self._sent():
            run.end(waiting if run.clock.waits else working)
            del self._runs[run.request.number]
        self._wanted = True

    def _bury(self) -> None:
        process, self._process, self.ready = self._process, None, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"

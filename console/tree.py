"""A tree of processes that lives and dies as one.

Rule 1: a part that ends by itself is started again, later each time; a part that cannot start at all stops
the tree. One that is slow to start is waited for, however long: the others do their work meanwhile.
Rule 2: stopping is asked for (SIGTERM), waited for, and then enforced; the foundations (the queue) go last.
Rule 3: nothing is left behind, not even the grandchildren of a part that was killed.

The tree is single-threaded on purpose: it forks, and it must not deadlock in the one moment that it is
needed.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ledger.errors import SiteError

log = structlog.get_logger()

STOP_S = 25.0  # Asked to stop; killed after this. Kubernetes gives 30 s before it kills the whole tree.
FOUNDATION_STOP_S = 3.0
SLOW_S = (
    60.0  # Not ready for this long: said, and said again. Importing torch from a slow disk takes as long.
)
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
PULSE_S = 30.0  # How often a part with a pulse is asked whether it lives.
PULSES_MISSED = 3  # In a row; then it hangs, for a busy one answers one of three.
HEALTHY_S = 60.0  # Having run this long, a part that ends is restarted as if it had never ended before.

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36

# Modules are found beside this package wherever it is installed. Started anywhere else, `-m worker` would
# import a folder of that name from the directory that the administrator happens to stand in.
INSTALLED_AT = Path(__file__).resolve().parent.parent


class PartFailed(SiteError):
    """A part of the tree could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process. `stdin` is its settings: never an argument, which every user of the machine can read."""

    name: str
    command: tuple[str, ...]
    stdin: str = ""
    probe: Callable[[], bool] | None = None  #: whether it answers; None: it prints a line "ready …" itself
    #: whether it still answers, given its "ready" words; for parts that can hang and not end
    pulse: Callable[[str], bool] | None = None
    waits_for: str = "its libraries to be loaded"  #: what keeps it from being ready, when that takes long
    log: Path | None = None  #: where it writes what it says; None: to our standard error
    foundation: bool = False  #: started before the others, stopped after them


@dataclass(slots=True)
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    started_at: float
    ready: bool = False
    look_at: float = 0.0  #: when to say that it is slow or, once it is ready, to feel its pulse
    missed: int = 0  #: pulses in a row
    pending: bytes = b""  #: the beginning of a line of its stdout


@dataclass(slots=True)
class _Fate:
    """What became of a part before: how often it ended, and when it may start again."""

    ends: int = 0
    start_at: float = 0.0
    ever_ready: bool = False


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs one of our modules with this same interpreter."""
    return (sys.executable, "-m", module, *arguments)


def die_with_parent() -> None:
    """Between fork and exec: have the kernel ask us to stop when our parent is gone (Linux only)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


# Loaded before any fork: nothing may be imported between fork and exec.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a part with everything it started, and collect it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(slots=True)
class Tree:
    """Runs `parts` until it is asked to stop. `on_ready` is told each part's own "ready" words, once, when
    all are.
    """

    parts: Sequence[Part]
    on_ready: Callable[[Mapping[str, str]], None]
    on_stopping: Callable[[], None] = lambda: None
    _running: dict[str, _Running] = field(default_factory=dict, init=False)
    _fates: dict[str, _Fate] = field(default_factory=dict, init=False)
    _words: dict[str, str] = field(default_factory=dict, init=False)
    _stop_signals: int = field(default=0, init=False)
    _announced: bool = field(default=False, init=False)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector, init=False)

    def run(self) -> None:
        """Start everything, restart what ends, return when a signal has stopped it all.

        Raises `PartFailed` when a part ends before it was ever ready; by then the others are stopped too.
        """
        if _LIBC is not None:
            # Whatever a killed part leaves behind becomes our child, and so can be found and ended.
            _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._fates = {part.name: _Fate() for part in self.parts}
        wake_read, wake_write = os.pipe()
        for end in (wake_read, wake_write):
            os.set_blocking(end, False)
        before_fd = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
            # Under nohup a closed terminal is no reason to stop.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        }
        self._selector.register(wake_read, selectors.EVENT_READ)
        try:
            while not self._stop_signals:
                self._start_what_is_due()
                self._wait(self._patience())
                self._notice_ends()
                self._notice_ready()
                self._feel_pulses()
            self.on_stopping()
        finally:
            try:
                self._stop_all()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(before_fd)
                self._selector.close()
                os.close(wake_read)
                os.close(wake_write)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stop_signals += 1

    # Starting

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for part in self.parts:
            fate = self._fates[part.name]
            if part.name in self._running or now < fate.start_at:
                continue
            if not part.foundation and not self._foundations_stand():
                continue
            self._start(part)

    def _foundations_stand(self) -> bool:
        return all(self._fates[part.name].ever_ready for part in self.parts if part.foundation)

    def _start(self, part: Part) -> None:
        process = subprocess.Popen(
            part.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=INSTALLED_AT,
            process_group=0,  # Ctrl-C in a terminal reaches only us; we stop the parts in order.
            preexec_fn=die_with_parent,  # noqa: PLW1509  Single-threaded, and only calls prctl.
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # It ended already: noticed as an end, with its own words on stderr.
            process.stdin.write(part.stdin.encode())
            process.stdin.close()
        os.set_blocking(process.stdout.fileno(), False)
        now = time.monotonic()
        self._running[part.name] = _Running(part, process, now, look_at=now + SLOW_S)
        self._selector.register(process.stdout, selectors.EVENT_READ, part.name)
        log.info("part.started", part=part.name, process=process.pid)

    # Watching

    def _patience(self) -> float:
        """How long to sleep: probes are polled, restarts have a time, all else wakes us by itself."""
        if any(not one.ready for one in self._running.values()):
            return 0.1
        waiting = [self._fates[part.name].start_at for part in self.parts if part.name not in self._running]
        waiting += [one.look_at for one in self._running.values() if one.part.pulse is not None]
        return max(0.05, min(waiting, default=time.monotonic() + 3600.0) - time.monotonic())

    def _wait(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                with suppress(BlockingIOError):
                    os.read(key.fd, 4096)
            else:
                self._read(self._running[key.data], key.fd)

    def _read(self, one: _Running, fd: int) -> None:
        with suppress(BlockingIOError):
            chunk = os.read(fd, 65536)
            if not chunk:
                self._selector.unregister(fd)
                return
            *lines, one.pending = (one.pending + chunk).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").strip()
                if not one.ready and text.split(" ", 1)[0] == "ready":
                    self._mark_ready(one, text.removeprefix("ready").strip())

    def _mark_ready(self, one: _Running, words: str = "") -> None:
        one.ready = True
        one.look_at = time.monotonic() + PULSE_S
        self._fates[one.part.name].ever_ready = True
        self._words[one.part.name] = words
        log.info("part.ready", part=one.part.name, after_s=round(time.monotonic() - one.started_at, 2))

    def _notice_ready(self) -> None:
        for one in self._running.values():
            if not one.ready and one.part.probe is not None and one.part.probe():
                self._mark_ready(one)
            if not one.ready and time.monotonic() >= one.look_at:
                one.look_at += SLOW_S
                after_s = round(time.monotonic() - one.started_at)
                log.warning(
                    "part.not_ready", part=one.part.name, after_s=after_s, waits_for=one.part.waits_for
                )
        if not self._announced and all(fate.ever_ready for fate in self._fates.values()):
            self._announced = True
            self.on_ready(dict(self._words))

    def _feel_pulses(self) -> None:
        """Kill a part that lives without answering: killed, it ends like any other, and is started again."""
        for one in self._running.values():
            if not one.ready or one.part.pulse is None or time.monotonic() < one.look_at:
                continue
            one.missed = 0 if one.part.pulse(self._words[one.part.name]) else one.missed + 1
            one.look_at = time.monotonic() + PULSE_S
            if one.missed == PULSES_MISSED:
                log.error("part.killed", part=one.part.name, because=f"no answer {one.missed} times in a row")
                one.process.kill()

    def _notice_ends(self) -> None:
        now = time.monotonic()
        for one in list(self._running.values()):
            code = one.process.poll()
            if code is None:
                continue
            self._forget(one)
            fate = self._fates[one.part.name]
            if not fate.ever_ready:
                raise PartFailed(
                    f"{one.part.name} could not start: it {_how_it_ended(code)}; {_last_words(one.part)}"
                )
            fate.ends = 0 if now - one.started_at > HEALTHY_S else fate.ends
            wait_s = BACKOFF_S[min(fate.ends, len(BACKOFF_S) - 1)]
            fate.ends += 1
            fate.start_at = now + wait_s
            log.error("part.ended", part=one.part.name, because=_how_it_ended(code), restart_in_s=wait_s)
        self._collect_the_dead()

    def _collect_the_dead(self) -> None:
        """Bury orphans that became ours and have ended; a part's own end is left to be noticed as one."""
        parts = {one.process.pid for one in self._running.values()}
        with suppress(ChildProcessError):  # There is nobody at all.
            while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if dead.si_pid in parts:
                    break
                os.waitpid(dead.si_pid, 0)

    def _forget(self, one: _Running) -> None:
        assert one.process.stdout is not None
        kill_group(one.process)  # It may have left children of its own, with a model in their memory.
        with suppress(KeyError, ValueError):
            self._selector.unregister(one.process.stdout)
        one.process.stdout.close()
        del self._running[one.part.name]

    # Stopping

    def _stop_all(self) -> None:
        asked_before = self._stop_signals
        self._stop([one for one in self._running.values() if not one.part.foundation], STOP_S, asked_before)
        self._stop(list(self._running.values()), FOUNDATION_STOP_S, asked_before)
        end_orphans()

    def _stop(self, these: list[_Running], patience_s: float, asked_before: int) -> None:
        for one in these:
            with suppress(ProcessLookupError):
                one.process.terminate()
        deadline = time.monotonic() + patience_s
        while these and time.monotonic() < deadline:
            for one in [one for one in these if one.process.poll() is not None]:
                log.info("part.stopped", part=one.part.name, because=_how_it_ended(one.process.returncode))
                these.remove(one)
                self._forget(one)
            # A second Ctrl-C means: now.
            if self._stop_signals > max(1, asked_before):
                break
            if these:
                self._wait(min(0.2, max(0.0, deadline - time.monotonic())))
        for one in these:
            log.error(
                "part.killed", part=one.part.name, because=f"still there {patience_s:.0f} s after SIGTERM"
            )
            self._forget(one)


def end_orphans() -> None:
    """Kill and collect every process that still has us for a parent (Linux: see PR_SET_CHILD_SUBREAPER)."""
    children = Path("/proc/self/task").glob("*/children")
    while pids := {int(pid) for file in children for pid in file.read_text().split()}:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        children = Path("/proc/self/task").glob("*/children")


def _last_words(part: Part) -> str:
    if part.log is None or not part.log.exists():
        return "its last words are above"
    return "its last words:\n" + "\n".join(part.log.read_text(errors="replace").splitlines()[-10:])


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"

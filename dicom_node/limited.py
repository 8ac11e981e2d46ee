"""A few processes that look at foreign data for us, each with one order at a time: see `limited_process`.

They are started when they are first needed, live until they fail or are too slow, and die with us: their
standard input ends. A process that dies over an instance takes only that answer with it. They get no
environment of ours, so no credentials and no settings, and files only as paths or open descriptors.
"""

import json
import os
import queue
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import structlog

from ledger.errors import SiteError, StudyError

log = structlog.get_logger()

LENGTH = struct.Struct(">Q")

_CHUNK = 1 << 20
_HEAD_MAXIMUM = 4096
_ORDER_MAXIMUM = 1 << 20


class ReaderDied(StudyError):
    """A process that looked at an instance took too long, or ended: as with any defect, over these data."""


class AllReading(SiteError):
    """All processes that could look at an instance are busy with others."""


class _Died(Exception):
    """The process ended or was too slow."""


class Limited:
    """Safe to use from many threads: they wait for each other."""

    def __init__(self, module: str, *, processes: int, limit_s: float, bytes_max: int) -> None:
        """`module` is run with `python -m`. An order takes at most `limit_s`, and a process `bytes_max`."""
        self._module, self._limit_s, self._bytes_max = module, limit_s, bytes_max
        self._free: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(processes):
            self._free.put(None)
        self._processes = processes

    def ask(self, order: Mapping[str, Any], descriptor: int | None = None) -> tuple[Mapping[str, Any], bytes]:
        """What is answered to `order`, which is about the open file `descriptor` if one is given.

        Raises `ReaderDied` or `AllReading`.
        """
        try:
            process = self._free.get(timeout=self._limit_s)
        except queue.Empty as error:
            raise AllReading("all processes that read such data are busy: try again") from error
        keep: _Process | None = None
        try:
            if process is None or not process.lives:
                process = _Process(self._module, self._limit_s, self._bytes_max)
            answer = process.ask(order, descriptor, time.monotonic() + self._limit_s)
            keep = process
        except (_Died, ValueError) as error:
            because = str(error) if isinstance(error, _Died) else "it does not keep to its protocol"
            log.warning("reader.died", because=because, order=str(order["do"]))
            raise ReaderDied("this instance takes more time or memory to read than any should") from error
        finally:
            if keep is None and process is not None:
                process.close()
            self._free.put(keep)
        return answer

    def close(self) -> None:
        """End all processes that are not at work; those end with their order, or with us."""
        for _ in range(self._processes):
            try:
                process = self._free.get_nowait()
            except queue.Empty:
                return
            if process is not None:
                process.close()


class _Process:
    """One process."""

    def __init__(self, module: str, limit_s: float, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._orders, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(bytes_max), str(limit_s)],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Nothing of ours: no credentials, no settings. Only where the code is.
                env={
                    "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path),
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )
        except BaseException:
            self._orders.close()
            raise
        finally:
            theirs.close()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def ask(
        self, order: Mapping[str, Any], descriptor: int | None, deadline: float
    ) -> tuple[dict[str, Any], bytes]:
        """What it answers. Raises `_Died`."""
        self._tell(json.dumps(order).encode() + b"\n", descriptor, deadline)
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
        if length > _HEAD_MAXIMUM:
            raise _Died("it does not keep to its protocol")
        told = json.loads(self._read(length, deadline))
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
        if length > self._bytes_max:
            raise _Died("it answers with more than it may have")
        return told, self._read(length, deadline)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._orders.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _tell(self, line: bytes, descriptor: int | None, deadline: float) -> None:
        assert len(line) <= _ORDER_MAXIMUM
        self._orders.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            sent = socket.send_fds(self._orders, [line], [] if descriptor is None else [descriptor])
            self._orders.sendall(line[sent:])
        except OSError as error:
            raise _Died("it has ended") from error

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        got = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while len(got) < size:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _Died("it took too long")
                piece = os.read(descriptor, min(_CHUNK, size - len(got)))
                if not piece:
                    raise _Died("it has ended")
                got += piece
        return bytes(got)

"""A few processes that read foreign data for us, each with one order at a time: see `reader`.

They are started when they are first needed, live until they fail or are too slow, and die with us: their
standard input ends. A process that dies over an instance takes only that answer with it.
"""

import json
import os
import queue
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import structlog

from dicom_node.dicomweb.reader import LENGTH
from dicom_node.dicomweb.refusals import NotAcceptable, NotHere, NotNow

log = structlog.get_logger()

_CHUNK = 1 << 20
_HEAD_MAXIMUM = 4096


class _Died(Exception):
    """The process ended or was too slow."""


class Readers:
    """Safe to use from many threads: they wait for each other."""

    def __init__(self, *, processes: int, limit_s: float, bytes_max: int) -> None:
        self._limit_s, self._bytes_max = limit_s, bytes_max
        self._free: queue.LifoQueue[_Reader | None] = queue.LifoQueue()
        for _ in range(processes):
            self._free.put(None)
        self._processes = processes

    def ask(self, order: Mapping[str, Any]) -> bytes:
        """The bytes that `order` gives. Raises `NotAcceptable`, `NotHere`, `NotNow` (all are busy)."""
        try:
            reader = self._free.get(timeout=self._limit_s)
        except queue.Empty as error:
            raise NotNow("all decoders are busy: try again") from error
        keep: _Reader | None = None
        try:
            if reader is None or not reader.lives:
                reader = _Reader(self._bytes_max)
            told, data = reader.ask(order, time.monotonic() + self._limit_s)
            keep = reader
        except _Died as error:
            log.warning("reader.died", because=str(error), order=str(order["do"]))
            raise NotAcceptable("this instance takes more time or memory to read than any should") from error
        finally:
            if keep is None and reader is not None:
                reader.close()
            self._free.put(keep)
        match told.get("unfit"):
            case None:
                return data
            case "missing":
                raise NotHere("the instance has nothing there")
            case "too large":
                raise NotAcceptable("this instance takes more memory to read than any should")
            case _:
                raise NotAcceptable("this instance cannot be read or decoded here")

    def close(self) -> None:
        """End all processes that are not at work; those end with their order, or with us."""
        for _ in range(self._processes):
            try:
                reader = self._free.get_nowait()
            except queue.Empty:
                return
            if reader is not None:
                reader.close()


class _Reader:
    """One process."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.dicomweb.reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Nothing of ours: no credentials, no settings. Only where the code is.
            env={
                "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
        self._write(f"{bytes_max}\n".encode())

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def ask(self, order: Mapping[str, Any], deadline: float) -> tuple[dict[str, Any], bytes]:
        """What it answers. Raises `_Died`."""
        self._write(json.dumps(order).encode() + b"\n")
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
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
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

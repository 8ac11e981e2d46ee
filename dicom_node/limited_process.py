"""The other end of `limited`: a process that bounds itself before it looks at anything, and takes orders.

It has as much memory and, for each order, as much processor time as it was started with, writes no files and
no core dumps, gains no rights by what it starts, and ends with its standard input.

An order is one line of JSON, with at most one open file. An answer is a length (8 bytes, big endian), a JSON
object, again a length, and bytes.
"""

import ctypes
import json
import math
import os
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from dicom_node.limited import LENGTH

#: Answers an order, whose open file is the second argument, if it has one.
Answer = Callable[[Mapping[str, Any], int | None], tuple[Mapping[str, Any], bytes]]

_INTERPRETER_BYTES = 1 << 30  # Interpreter and libraries take that many addresses before there is any data.
_LINE_MAXIMUM = 1 << 20
_PR_SET_NO_NEW_PRIVS = 38  # prctl(2)


def serve(answer: Answer) -> None:
    """Bound this process by its two arguments, bytes and seconds, and work until the input ends."""
    bytes_max, limit_s = int(sys.argv[1]), float(sys.argv[2])
    _bound(bytes_max)
    given = sys.stdout.buffer
    with socket.socket(fileno=os.dup(0)) as orders:
        while (order := _next(orders)) is not None:
            line, descriptor = order
            _grant(limit_s)
            try:
                told, data = answer(json.loads(line), descriptor)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
            head = json.dumps(told).encode()
            given.write(LENGTH.pack(len(head)) + head + LENGTH.pack(len(data)))
            given.write(data)
            given.flush()


def _bound(bytes_max: int) -> None:
    room = bytes_max + _INTERPRETER_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A core dump holds the patient's images.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # It reads.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _grant(limit_s: float) -> None:
    """Processor time for one more order; needed where whoever asked has died, for then nobody kills us."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(used.ru_utime + used.ru_stime + limit_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _next(orders: socket.socket) -> tuple[bytes, int | None] | None:
    """The next line and the file that came with it; None at the end."""
    line, descriptors, _, _ = socket.recv_fds(orders, _LINE_MAXIMUM, 1)
    while line and not line.endswith(b"\n"):
        more = orders.recv(_LINE_MAXIMUM)
        if not more or len(line) + len(more) > _LINE_MAXIMUM:
            return None
        line += more
    return (line, descriptors[0] if descriptors else None) if line else None

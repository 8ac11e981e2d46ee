"""Receivers of notifications: an interface engine over MLLP, and an HTTP server for HL7 v2 and FHIR.

Both answer as a test tells them to, well or badly, and keep every message that came.
"""

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.patience import patient

#: From a message to what is written back, at once or one piece every 50 ms; None: the connection is closed.
Behave = Callable[[bytes], bytes | Iterator[bytes] | None]


def field_of(message: str, segment: str, place: int) -> str:
    """The field `place` of the first `segment`."""
    fields = next(line for line in message.split("\r") if line.startswith(segment)).split("|")
    # MSH-1 is the separator, so what is split off first is MSH-2.
    return fields[place - 1] if segment == "MSH" else fields[place]


def acknowledge(
    message: bytes, code: str = "AA", *, about: str | None = None, error: str = "", text: str = ""
) -> bytes:
    """An acknowledgement of `message`, without a frame."""
    control = about if about is not None else field_of(message.decode(), "MSH", 10)
    lines = [
        "MSH|^~\\&|ENGINE|RIS|WETREAD||20260102||ACK^R01^ACK|ACK1|P|2.5.1",
        f"MSA|{code}|{control}|{text}",
    ]
    if error:
        lines.append(f"ERR||PID^1|{error}^x^HL70357|E||||{text}")
    return "".join(f"{line}\r" for line in lines).encode()


def framed(answer: bytes) -> bytes:
    return b"\x0b" + answer + b"\x1c\r"


def says(code: str = "AA", **how: str) -> Behave:
    """A receiver that answers every message with this acknowledgement."""
    return lambda message: framed(acknowledge(message, code, **how))


@dataclass
class Engine:
    """An interface engine: MLLP on loopback."""

    port: int
    messages: list[bytes] = field(default_factory=list)
    behave: Behave = field(default_factory=says)

    @property
    def url(self) -> str:
        return f"mllp://127.0.0.1:{self.port}"


@contextmanager
def engine(behave: Behave | None = None, *, tls: ssl.SSLContext | None = None) -> Iterator[Engine]:
    """One that listens until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = Engine(listener.getsockname()[1])
        running.behave = behave or running.behave
        stop = threading.Event()
        threads: list[threading.Thread] = []

        def one(connection: socket.socket) -> None:
            try:
                with connection if tls is None else tls.wrap_socket(connection, server_side=True) as talk:
                    talk.settimeout(patient(10))
                    got = b""
                    while b"\x1c\r" not in got:
                        piece = talk.recv(65536)
                        if not piece:
                            return
                        got += piece
                    message = got[1 : got.index(b"\x1c")]
                    running.messages.append(message)
                    answer = running.behave(message)
                    if answer is None:
                        return
                    if isinstance(answer, bytes):
                        talk.sendall(answer)
                    else:
                        for piece in answer:
                            talk.sendall(piece)
                            if stop.wait(0.05):
                                return
                    # Until the other end has had enough: what is half an answer stays half of one.
                    while talk.recv(1024):
                        pass
            except OSError:
                return

        def accept() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
                threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield running
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(patient(5))


@dataclass
class Web:
    """A server of HL7 over HTTP and of FHIR: DiagnosticReports by conditional update (FHIR R4 §3.1.0.4.3)."""

    port: int
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[str, str, bytes], tuple[int, dict[str, str], bytes]] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def update(self, path: str, body: bytes) -> int:
        """A conditional update; the status."""
        report = json.loads(body)
        (wanted,) = parse_qs(urlsplit(path).query)["identifier"]
        system, _, value = wanted.partition("|")
        same = [
            index
            for index, one in enumerate(self.reports)
            if {"system": system, "value": value} in one["identifier"]
        ]
        if len(same) > 1:
            return 412
        if same:
            self.reports[same[0]] = report
            return 200
        self.reports.append(report)
        return 201


@contextmanager
def web() -> Iterator[Web]:
    """One that listens until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.requests.append((self.command, self.path, dict(self.headers), body))
            if server.answer is not None:
                status, headers, told = server.answer(self.command, self.path, body)
            elif self.command == "PUT" and re.match(r"/DiagnosticReport\?", self.path):
                status, headers, told = server.update(self.path, body), {}, b""
            else:
                status, headers, told = 200, {"Content-Type": "application/hl7-v2"}, acknowledge(body)
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_PUT = do_POST = _take  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Web(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join(patient(5))

"""Web servers made of bytes: each connection gets what the test says, whatever was asked."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from dicom_node.peers import PeerSettings
from tests.dicom_node.raw_peer import raw_peer

#: Does what it likes with a connection, once it has read a request: (request, connection, over)
Answer = Callable[["Request", socket.socket, threading.Event], None]


@dataclass
class Request:
    """What was asked: the first line, the headers (lower case) and the body, as far as they were read."""

    line: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class WebServer:
    """A peer that behaves as told, and what it was asked."""

    peer: PeerSettings
    requests: list[Request] = field(default_factory=list)


@contextmanager
def web_server(
    *answers: Answer,
    context: ssl.SSLContext | None = None,
    read_body: bool = True,
    web: dict[str, object] | None = None,
    **settings: object,
) -> Iterator[WebServer]:
    """A server that gives `answers`, one to each connection, the last one to all that follow."""
    requests: list[Request] = []
    left = list(answers)

    def behave(connection: socket.socket, over: threading.Event) -> None:
        with suppress(OSError):
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            request = read_request(connection, body=read_body)
            answer = left.pop(0) if len(left) > 1 else left[0]
            requests.append(request)
            answer(request, connection, over)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    with raw_peer(behave, **settings) as listening:
        scheme = "https" if context else "http"
        url = f"{scheme}://127.0.0.1:{listening.port}/dicom-web"
        told = {"name": "archive", "web": {"url": url, **(web or {})}, **settings}
        yield WebServer(PeerSettings.model_validate(told), requests)


def read_request(connection: socket.socket, *, body: bool = True) -> Request:
    """One request, with its body where it has one and `body` is asked for."""
    stream = connection.makefile("rb")
    line = stream.readline(65536).decode("latin-1").strip()
    if not line:
        raise OSError("closed")
    headers = {}
    while (text := stream.readline(65536).decode("latin-1").strip()) != "":
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    found = stream.read(int(headers.get("content-length", 0))) if body else b""
    return Request(line, headers, found)


def head(status: str = "200 OK", **headers: object) -> bytes:
    """The beginning of an answer."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def says(status: str = "200 OK", body: object = b"", media_type: str = "application/dicom+json") -> Answer:
    """A whole answer with `body`: bytes, or what becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(_request: Request, connection: socket.socket, _over: threading.Event) -> None:
        told = head(status, Content_Type=media_type, Content_Length=len(data), Connection="close")
        connection.sendall(told + data)

    return answer


def sends(data: bytes) -> Answer:
    """These bytes, and the end of the connection."""

    def answer(_request: Request, connection: socket.socket, _over: threading.Event) -> None:
        connection.sendall(data)

    return answer


def dribbles(first: bytes, then: bytes = b" ", every_s: float = 0.02) -> Answer:
    """`first`, and then `then` again and again, for as long as anybody listens."""

    def answer(_request: Request, connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        while not over.wait(every_s):
            connection.sendall(then)

    return answer


def falls_silent(first: bytes = b"") -> Answer:
    """`first`, and then nothing."""

    def answer(_request: Request, connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        over.wait(30)

    return answer


def uid(*values: object) -> dict[str, object]:
    """An attribute of DICOM JSON that holds UIDs."""
    return {"vr": "UI", "Value": [str(value) for value in values]}


def number(value: object) -> dict[str, object]:
    """An attribute of DICOM JSON that holds a number."""
    return {"vr": "IS", "Value": [value]}

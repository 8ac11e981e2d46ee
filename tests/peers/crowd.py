"""Clients of a web server at other addresses of this machine, most of which say nothing."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.patience import patient


@contextmanager
def silent(port: int, *addresses: str) -> Iterator[list[socket.socket]]:
    """A connection from each of `addresses`, in this order, that says nothing."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", port), patient(20), source_address=(address, 0))
            )
            for address in addresses
        ]


def closed(connection: socket.socket) -> bool:
    """Whether the server ends it, with nothing said."""
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def status_from(address: str, port: int, path: str) -> int:
    """The status of a GET from `address`; 0 where the connection is closed unanswered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, patient(20), source_address=(address, 0))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except ConnectionError:
        return 0
    finally:
        connection.close()

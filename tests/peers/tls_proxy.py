"""TLS in front of a server that speaks plain HTTP, as hospitals have it in front of their archives.

The Orthanc of Debian 12 (1.10.1) dies of a segmentation fault with the first HTTPS connection of its own.
"""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.patience import patient


@contextmanager
def tls_in_front_of(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """The port on loopback at which TLS by `context` leads to `port`."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    open_ones: list[socket.socket] = []

    def pipe(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(plain: socket.socket) -> None:
        with suppress(OSError):
            plain.settimeout(patient(30))
            outside = context.wrap_socket(plain, server_side=True)
            inside = socket.create_connection(("127.0.0.1", port), timeout=patient(30))
            open_ones.extend((outside, inside))
            with outside, inside:
                back = threading.Thread(target=pipe, args=(inside, outside), daemon=True)
                back.start()
                pipe(outside, inside)
                back.join(patient(30))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                thread = threading.Thread(target=serve, args=(connection,), daemon=True)
                thread.start()
                threads.append(thread)

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in open_ones:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in (acceptor, *threads):
            thread.join(patient(5))

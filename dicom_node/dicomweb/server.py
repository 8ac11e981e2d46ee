"""A web server in operation: uvicorn, told to be quiet, patient within limits, and stoppable."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import uvicorn
from starlette.types import ASGIApp

from dicom_node.dicomweb.connection import Entrance, patient_for
from dicom_node.renewal import Renewal
from dicom_node.tls import web_context
from dicom_node.tls_settings import WebTlsSettings
from ledger.errors import SiteError

_HEAD_MAXIMUM = 32_768  # bytes of a request's line and headers
_STOP_S = 5
_BACKLOG = 128  # connections that the kernel keeps until they are accepted


class WebPortTaken(SiteError):
    """Nothing can listen at a web server's address."""


class ServedSettings(Protocol):
    """What the settings of any web server here say, under these names."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls(self) -> WebTlsSettings | None: ...
    @property
    def connections(self) -> int: ...
    @property
    def connections_per_address(self) -> int: ...
    @property
    def proxies(self) -> frozenset[str]: ...
    @property
    def head_s(self) -> float: ...
    @property
    def stall_s(self) -> float: ...


def listen(settings: ServedSettings, table: str) -> socket.socket:
    """A socket at the configured address; `table` is where the settings stand. Raises `WebPortTaken`."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise WebPortTaken(
            f"[{table}] cannot listen at {settings.host} port {settings.port}: {error.strerror or error}. "
            f"Another port, or enabled = false, goes into [{table}]"
        ) from error
    # Inherited by every connection: head and body of an answer go out one after the other, and without it the
    # body waits 40 ms for the head to be acknowledged. asyncio sets it only for sockets that it makes itself.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Entrance(listening, each=settings.connections_per_address, exempt=settings.proxies)


def _secure(settings: WebTlsSettings) -> Callable[..., ssl.SSLContext]:
    """What makes the context for uvicorn: each handshake takes the certificates that lie there then."""
    renewal = Renewal(settings, lambda: web_context(settings))

    def take_newest(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = renewal.context()

    def make(*_: object) -> ssl.SSLContext:
        context = web_context(settings)
        context.sni_callback = take_newest  # Called for every handshake, whether it names a server or not.
        return context

    return make


class Server(uvicorn.Server):
    """Serves `app` until `should_exit`. Signals are the business of whoever runs it."""

    def __init__(self, app: ASGIApp, settings: ServedSettings, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=patient_for(head_s=settings.head_s, stall_s=settings.stall_s),
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,  # It would write paths and queries.
                server_header=False,
                proxy_headers=False,  # Nobody's word for who he is.
                limit_concurrency=settings.connections + 1,  # It counts the one that asks as well.
                timeout_keep_alive=max(1, min(5, int(settings.stall_s))),
                timeout_graceful_shutdown=_STOP_S,
                h11_max_incomplete_event_size=_HEAD_MAXIMUM,
                ssl_context_factory=_secure(settings.tls) if settings.tls is not None else None,
            )
        )
        self._on_ready = on_ready
        self._head_s = settings.head_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so. uvicorn's own would wait a minute for each TLS handshake."""
        loop, config = asyncio.get_running_loop(), self.config
        protocol: Any = config.http_protocol_class

        self.servers = [
            await loop.create_server(
                lambda: protocol(config, self.server_state, self.lifespan.state),
                sock=listening,
                ssl=config.ssl,
                ssl_handshake_timeout=self._head_s if config.ssl is not None else None,
                backlog=_BACKLOG,
            )
            for listening in sockets or []
        ]
        self.started = True
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    def serve_at(self, listening: socket.socket) -> None:
        """Serve until `should_exit`."""
        asyncio.run(self.serve([listening]))

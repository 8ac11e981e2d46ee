"""HTTP to a peer, held to what an association is held to: one deadline over everything, and a largest answer.

dicomweb-client and requests are good at DICOMweb and at HTTP, but not at peers that are broken or mean no
good: their timeouts start anew with every byte, an answer may have any size and is unpacked without a limit,
and a redirection is followed with our secrets to wherever it points. So they get a session that

- ends at the deadline, whatever it is doing then: a timer shuts the connection, from the TLS handshake to
  the last byte of the body;
- reads no more than a given number of bytes, takes no compressed answer and follows no redirection;
- speaks TLS 1.2 or later with a server whose certificate is good, and knows no proxy, no `.netrc` and
  nothing else that lies in the environment.

Looking up a host name is the one wait that the deadline does not cover; the system's resolver has its own.
"""

import base64
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from dicom_node.peers import PeerSettings
from dicom_node.reach import Deadline, PeerAway, PeerSilent
from dicom_node.requestor import PeerGone
from dicom_node.tls import TlsUnusable, show, trust
from dicom_node.upper_layer import PeerConfused
from dicom_node.web_peer import WebPeerSettings
from ledger.errors import PeerError

_PIECE_BYTES = 1 << 16
_SECRET_BYTES_MAX = 64 << 10
_TRUST_WORDS = 'its certificate is not trusted here ({why}): name the file of whoever signed it as "ca_file"'


class SecretMissing(PeerError):
    """A file of ours that says who we are, or whom we trust, cannot be used until it is mended."""


class NotAdmitted(PeerError):
    """The peer does not let us in (401, 403): our token, password or certificate is not good there."""


class Redirected(PeerError):
    """The peer sends us to another address. Nobody but the settings sends us anywhere."""


class WebRefused(PeerError):
    """The peer answered with a status of HTTP that is no success. `status` is it."""

    def __init__(self, message: str, status: int) -> None:
        """`message` is the sentence, `status` that of HTTP."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    media_type: str  #: lower case, without parameters
    body: bytes


class WebSession(requests.Session):
    """One exchange with one peer. Use `WebSession.to`; not for several threads at once."""

    def __init__(
        self, peer: PeerSettings, web: WebPeerSettings, deadline: Deadline, silence_s: float | None
    ) -> None:
        """Use `WebSession.to`."""
        super().__init__()
        self._silence_s = silence_s
        self.web = web
        self.deadline = deadline
        self._connect_s = peer.connect_s
        self._watch = _Watch(deadline)
        self._heads_only = False
        self.trust_env = False
        self.headers = requests.structures.CaseInsensitiveDict(
            {"User-Agent": "Wetread", "Accept-Encoding": "identity", **_authorization(web)}
        )
        self.adapters.clear()
        secure = any(urlsplit(url).scheme == "https" for url in web.urls)
        context = tls_context(web) if secure else None
        self.mount("https://", _Adapter(self._watch, context))
        self.mount("http://", _Adapter(self._watch, None))

    @classmethod
    @contextmanager
    def to(cls, peer: PeerSettings, *, deadline_s: float, silence_s: float | None = None) -> Iterator[Self]:
        """A session that ends `deadline_s` seconds from now, or after `silence_s` without a byte.

        What goes wrong in the block becomes a `PeerError` of this module or of `requestor`.
        """
        if peer.web is None:
            raise PeerAway(f"{peer.name} has no [peer.web]: it cannot be reached over the web")
        session = cls(peer, peer.web, Deadline(deadline_s), silence_s)
        try:
            yield session
        except requests.RequestException as error:
            session.deadline.left("waiting for its answer")
            raise _in_our_words(error, peer) from error
        finally:
            session.close()

    def send(self, request: requests.PreparedRequest, **settings: Any) -> requests.Response:
        """As requests does it, within our limits. dicomweb-client comes through here as well."""
        # dicomweb-client writes a Host without the port, which is another host.
        request.headers.pop("Host", None)
        left = self.deadline.left("asking it")
        settings |= {
            "stream": True,
            "allow_redirects": False,
            "timeout": (min(self._connect_s, left), min(self._silence_s or left, left)),
            "verify": True,
            "cert": None,
            "proxies": {},
        }
        response = super().send(request, **settings)
        if response.is_redirect or 300 <= response.status_code < 400:
            where = urlsplit(response.headers.get("Location", "")).netloc or "another place"
            raise Redirected(f"it sends us to {where} ({response.status_code}): name the right url instead")
        if response.status_code in (401, 403):
            raise NotAdmitted(_not_admitted(response.status_code, self.web))
        if not self._heads_only:
            response._content = b"".join(self.pieces(response, self.web.answer_bytes_max))
            response._content_consumed = True
        return response

    def pieces(self, response: requests.Response, most: int) -> Iterator[bytes]:
        """The body as it comes. Raises `PeerConfused` beyond `most` bytes."""
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity":
            raise PeerConfused("it sent a compressed answer, which was not asked for")
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > most:
            raise PeerConfused(f"it wants to send {int(length[:20])} bytes; at most {most} are taken")
        taken = 0
        with _reading(self.deadline):
            while piece := response.raw.read1(_PIECE_BYTES, decode_content=False):
                taken += len(piece)
                if taken > most:
                    raise PeerConfused(f"its answer is longer than {most} bytes")
                self.deadline.left("reading its answer")
                yield piece
        self.deadline.left("reading its answer")

    def store(self, url: str, content_type: str, body: "SizedBody") -> Reply:
        """POST `body`. The answer, whatever its status is but 3xx, 401 and 403."""
        headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
        response = self.post(url, data=body, headers=headers)
        return Reply(response.status_code, media_type(response), response.content)

    @contextmanager
    def opened(self, url: str, accept: str) -> Iterator[tuple[str, Iterator[bytes]]]:
        """GET with a body that is read as it comes: its Content-Type, and the pieces.

        Raises `WebRefused` where the status is not 200.
        """
        self._heads_only = True
        try:
            response = self.get(url, headers={"Accept": accept})
        finally:
            self._heads_only = False
        if response.status_code != 200:
            raise WebRefused(f"it answered {_status(response)}", response.status_code)
        yield response.headers.get("Content-Type", ""), self.pieces(response, self.web.retrieve_bytes_max)

    def close(self) -> None:
        """Let go of the connection, in whatever state it is."""
        self._watch.close()
        with suppress(Exception):  # requests says nothing of what close may raise, and nothing depends on it.
            super().close()


class SizedBody:
    """A body of known length that is made as it is sent: requests would otherwise send it in chunks."""

    def __init__(self, size: int, pieces: Iterable[bytes]) -> None:
        """`size` is the number of bytes in all `pieces`."""
        self._size, self._pieces = size, pieces
        self.begun = False  #: Whether a byte of it may have left.

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.begun = True
            yield piece


def media_type(response: requests.Response) -> str:
    """The type of the answer, in lower case and without parameters."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def tls_context(web: WebPeerSettings) -> ssl.SSLContext:
    """Whom we trust, and who we are (PS3.15 §B.12: TLS 1.2 or later). Raises `SecretMissing`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if web.ca_file else ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The certificate of a single machine may stand in ca_file, whoever signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        if web.ca_file is not None:
            trust(context, web.ca_file)
        if web.certificate_file is not None:
            show(context, web.certificate_file, web.key_file, None)
    except TlsUnusable as error:
        raise SecretMissing(str(error)) from None
    return context


def _authorization(web: WebPeerSettings) -> Mapping[str, str]:
    if web.token_file is not None:
        return {"Authorization": f"Bearer {secret(web.token_file)}"}
    if web.login_file is not None:
        login = secret(web.login_file)
        if ":" not in login:
            raise SecretMissing(f"{web.login_file} has to hold one line: user:password")
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    return {}


def secret(path: Path) -> str:
    """The one line in the file. What it says is in no message. Raises `SecretMissing`."""
    try:
        with path.open("rb") as file:
            text = file.read(_SECRET_BYTES_MAX).decode().strip()
    except OSError as error:
        raise SecretMissing(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretMissing(f"{path} is no text") from None
    if not text or not text.isprintable():
        raise SecretMissing(f"{path} has to hold one line of text")
    return text


def _not_admitted(status: int, web: WebPeerSettings) -> str:
    if status == 403:
        return "it knows us but does not allow this (403): that has to be allowed there"
    told = {
        "none": 'it wants to know who we are (401): set "auth" in [peer.web]',
        "basic": f"it does not take our user and password (401): look into {web.login_file}",
        "bearer": f"it does not take our token (401): the one in {web.token_file} is wrong or has expired",
        "certificate": "our certificate alone does not let us in (401)",
    }
    return told[web.auth]


def _status(response: requests.Response) -> str:
    reason = "".join(c for c in (response.reason or "")[:64] if c.isprintable())
    return f"{response.status_code} {reason}".strip()


@contextmanager
def _reading(deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except urllib3.exceptions.ReadTimeoutError as error:
        deadline.left("reading its answer")
        raise PeerSilent("it fell silent while we were reading its answer") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        deadline.left("reading its answer")
        raise PeerGone("the connection broke while we were reading its answer") from error


def _in_our_words(error: requests.RequestException, peer: PeerSettings) -> PeerError:
    chain: list[BaseException] = []
    _causes(error, chain)
    known = (told for one in chain if (told := _told(one, peer)) is not None)
    return next(known, PeerConfused(f"its answer cannot be read ({type(error).__name__})"))


def _told(error: BaseException, peer: PeerSettings) -> PeerError | None:
    match error:
        case ssl.SSLCertVerificationError():
            told: PeerError | None = PeerAway(_TRUST_WORDS.format(why=error.verify_message))
        case ssl.SSLError():
            told = PeerAway(
                f"TLS with it failed: {error.reason or 'no reason given'}".replace("_", " ").lower()
            )
        case socket.gaierror():
            told = PeerAway("its host name is not known here")
        case ConnectionRefusedError():
            told = PeerAway("nobody listens there (connection refused)")
        case urllib3.exceptions.ConnectTimeoutError():
            told = PeerAway(f"nothing answered within {peer.connect_s:g} s")
        case urllib3.exceptions.ReadTimeoutError():
            told = PeerSilent("it said nothing more")
        case requests.JSONDecodeError():
            told = PeerConfused("its answer is no JSON")
        case requests.HTTPError() if error.response is not None:
            told = WebRefused(f"it answered {_status(error.response)}", error.response.status_code)
        case ConnectionError():
            told = PeerGone("the connection broke")
        case _:
            told = None
    return told


def _causes(error: object, chain: list[BaseException]) -> None:
    """What led to `error`, the innermost first: urllib3 and requests keep it as `reason` and arguments."""
    if not isinstance(error, BaseException) or error in chain or len(chain) > 20:
        return
    for one in (error.__cause__, error.__context__, getattr(error, "reason", None), *error.args):
        _causes(one, chain)
    chain.append(error)


class _Watch:
    """Shuts every connection of a session at its deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._over = False
        self._timer = threading.Timer(deadline.left("beginning"), self._shut)
        self._timer.daemon = True
        self._timer.start()

    def over(self, connection: socket.socket) -> None:
        """Watch over one more connection."""
        # A second descriptor of the same connection: what TLS makes of the first does not matter to it.
        watched = connection.dup()
        with self._lock:
            self._sockets.append(watched)
            over = self._over
        if over:
            self._shut()

    def close(self) -> None:
        """Shut what is still open, too: requests only lets go of connections that it has read to the end."""
        self._timer.cancel()
        self._shut()
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            one.close()

    def _shut(self) -> None:
        with self._lock:
            self._over = True
            for one in self._sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Connections that are watched, with a TLS context of our own."""

    def __init__(self, watch: _Watch, context: ssl.SSLContext | None) -> None:
        self._classes = _watched(watch)
        self._context = context
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._classes

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> HTTPConnectionPool:
        # requests would lay the certificates of `certifi` beside those that the site trusts.
        settings = {"ssl_context": self._context} if self._context else {}
        parts = urllib3.util.parse_url(request.url)
        pool: HTTPConnectionPool = self.poolmanager.connection_from_host(
            parts.host, parts.port, parts.scheme or "http", pool_kwargs=settings
        )
        return pool

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """The context verifies."""


def _watched(watch: _Watch) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            watch.over(connection)
            return connection

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            watch.over(connection)
            return connection

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}

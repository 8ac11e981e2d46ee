"""P14 with TLS: every AE title from every address with every certificate, and with none, against one node.

`try_callers` is also called by the command that prints the promises.
"""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from dicom_node.upper_layer import ProposedContext, associate_request
from ledger.identifiers import AETitle, Uid
from tests.patience import patient
from tests.peers.certificates import Authority, Pair, authority

CT1_AT, CT2_AT, NOBODYS = "127.0.3.1", "127.0.4.7", "127.0.9.9"
TITLES = ("CT1", "CT2", "OLD", "MOVING", "WETREAD", "NOBODY")
ADDRESSES = (CT1_AT, CT2_AT, NOBODYS)
#: What a caller comes with: nothing (plain DICOM), TLS without a certificate, or one of these certificates.
SHOWN = ("plain", "none", "ct1", "ct2", "other", "forged", "expired")

_HERE = frozenset({"plain", "none", "ct1", "ct2", "other"})  # what the site lets through to the AE titles
#: (AE title, address, shown) of everybody who may come in.
ALLOWED = frozenset(
    {("CT1", CT1_AT, "ct1"), ("CT2", CT2_AT, "ct2"), ("MOVING", CT1_AT, "plain"), ("MOVING", CT1_AT, "ct1")}
    | {("OLD", CT2_AT, shown) for shown in _HERE}
)
_ACCEPT, _REJECT = 2, 3


@dataclass(frozen=True, slots=True)
class Knock:
    """One caller, and what became of it: the type of the PDU that answered, 0 where TLS came to nothing."""

    calling: str
    address: str
    shown: str
    answer: int
    rejection: tuple[int, int, int] | None

    @property
    def allowed(self) -> bool:
        return (self.calling, self.address, self.shown) in ALLOWED

    @property
    def right(self) -> bool:
        if self.allowed:
            return self.answer == _ACCEPT
        if self.shown in ("forged", "expired"):
            return self.answer == 0
        return self.answer == _REJECT and self.rejection == (1, 1, 3)

    def __str__(self) -> str:
        return f"{self.calling} from {self.address} with {self.shown}: {self.answer} {self.rejection or ''}"


class Callers:
    """The certificates of a site and of those who are none of it."""

    def __init__(self, folder: Path) -> None:
        self.authority = authority(folder / "ours")
        stranger = authority(folder / "theirs")
        self.node = self.authority.sign("node")
        self.shown: dict[str, Pair | None] = {
            "none": None,
            "ct1": self.authority.sign("ct1", names="DNS:ct1.hospital.example"),
            "ct2": self.authority.sign("ct2", names="DNS:ct2.hospital.example"),
            "other": self.authority.sign("other", names="DNS:other.hospital.example"),
            "forged": stranger.sign("ct1", names="DNS:ct1.hospital.example"),
            "expired": self.authority.sign("expired", names="DNS:ct1.hospital.example", days=-1),
        }

    def site(self) -> dict[str, object]:
        """Sections of a `NodeSite` under which `ALLOWED` may come in, and nobody else."""
        ct1 = self.shown["ct1"]
        assert ct1 is not None
        at = {"host": "127.0.0.1", "port": 104}
        return {
            "node": {
                "port": 0,
                "callers": "known",
                "tls": {
                    "port": 0,
                    "certificate_file": str(self.node.certificate),
                    "key_file": str(self.node.key),
                    "ca_file": str(self.authority.ca),
                    "client_certificate": "optional",
                },
            },
            "peers": [
                {"name": "ct1", "ae_title": "CT1", **at, "addresses": [CT1_AT],
                 "tls": {"fingerprints": [ct1.fingerprint]}},
                {"name": "ct2", "ae_title": "CT2", **at, "addresses": ["127.0.4.0/24"],
                 "tls": {"names": ["ct2.hospital.example"]}},
                {"name": "old", "ae_title": "OLD", **at, "addresses": [CT2_AT]},
                {"name": "moving", "ae_title": "MOVING", **at, "addresses": [CT1_AT],
                 "tls": {"fingerprints": [ct1.fingerprint], "required": False}},
            ],
        }  # fmt: skip

    def knock(self, port: int, tls_port: int, calling: str, address: str, shown: str) -> Knock:
        """Ask once for an association."""
        answer = b""
        with suppress(OSError), self._line(port, tls_port, address, shown) as line:
            line.sendall(request(calling))
            answer = _exactly(line, 10)
        rejection = (answer[7], answer[8], answer[9]) if answer[:1] == bytes([_REJECT]) else None
        return Knock(calling, address, shown, answer[0] if answer else 0, rejection)

    @contextmanager
    def _line(self, port: int, tls_port: int, address: str, shown: str) -> Iterator[socket.socket]:
        target = port if shown == "plain" else tls_port
        with socket.create_connection(("127.0.0.1", target), 10, source_address=(address, 0)) as line:
            if shown == "plain":
                yield line
            else:
                with client_context(self.authority, self.shown[shown]).wrap_socket(line) as secured:
                    yield secured


def try_callers(callers: Callers, port: int, tls_port: int) -> list[Knock]:
    """Knock in every way there is; each should be `right`."""
    return [
        callers.knock(port, tls_port, calling, address, shown)
        for calling, address, shown in product(TITLES, ADDRESSES, SHOWN)
    ]


def client_context(authority: Authority, identity: Pair | None) -> ssl.SSLContext:
    """A client of the tests that trusts `authority` and checks no names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(authority.ca)
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    return context


def request(calling: str, called: str = "WETREAD") -> bytes:
    """An A-ASSOCIATE-RQ for Verification."""
    verification = ProposedContext(Uid("1.2.840.10008.1.1"), (Uid("1.2.840.10008.1.2"),))
    return associate_request(
        calling=AETitle.parse(calling),
        called=AETitle.parse(called),
        contexts=[verification],
        maximum_length=16384,
    )


def _exactly(line: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = line.recv(length - len(data))
        if not part:
            raise OSError("closed")
        data += part
    return data


def silent(port: int, count: int) -> list[socket.socket]:
    """Connections that never say a word."""
    return [socket.create_connection(("127.0.0.1", port), 10) for _ in range(count)]


def trickle(port: int, over: threading.Event, every_s: float) -> threading.Thread:
    """A client that sends its hello byte by byte until the node has enough of it; `over` ends it, too."""
    hello = ssl.MemoryBIO()
    nothing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(nothing, hello).do_handshake()
    line = socket.create_connection(("127.0.0.1", port), 10)

    def send() -> None:
        with suppress(OSError), line:
            for byte in hello.read():
                line.sendall(bytes([byte]))
                if over.wait(every_s) or select_closed(line):
                    return

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def select_closed(line: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    line.settimeout(0.0)
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        line.settimeout(patient(10))

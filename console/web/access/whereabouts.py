"""What the console is called, and from where it is asked: for the checks of Host, Origin and address."""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from console.web.settings import ConsoleSettings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_called(host: str, settings: ConsoleSettings) -> bool:
    """Whether a Host header names this console.

    A page of the internet can make a browser call this machine by a name of its own (DNS rebinding); by a
    bare address, or by our name, it cannot.
    """
    name = _name(host)
    if not name:
        return False
    if settings.public_url is not None and name == urlsplit(settings.public_url).hostname:
        return True
    if settings.is_local:
        return name in _LOOPBACK
    return _is_address(name) or name in _LOOPBACK or name in {settings.host.lower(), *_own_names()}


def origins(host: str, settings: ConsoleSettings) -> frozenset[str]:
    """What a browser calls the origin of our pages, which it reached at `host`."""
    scheme = "https" if settings.tls is not None else "http"
    known = {f"{scheme}://{host.lower()}"}
    if settings.public_url is not None:
        known.add(settings.public_url.lower())
    return frozenset(known)


def address_of(peer: str, headers: Headers, settings: ConsoleSettings) -> str:
    """Who asks: the peer, or, where that is a proxy of ours, whom it says that it asks for."""
    if peer not in settings.proxies:
        return peer
    # Some proxies add a line below the one that came: together they are one list (RFC 9110 §5.3).
    said = [one.strip() for line in headers.getlist("x-forwarded-for") for one in line.split(",")]
    # From the right: what stands further left was written by whoever asked.
    return next((one for one in reversed(said) if one and one not in settings.proxies), peer)


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_names() -> frozenset[str]:
    return frozenset({socket.gethostname().lower(), socket.getfqdn().lower()})

"""Certificates that will soon be good for nothing, or are already: told a month before a scanner notices."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from console.alarms import Alarm
from console.settings import Site
from console.tables import duration
from dicom_node.certificate import NoCertificate, read_certificates
from dicom_node.tls import TlsUnusable, show

WARN_S = 30 * 86400.0  # Some CAs need weeks.


@dataclass(frozen=True, slots=True)
class _Shown:
    """A certificate of ours, or those that we believe, and where the settings name it."""

    table: str
    path: Path
    key: Path | None = None
    password: Path | None = None
    ours: bool = True


def certificate_alarms(site: Site, now: float) -> list[Alarm]:
    """What is wrong with the files that the settings name. `now` in seconds since 1970."""
    found = {}
    for one in _named(site):
        # Peers borrow from [node.tls]: one sentence for each file.
        if one.path not in found and (alarm := _judge(one, now)) is not None:
            found[one.path] = alarm
    return list(found.values())


def _named(site: Site) -> Iterator[_Shown]:
    tls = site.node.tls
    if tls is not None:
        yield _Shown("[node.tls]", tls.certificate_file, tls.key_file, tls.key_password_file)
        yield _Shown("[node.tls]", tls.ca_file, ours=False)
    web = site.dicomweb.tls
    if web is not None and site.dicomweb.enabled:
        yield _Shown("[dicomweb.tls]", web.certificate_file, web.key_file, web.key_password_file)
    for peer in site.peers:
        if peer.tls is not None:
            table = f"[peer.tls] of {peer.name}"
            if peer.tls.certificate_file is not None:
                yield _Shown(table, peer.tls.certificate_file, peer.tls.key_file, peer.tls.key_password_file)
            if peer.tls.ca_file is not None:
                yield _Shown(table, peer.tls.ca_file, ours=False)
        if peer.web is not None and peer.web.certificate_file is not None:
            yield _Shown(f"[peer.web] of {peer.name}", peer.web.certificate_file, peer.web.key_file)


def _judge(one: _Shown, now: float) -> Alarm | None:
    try:
        certificates = read_certificates(one.path)
        if one.ours:
            show(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), one.path, one.key, one.password)
    except (NoCertificate, OSError, TlsUnusable) as error:
        cause = error.__cause__ if isinstance(error, TlsUnusable) else error
        if isinstance(cause, PermissionError):
            return None  # Not for this user to read; the node says at its start what it cannot read.
        because = error.strerror if isinstance(error, OSError) else str(error)
        words = f"the {_what(one)} {one.path} cannot be used: {because}; one loaded before goes on"
        return Alarm("certificate", words, about=str(one.path))
    # The first is the one that is shown. Of those that we believe one that is good is enough.
    ends_at = certificates[0].ends_at if one.ours else max(each.ends_at for each in certificates)
    if ends_at <= now:
        words = f"the {_what(one)} {one.path} expired {duration(now - ends_at)} ago: {_then(one)}"
        return Alarm("certificate expired", words, about=str(one.path))
    if ends_at - now <= WARN_S:
        words = f"the {_what(one)} {one.path} expires in {duration(ends_at - now)}: {_then(one)} then"
        return Alarm("certificate expires", words, False, str(one.path))
    return None


def _what(one: _Shown) -> str:
    return f"certificate of {one.table}" if one.ours else f"CA of {one.table}"


def _then(one: _Shown) -> str:
    return "others refuse us" if one.ours else "nobody can come in over TLS, or be reached,"

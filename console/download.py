"""A model from the web, into a file: bounded, over https, and with the digest that somebody vouches for."""

import hashlib
import ipaddress
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import requests

from ledger.errors import PeerError, SiteError

_LONGEST_BYTES = 64 << 30
_PIECE_BYTES = 1 << 20
_TIMEOUT_S = (10.0, 60.0)  # to connect; between two pieces


class NotDownloaded(PeerError):
    """A model could not be fetched from where it is said to be."""


class AnotherFile(SiteError):
    """What was fetched is not the file whose digest was given."""


def is_url(source: str) -> bool:
    """Whether `source` is an address and not a path."""
    return "://" in source


def check_url(url: str) -> None:
    """Raise `SiteError` unless the address may be asked: https, or http on this machine itself."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise SiteError(f"{url!r} is no address") from None
    if parts.scheme == "https" and host:
        return
    if not (parts.scheme == "http" and _is_loopback(host)):
        raise SiteError(f"models are fetched by https only, and {parts.scheme}://{host} is something else")


def download(url: str, folder: Path, sha256: str | None, at_most: int = _LONGEST_BYTES) -> tuple[Path, str]:
    """Fetch `url` into `folder`: the file, and its SHA-256. Raises `NotDownloaded`, `AnotherFile`.

    Every address that it is sent on to has to be one that may be asked, too.
    """
    path = folder / (Path(unquote(urlsplit(url).path)).name or "model")
    digest = hashlib.sha256()
    size = 0
    try:
        with requests.Session() as session:
            session.trust_env = False  # No credentials of a .netrc for whoever is asked.
            with _asked(session, url) as answer, path.open("xb") as file:
                for piece in answer.iter_content(_PIECE_BYTES):
                    size += len(piece)
                    if size > at_most:
                        raise NotDownloaded(f"{url} is longer than {at_most} bytes")
                    digest.update(piece)
                    file.write(piece)
    except requests.RequestException as error:
        raise NotDownloaded(f"{url} could not be fetched: {_reason(error)}") from error
    except OSError as error:
        raise SiteError(f"{path} cannot be written: {error.strerror}") from error
    found = digest.hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise AnotherFile(f"{url} has SHA-256 {found}, not {sha256.lower()}: nothing is installed")
    return path, found


def _asked(session: requests.Session, url: str) -> requests.Response:
    for _ in range(6):
        check_url(url)
        answer = session.get(url, stream=True, timeout=_TIMEOUT_S, allow_redirects=False)
        if not answer.is_redirect:
            if answer.status_code != 200:
                raise NotDownloaded(f"{url} answers {answer.status_code} {answer.reason}")
            return answer
        url = urljoin(url, answer.headers["Location"])
        answer.close()
    raise NotDownloaded(f"{url} is sent on again and again")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "it does not answer in time"
    return type(error).__name__ if not str(error) else str(error)[:200]

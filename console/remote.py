"""A console elsewhere, asked over its API: for `wetread remote`, from a machine that has neither ledger nor
spool.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ledger.errors import PeerError, SiteError

_DEADLINE_S = 30.0
_TOKEN = re.compile(r"[\x21-\x7e]{1,200}")


class RemoteRefused(PeerError):
    """The console answered, and it is no."""


class RemoteAway(PeerError):
    """The console does not answer."""


class RemoteUnclear(SiteError):
    """It is not said where the console is, or who asks."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One console. `token` is one that its accounts page made; `ca_file` vouches for its certificate."""

    url: str
    token: str
    ca_file: Path | None = None

    @classmethod
    def of(cls, url: str | None, token_file: Path | None, ca_file: Path | None) -> "Remote":
        """Raises `RemoteUnclear`."""
        parts = urlsplit(url or "")
        if url is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise RemoteUnclear("say where the console is: --console https://host, or WETREAD_CONSOLE")
        if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise RemoteUnclear(f"{url} has no TLS: the token would be seen on its way. Take https")
        if token_file is None:
            raise RemoteUnclear(
                "say who asks: --token-file, or WETREAD_TOKEN_FILE, names a file with a token"
            )
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RemoteUnclear(f"the token in {token_file} cannot be read: {error}") from error
        if not _TOKEN.fullmatch(token):  # Not quoted: it may be one, and more.
            raise RemoteUnclear(f"what {token_file} holds is no token: one line, as the console showed it")
        return cls(url.rstrip("/"), token, ca_file)

    def get(self, path: str, **parameters: object) -> Any:
        """What the resource says. Raises `RemoteAway`, `RemoteRefused`."""
        return self._ask("GET", path, parameters={k: v for k, v in parameters.items() if v not in ("", None)})

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Decide something. Raises `RemoteAway`, `RemoteRefused`."""
        return self._ask("POST", path, body=body)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            answer = requests.request(
                method,
                f"{self.url}/api/v1{path}",
                params=parameters,
                json=dict(body) if body is not None else None,
                headers={"Authorization": f"Bearer {self.token}", "Accept": "application/json"},
                timeout=_DEADLINE_S,
                allow_redirects=False,  # Else the token would be told to whoever is named there.
                verify=str(self.ca_file) if self.ca_file else True,
            )
        except requests.RequestException as error:
            raise RemoteAway(f"the console at {self.url} does not answer: {_reason(error)}") from None
        try:
            said = answer.json()
        except json.JSONDecodeError:
            raise RemoteRefused(
                f"{self.url} answers {answer.status_code}, and not as a console of Wetread does"
            ) from None
        if not answer.ok:
            because = said.get("detail", "no reason given") if isinstance(said, dict) else "no reason given"
            raise RemoteRefused(f"the console refuses ({answer.status_code}): {because}")
        return said


def _reason(error: requests.RequestException) -> str:
    """The innermost sentence: what wraps it is for programmers."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    return str(inner) or type(inner).__name__

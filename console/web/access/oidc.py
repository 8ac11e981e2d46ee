"""
Signing in with the identity provider: authorization code with PKCE (RFC 6749, RFC 7636, OpenID Connect Core).

The browser goes there with a state, a nonce and the digest of a secret, and comes back with a code. Only who
has the cookie of that state can use the code, once, and the token that it is exchanged for has to answer the
nonce. State, nonce and secret wait in the ledger; the provider's description and keys are kept for a while.
"""

import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from jwt import PyJWK, PyJWTError
from urllib3.exceptions import HTTPError

from console.web.access.claims import Known, NotBelieved, header_of, known
from console.web.access.credentials import digest, new_secret
from console.web.access.lifetimes import PROVIDER_S
from console.web.access.oidc_settings import OidcSettings
from ledger.account import SignInRequest
from ledger.errors import PeerError, SiteError
from ledger.store.ledger import Ledger

_KEPT_S = 3600.0  # The provider's description and keys; unknown keys are asked for sooner.
_ASK_AGAIN_S = 10.0  # Not sooner than this, whatever key ids somebody makes up.
_LARGEST = 1024 * 1024  # bytes of an answer
BACK = "/sign-in/provider/back"


class ProviderAway(PeerError):
    """The identity provider does not answer, or not as one."""


class NotAsked(PeerError):
    """Somebody comes back from the identity provider who was not sent there, or long ago."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Where the browser goes, and what it has to come back with as a cookie."""

    url: str
    state: str = field(repr=False)


@dataclass(slots=True)
class _Kept:
    description: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # As they are published, by id.
    described_at: float = float("-inf")
    keyed_at: float = float("-inf")
    away: str = ""  # Why there was no description …
    away_at: float = float("-inf")  # … when it was last asked for.


@dataclass(slots=True)
class Provider:
    """The identity provider of the house, as this process knows it."""

    settings: OidcSettings
    ledger: Ledger
    clock: Callable[[], float] = time.monotonic
    _kept: _Kept = field(default_factory=_Kept, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def send(self, base: str, back_to: str) -> Sent:
        """Begin: `base` is the address of this console, `back_to` the page that was asked for.

        Raises `ProviderAway`.
        """
        state, nonce, verifier = new_secret(), new_secret(), new_secret()
        description = self._description()
        self.ledger.remember_request(
            digest(state), SignInRequest(nonce=nonce, verifier=verifier, back_to=back_to), within_s=PROVIDER_S
        )
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": base + BACK,
            "scope": " ".join(self.settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        there = str(description["authorization_endpoint"])
        return Sent(f"{there}{'&' if urlsplit(there).query else '?'}{urlencode(query)}", state)

    def receive(self, answer: Mapping[str, str], cookie: str, base: str) -> tuple[Known, str]:
        """Who came back, and to which page he wants. `answer` is the query, `cookie` what `send` gave along.

        Raises `NotAsked`, `NotBelieved`, `NoRole`, `ProviderAway`.
        """
        state = answer.get("state", "")
        if not state or not cookie or not hmac.compare_digest(state.encode(), cookie.encode()):
            raise NotAsked("this browser did not begin to sign in here: begin again")
        asked = self.ledger.take_request(digest(state), within_s=PROVIDER_S)
        if asked is None:
            raise NotAsked("this way to sign in was used already, or took too long: begin again")
        description = self._description()
        issuer = str(description["issuer"])
        if answer.get("iss", issuer) != issuer:  # RFC 9207: of two providers, the other one.
            raise NotBelieved("the answer is of another identity provider: compare issuer")
        if "error" in answer:
            raise NotBelieved(f"the identity provider says {answer['error'][:60]!r}: ask there")
        token = self._id_token(answer.get("code", ""), asked.verifier, base)
        algorithm, key_id = header_of(token, self.settings)
        key = self._key(key_id, algorithm)
        who = known(token, key, algorithm, nonce=asked.nonce, issuer=issuer, settings=self.settings)
        return who, asked.back_to

    def _id_token(self, code: str, verifier: str, base: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": base + BACK,
            "code_verifier": verifier,
            "client_id": self.settings.client_id,
        }
        offered = self._description().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        secret = self._secret()
        auth = None
        if secret and "client_secret_basic" in offered:
            auth = (self.settings.client_id, secret)
        elif secret:
            form["client_secret"] = secret
        answer = self._ask("POST", str(self._description()["token_endpoint"]), data=form, auth=auth)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise NotBelieved(
                "the identity provider gave no ID token: is openid among the scopes of this client?"
            )
        return token

    def _description(self) -> Mapping[str, Any]:
        with self._lock:
            if self.clock() - self._kept.described_at < _KEPT_S:
                return self._kept.description
            # Whoever waited for the lock meanwhile, and took a thread of the console, does not wait again.
            if self.clock() - self._kept.away_at < _ASK_AGAIN_S:
                raise ProviderAway(self._kept.away)
            try:
                found = self._ask_description()
            except ProviderAway as error:
                self._kept.away, self._kept.away_at = str(error), self.clock()
                raise
            self._kept.description, self._kept.described_at = found, self.clock()
            return found

    def _ask_description(self) -> Mapping[str, Any]:
        there = self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        found = self._ask("GET", there)
        if found.get("issuer") != self.settings.issuer:
            raise ProviderAway(
                f"the identity provider calls itself {str(found.get('issuer'))[:200]!r}: write issuer in "
                "[console.oidc] exactly so, if that is the one you mean"
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            where = str(found.get(name, ""))
            if urlsplit(where).scheme != urlsplit(self.settings.issuer).scheme:
                raise ProviderAway(f"the identity provider's {name} is {where[:200]!r}: not an address")
        return found

    def _key(self, key_id: str, algorithm: str) -> PyJWK:
        where = str(self._description()["jwks_uri"])
        with self._lock:
            age = self.clock() - self._kept.keyed_at
            # Providers change their keys whenever they like; an id that nobody knows is asked for once more.
            if age >= _KEPT_S or (key_id not in self._kept.keys and age >= _ASK_AGAIN_S):
                found = self._ask("GET", where).get("keys")
                if not isinstance(found, list):
                    raise ProviderAway("the identity provider's keys cannot be read")
                self._kept.keys = {str(one.get("kid") or ""): one for one in found if isinstance(one, dict)}
                self._kept.keyed_at = self.clock()
            key = self._kept.keys.get(key_id)
        if key is None:
            raise NotBelieved("the ID token is signed with a key that the identity provider does not publish")
        try:
            # A key need not say what it is for (alg, RFC 7517 §4.4): then for all that its type can do.
            return PyJWK.from_dict(key, key.get("alg") or algorithm)
        except (PyJWTError, TypeError):
            raise NotBelieved("the ID token is signed with another algorithm than its key is for") from None

    def _secret(self) -> str:
        file = self.settings.client_secret_file
        if file is None:
            return ""
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no text"
            raise SiteError(f"client_secret_file of [console.oidc] cannot be read: {why}") from None

    def _ask(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        verify = str(self.settings.ca) if self.settings.ca is not None else True
        try:
            with requests.request(
                method,
                url,
                timeout=self.settings.timeout_s,
                verify=verify,
                allow_redirects=False,
                stream=True,
                headers={"Accept": "application/json"},
                **more,
            ) as answer:
                body = answer.raw.read(_LARGEST + 1, decode_content=True)
                if answer.status_code != 200 or len(body) > _LARGEST:
                    raise ProviderAway(
                        f"the identity provider answers {answer.status_code} at {urlsplit(url).path}"
                    )
                found = json.loads(body)
        except requests.exceptions.SSLError:
            raise ProviderAway(
                "the identity provider's certificate is not trusted: ca in [console.oidc] names the authority"
            ) from None
        except (requests.RequestException, HTTPError, OSError) as error:  # HTTPError: while it is read.
            raise ProviderAway(f"the identity provider does not answer: {type(error).__name__}") from None
        except ValueError:
            raise ProviderAway("the identity provider answers something that is no JSON") from None
        if not isinstance(found, dict):
            raise ProviderAway("the identity provider answers something that is not about itself")
        return found


def _challenge(verifier: str) -> str:
    """S256 of a verifier (RFC 7636 §4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")

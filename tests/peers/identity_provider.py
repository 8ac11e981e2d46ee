"""A small OpenID provider with real RSA keys: it checks what a provider has to check, and can be told to lie.

Who comes to its authorisation endpoint is `person`, without a form to fill in.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

CLIENT, SECRET = "wetread", "a secret of the client"


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class IdentityProvider:
    """What it knows, and what it does otherwise than it should."""

    issuer: str = ""
    person: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=lambda: {"first": new_key()})
    signs_with: str = "first"
    alg: str | None = "RS256"  #: what its keys say that they are for
    description: dict[str, Any] = field(default_factory=dict)  #: over what is true
    claims: dict[str, Any] = field(default_factory=dict)  #: over what is true; None takes a claim away
    sign: Callable[[Mapping[str, Any]], str] | None = None  #: instead of a signature of its own
    answer: dict[str, str] = field(default_factory=dict)  #: over what goes back with the browser
    complaints: list[str] = field(default_factory=list)  #: what a client did wrong
    asked: list[str] = field(default_factory=list)  #: paths
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    basic: bool = True  #: takes the client's secret in a header; else in the form

    def forget(self) -> None:
        """Behave again, and remember nothing."""
        fresh = IdentityProvider(issuer=self.issuer, keys={"first": self.keys["first"]})
        self.__dict__.update(fresh.__dict__)

    def told(self) -> dict[str, Any]:
        methods = ["client_secret_basic"] if self.basic else ["client_secret_post"]
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "token_endpoint_auth_methods_supported": methods,
            "code_challenge_methods_supported": ["S256"],
            **self.description,
        }

    def jwks(self) -> dict[str, Any]:
        keys = []
        for name, key in self.keys.items():
            public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
            said = {"alg": self.alg} if self.alg else {}
            keys.append({**public, "kid": name, "use": "sig", **said})
        return {"keys": keys}

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser goes back to."""
        for name, wanted in {
            "response_type": "code",
            "client_id": CLIENT,
            "code_challenge_method": "S256",
        }.items():
            if query.get(name) != wanted:
                self.complaints.append(f"{name} is {query.get(name)!r}")
        if "openid" not in query.get("scope", "").split() or not query.get("nonce"):
            self.complaints.append("no openid, or no nonce")
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        back = {"code": code, "state": query["state"], "iss": self.issuer, **self.answer}
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None:
            return 400, {"error": "invalid_grant"}
        given = base64.b64decode(authorization.removeprefix("Basic ") or "").decode().partition(":")
        secret = unquote(given[2]) if self.basic else form.get("client_secret", "")
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        wrong = [
            *(["client"] if secret != SECRET else []),
            *(["redirect_uri"] if form.get("redirect_uri") != asked["redirect_uri"] else []),
            *(
                ["code_verifier"]
                if base64.urlsafe_b64encode(challenge).decode().rstrip("=") != asked["code_challenge"]
                else []
            ),
        ]
        if wrong:
            self.complaints += wrong
            return 400, {"error": "invalid_request"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **self.person,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        token = self.sign(claims) if self.sign else self.signed(claims)
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": token}

    def signed(
        self, claims: Mapping[str, Any], *, kid: str | None = None, key: Any = None, algorithm: str = "RS256"
    ) -> str:
        key = self.keys[self.signs_with] if key is None else key
        return jwt.encode(dict(claims), key, algorithm, headers={"kid": kid or self.signs_with})

    def public_pem(self) -> bytes:
        public = self.keys[self.signs_with].public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@contextmanager
def identity_provider(**person: Any) -> Iterator[IdentityProvider]:
    """A provider on a free port of the loopback, that knows one person."""
    provider = IdentityProvider(person={"sub": "4711", "preferred_username": "Anna", **person})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path)
            provider.asked.append(path.path)
            if path.path == "/.well-known/openid-configuration":
                self._json(200, provider.told())
            elif path.path == "/keys":
                self._json(200, provider.jwks())
            elif path.path == "/authorize":
                query = {name: values[0] for name, values in parse_qs(path.query).items()}
                self.send_response(302)
                self.send_header("Location", provider.authorize(query))
                self.end_headers()
            else:
                self._json(404, {})

        def do_POST(self) -> None:
            provider.asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._json(*provider.token(form, self.headers.get("Authorization", "")))

        def _json(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

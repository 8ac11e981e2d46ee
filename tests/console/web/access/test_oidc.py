"""Signing in with an identity provider: what it must not be believed, and what then is."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from console.web.access.claims import role_of
from console.web.access.oidc import Provider
from console.web.access.oidc_settings import OidcSettings
from ledger.account import Origin, Role
from tests.console.web.access.house import ROOT, Browser, House, house
from tests.patience import patient
from tests.peers.identity_provider import CLIENT, SECRET, IdentityProvider, identity_provider, new_key

ROLES = {"wetread-admins": "administrator", "radiographers": "operator", "readers": "viewer"}


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, IdentityProvider]]:
    """One console and one provider for all of these: who signs in has to be another one each time."""
    folder = tmp_path_factory.mktemp("founded")
    (folder / "secret").write_text(f"{SECRET}\n")
    with identity_provider() as running:
        oidc = {
            "issuer": running.issuer,
            "client_id": CLIENT,
            "client_secret_file": folder / "secret",
            "name": "Hospital",
            "roles": ROLES,
        }
        with house(folder / "data", oidc=oidc) as made:
            yield made, running


@pytest.fixture
def provider(founded: tuple[House, IdentityProvider]) -> IdentityProvider:
    _, running = founded
    running.forget()
    running.person = {"sub": "4711", "preferred_username": "Anna", "groups": ["staff", "radiographers"]}
    return running


@pytest.fixture
def site(founded: tuple[House, IdentityProvider], provider: IdentityProvider) -> House:
    made, _ = founded
    assert made.site.console.oidc is not None
    made.app.state.provider = Provider(made.site.console.oidc, made.ledger)
    made.app.state.door.addresses.forget("127.0.0.1")  # Thirty of these come from there.
    for one in made.ledger.accounts():
        if one.origin is Origin.OIDC and not one.disabled:
            made.ledger.free_name(one.id, by=ROOT)
    if (left := made.ledger.account_by_name("anna@127.0.0.1")) is not None:
        made.ledger.free_name(left.id, by=ROOT)
    return made


class Person(Browser):
    """A browser that goes where it is sent."""

    cookie = ""

    def go(self, back: str = "/studies") -> str:
        """To the provider; where that sends it back to."""
        answer = self.get(f"/sign-in/provider?back={back}")
        assert answer.status_code == 303, answer.text
        self.cookie = answer.cookies["wetread-provider"]
        there = requests.get(answer.headers["location"], allow_redirects=False, timeout=patient(10))
        assert there.status_code == 302
        return there.headers["location"]

    def come_back(self, url: str) -> requests.Response:
        parts = urlsplit(url)
        assert url.startswith(self.house.url + "/sign-in/provider/back?")
        return requests.get(
            f"{self.house.url}{parts.path}?{parts.query}",
            cookies={
                name: value
                for name, value in (("wetread-provider", self.cookie), ("wetread", self.secret))
                if value
            },
            allow_redirects=False,
            timeout=patient(10),
        )

    def sign_in(self) -> requests.Response:
        answer = self.come_back(self.go())
        self.take_cookie(answer)
        return answer


def refused(site: House, answer: requests.Response, why: str) -> None:
    assert answer.status_code == 401, answer.headers
    assert why in answer.text.replace("&#39;", "'")
    assert "wetread=" not in answer.headers.get("set-cookie", "").replace("wetread-provider=", "")
    (row, *_) = site.ledger.audit_rows(what="session.refused")
    assert (row.who, row.detail["wrong"]) == ("somebody", "identity provider")
    assert site.ledger.account_by_name("anna@127.0.0.1") is None


LONG_AGO, FAR_OFF = 1_000_000_000, 4_000_000_000  # 2001 and 2096: alike in every process.


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"nonce": "of another browser"}, "not the answer to what this browser asked"),
        ({"nonce": None}, "not the answer to what this browser asked"),
        ({"nonce": 7}, "not the answer to what this browser asked"),
        ({"aud": "another program"}, "meant for another program"),
        ({"aud": None}, "lacks the claim aud"),
        ({"aud": [CLIENT, "another program"]}, "given to another program"),
        ({"azp": "another program"}, "given to another program"),
        ({"iss": "https://another.example"}, "another identity provider"),
        ({"iss": None}, "lacks the claim iss"),
        ({"exp": LONG_AGO, "iat": LONG_AGO}, "has expired"),
        ({"exp": None}, "lacks the claim exp"),
        ({"iat": FAR_OFF, "nbf": FAR_OFF, "exp": FAR_OFF}, "from the future"),
        ({"sub": None}, "lacks the claim sub"),
        ({"sub": ""}, "does not say who it is about"),
        ({"groups": None}, "gives you no role here"),
        ({"groups": ["staff"]}, "gives you no role here"),
        ({"groups": {"radiographers": True}}, "gives you no role here"),
    ],
    ids=str,
)
def test_a_token_that_does_not_say_all_of_it_is_not_believed(
    site: House, provider: IdentityProvider, claims: dict, why: str
) -> None:
    provider.claims = claims
    refused(site, Person(site).sign_in(), why)


def test_an_unsigned_token_is_not_believed(site: House, provider: IdentityProvider) -> None:
    provider.sign = lambda claims: jwt.encode(dict(claims), None, "none", headers={"kid": "first"})
    refused(site, Person(site).sign_in(), "is signed with 'none', which is not believed")


def test_the_public_key_is_no_secret_to_sign_with(site: House, provider: IdentityProvider) -> None:
    import base64
    import hmac
    import json

    def sign(claims) -> str:
        # PyJWT refuses to make such a token; whoever attacks does not ask it.
        def part(value: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

        signed = f"{part({'alg': 'HS256', 'kid': 'first'})}.{part(dict(claims))}"
        mac = hmac.digest(provider.public_pem(), signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"

    provider.sign = sign
    refused(site, Person(site).sign_in(), "is signed with 'HS256', which is not believed")


def test_a_key_of_somebody_else_is_not_believed(site: House, provider: IdentityProvider) -> None:
    provider.sign = lambda claims: provider.signed(claims, key=new_key())
    refused(site, Person(site).sign_in(), "signature of the ID token is wrong")


def test_a_key_that_nobody_publishes_is_not_believed(site: House, provider: IdentityProvider) -> None:
    provider.sign = lambda claims: provider.signed(claims, key=new_key(), kid="made up")
    refused(site, Person(site).sign_in(), "a key that the identity provider does not publish")


def test_another_algorithm_than_the_keys_is_not_believed(site: House, provider: IdentityProvider) -> None:
    provider.sign = lambda claims: provider.signed(claims, algorithm="PS256")
    refused(site, Person(site).sign_in(), "another algorithm than its key is for")


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_a_key_that_does_not_say_what_it_is_for_is_for_all_that_its_type_can_do(
    site: House, provider: IdentityProvider, algorithm: str
) -> None:
    provider.alg = None
    provider.sign = lambda claims: provider.signed(claims, algorithm=algorithm)
    assert Person(site).sign_in().status_code == 303


def test_a_key_of_another_type_than_the_algorithms_is_not_believed(
    site: House, provider: IdentityProvider
) -> None:
    provider.alg = None
    key = ec.generate_private_key(ec.SECP256R1())
    provider.sign = lambda claims: provider.signed(claims, key=key, algorithm="ES256")
    refused(site, Person(site).sign_in(), "another algorithm than its key is for")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "e30.e30.e30"])
def test_what_is_no_token_is_not_believed(site: House, provider: IdentityProvider, token: str) -> None:
    provider.sign = lambda _: token
    answer = Person(site).sign_in()
    assert answer.status_code == 401
    assert site.ledger.account_by_name("anna@127.0.0.1") is None


def test_coming_back_twice_opens_once(site: House) -> None:
    person = Person(site)
    back = person.go()
    assert person.come_back(back).status_code == 303
    again = person.come_back(back)
    assert again.status_code == 401
    assert "used already, or took too long" in again.text


def test_nobody_is_signed_in_as_whoever_sent_him_a_link(site: House) -> None:
    attacker, victim = Person(site), Person(site)
    link = attacker.go()
    refused(site, victim.come_back(link), "did not begin to sign in here")
    victim.go()
    refused(site, victim.come_back(link), "did not begin to sign in here")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"iss": "https://another.example"}, "of another identity provider"),
        ({"error": "access_denied"}, "says 'access_denied'"),
        ({"code": "made up"}, "answers 400 at /token"),
        ({"state": "made up"}, "did not begin to sign in here"),
    ],
    ids=str,
)
def test_an_answer_that_was_changed_on_its_way_opens_nothing(
    site: House, provider: IdentityProvider, answer: dict[str, str], why: str
) -> None:
    provider.answer = answer
    refused(site, Person(site).sign_in(), why)


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ({"issuer": "https://another.example"}, "calls itself 'https://another.example'"),
        ({"token_endpoint": "file:///etc/passwd"}, "not an address"),
        ({"jwks_uri": None}, "not an address"),
    ],
    ids=str,
)
def test_a_provider_that_is_another_one_is_not_used(
    site: House, provider: IdentityProvider, description: dict, why: str
) -> None:
    provider.description = description
    answer = site.browser().get("/sign-in/provider")
    assert answer.status_code == 502
    assert why in answer.text.replace("&#39;", "'")


def test_a_provider_that_is_away_leaves_the_passwords(tmp_path: Path) -> None:
    oidc = {"issuer": "http://127.0.0.1:1", "client_id": CLIENT, "roles": ROLES}
    with house(tmp_path, oidc=oidc) as site:
        answer = site.browser().get("/sign-in/provider")
        assert answer.status_code == 502
        assert "does not answer" in answer.text
        assert 'name="password"' in answer.text


def test_whoever_waits_for_a_provider_that_is_away_is_told_at_once_what_the_first_one_was(
    site: House, provider: IdentityProvider
) -> None:
    now = [1000.0]
    site.app.state.provider.clock = lambda: now[0]
    provider.description = {"issuer": "https://another.example"}
    answers = [site.browser().get("/sign-in/provider") for _ in range(3)]
    assert [one.status_code for one in answers] == [502, 502, 502]
    assert all("calls itself" in one.text for one in answers)
    assert provider.asked.count("/.well-known/openid-configuration") == 1

    provider.description = {}
    now[0] += 11
    assert Person(site).sign_in().status_code == 303


def test_an_address_is_not_sent_to_the_provider_as_often_as_it_likes(
    site: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.app.state.door.addresses, "clock", lambda: 0.0)
    answers = [site.browser().get("/sign-in/provider") for _ in range(31)]
    assert [one.status_code for one in answers] == [303] * 30 + [429]
    assert "retry-after" in answers[-1].headers
    assert "wetread-provider" not in answers[-1].cookies


@contextmanager
def one_answer(octets: bytes, *, then_close: bool) -> Iterator[str]:
    """The address of a server that gives one answer and then stalls, or hangs up."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            came, _ = listening.accept()
            with came:
                came.recv(65536)
                came.sendall(octets)
                if not then_close:
                    done.wait(patient(30))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            done.set()
            thread.join(patient(30))


@pytest.mark.parametrize(
    ("header", "then_close"),
    [("Content-Length: 1000", False), ("Content-Length: 1000", True), ("Content-Encoding: gzip", True)],
    ids=["stalls", "hangs up", "garbles"],
)
def test_a_provider_that_breaks_off_in_its_answer_is_away(site: House, header: str, then_close: bool) -> None:
    octets = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{header}\r\n\r\n{{ }}".encode()
    with one_answer(octets, then_close=then_close) as issuer:
        changed = {"issuer": issuer, "timeout_s": 0.5}
        settings = site.app.state.provider.settings.model_copy(update=changed)
        site.app.state.provider = Provider(settings, site.ledger)
        answer = site.browser().get("/sign-in/provider")
    assert answer.status_code == 502
    assert "the identity provider does not answer" in answer.text.replace("&#39;", "'")
    assert 'name="password"' in answer.text


def test_whoever_the_provider_vouches_for_is_let_in(site: House, provider: IdentityProvider) -> None:
    person = Person(site)
    assert "Sign in with Hospital" in person.get("/sign-in").text

    answer = person.sign_in()

    assert (answer.status_code, answer.headers["location"]) == (303, "/studies")
    assert person.get("/studies").status_code == 200
    account = site.ledger.account_by_name("anna@127.0.0.1")
    assert account is not None
    assert (account.role, account.origin, account.password) == (Role.OPERATOR, Origin.OIDC, "")
    assert account.subject == f"{provider.issuer}|4711"
    assert provider.complaints == []
    assert [row.what for row in site.ledger.audit_rows(who="anna@127.0.0.1", limit=2)] == [
        "session.started",
        "account.added",
    ]
    page = person.get("/account").text
    assert "kept by the identity provider" in page
    assert 'name="new"' not in page


def test_signing_in_with_the_provider_ends_the_session_that_the_browser_had(site: House) -> None:
    person, elsewhere = Person(site), Person(site)
    person.sign_in()
    elsewhere.sign_in()
    earlier = Browser(site, person.secret)

    person.sign_in()

    assert person.secret != earlier.secret
    assert earlier.get("/studies").status_code == 401
    assert person.get("/studies").status_code == 200
    assert elsewhere.get("/studies").status_code == 200


def test_the_provider_takes_a_role_away_at_the_next_time(site: House, provider: IdentityProvider) -> None:
    Person(site).sign_in()
    provider.claims = {"groups": ["readers"]}
    Person(site).sign_in()
    account = site.ledger.account_by_name("anna@127.0.0.1")
    assert account is not None
    assert account.role is Role.VIEWER


def test_whoever_has_lost_every_role_is_signed_out_everywhere_and_his_tokens_too(
    site: House, provider: IdentityProvider
) -> None:
    person = Person(site)
    person.sign_in()
    account = site.ledger.account_by_name("anna@127.0.0.1")
    assert account is not None
    program = {"Authorization": f"Bearer {site.token(Role.OPERATOR, owner=account.id)}"}
    assert Browser(site).get("/api/v1/queue", headers=program).status_code == 200

    provider.claims = {"groups": ["staff"]}
    answer = Person(site).sign_in()

    assert answer.status_code == 401
    assert "Ask whoever administers it" in answer.text
    assert person.get("/studies").status_code == 401
    assert Browser(site).get("/api/v1/queue", headers=program).status_code == 401
    (lost,) = site.ledger.audit_rows(what="account.role_lost", limit=1)
    assert (lost.who, lost.detail["sessions"], lost.detail["tokens"]) == ("anna@127.0.0.1", 1, 1)

    provider.claims = {}  # A role that is given back opens the same account again.
    assert Person(site).sign_in().status_code == 303


def test_nobody_is_signed_out_by_a_token_that_is_not_believed(
    site: House, provider: IdentityProvider
) -> None:
    person = Person(site)
    person.sign_in()
    provider.claims = {"groups": ["staff"]}
    provider.sign = lambda claims: provider.signed(claims, key=new_key())
    assert Person(site).sign_in().status_code == 401
    assert person.get("/studies").status_code == 200


def test_an_account_that_was_disabled_here_stays_out(site: House) -> None:
    Person(site).sign_in()
    account = site.ledger.account_by_name("anna@127.0.0.1")
    assert account is not None
    site.ledger.disable_account(account.id, by=ROOT)
    answer = Person(site).sign_in()
    assert answer.status_code == 401
    assert "This account is disabled" in answer.text


def test_a_local_name_cannot_be_had_from_the_provider(site: House, provider: IdentityProvider) -> None:
    provider.claims = {"preferred_username": "administrator"}
    person = Person(site)
    person.sign_in()
    assert person.get("/accounts").status_code == 403
    assert site.ledger.account_by_name("administrator@127.0.0.1") is not None
    provider.claims = {"preferred_username": "ADMINISTRATOR@127.0.0.1", "sub": "4712"}
    answer = Person(site).sign_in()
    assert answer.status_code == 401
    assert "wetread account free" in answer.text


def test_a_new_key_of_the_provider_is_fetched_and_made_up_ones_are_not_asked_for_again(
    site: House, provider: IdentityProvider
) -> None:
    now = [1000.0]
    site.app.state.provider.clock = lambda: now[0]
    Person(site).sign_in()
    provider.keys["second"] = new_key()
    provider.signs_with = "second"
    assert Person(site).sign_in().status_code == 401  # Too soon after the last time it was asked.
    now[0] += 11
    assert Person(site).sign_in().status_code == 303
    assert provider.asked.count("/keys") == 2
    assert provider.asked.count("/.well-known/openid-configuration") == 1


def test_a_provider_that_takes_the_secret_in_the_form_gets_it_there(
    site: House, provider: IdentityProvider
) -> None:
    provider.basic = False
    assert Person(site).sign_in().status_code == 303
    assert provider.complaints == []


def test_the_way_there_has_a_challenge_and_no_secret(site: House, provider: IdentityProvider) -> None:
    there = site.browser().get("/sign-in/provider?back=//evil.example").headers["location"]
    query = parse_qs(urlsplit(there).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [f"{site.url}/sign-in/provider/back"]
    assert len(query["state"][0]) == len(query["nonce"][0]) == len(query["code_challenge"][0]) == 43
    assert SECRET not in there


def test_without_a_provider_there_is_no_way_to_one(tmp_path: Path) -> None:
    with house(tmp_path) as site:
        assert site.browser().get("/sign-in/provider").status_code == 404
        assert site.browser().get("/sign-in/provider/back?state=x&code=y").status_code == 404


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issuer": "http://id.hospital.example"}, "https"),
        ({"issuer": "ldap://x"}, "https"),
        ({"roles": {}}, "at least 1"),
        ({"roles": {"robots": "service"}}, "does not sign in"),
        ({"algorithms": ["HS256"]}, "RS256"),
        ({"algorithms": ["none"]}, "RS256"),
        ({"scopes": ["profile"]}, "openid"),
    ],
    ids=str,
)
def test_settings_that_would_let_anybody_in_stop_the_start(changed: dict, why: str) -> None:
    good = {"issuer": "https://id.hospital.example", "client_id": CLIENT, "roles": ROLES}
    assert OidcSettings.model_validate(good)
    with pytest.raises(ValidationError, match=why):
        OidcSettings.model_validate(good | changed)


def test_of_several_roles_the_first_in_rank_counts_wherever_the_claim_lies() -> None:
    good = {"issuer": "https://id.hospital.example", "client_id": CLIENT, "roles": ROLES}
    deep = OidcSettings.model_validate(good | {"role_claim": "realm_access.roles"})
    assert role_of({"realm_access": {"roles": ["readers", "wetread-admins"]}}, deep) is Role.ADMINISTRATOR
    url = OidcSettings.model_validate(good | {"role_claim": "https://id.example/roles"})
    assert role_of({"https://id.example/roles": "readers"}, url) is Role.VIEWER
    for claims in ({}, {"realm_access": ["readers"]}, {"realm_access": {"roles": [["readers"]]}}):
        assert role_of(claims, deep) is None

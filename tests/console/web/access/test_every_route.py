"""Every route × every role × every way to come without right: answered exactly as the table says."""

import re
from collections.abc import Iterator

import pytest
import requests

from console.web.access.credentials import digest
from console.web.access.gate import _FOR_PROGRAMS
from console.web.access.table import ROUTES, Permission, permissions
from console.web.app import routes
from ledger.account import Role
from tests.console.web.access.house import ROOT, House, house
from tests.ledger.site import pass_by

UNSAFE = [(method, path) for method, path in ROUTES if method not in ("GET", "HEAD")]
GUARDED = [(method, path) for (method, path), need in ROUTES.items() if need is not Permission.PUBLIC]
#: These answers alone are those of the table and the gate; a page may have reasons of its own.
NOT_YOURS = "your role may not do this"
OUT_OF_DATE = "this page is out of date"
ANOTHER_SITE = "another site asked for this"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house")) as made:
        # Guesses cost nothing here: what they cost has a test of its own.
        made.gate._guesses.clock = lambda: 0.0
        made.gate._guesses.rate = type(made.gate._guesses.rate)(10_000, 0.0)
        yield made


def filled(path: str) -> str:
    return re.sub(r"{\w+(:path)?}", "999", path)  # Nobody: what is let through meets nothing.


@pytest.mark.parametrize("number", ["0", "-1", str(2**63), str(10**30)])
def test_a_number_that_is_none_of_ours_is_no_trouble_of_the_site(site: House, number: str) -> None:
    trouble = []
    for method, path in GUARDED:
        if "{" not in path:
            continue
        browser = site.browser(Role.ADMINISTRATOR)
        with browser.ask(method, re.sub(r"{\w+(:path)?}", number, path), stream=True) as answer:
            if answer.status_code >= 500:
                trouble.append((method, path, answer.status_code))
    assert trouble == []


def words(answer: requests.Response) -> str:
    # A page that listens never ends.
    return "" if answer.headers["content-type"].startswith("text/event-stream") else answer.text


def is_said(answer: requests.Response) -> bool:
    return NOT_YOURS in words(answer)


def test_the_table_is_about_every_route_and_about_nothing_else() -> None:
    assert set(ROUTES) == set(routes())
    assert len(GUARDED) > 60


@pytest.mark.parametrize("role", list(Role))
def test_a_role_is_let_through_exactly_where_the_table_says(site: House, role: Role) -> None:
    wrong = []
    for method, path in GUARDED:
        browser = site.browser(role)  # A new one each time: signing out is among the routes.
        with browser.ask(method, filled(path), stream=True) as answer:
            may = ROUTES[method, path] in permissions(role)
            through = answer.status_code != 401 and not (answer.status_code == 403 and is_said(answer))
            if path == "/" and not may:  # Whoever has another first page is shown there.
                through = answer.status_code != 303
            if through is not may:
                wrong.append((method, path, answer.status_code))
    assert wrong == []


@pytest.mark.parametrize("role", list(Role))
def test_a_token_is_let_through_exactly_where_the_table_says(site: House, role: Role) -> None:
    headers = {"Authorization": f"Bearer {site.token(role)}"}
    wrong = []
    for method, path in GUARDED:
        with site.browser().ask(method, filled(path), headers=dict(headers), stream=True) as answer:
            has = permissions(role) - {Permission.PATIENTS}  # Which a token has where it says so.
            may = ROUTES[method, path] in has and path.startswith(_FOR_PROGRAMS)
            refused = answer.status_code == 401 or (
                answer.status_code == 403 and (is_said(answer) or "for people" in words(answer))
            )
            if refused is may:
                wrong.append((method, path, answer.status_code))
    assert wrong == []


@pytest.mark.parametrize("way", ["nobody", "nonsense", "ended", "expired", "disabled", "half"])
def test_without_a_session_that_is_open_nothing_is(site: House, way: str) -> None:
    browser = site.browser(Role.ADMINISTRATOR if way != "nobody" else None)
    if way == "nonsense":
        browser.secret = "x" * 43
    elif way == "ended":
        site.ledger.end_sessions(site.accounts[Role.ADMINISTRATOR], by=ROOT)
    elif way == "expired":
        browser = site.browser(Role.ADMINISTRATOR, lives_s=0.01)
        pass_by(site.ledger, 0.05)
    elif way == "disabled":
        account = site.account(Role.ADMINISTRATOR, "leaver")
        browser = site.browser(account)
        site.ledger.disable_account(account, by=ROOT)
    elif way == "half":
        site.ledger.begin_session(
            site.accounts[Role.ADMINISTRATOR],
            digest("half"),
            complete=False,
            address="",
            agent="",
            lives_s=60,
        )
        browser.secret = "half"

    answers = {(method, path): browser.ask(method, filled(path)).status_code for method, path in GUARDED}

    assert {at: status for at, status in answers.items() if status != 401} == {}


@pytest.mark.parametrize("way", ["nonsense", "revoked", "expired", "disabled"])
def test_without_a_token_that_is_good_nothing_is_open(site: House, way: str) -> None:
    token = "wetread_" + "x" * 43
    if way == "revoked":
        token = site.token(Role.ADMINISTRATOR)
        newest = site.ledger.tokens(site.accounts[Role.ADMINISTRATOR])[0]
        site.ledger.revoke_token(newest.id, by=ROOT)
    elif way == "expired":
        token = site.token(Role.ADMINISTRATOR, lives_s=0.01)
        pass_by(site.ledger, 0.05)
    elif way == "disabled":
        account = site.account(Role.ADMINISTRATOR, "gone")
        token = site.token(Role.ADMINISTRATOR, owner=account)
        site.ledger.disable_account(account, by=ROOT)
    headers = {"Authorization": f"Bearer {token}"}

    for method, path in GUARDED:
        answer = site.browser().ask(method, filled(path), headers=dict(headers))
        assert answer.status_code == (401 if path.startswith(_FOR_PROGRAMS) else 403), (method, path)


@pytest.mark.parametrize("csrf", [None, "", "wrong", "of another session"])
def test_what_another_page_makes_a_browser_send_does_nothing(site: House, csrf: str | None) -> None:
    for method, path in UNSAFE:
        if ROUTES[method, path] is Permission.PUBLIC:
            continue  # These change nothing that is anybody's.
        answer = site.browser(Role.ADMINISTRATOR).ask(method, filled(path), csrf=csrf)
        assert (answer.status_code, OUT_OF_DATE in answer.text) == (403, True), (method, path)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {},
    ],
    ids=str,
)
def test_what_another_site_makes_a_browser_send_does_nothing(site: House, headers: dict[str, str]) -> None:
    for method, path in UNSAFE:
        browser = site.browser(Role.ADMINISTRATOR)
        answer = browser.ask(method, filled(path), origin=None, headers=dict(headers))
        assert (answer.status_code, ANOTHER_SITE in answer.text) == (403, True), (method, path)


def test_news_is_for_our_own_pages_alone(site: House) -> None:
    browser = site.browser(Role.VIEWER)
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert browser.get("/live", headers=headers).status_code == 403
    with browser.get("/live", headers={"Sec-Fetch-Site": "same-origin"}, stream=True) as answer:
        assert answer.status_code == 200


def test_a_token_that_may_only_do_one_thing_does_nothing_else(site: House) -> None:
    headers = {"Authorization": f"Bearer {site.token(Role.ADMINISTRATOR, only=['see'])}"}
    browser = site.browser()
    assert browser.get("/api/v1/studies", headers=dict(headers)).status_code == 200
    assert browser.get("/api/v1/audit", headers=dict(headers)).status_code == 403
    assert browser.get("/metrics", headers=dict(headers)).status_code == 403


def test_a_token_loses_what_its_owner_loses(site: House) -> None:
    owner = site.account(Role.ADMINISTRATOR, "demoted")
    headers = {"Authorization": f"Bearer {site.token(Role.ADMINISTRATOR, owner=owner)}"}
    assert site.browser().get("/api/v1/audit", headers=dict(headers)).status_code == 200
    site.ledger.set_role(owner, Role.VIEWER, by=ROOT)
    assert site.browser().get("/api/v1/audit", headers=dict(headers)).status_code == 403
    assert site.browser().get("/api/v1/studies", headers=dict(headers)).status_code == 200


def test_nobody_ends_the_session_or_revokes_the_token_of_another(site: House) -> None:
    theirs = site.browser(Role.OPERATOR)
    site.token(Role.OPERATOR)
    token = site.ledger.tokens(site.accounts[Role.OPERATOR])[0]
    for role in (Role.VIEWER, Role.AUDITOR, Role.ADMINISTRATOR):
        other = site.browser(role)
        assert other.post(f"/account/sessions/{theirs.session}/end").status_code == 404
        assert other.post(f"/account/tokens/{token.id}/revoke").status_code == 404
        page = other.get("/account").text
        assert f"/account/sessions/{theirs.session}/end" not in page
        assert f"/account/tokens/{token.id}/revoke" not in page
    assert theirs.get("/account").status_code == 200
    assert site.ledger.tokens(site.accounts[Role.OPERATOR])[0].revoked_at is None


def test_a_token_changes_no_account(site: House) -> None:
    headers = {"Authorization": f"Bearer {site.token(Role.ADMINISTRATOR)}"}
    before = site.ledger.accounts()
    for path in (
        "/accounts",
        "/account/password",
        "/account/tokens",
        f"/accounts/{site.accounts[Role.VIEWER]}/reset",
    ):
        assert site.browser().ask("POST", path, headers=dict(headers)).status_code == 403
    assert site.ledger.accounts() == before

"""The pages about accounts and the audit trail, and the same on the command line."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from rich.console import Console
from sqlalchemy import text

from console.accounts import (
    NoSuchAccount,
    TrailAltered,
    add,
    disable,
    first_account,
    free,
    print_accounts,
    reset,
    verify_audit,
)
from console.web.access import passwords
from ledger.account import LastAdministrator, NameTaken, Role
from ledger.audit import Actor
from ledger.errors import SiteError
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.console.web.access.house import PASSWORD, ROOT, House, house

_ONCE = re.compile(r"<code>([a-z0-9]{4}(?:-[a-z0-9]{4}){4})</code>")
_TOKEN = re.compile(r"<code>(wetread_[\w-]{43})</code>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house")) as made:
        yield made


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(LedgerSettings(url=f"sqlite:///{tmp_path}/ledger.sqlite")) as opened:
        yield opened


@pytest.fixture
def terminal() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(terminal: Console) -> str:
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue()


def signed_in(site: House, name: str, password: str) -> requests.Response:
    return site.browser().post("/sign-in", name=name, password=password)


@pytest.mark.parametrize(
    ("name", "why"),
    [("viewer", "already an account"), ("a b", "cannot be the name"), ("anna@id", "cannot be the name")],
)
def test_an_account_that_cannot_be_is_refused_with_a_sentence(site: House, name: str, why: str) -> None:
    answer = site.browser(Role.ADMINISTRATOR).post("/accounts", name=name, role="viewer")
    assert answer.status_code == 422
    assert why in answer.text


def test_a_new_account_has_a_password_that_is_shown_once(site: House) -> None:
    admin = site.browser(Role.ADMINISTRATOR)
    page = admin.post("/accounts", name=" Vera ", role="operator").text
    (password,) = _ONCE.findall(page)
    assert password not in admin.get("/accounts").text
    answer = signed_in(site, "vera", password)
    assert answer.status_code == 303
    account = site.ledger.account_by_name("vera")
    assert account is not None
    assert (account.role, account.must_change) == (Role.OPERATOR, True)
    row = site.ledger.audit_rows(what="account.added", limit=1)[0]
    assert (row.who, row.role, row.address, row.thing_id) == (
        "administrator",
        "administrator",
        "127.0.0.1",
        "vera",
    )
    assert password not in str(site.ledger.audit_rows())


def test_a_reset_shows_a_new_password_once_and_ends_what_was(site: House) -> None:
    account = site.account(Role.VIEWER, "forgetful")
    theirs, admin = site.browser(account), site.browser(Role.ADMINISTRATOR)
    (password,) = _ONCE.findall(admin.post(f"/accounts/{account}/reset").text)
    assert theirs.get("/account").status_code == 401
    assert signed_in(site, "forgetful", PASSWORD).status_code == 401
    assert signed_in(site, "forgetful", password).status_code == 303
    refused = admin.post(f"/accounts/{site.accounts[Role.SERVICE]}/reset")
    assert (refused.status_code, "has no password here" in refused.text) == (422, True)


def test_another_role_counts_from_the_next_request_on(site: House) -> None:
    account = site.account(Role.VIEWER, "riser")
    theirs, admin = site.browser(account), site.browser(Role.ADMINISTRATOR)
    assert theirs.get("/accounts").status_code == 403
    assert admin.post(f"/accounts/{account}/role", role="administrator").status_code == 303
    assert theirs.get("/accounts").status_code == 200
    assert admin.post(f"/accounts/{account}/role", role="service").status_code == 422
    assert admin.post(f"/accounts/{account}/role", role="king").status_code == 422
    assert admin.post(f"/accounts/{account}/disable").status_code == 303
    assert theirs.get("/account").status_code == 401
    assert admin.post(f"/accounts/{account}/enable").status_code == 303
    assert signed_in(site, "riser", PASSWORD).status_code == 303
    site.ledger.set_role(account, Role.VIEWER, by=ROOT)


def test_the_last_administrator_cannot_shut_the_door_behind_himself(site: House) -> None:
    admin, own = site.browser(Role.ADMINISTRATOR), site.accounts[Role.ADMINISTRATOR]
    for path, data in ((f"/accounts/{own}/disable", {}), (f"/accounts/{own}/role", {"role": "viewer"})):
        answer = admin.post(path, **data)
        assert (answer.status_code, "make another one first" in answer.text) == (409, True)
    assert admin.post("/accounts/999/disable").status_code == 404


def test_a_service_gets_a_token_that_is_shown_once_and_can_be_revoked(site: House) -> None:
    admin, service = site.browser(Role.ADMINISTRATOR), site.accounts[Role.SERVICE]
    page = admin.post(f"/accounts/{service}/tokens", label="Prometheus", role="service", days="30").text
    (token,) = _TOKEN.findall(page)
    assert token not in admin.get("/accounts").text
    headers = {"Authorization": f"Bearer {token}"}
    assert site.browser().get("/metrics", headers=dict(headers)).status_code == 200
    made = site.ledger.tokens(service)[0]
    assert made.used_from == "127.0.0.1"
    assert admin.post(f"/accounts/tokens/{made.id}/revoke").status_code == 303
    assert site.browser().get("/metrics", headers=dict(headers)).status_code == 401
    assert admin.post(f"/accounts/tokens/{made.id}/revoke").status_code == 404
    person = site.accounts[Role.VIEWER]
    refused = admin.post(f"/accounts/{person}/tokens", label="x", role="administrator", days="1")
    assert refused.status_code == 422


def test_one_makes_a_token_for_oneself_that_may_do_no_more_than_oneself(site: House) -> None:
    viewer = site.browser(Role.VIEWER)
    answer = viewer.ask("POST", "/account/tokens", data={"label": "mine", "days": "5", "only": ["accounts"]})
    (token,) = _TOKEN.findall(answer.text)
    headers = {"Authorization": f"Bearer {token}"}
    assert site.browser().get("/api/v1/accounts", headers=dict(headers)).status_code == 403
    assert viewer.post("/account/tokens", label="x", days="9999").status_code == 422
    assert viewer.post("/account/tokens", label="", days="5").status_code == 422


def test_a_session_can_be_ended_from_another_browser(site: House) -> None:
    here, phone = site.browser(Role.OPERATOR), site.browser(Role.OPERATOR)
    assert f"/account/sessions/{phone.session}/end" in here.get("/account").text
    assert f"/account/sessions/{here.session}/end" not in here.get("/account").text
    assert here.post(f"/account/sessions/{phone.session}/end").status_code == 303
    assert phone.get("/account").status_code == 401


def test_the_audit_page_is_found_by_who_what_and_when(site: House) -> None:
    auditor = site.browser(Role.AUDITOR)
    site.ledger.record_audit(Actor("<script>alert(1)</script>", Role.VIEWER, "x"), "job.cancelled")
    page = auditor.get("/audit").text
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert "job.cancelled" in auditor.get("/audit", params={"who": "<script>alert(1)</script>"}).text
    assert "Nothing was found." in auditor.get("/audit?who=nobody").text
    assert "Nothing was found." in auditor.get("/audit?until=2001-01-01").text
    assert auditor.get("/audit?since=yesterday").status_code == 422
    for beyond in ("until=9999-12-31", f"below={10**23}"):
        for page in ("/audit", "/audit.csv", "/api/v1/audit"):
            assert auditor.get(f"{page}?{beyond}").status_code in (200, 422)
    assert auditor.get("/").headers["location"] == "/audit"
    found = auditor.get("/api/v1/audit?limit=1").json()
    assert found["next"] == found["rows"][0]["number"]
    older = auditor.get(f"/api/v1/audit?limit=1&below={found['next']}").json()
    assert older["rows"][0]["number"] == found["next"] - 1
    assert "are as they were written" in auditor.get("/audit/check").text
    assert auditor.get("/api/v1/audit/check").json()["broken_at"] is None


def test_the_file_of_the_audit_trail_is_no_formula_and_says_that_it_was_taken(site: House) -> None:
    auditor = site.browser(Role.AUDITOR)
    site.ledger.record_audit(Actor("=cmd|' /C calc'!A0", Role.VIEWER, "@x"), "job.cancelled", thing_id="-1")
    answer = auditor.get("/audit.csv")
    assert answer.headers["content-disposition"].startswith('attachment; filename="wetread-audit-')
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0][:3] == ["number", "time", "who"]
    assert rows[1][2:6] == ["auditor", "auditor", "127.0.0.1", "audit.exported"]
    assert rows[2][2].startswith("'=")
    assert rows[2][4] == "'@x"
    assert rows[2][6] == "'-1"
    assert len(rows) == rows_in(site.ledger) + 1


def rows_in(ledger: Ledger) -> int:
    return ledger.verify_audit().rows


def test_the_first_start_prints_a_password_and_no_other_does(ledger: Ledger) -> None:
    password = first_account(ledger)
    assert password is not None
    assert re.fullmatch(r"[a-z0-9]{4}(-[a-z0-9]{4}){4}", password)
    assert first_account(ledger) is None
    (admin,) = ledger.accounts()
    assert (admin.name, admin.role, admin.must_change) == ("admin", Role.ADMINISTRATOR, True)
    assert passwords.is_right(password, admin.password)
    assert password not in str(ledger.audit_rows())


def test_accounts_are_made_and_mended_on_the_command_line(ledger: Ledger, terminal: Console) -> None:
    first_account(ledger)
    add(ledger, "Vera", Role.VIEWER, terminal)
    add(ledger, "ris", Role.SERVICE, terminal)
    password = re.findall(r"password (\S+),", said(terminal))[0]
    vera = ledger.account_by_name("vera")
    assert vera is not None
    assert passwords.is_right(password, vera.password)

    disable(ledger, "vera", terminal)
    reset(ledger, "VERA", terminal)
    mended = ledger.account(vera.id)
    assert (mended.disabled, mended.must_change) == (False, True)
    assert not passwords.is_right(password, mended.password)
    free(ledger, "vera", terminal)
    print_accounts(ledger, terminal)
    assert f"vera#{vera.id}" in said(terminal)
    told = [(row.what, row.role, row.address) for row in ledger.audit_rows(limit=5)]
    assert set(told) >= {("account.reset", "administrator", "this machine")}


def test_what_cannot_be_on_the_command_line_is_a_sentence(ledger: Ledger, terminal: Console) -> None:
    print_accounts(ledger, terminal)
    assert "no account yet" in said(terminal)
    with pytest.raises(NoSuchAccount, match="there is none yet"):
        reset(ledger, "anna", terminal)
    first_account(ledger)
    add(ledger, "ris", Role.SERVICE, terminal)
    with pytest.raises(NoSuchAccount, match="has no password here"):
        reset(ledger, "ris", terminal)
    with pytest.raises(LastAdministrator, match="make another one first"):
        disable(ledger, "admin", terminal)
    with pytest.raises(NameTaken, match="already an account"):
        add(ledger, "admin", Role.VIEWER, terminal)
    with pytest.raises(SiteError, match="cannot be the name"):
        add(ledger, "a b", Role.VIEWER, terminal)


def test_an_altered_trail_is_said_on_the_command_line(ledger: Ledger, terminal: Console) -> None:
    for number in range(3):
        ledger.record_audit(ROOT, "job.retried", thing_id=number)
    verify_audit(ledger, terminal)
    known = re.findall(r"3:[0-9a-f]{64}", said(terminal))[0]
    ledger.record_audit(ROOT, "job.retried", thing_id=4)
    verify_audit(ledger, terminal, known=known)
    for wrong in ("3:" + "0" * 64, "99:" + "0" * 64, "x"):
        with pytest.raises(TrailAltered, match="not the one that was written down"):
            verify_audit(ledger, terminal, known=wrong)
    with ledger.write() as tx:
        tx.connection.execute(text("DROP TRIGGER audit_no_update"))
        tx.connection.execute(text("UPDATE audit SET who = 'nobody' WHERE number = 2"))
    with pytest.raises(TrailAltered, match="altered at row 2"):
        verify_audit(ledger, terminal)


def test_the_api_says_who_asks(site: House) -> None:
    told = site.browser(Role.AUDITOR).get("/api/v1/account").json()
    assert told == {"name": "auditor", "role": "auditor", "permissions": ["audit", "own"]}
    everybody = json.dumps(site.browser(Role.ADMINISTRATOR).get("/api/v1/accounts").json())
    assert "argon2" not in everybody
    assert "totp_secret" not in everybody


def test_an_attempt_to_change_what_is_not_ones_own_is_told(site: House) -> None:
    site.browser(Role.VIEWER).post("/accounts/7/disable")
    row = site.ledger.audit_rows(limit=1)[0]
    assert (row.who, row.what, row.outcome) == ("viewer", "access.refused", "refused")
    assert row.detail == {"method": "POST", "route": "/accounts/{account_id}/disable"}

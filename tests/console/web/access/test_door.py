"""Signing in: what it takes, what it costs to be wrong, and what nobody learns by it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from argon2 import PasswordHasher

from console.web.access import passwords, second_factor
from console.web.access.credentials import Cookie, bearer, digest, new_token
from console.web.access.door import WRONG, Came, Door, NotLetIn, TooOften
from console.web.access.throttle import Rate, Throttle
from console.web.pages.sign_in import inside
from ledger.account import FREE_FAILURES, Role
from tests.console.web.access.house import HASH, PASSWORD, ROOT, Browser, House, house

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as made:
        yield made


def sign_in(browser: Browser, name: str = "viewer", password: str = PASSWORD, back: str = "/") -> int:
    answer = browser.post("/sign-in", name=name, password=password, back=back)
    browser.take_cookie(answer)
    return answer.status_code


def give_code(browser: Browser, code: str) -> int:
    answer = browser.post("/sign-in/code", code=code, back="/studies")
    browser.take_cookie(answer)
    return answer.status_code


def code_at(seconds: float) -> str:
    return pyotp.TOTP(SECRET).at(time.time() + seconds)


def test_whoever_is_wrong_learns_nothing(site: House) -> None:
    locked = site.account(Role.VIEWER, "locked")
    for _ in range(FREE_FAILURES + 1):
        site.ledger.count_failure(locked, "password", address="192.0.2.1")
    disabled = site.account(Role.VIEWER, "disabled")
    site.ledger.disable_account(disabled, by=ROOT)
    site.ledger.account_from_provider("https://id|1", "vera@id", Role.VIEWER, "192.0.2.1")

    answers = {
        site.browser().post("/sign-in", name=name, password=password).text
        for name, password in [
            ("viewer", "wrong"),
            ("viewer", ""),
            ("nobody", PASSWORD),
            ("locked", PASSWORD),
            ("disabled", PASSWORD),
            ("service", ""),
            ("vera@id", ""),
            ("../../etc/passwd\0", "x" * 900),
        ]
    }

    assert len(answers) == 1
    assert WRONG in answers.pop()


def test_every_answer_takes_one_argon2(site: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, known: str, password: str) -> bool:
        asked.append(known)
        return verify(self, known, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    door = Door(site.ledger)
    for name in ("viewer", "nobody", "service", "no name at all"):
        with pytest.raises(NotLetIn):
            door.password(name, "wrong", Came("192.0.2.1"))
    assert len(asked) == 4
    assert {known.split("$")[3] for known in asked} == {"m=65536,t=3,p=4"}


def test_what_was_typed_as_a_name_is_nowhere_to_be_read(site: House, capfd: pytest.CaptureFixture) -> None:
    site.browser().post("/sign-in", name="my secret password", password="viewer")

    (row,) = site.ledger.audit_rows(what="session.refused")
    assert (row.who, row.thing_id, row.outcome) == ("somebody", "", "refused")
    assert "secret" not in str(site.ledger.audit_rows()) + "".join(capfd.readouterr())


def test_a_session_begins_with_a_cookie_that_no_script_and_no_other_site_gets(site: House) -> None:
    browser = site.browser()
    answer = browser.post("/sign-in", name="Viewer ", password=PASSWORD, back="/studies?state=open")
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies?state=open")
    cookie = answer.headers["set-cookie"]
    browser.take_cookie(answer)
    assert cookie == f"wetread={browser.secret}; Path=/; HttpOnly; SameSite=Lax"
    assert len(browser.secret) == 43  # 256 bits
    assert browser.get("/studies").status_code == 200
    secure = Cookie(secure=True)
    assert secure.said("x") == "__Host-wetread=x; Path=/; HttpOnly; SameSite=Lax; Secure"
    assert secure.gone().endswith("Secure; Max-Age=0")


def test_signing_in_gives_another_cookie_and_ends_what_was_before(site: House) -> None:
    browser = site.browser(Role.VIEWER)
    before = browser.secret

    assert sign_in(browser) == 303

    assert browser.secret != before
    assert site.ledger.session(digest(before), idle_s=60) is None
    planted = site.browser()
    planted.secret = "chosen by somebody else"
    assert sign_in(planted) == 303
    assert planted.secret != "chosen by somebody else"


def test_wrong_passwords_lock_the_account_and_it_says_so_to_the_auditor(site: House) -> None:
    for _ in range(FREE_FAILURES + 1):
        assert sign_in(site.browser(), password="wrong") == 401
    assert sign_in(site.browser()) == 401  # The right one, and too late.
    account = site.ledger.account_by_name("viewer")
    assert account is not None
    assert account.locked(site.ledger.now())

    site.ledger.enable_account(account.id, by=ROOT)
    assert sign_in(site.browser()) == 303
    refused = site.ledger.audit_rows(what="session.refused")
    assert [row.detail.get("failures") for row in refused] == [None, 5, 4, 3, 2, 1]


def test_signing_out_ends_the_session_and_takes_the_cookie(site: House) -> None:
    browser = site.browser(Role.VIEWER)
    answer = browser.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert browser.get("/studies").status_code == 401


def test_the_second_factor_is_asked_for_and_half_a_session_opens_nothing(site: House) -> None:
    site.ledger.set_second_factor(site.accounts[Role.VIEWER], SECRET, [], by=ROOT)
    browser = site.browser()
    answer = browser.post("/sign-in", name="viewer", password=PASSWORD, back="/studies")
    browser.take_cookie(answer)
    assert answer.headers["location"] == "/sign-in/code?back=%2Fstudies"
    half = browser.secret
    assert browser.get("/studies").status_code == 401
    assert browser.get("/sign-in/code?back=/studies").status_code == 200

    assert give_code(browser, "000000") == 401
    assert browser.secret == half
    assert give_code(browser, code_at(0)) == 303
    assert browser.secret != half
    assert browser.get("/studies").status_code == 200
    browser.secret = half
    assert browser.get("/studies").status_code == 401


def test_a_code_is_good_once_and_codes_of_other_times_are_not(site: House) -> None:
    site.ledger.set_second_factor(site.accounts[Role.VIEWER], SECRET, [], by=ROOT)
    first, second = site.browser(), site.browser()
    assert (sign_in(first), sign_in(second)) == (303, 303)
    code = code_at(0)
    assert give_code(first, code) == 303
    assert give_code(second, code) == 401
    for far in (-120, 120):
        assert give_code(second, code_at(far)) == 401


def test_wrong_codes_lock_the_account_as_wrong_passwords_do(site: House) -> None:
    site.ledger.set_second_factor(site.accounts[Role.VIEWER], SECRET, [], by=ROOT)
    browser = site.browser()
    sign_in(browser)
    for _ in range(FREE_FAILURES + 1):
        assert give_code(browser, "abc") == 401
    assert give_code(browser, code_at(0)) == 401


def test_a_recovery_code_opens_once(site: House) -> None:
    codes = second_factor.recovery_codes()
    kept = [second_factor.recovery_digest(code) for code in codes]
    site.ledger.set_second_factor(site.accounts[Role.VIEWER], SECRET, kept, by=ROOT)
    browser = site.browser()
    sign_in(browser)
    assert give_code(browser, f" {codes[0].upper().replace('-', ' ')} ") == 303
    again = site.browser()
    sign_in(again)
    assert give_code(again, codes[0]) == 401
    assert len(set(codes)) == second_factor.RECOVERY_CODES


def test_without_the_first_step_there_is_no_second(site: House) -> None:
    browser = site.browser()
    assert browser.get("/sign-in/code").status_code == 303
    assert browser.post("/sign-in/code", code="123456").status_code == 401


def test_a_password_that_somebody_else_chose_is_changed_first(site: House) -> None:
    site.account(Role.OPERATOR, "newcomer", must_change=True)
    browser = site.browser()
    assert sign_in(browser, "newcomer") == 303
    assert browser.get("/studies").headers["location"] == "/account"
    assert browser.get("/api/v1/studies").status_code == 403
    assert browser.get("/account").status_code == 200
    assert browser.post("/account/tokens", label="a way around", days="5").status_code == 403
    assert site.ledger.tokens() == []

    new = "eleven purple cows"
    changed = browser.post("/account/password", password=PASSWORD, new=new, again=new)
    assert changed.status_code == 303
    assert browser.get("/studies").status_code == 200
    assert sign_in(site.browser(), "newcomer") == 401
    assert sign_in(site.browser(), "newcomer", new) == 303


def test_a_role_that_needs_a_second_factor_comes_no_further_without(tmp_path: Path) -> None:
    with house(tmp_path, second_factor_for=["administrator"]) as site:
        browser = site.browser(Role.ADMINISTRATOR)
        assert browser.get("/accounts").headers["location"] == "/account"
        assert site.browser(Role.VIEWER).get("/studies").status_code == 200
        secret = browser.post("/account/second-factor/begin").text.partition('name="secret" value="')[2][:32]
        codes = {"secret": secret, "code": pyotp.TOTP(secret).now()}
        wrong = browser.post("/account/second-factor", password="wrong", **codes)
        assert wrong.status_code == 403
        shown = browser.post("/account/second-factor", password=PASSWORD, **codes)
        assert shown.text.count("<li><code>") == second_factor.RECOVERY_CODES
        assert browser.get("/accounts").status_code == 200


@pytest.mark.parametrize(
    ("new", "again", "status"),
    [
        ("short", "short", 422),
        ("x" * 300, "x" * 300, 422),
        ("aaaaaaaaaaaaaa", "aaaaaaaaaaaaaa", 422),
        ("i am a viewer now", "i am a viewer now", 422),
        ("Wetread-2026-long", "Wetread-2026-long", 422),
        (PASSWORD, PASSWORD, 422),
        ("eleven purple cows", "eleven purple cats", 422),
    ],
)
def test_a_password_that_will_not_do_is_refused_with_a_sentence(
    site: House, new: str, again: str, status: int
) -> None:
    browser = site.browser(Role.VIEWER)
    answer = browser.post("/account/password", password=PASSWORD, new=new, again=again)
    assert answer.status_code == status
    assert 'class="answer stopped"' in answer.text
    assert sign_in(site.browser()) == 303


def test_a_change_of_password_ends_the_other_sessions_and_counts_wrong_guesses(site: House) -> None:
    mine, other = site.browser(Role.VIEWER), site.browser(Role.VIEWER)
    new = "eleven purple cows"
    assert mine.post("/account/password", password="guess", new=new, again=new).status_code == 403
    assert site.ledger.account(site.accounts[Role.VIEWER]).failures == 1
    assert mine.post("/account/password", password=PASSWORD, new=new, again=new).status_code == 303
    assert mine.get("/account").status_code == 200
    assert other.get("/account").status_code == 401


def test_a_hash_of_other_parameters_is_renewed_at_the_next_right_password(site: House) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    account = site.account(Role.VIEWER, "old", password=old)
    assert passwords.is_dated(old)
    assert sign_in(site.browser(), "old", "wrong") == 401
    assert site.ledger.account(account).password == old
    assert sign_in(site.browser(), "old") == 303
    renewed = site.ledger.account(account).password
    assert renewed != old
    assert not passwords.is_dated(renewed)
    assert passwords.is_right(PASSWORD, renewed)
    assert not passwords.is_right("", "")


def test_too_many_tries_from_one_address_or_for_one_name_wait(site: House) -> None:
    door = Door(
        site.ledger,
        addresses=Throttle(Rate(3, 60.0), clock=lambda: 0.0),
        names=Throttle(Rate(2, 60.0), clock=lambda: 0.0),
    )
    for _ in range(2):
        with pytest.raises(NotLetIn):
            door.password("nobody", "x", Came("192.0.2.1"))
    with pytest.raises(TooOften) as named:
        door.password("nobody", "x", Came("192.0.2.2"))
    assert named.value.wait_s == pytest.approx(60)
    with pytest.raises(NotLetIn):
        door.password("another", "x", Came("192.0.2.1"))
    with pytest.raises(TooOften):
        door.password("third", "x", Came("192.0.2.1"))
    assert door.password("viewer", PASSWORD, Came("192.0.2.3")).complete


def test_a_browser_that_tries_too_often_is_told_for_how_long(site: House) -> None:
    door: Door = site.app.state.door
    door.addresses.rate = Rate(1, 30.0)
    assert sign_in(site.browser(), "nobody", "x") == 401
    answer = site.browser().post("/sign-in", name="viewer", password=PASSWORD)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 31
    assert "Too many tries" in answer.text


def test_a_throttle_lets_a_burst_through_and_then_one_at_a_time() -> None:
    now = [0.0]
    throttle = Throttle(Rate(3, 10.0), clock=lambda: now[0])
    assert [throttle.wait_s("a") for _ in range(5)] == [0.0, 0.0, 0.0, 10.0, 10.0]
    assert throttle.wait_s("b") == 0.0
    now[0] = 10.0
    assert [throttle.wait_s("a") for _ in range(2)] == [0.0, 10.0]
    throttle.forget("a")
    assert throttle.wait_s("a") == 0.0
    now[0] = 1e6
    assert [throttle.wait_s("a") for _ in range(4)] == [0.0, 0.0, 0.0, 10.0]


def test_a_throttle_remembers_no_more_than_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.web.access.throttle._KNOWN_MAX", 2)
    throttle = Throttle(Rate(1, 10.0), clock=lambda: 0.0)
    assert [throttle.wait_s(key) for key in ("a", "b", "c", "a", "c")] == [0.0, 0.0, 0.0, 0.0, 10.0]


@pytest.mark.parametrize(
    "back",
    ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "", "x", "/sign-out"],
)
def test_after_signing_in_nobody_is_sent_elsewhere(back: str) -> None:
    assert inside(back) == "/"


def test_after_signing_in_one_is_where_one_wanted_to_be() -> None:
    assert inside("/studies?text=a%20b&state=open") == "/studies?text=a%20b&state=open"


@pytest.mark.parametrize(
    "header", [None, "", "Basic YTpi", "Bearer", "Bearer x", "Bearer wetread", "wetread_abc"]
)
def test_what_is_no_token_of_ours_is_none(header: str | None) -> None:
    assert bearer(header) is None


def test_a_token_is_known_by_its_beginning() -> None:
    token = new_token()
    assert bearer(f"bearer  {token} ") == token
    assert token.startswith("wetread_")
    assert digest(token) != digest(new_token())
    assert HASH.startswith("$argon2id$v=19$m=65536,t=3,p=4$")

"""Accounts, sessions and tokens as the ledger keeps them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from ledger.account import (
    FREE_FAILURES,
    LONGEST_LOCK_S,
    AccountId,
    LastAdministrator,
    NameTaken,
    Origin,
    Role,
    SessionId,
    SignInRequest,
    TokenId,
    local_name,
    lock_s,
)
from ledger.audit import Actor
from ledger.settings import LedgerSettings
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from tests.ledger.site import digest, pass_by

ROOT = Actor("root", Role.ADMINISTRATOR, "this machine")
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"
HERE = "192.0.2.7"


def account(ledger: Ledger, name: str = "anna", role: Role = Role.OPERATOR) -> AccountId:
    return ledger.add_account(name, role, password=HASH, by=ROOT)


def sign_in(ledger: Ledger, account_id: AccountId, secret: str = "s", **how) -> SessionId:
    more = {"complete": True, "address": HERE, "agent": "Firefox", "lives_s": 60.0} | how
    return ledger.begin_session(account_id, digest(secret).value, **more)


def opened(ledger: Ledger, secret: str = "s", idle_s: float = 60.0):
    return ledger.session(digest(secret).value, idle_s=idle_s)


def done(ledger: Ledger) -> list[tuple[str, str]]:
    return [(row.who, row.what) for row in reversed(ledger.audit_rows())]


@pytest.mark.parametrize("text", ["", "a b", "anna@example.org", ".anna", "a" * 64, "ännä", "a\n"])
def test_a_local_name_cannot_be_taken_for_something_else(text: str) -> None:
    if text == "a\n":
        assert local_name(text) == "a"
        return
    with pytest.raises(ValueError, match="cannot be the name of an account"):
        local_name(text)


def test_wrong_passwords_cost_more_and_more_time_and_never_for_ever() -> None:
    waits = [lock_s(failures) for failures in range(60)]
    assert waits[: FREE_FAILURES + 1] == [0.0] * (FREE_FAILURES + 1)
    assert waits[FREE_FAILURES + 1 : FREE_FAILURES + 4] == [30.0, 60.0, 120.0]
    assert waits == sorted(waits)
    assert max(waits) == lock_s(10_000) == LONGEST_LOCK_S


def test_there_is_one_first_account_however_many_start_at_once(settings: LedgerSettings) -> None:
    Ledger.open(settings).close()

    def start(number: int) -> bool:
        with Ledger.open(settings) as ledger:
            return ledger.first_account("admin", f"{HASH}{number}", by=ROOT)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(start, range(4))) == [False, False, False, True]
    with Ledger.open(settings) as ledger:
        (only,) = ledger.accounts()
        assert (only.name, only.role, only.must_change) == ("admin", Role.ADMINISTRATOR, True)
        assert done(ledger) == [("root", "account.added")]


def test_a_name_is_taken_once(ledger: Ledger) -> None:
    account(ledger)
    with pytest.raises(NameTaken, match="already an account called anna"):
        account(ledger)
    assert len(ledger.audit_rows()) == 1


def test_no_secret_is_in_what_an_account_prints(ledger: Ledger) -> None:
    anna = account(ledger)
    ledger.set_second_factor(anna, "JBSWY3DPEHPK3PXP", [digest("code").value], by=ROOT)
    shown = repr(ledger.account(anna)) + repr(
        SignInRequest(nonce="secret-nonce", verifier="secret-verifier", back_to="/")
    )
    for secret in (HASH, "JBSWY3DPEHPK3PXP", digest("code").value, "secret-nonce", "secret-verifier"):
        assert secret not in shown
    assert HASH not in str(ledger.audit_rows())


@pytest.mark.parametrize("act", ["disable", "demote", "free"])
def test_the_last_administrator_stays(ledger: Ledger, act: str) -> None:
    first = account(ledger, "admin", Role.ADMINISTRATOR)
    ledger.account_from_provider("https://id|1", "boss@id", Role.ADMINISTRATOR, HERE)  # May be away.
    acts = {
        "disable": lambda: ledger.disable_account(first, by=ROOT),
        "demote": lambda: ledger.set_role(first, Role.VIEWER, by=ROOT),
        "free": lambda: ledger.free_name(first, by=ROOT),
    }
    with pytest.raises(LastAdministrator, match="only administrator with a password here"):
        acts[act]()
    assert ledger.account(first).role is Role.ADMINISTRATOR

    account(ledger, "second", Role.ADMINISTRATOR)
    acts[act]()
    assert ledger.account(first) != replace(ledger.account(first), disabled=False, role=Role.ADMINISTRATOR)


def test_an_administrator_whose_name_was_freed_is_none_who_could_mend_things(ledger: Ledger) -> None:
    first, freed = account(ledger, "first", Role.ADMINISTRATOR), account(ledger, "boss", Role.ADMINISTRATOR)
    ledger.free_name(freed, by=ROOT)
    ledger.enable_account(freed, by=ROOT)
    with pytest.raises(LastAdministrator):
        ledger.disable_account(first, by=ROOT)


def test_what_is_not_there_cannot_be_changed(ledger: Ledger) -> None:
    nobody = AccountId(99)
    for act in (
        lambda: ledger.account(nobody),
        lambda: ledger.set_role(nobody, Role.VIEWER, by=ROOT),
        lambda: ledger.disable_account(nobody, by=ROOT),
        lambda: ledger.enable_account(nobody, by=ROOT),
        lambda: ledger.set_password(nobody, HASH, by=ROOT, must_change=True),
        lambda: ledger.count_failure(nobody, "password", address=HERE),
        lambda: sign_in(ledger, nobody),
        lambda: ledger.revoke_token(TokenId(9), by=ROOT),
    ):
        with pytest.raises(NotInLedger):
            act()
    assert ledger.account_by_name("nobody") is None
    assert ledger.audit_rows() == []


def test_an_account_is_locked_by_failures_and_opened_by_a_right_password(ledger: Ledger) -> None:
    anna = account(ledger)
    for _ in range(FREE_FAILURES):
        assert not ledger.count_failure(anna, "password", address=HERE).locked(ledger.now())
    locked = ledger.count_failure(anna, "password", address=HERE)
    assert locked.locked(ledger.now())
    assert not locked.locked(ledger.now() + lock_s(FREE_FAILURES + 1) + 1)
    row = ledger.audit_rows(limit=1)[0]
    assert (row.who, row.what, row.outcome, row.address) == ("anna", "session.refused", "refused", HERE)
    assert row.detail == {"wrong": "password", "failures": 5, "locked_s": 30.0}

    sign_in(ledger, anna)
    assert (ledger.account(anna).failures, ledger.account(anna).locked_until) == (0, None)


def test_a_reset_opens_everything_and_ends_every_session(ledger: Ledger) -> None:
    anna = account(ledger)
    ledger.set_second_factor(anna, "JBSWY3DPEHPK3PXP", [], by=ROOT)
    sign_in(ledger, anna)
    for _ in range(FREE_FAILURES + 1):
        ledger.count_failure(anna, "code", address=HERE)

    ledger.set_password(anna, HASH + "2", by=ROOT, must_change=True)

    after = ledger.account(anna)
    assert (after.must_change, after.locked_until, after.totp_secret, after.failures) == (True, None, None, 0)
    assert opened(ledger) is None
    assert done(ledger)[-1] == ("root", "account.reset")


def test_a_change_of_password_ends_all_other_sessions(ledger: Ledger) -> None:
    anna = account(ledger)
    sign_in(ledger, anna, "old")
    mine = sign_in(ledger, anna, "mine")

    ledger.set_password(anna, HASH + "2", by=ROOT, must_change=False, but=mine)

    assert opened(ledger, "old") is None
    assert opened(ledger, "mine") is not None


def test_a_hash_is_renewed_only_for_the_password_that_it_was_of(ledger: Ledger) -> None:
    anna = account(ledger)
    ledger.renew_hash(anna, "another", "renewed")
    assert ledger.account(anna).password == HASH
    ledger.renew_hash(anna, HASH, "renewed")
    assert ledger.account(anna).password == "renewed"


def test_a_code_is_good_once_and_never_after_a_later_one(ledger: Ledger) -> None:
    anna = account(ledger)
    assert [ledger.use_code(anna, step) for step in (100, 100, 99, 101)] == [True, False, False, True]
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: ledger.use_code(anna, 200), range(4))) == 1


def test_a_recovery_code_is_good_once(ledger: Ledger) -> None:
    anna = account(ledger)
    codes = [digest(code).value for code in ("one", "two")]
    ledger.set_second_factor(anna, "JBSWY3DPEHPK3PXP", codes, by=ROOT)
    by = Actor("anna", Role.OPERATOR, HERE)
    assert not ledger.use_recovery(anna, digest("three").value, by=by)
    assert ledger.use_recovery(anna, codes[0], by=by)
    assert not ledger.use_recovery(anna, codes[0], by=by)
    assert ledger.account(anna).recovery == (codes[1],)


def test_a_session_ends_by_age_by_idleness_and_with_its_account(ledger: Ledger) -> None:
    anna = account(ledger)
    sign_in(ledger, anna, "short", lives_s=0.05)
    sign_in(ledger, anna, "long")
    pass_by(ledger, 0.1)
    assert opened(ledger, "short") is None
    assert opened(ledger, "long") is not None
    assert opened(ledger, "long", idle_s=0.05) is None
    assert opened(ledger, "never") is None

    ledger.disable_account(anna, by=ROOT)
    assert opened(ledger, "long") is None
    ledger.enable_account(anna, by=ROOT)
    assert opened(ledger, "long") is None  # What has ended stays ended.
    ledger.disable_account(anna, by=ROOT)
    with pytest.raises(NotInLedger, match="may sign in"):
        sign_in(ledger, anna)


def test_a_session_that_is_used_does_not_become_idle(ledger: Ledger, monkeypatch) -> None:
    monkeypatch.setattr("ledger.store.sessions._SEEN_EVERY_S", 0.0)
    anna = account(ledger)
    sign_in(ledger, anna)
    before = opened(ledger)
    assert before is not None
    pass_by(ledger, 0.05)
    ledger.touch_session(before)
    after = opened(ledger)
    assert after is not None
    assert after.seen_at > before.seen_at
    assert after.expires_at == before.expires_at


def test_using_a_session_often_is_not_a_commit_each_time(ledger: Ledger) -> None:
    anna = account(ledger)
    sign_in(ledger, anna)
    one = opened(ledger)
    assert one is not None
    ledger.touch_session(one)
    assert opened(ledger) == one


def test_signing_in_replaces_the_session_before_it(ledger: Ledger) -> None:
    anna = account(ledger)
    sign_in(ledger, anna, "half", complete=False)
    half = opened(ledger, "half")
    assert half is not None
    assert not half.complete
    assert done(ledger) == [("root", "account.added")]  # Nobody has signed in yet.

    sign_in(ledger, anna, "whole", instead_of=digest("half").value)

    assert opened(ledger, "half") is None
    assert done(ledger)[-1] == ("anna", "session.started")


def test_nobody_ends_the_session_of_another(ledger: Ledger) -> None:
    anna, ben = account(ledger, "anna"), account(ledger, "ben")
    theirs = sign_in(ledger, anna, "anna")
    by = Actor("ben", Role.OPERATOR, HERE)
    with pytest.raises(NotInLedger, match="no session"):
        ledger.end_session(theirs, of=ben, by=by)
    assert opened(ledger, "anna") is not None

    ledger.end_session(theirs, of=anna, by=by)
    assert opened(ledger, "anna") is None
    with pytest.raises(NotInLedger):
        ledger.end_session(theirs, of=anna, by=by)
    assert done(ledger).count(("ben", "session.ended")) == 1


def test_all_other_sessions_end_at_once(ledger: Ledger) -> None:
    anna, ben = account(ledger, "anna"), account(ledger, "ben")
    mine = sign_in(ledger, anna, "mine")
    sign_in(ledger, anna, "phone")
    sign_in(ledger, anna, "half", complete=False)
    sign_in(ledger, ben, "ben")
    assert [one.id for one in ledger.sessions_of(anna, idle_s=60)][-1] == mine
    assert len(ledger.sessions_of(anna, idle_s=60)) == 2

    assert ledger.end_sessions(anna, by=ROOT, but=mine) == 2
    assert ledger.end_sessions(anna, by=ROOT, but=mine) == 0
    assert [one.id for one in ledger.sessions_of(anna, idle_s=60)] == [mine]
    assert opened(ledger, "ben") is not None


def test_names_are_shown_for_a_while_and_it_is_told(ledger: Ledger) -> None:
    anna = account(ledger)
    sign_in(ledger, anna)
    one = opened(ledger)
    assert one is not None
    assert one.names_until is None
    by = Actor("anna", Role.OPERATOR, HERE)

    ledger.show_names(one, for_s=900, by=by)
    shown = opened(ledger)
    assert shown is not None
    assert shown.names_until == pytest.approx(ledger.now() + 900, abs=30)
    ledger.show_names(one, for_s=0, by=by)
    hidden = opened(ledger)
    assert hidden is not None
    assert hidden.names_until is None
    assert done(ledger)[-2:] == [("anna", "names.shown"), ("anna", "names.hidden")]
    ledger.end_sessions(anna, by=ROOT)
    with pytest.raises(NotInLedger, match="session has ended"):
        ledger.show_names(one, for_s=900, by=by)


def test_ended_sessions_are_forgotten_after_a_week(ledger: Ledger, monkeypatch) -> None:
    anna = account(ledger)
    sign_in(ledger, anna, "old", lives_s=0.01)
    monkeypatch.setattr("ledger.store.sessions._KEPT_S", 0.0)
    pass_by(ledger, 0.05)
    sign_in(ledger, anna, "new")
    with ledger.read() as tx:
        assert tx.connection.execute(text("SELECT count(*) FROM session")).scalar_one() == 1


def test_a_request_to_the_identity_provider_comes_back_once_and_in_time(ledger: Ledger) -> None:
    request = SignInRequest(nonce="n", verifier="v", back_to="/studies")
    ledger.remember_request("s1", request, within_s=60)
    ledger.remember_request("s2", request, within_s=60)
    assert ledger.take_request("s1", within_s=60) == request
    assert ledger.take_request("s1", within_s=60) is None
    assert ledger.take_request("s3", within_s=60) is None
    pass_by(ledger, 0.05)
    assert ledger.take_request("s2", within_s=0.01) is None
    assert ledger.take_request("s2", within_s=60) is None


def test_the_provider_says_what_somebody_may_do_each_time(ledger: Ledger) -> None:
    first = ledger.account_from_provider("https://id|1", "anna@id", Role.VIEWER, HERE)
    assert (first.origin, first.role, first.password) == (Origin.OIDC, Role.VIEWER, "")
    again = ledger.account_from_provider("https://id|1", "anna@id", Role.OPERATOR, HERE)
    assert (again.id, again.role) == (first.id, Role.OPERATOR)
    renamed = ledger.account_from_provider("https://id|1", "anna.b@id", Role.OPERATOR, HERE)
    assert (renamed.id, renamed.name) == (first.id, "anna.b@id")
    assert [what for _, what in done(ledger)] == ["account.added", "account.changed", "account.changed"]


def test_a_name_that_somebody_else_had_is_not_inherited(ledger: Ledger) -> None:
    left = ledger.account_from_provider("https://id|1", "anna@id", Role.ADMINISTRATOR, HERE)
    with pytest.raises(NameTaken, match="belongs to another account here"):
        ledger.account_from_provider("https://id|2", "anna@id", Role.VIEWER, HERE)
    account(ledger, "ben")
    with pytest.raises(NameTaken):
        ledger.account_from_provider("https://id|2", "ben", Role.VIEWER, HERE)

    assert ledger.free_name(left.id, by=ROOT) == f"anna@id#{left.id}"
    assert ledger.account(left.id).disabled
    came = ledger.account_from_provider("https://id|2", "anna@id", Role.VIEWER, HERE)
    assert (came.id != left.id, came.role) == (True, Role.VIEWER)


def token(ledger: Ledger, owner: AccountId, secret: str = "t", **how) -> TokenId:
    more = {"label": "RIS", "role": Role.VIEWER, "permissions": None, "lives_s": 60.0, "by": ROOT} | how
    return ledger.add_token(owner, digest(secret).value, **more)


def test_a_token_opens_until_it_expires_is_revoked_or_its_account_is_disabled(ledger: Ledger) -> None:
    anna = account(ledger)
    token(ledger, anna, "short", lives_s=0.01)
    revoked = token(ledger, anna, "revoked", permissions=["see_queue"])
    token(ledger, anna, "good")
    pass_by(ledger, 0.05)
    assert ledger.token(digest("short").value) is None
    before = ledger.token(digest("revoked").value)
    assert before is not None
    assert before.permissions == ("see_queue",)

    ledger.revoke_token(revoked, by=ROOT)
    assert ledger.token(digest("revoked").value) is None
    with pytest.raises(NotInLedger):
        ledger.revoke_token(revoked, by=ROOT)
    assert [one.label for one in ledger.tokens()] == ["RIS", "RIS"]

    assert ledger.token(digest("good").value) is not None
    ledger.disable_account(anna, by=ROOT)
    assert ledger.token(digest("good").value) is None
    with pytest.raises(NotInLedger):
        token(ledger, anna, "late")


def test_who_loses_every_role_at_the_provider_loses_what_is_open_and_nobody_else_does(ledger: Ledger) -> None:
    anna = ledger.account_from_provider("https://id|1", "anna@id", Role.OPERATOR, HERE).id
    ben = ledger.account_from_provider("https://id|2", "ben@id", Role.OPERATOR, HERE).id
    for name, each in (("anna", anna), ("ben", ben)):
        sign_in(ledger, each, name)
        token(ledger, each, name)

    for _ in range(2):
        ledger.lose_role("https://id|1", HERE)
    ledger.lose_role("https://id|3", HERE)

    assert (opened(ledger, "anna"), ledger.token(digest("anna").value)) == (None, None)
    assert opened(ledger, "ben") is not None
    assert ledger.token(digest("ben").value) is not None
    assert done(ledger).count(("anna@id", "account.role_lost")) == 1


def test_a_reset_revokes_the_tokens_and_a_password_of_ones_own_does_not(ledger: Ledger) -> None:
    anna, ben = account(ledger, "anna"), account(ledger, "ben")
    token(ledger, anna, "anna")
    token(ledger, ben, "ben")

    ledger.set_password(anna, HASH + "2", by=ROOT, must_change=False)
    assert ledger.token(digest("anna").value) is not None

    ledger.set_password(anna, HASH + "3", by=ROOT, must_change=True)
    assert ledger.token(digest("anna").value) is None
    assert ledger.token(digest("ben").value) is not None
    assert ledger.audit_rows(limit=1)[0].detail == {"tokens": 1}


def test_nobody_revokes_or_reads_the_token_of_another(ledger: Ledger) -> None:
    anna, ben = account(ledger, "anna"), account(ledger, "ben")
    hers = token(ledger, anna)
    assert ledger.tokens(ben) == []
    with pytest.raises(NotInLedger):
        ledger.revoke_token(hers, by=ROOT, of=ben)
    assert [one.id for one in ledger.tokens(anna)] == [hers]
    ledger.revoke_token(hers, by=ROOT, of=anna)
    assert ledger.tokens(anna) == []


def test_a_token_says_when_and_from_where_it_was_last_used(ledger: Ledger) -> None:
    anna = account(ledger)
    token(ledger, anna)

    def found():
        one = ledger.token(digest("t").value)
        assert one is not None
        return one

    assert found().used_at is None
    ledger.touch_token(found(), HERE)
    first = found()
    assert (first.used_from, first.used_at is not None) == (HERE, True)
    ledger.touch_token(first, HERE)
    assert found() == first  # Not a commit for each request …
    ledger.touch_token(first, "192.0.2.99")
    assert found().used_from == "192.0.2.99"  # … but another place is told at once.

"""One's own account: password, second factor, sessions, tokens, and whether patients' names are shown."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from console.web.access import passwords, said, second_factor
from console.web.access.credentials import digest, new_token
from console.web.access.lifetimes import IDLE_S, NAMES_S, TOKEN_LONGEST_DAYS
from console.web.access.table import Permission, permissions
from console.web.access.visitor import Visitor, visitor_of
from console.web.deck import deck_of
from console.web.numbers import Number
from console.web.pages.sign_in import came, inside
from console.web.rendering import render
from console.web.steering import decide
from ledger.account import Account, AccountId, Origin, Role, Session, SessionId, TokenId

router = APIRouter()
WRONG_PASSWORD = "The password that you have now is wrong."  # noqa: S105
NOT_THE_SAME = "The two new passwords are not the same."
WRONG_CODE = "That code is wrong. Look at the telephone again, and at its clock."
ELSEWHERE = "Your password is kept by the identity provider, and changed there."
LOCKED = "The password was wrong too often: wait a while."
SENTENCES = (WRONG_PASSWORD, NOT_THE_SAME, WRONG_CODE, ELSEWHERE, LOCKED)


@router.get("/account")
def my_account(request: Request) -> Response:
    """The page."""
    return _page(request)


@router.post("/account/password")
def change_password(
    request: Request,
    password: Annotated[str, Form(max_length=1000)] = "",
    new: Annotated[str, Form(max_length=1000)] = "",
    again: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Another password; every other session ends."""
    visitor, account = _me(request)
    if wrong := _not_mine(request, account, password):
        return _page(request, status=403, wrong=wrong)
    if new != again:
        return _page(request, status=422, wrong=NOT_THE_SAME)
    try:
        passwords.check_new(new, name=account.name, before=password)
    except passwords.WeakPassword as error:
        return _page(request, status=422, wrong=str(error))
    but = visitor.session.id if visitor.session is not None else None
    deck_of(request).ledger.set_password(
        account.id, passwords.hashed(new), by=visitor.actor, must_change=False, but=but
    )
    return RedirectResponse("/account", 303)


@router.post("/account/second-factor/begin")
def begin_second_factor(request: Request) -> Response:
    """A new secret for the telephone: nothing is asked for until a code of it was given."""
    _me(request)
    return _enrol(request, second_factor.new_secret())


@router.post("/account/second-factor")
def set_second_factor(
    request: Request,
    secret: Annotated[str, Form(max_length=64)],
    code: Annotated[str, Form(max_length=40)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Ask for codes from now on; the recovery codes are shown this once."""
    visitor, account = _me(request)
    if not second_factor.is_secret(secret):
        raise HTTPException(422, "that is no secret of ours: begin again")
    if wrong := _not_mine(request, account, password):
        return _enrol(request, secret, status=403, wrong=wrong)
    step = second_factor.step_of(code, secret, now=second_factor.now())
    ledger = deck_of(request).ledger
    if step is None or not ledger.use_code(account.id, step):
        return _enrol(request, secret, status=422, wrong=WRONG_CODE)
    codes = second_factor.recovery_codes()
    kept = [second_factor.recovery_digest(each) for each in codes]
    ledger.set_second_factor(account.id, secret, kept, by=visitor.actor)
    return _page(request, recovery=codes)


@router.post("/account/second-factor/remove")
def remove_second_factor(request: Request, password: Annotated[str, Form(max_length=1000)] = "") -> Response:
    """Ask for the password alone again."""
    visitor, account = _me(request)
    if wrong := _not_mine(request, account, password):
        return _page(request, status=403, wrong=wrong)
    deck_of(request).ledger.set_second_factor(account.id, None, [], by=visitor.actor)
    return RedirectResponse("/account", 303)


@router.post("/account/sessions/{session_id}/end")
def end_session(request: Request, session_id: Number) -> Response:
    """End one of one's own sessions; one of somebody else's is not there."""
    visitor, account = _me(request)
    decide(
        lambda: deck_of(request).ledger.end_session(SessionId(session_id), of=account.id, by=visitor.actor)
    )
    return RedirectResponse("/account", 303)


@router.post("/account/tokens")
def add_token(
    request: Request,
    label: Annotated[str, Form(min_length=1, max_length=100)],
    days: Annotated[int, Form(ge=1, le=TOKEN_LONGEST_DAYS)] = 90,
    only: Annotated[list[Permission] | None, Form()] = None,
) -> Response:
    """A token that may do what one may do oneself, or only some of it; shown this once."""
    visitor, account = _me(request)
    if visitor.first:  # A token would open what a first password, or one factor alone, does not.
        raise HTTPException(403, "change the password, or set up the second factor, before you make a token")
    token = make_token(request, visitor, account.id, label=label, role=account.role, days=days, only=only)
    return _page(request, token=token)


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(request: Request, token_id: Number) -> Response:
    """Revoke one of one's own tokens; one of somebody else's is not there."""
    visitor, account = _me(request)
    decide(lambda: deck_of(request).ledger.revoke_token(TokenId(token_id), by=visitor.actor, of=account.id))
    return RedirectResponse("/account", 303)


@router.post("/account/names")
def show_names(
    request: Request,
    show: Annotated[bool, Form()] = False,
    back: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Show patients' names in this session for a while, or hide them again."""
    visitor = visitor_of(request)
    if visitor.session is None:
        raise HTTPException(409, "names are shown in a session, and a token has none")
    ledger = deck_of(request).ledger
    ledger.show_names(visitor.session, for_s=NAMES_S if show else 0.0, by=visitor.actor)
    return RedirectResponse(inside(back), 303)


def make_token(
    request: Request,
    visitor: Visitor,
    owner: AccountId,
    *,
    label: str,
    role: Role,
    days: int,
    only: list[Permission] | None,
) -> str:
    """A new token, of which the ledger has the digest. Raises `NotInLedger`."""
    may = permissions(role)
    token = new_token()
    deck_of(request).ledger.add_token(
        owner,
        digest(token),
        label=label.strip() or "?",
        role=role,
        permissions=None if not only else [one for one in only if one in may],
        lives_s=days * 86400.0,
        by=visitor.actor,
    )
    return token


def _me(request: Request) -> tuple[Visitor, Account]:
    visitor = visitor_of(request)
    # A password and a second factor are a person's: a program that could change them would keep them.
    if visitor.session is None:
        raise HTTPException(403, "an account is changed by whoever signs in with it, not with a token")
    return visitor, deck_of(request).ledger.account(visitor.session.account.id)


def _not_mine(request: Request, account: Account, password: str) -> str:
    """What is wrong with the password that was given once more; empty where nothing is."""
    if account.origin is not Origin.LOCAL:
        return ELSEWHERE
    ledger = deck_of(request).ledger
    if account.locked(ledger.now()):
        return LOCKED
    if passwords.is_right(password, account.password):
        return ""
    ledger.count_failure(account.id, "password", address=came(request).address)
    return WRONG_PASSWORD


def _enrol(request: Request, secret: str, *, status: int = 200, wrong: str = "") -> Response:
    _, account = _me(request)
    issuer = f"Wetread {deck_of(request).site.site.name}"
    uri = second_factor.address(secret, account=account.name, issuer=issuer)
    return render(
        request,
        "second_factor.html",
        status=status,
        wrong=wrong,
        secret=secret,
        spelled=" ".join(secret[at : at + 4] for at in range(0, len(secret), 4)),
        picture=second_factor.picture(uri),
    )


def _page(
    request: Request, *, status: int = 200, wrong: str = "", token: str = "", recovery: tuple[str, ...] = ()
) -> Response:
    visitor, account = _me(request)
    deck = deck_of(request)
    open_: list[Session] = deck.ledger.sessions_of(account.id, idle_s=IDLE_S)
    return render(
        request,
        "account.html",
        status=status,
        account=account,
        owes_factor=account.role in deck.site.console.second_factor_for and account.totp_secret is None,
        sessions=open_,
        this=visitor.session.id if visitor.session is not None else None,
        tokens=deck.ledger.tokens(account.id),
        grants=sorted(permissions(account.role)),
        now=deck.ledger.now(),
        wrong=wrong,
        token=token,
        recovery=recovery,
        shortest=passwords.SHORTEST,
        may_said=said.PERMISSIONS,
    )

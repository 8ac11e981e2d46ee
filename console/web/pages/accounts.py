"""Accounts: who there is, in which role, and with which tokens; for administrators."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from console.web.access import passwords, said
from console.web.access.lifetimes import TOKEN_LONGEST_DAYS
from console.web.access.table import Permission, permissions
from console.web.access.visitor import Visitor, visitor_of
from console.web.deck import deck_of
from console.web.numbers import Number
from console.web.pages.my_account import make_token
from console.web.rendering import render
from console.web.steering import decide
from ledger.account import Account, AccountId, LastAdministrator, NameTaken, Origin, Role, TokenId, local_name

router = APIRouter()


@router.get("/accounts")
def accounts(request: Request) -> Response:
    """The page."""
    return _page(request)


@router.post("/accounts")
def add_account(
    request: Request, name: Annotated[str, Form(max_length=200)], role: Annotated[Role, Form()]
) -> Response:
    """A new account, with a random password that is shown this once; a service has none."""
    visitor = _person(request)
    password = "" if role is Role.SERVICE else passwords.random_password()
    try:
        known_as = local_name(name)
        deck_of(request).ledger.add_account(
            known_as, role, password=passwords.hashed(password) if password else "", by=visitor.actor
        )
    except (ValueError, NameTaken) as error:
        return _page(request, status=422, wrong=str(error))
    return _page(request, made=(known_as, password))


@router.post("/accounts/{account_id}/role")
def set_role(request: Request, account_id: Number, role: Annotated[Role, Form()]) -> Response:
    """Another role, from the next request on."""
    one, ledger = _account(request, account_id), deck_of(request).ledger
    if one.origin is Origin.OIDC:
        return _page(request, status=422, wrong=f"{one.name} has its role from the identity provider")
    if Role.SERVICE in (role, one.role) and role is not one.role:
        return _page(
            request, status=422, wrong="a service is no person and becomes none: make another account"
        )
    try:
        ledger.set_role(one.id, role, by=_person(request).actor)
    except LastAdministrator as error:
        return _page(request, status=409, wrong=str(error))
    return RedirectResponse("/accounts", 303)


@router.post("/accounts/{account_id}/disable")
def disable(request: Request, account_id: Number) -> Response:
    """Sign it out everywhere; nothing opens with it any more."""
    one = _account(request, account_id)
    try:
        deck_of(request).ledger.disable_account(one.id, by=_person(request).actor)
    except LastAdministrator as error:
        return _page(request, status=409, wrong=str(error))
    return RedirectResponse("/accounts", 303)


@router.post("/accounts/{account_id}/enable")
def enable(request: Request, account_id: Number) -> Response:
    """Let it in again, also where it was locked."""
    one = _account(request, account_id)
    deck_of(request).ledger.enable_account(one.id, by=_person(request).actor)
    return RedirectResponse("/accounts", 303)


@router.post("/accounts/{account_id}/reset")
def reset(request: Request, account_id: Number) -> Response:
    """A new random password, shown this once; the second factor, all sessions and all tokens are gone."""
    one = _account(request, account_id)
    if one.origin is Origin.OIDC or one.role is Role.SERVICE:
        return _page(request, status=422, wrong=f"{one.name} has no password here")
    password = passwords.random_password()
    by = _person(request).actor
    deck_of(request).ledger.set_password(one.id, passwords.hashed(password), by=by, must_change=True)
    return _page(request, made=(one.name, password))


@router.post("/accounts/{account_id}/tokens")
def add_token(
    request: Request,
    account_id: Number,
    *,
    label: Annotated[str, Form(min_length=1, max_length=100)],
    role: Annotated[Role, Form()],
    days: Annotated[int, Form(ge=1, le=TOKEN_LONGEST_DAYS)] = 90,
    only: Annotated[list[Permission] | None, Form()] = None,
) -> Response:
    """A token of a service, in a role; shown this once. A person makes his own."""
    visitor, one = _person(request), _account(request, account_id)
    if one.role is not Role.SERVICE or one.disabled:
        return _page(request, status=422, wrong=f"{one.name} makes tokens on its own page")
    token = make_token(request, visitor, one.id, label=label, role=role, days=days, only=only)
    return _page(request, token=token)


@router.post("/accounts/tokens/{token_id}/revoke")
def revoke_token(request: Request, token_id: Number) -> Response:
    """Revoke a token of anybody."""
    by = _person(request).actor
    decide(lambda: deck_of(request).ledger.revoke_token(TokenId(token_id), by=by))
    return RedirectResponse("/accounts", 303)


def _person(request: Request) -> Visitor:
    """Whoever decides about accounts is a person: a token that leaked must not make others."""
    visitor = visitor_of(request)
    if visitor.session is None:
        raise HTTPException(403, "accounts are changed by whoever signs in, not with a token")
    return visitor


def _account(request: Request, account_id: int) -> Account:
    return decide(lambda: deck_of(request).ledger.account(AccountId(account_id)))


def _page(
    request: Request,
    *,
    status: int = 200,
    wrong: str = "",
    made: tuple[str, str] | None = None,
    token: str = "",
) -> Response:
    deck = deck_of(request)
    return render(
        request,
        "accounts.html",
        status=status,
        accounts=deck.ledger.accounts(),
        me=visitor_of(request).account,
        tokens=deck.ledger.tokens(),
        roles=list(Role),
        grants=sorted(permissions(Role.OPERATOR) | permissions(Role.SERVICE)),
        now=deck.ledger.now(),
        wrong=wrong,
        made=made,
        token=token,
        role_said=said.ROLES,
        may_said=said.PERMISSIONS,
    )

"""To the identity provider of the house, and back."""

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from console.web.access.claims import NoRole
from console.web.access.credentials import Cookie
from console.web.access.door import STRANGER
from console.web.access.oidc import BACK, Provider
from console.web.deck import deck_of
from console.web.pages.sign_in import came, door_of, form, inside, session_cookie, with_session
from ledger.account import NameTaken, Role
from ledger.audit import Actor, AuditOutcome
from ledger.errors import PeerError

router = APIRouter()
DISABLED = "This account is disabled: ask an administrator."
SENTENCES = (DISABLED,)


@router.get("/sign-in/provider")
def go(request: Request, back: str = "/") -> Response:
    """Send the browser there."""
    wait_s = door_of(request).addresses.wait_s(came(request).address)
    if wait_s:
        return form(request, back=back, status=429, wrong="", wait_s=wait_s)
    try:
        sent = _provider(request).send(_base(request), inside(back))
    except PeerError as error:
        return form(request, back=back, status=502, wrong=str(error))
    answer = RedirectResponse(sent.url, 303)
    answer.headers.append("set-cookie", _jar(request).said(sent.state))
    return answer


@router.get(BACK)
def come_back(request: Request) -> Response:
    """Let in whoever the provider vouches for."""
    door, address = door_of(request), came(request).address
    wait_s = door.addresses.wait_s(address)
    if wait_s:
        return form(request, status=429, wrong="", wait_s=wait_s)
    cookie = request.cookies.get(_jar(request).name, "")
    try:
        who, back = _provider(request).receive(dict(request.query_params), cookie, _base(request))
        account = door.ledger.account_from_provider(who.subject, who.name, who.role, address)
    except NoRole as error:
        door.ledger.lose_role(error.subject, address)
        return _refused(request, str(error))
    except (PeerError, NameTaken) as error:
        return _refused(request, str(error))
    if account.disabled:
        return _refused(request, DISABLED)
    let_in = door.let_in(account, came(request), complete=True, before=session_cookie(request))
    answer = with_session(request, let_in, inside(back))
    answer.headers.append("set-cookie", _jar(request).gone())
    return answer


def _refused(request: Request, words: str) -> Response:
    by = Actor(STRANGER, Role.VIEWER, came(request).address)
    detail = {"wrong": "identity provider", "said": words}
    deck_of(request).ledger.record_audit(by, "session.refused", outcome=AuditOutcome.REFUSED, detail=detail)
    answer = form(request, status=401, wrong=words)
    answer.headers.append("set-cookie", _jar(request).gone())
    return answer


def _provider(request: Request) -> Provider:
    provider: Provider | None = request.app.state.provider
    if provider is None:
        raise HTTPException(404, "there is no identity provider here: [console.oidc] names one")
    return provider


def _base(request: Request) -> str:
    """The address of this console, as the provider has it in its list: the gate has looked at the Host."""
    settings = deck_of(request).site.console
    return settings.public_url or f"{'https' if settings.tls else 'http'}://{request.headers['host']}"


def _jar(request: Request) -> Cookie:
    return Cookie(secure=deck_of(request).site.console.is_secure, what="-provider")

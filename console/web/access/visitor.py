"""Who asks for a page."""

from dataclasses import dataclass

from fastapi import HTTPException, Request

from console.web.access.table import Permission, permissions
from ledger.account import AccountId, Role, Session
from ledger.audit import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody who signed in, or a program with a token."""

    name: str  #: of the account
    role: Role
    csrf: str = ""  #: what unsafe requests of this session have to carry; empty for a token
    patients: bool = False  #: names are shown, because the session asked for them
    account: AccountId | None = None
    session: Session | None = None  #: None: a program with a token, which no other site can make do anything
    address: str = ""
    granted: frozenset[Permission] | None = None  #: of a token: no more than these; None: all of the role
    first: str = ""  #: the page that has to be seen to before any other: a password that somebody else chose

    def may(self, permission: Permission) -> bool:
        """Whether the role has `permission`, and the token too."""
        return permission in permissions(self.role) and (self.granted is None or permission in self.granted)

    @property
    def actor(self) -> Actor:
        """As whom the ledger and the audit trail know who asks: what decisions take as `by`."""
        return Actor(self.name, self.role, self.address)


def visitor_of(request: Request) -> Visitor:
    """Who asks. Raises 401 where nobody is signed in."""
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    if visitor is None:
        raise HTTPException(401, "sign in first")
    return visitor

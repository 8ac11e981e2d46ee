"""Accounts and the audit trail as JSON. What makes a secret, or shows one, is for people and their pages."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from console.web.access.table import Permission, permissions
from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.pages.audit import Asked, understood
from ledger.account import Account

router = APIRouter(prefix="/api/v1", tags=["access"])


@router.get("/account")
def my_account(request: Request) -> dict[str, Any]:
    """Who asks, and what that account or token may do."""
    visitor = visitor_of(request)
    granted = sorted(one for one in permissions(visitor.role) if visitor.may(Permission(one)))
    return {"name": visitor.name, "role": visitor.role, "permissions": granted}


@router.get("/accounts")
def accounts(request: Request) -> list[dict[str, Any]]:
    """All accounts."""
    ledger = deck_of(request).ledger
    now = ledger.now()
    return [_told(one, now) for one in ledger.accounts()]


@router.get("/audit")
def audit(
    request: Request,
    asked: Annotated[Asked, Depends()],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Rows of the audit trail, the latest first; `next` is what to give as `below` for older ones."""
    deck = deck_of(request)
    rows = understood(asked, deck.site.site.time_zone).rows(deck.ledger, below=asked.below, limit=limit)
    return {"rows": [asdict(row) for row in rows], "next": rows[-1].number if len(rows) == limit else None}


@router.get("/audit/check")
def check(request: Request) -> dict[str, Any]:
    """Walk the chain from its first row to its last."""
    return asdict(deck_of(request).ledger.verify_audit())


def _told(one: Account, now: float) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "role": one.role,
        "origin": one.origin,
        "second_factor": one.totp_secret is not None,
        "disabled": one.disabled,
        "locked": one.locked(now),
        "created_at": one.created_at,
        "created_by": one.created_by,
        "signed_in_at": one.signed_in_at,
    }

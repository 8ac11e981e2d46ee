"""The audit trail: who did what, found by who, what and when; the chain walked; a file to take away."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from starlette.responses import Response, StreamingResponse

from console.web.access.visitor import visitor_of
from console.web.deck import Deck, deck_of
from console.web.numbers import MOST
from console.web.rendering import render
from ledger.audit import AuditRow
from ledger.store.ledger import Ledger

router = APIRouter()
_PAGE = 100
_FORMULA = ("=", "+", "-", "@", "\t")
_EXPORT_PAGE = 1000
_Text = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True, slots=True)
class Asked:
    """The fields of the form, as they were sent."""

    who: _Text = ""
    what: _Text = ""
    since: _Text = ""
    until: _Text = ""
    below: Annotated[int | None, Query(ge=1, le=MOST)] = None


@dataclass(frozen=True, slots=True)
class Found:
    """What was asked for, as the ledger takes it. Days are those of the site."""

    who: str
    what: str
    since: float | None
    until: float | None

    def rows(self, ledger: Ledger, *, below: int | None, limit: int) -> list[AuditRow]:
        """The latest first, below a number."""
        return ledger.audit_rows(
            who=self.who, what=self.what, since=self.since, until=self.until, below=below, limit=limit
        )


def understood(asked: Asked, zone: str) -> Found:
    """What was asked for. Raises 422 where a date is none."""
    try:
        since = _day(asked.since, zone)
        until = _day(asked.until, zone, after=1)
    except (ValueError, OverflowError):  # The last day of the calendar has no day after it.
        raise HTTPException(422, "a date is written 2026-11-21") from None
    return Found(asked.who.strip(), asked.what.strip(), since, until)


@router.get("/audit")
def audit(request: Request, asked: Annotated[Asked, Depends()]) -> Response:
    """The page."""
    deck = deck_of(request)
    rows = understood(asked, deck.site.site.time_zone).rows(deck.ledger, below=asked.below, limit=_PAGE)
    return render(
        request,
        "audit.html",
        asked=asked,
        rows=rows,
        more=rows[-1].number if len(rows) == _PAGE else None,
        words=deck.ledger.audit_words(),
        names=[one.name for one in deck.ledger.accounts()],
    )


@router.get("/audit/check")
def check(request: Request) -> Response:
    """Walk the chain: a part of the page, asked for by a button, for it reads every row."""
    found = deck_of(request).ledger.verify_audit()
    return render(request, "_audit_check.html", found=found)


@router.get("/audit.csv")
def export(request: Request, asked: Annotated[Asked, Depends()]) -> Response:
    """All rows that were asked for, the latest first. That it was taken away is a row itself."""
    deck = deck_of(request)
    found = understood(asked, deck.site.site.time_zone)
    detail = {"who": found.who, "what": found.what, "since": found.since, "until": found.until}
    deck.ledger.record_audit(visitor_of(request).actor, "audit.exported", detail=detail)
    name = f"wetread-audit-{datetime.now(UTC):%Y%m%d-%H%M%S}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_lines(deck, found), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(deck: Deck, found: Found) -> Iterator[str]:
    yield _line(["number", "time", "who", "role", "address", "what", "thing", "outcome", "detail", "sha256"])
    below = None
    while True:
        rows = found.rows(deck.ledger, below=below, limit=_EXPORT_PAGE)
        for row in rows:
            at = datetime.fromtimestamp(row.at, UTC).isoformat(timespec="milliseconds")
            told = "; ".join(f"{name}={value}" for name, value in row.detail.items())
            yield _line(
                [
                    str(row.number),
                    at,
                    row.who,
                    row.role,
                    row.address,
                    row.what,
                    row.thing_id,
                    row.outcome,
                    told,
                    row.digest,
                ]
            )
        if len(rows) < _EXPORT_PAGE:
            return
        below = rows[-1].number


def _line(cells: list[str]) -> str:
    """One line (RFC 4180). A cell that a spreadsheet would take for a formula is made text."""
    line = io.StringIO()
    csv.writer(line).writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells])
    return line.getvalue()


def _day(text: str, zone: str, *, after: int = 0) -> float | None:
    """The beginning of a day of the site, or of the one `after` it, in seconds since 1970."""
    if not text.strip():
        return None
    day = date.fromisoformat(text.strip()) + timedelta(days=after)
    return datetime.combine(day, time(), ZoneInfo(zone)).timestamp()

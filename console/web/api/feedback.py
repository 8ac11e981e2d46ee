"""GET /api/v1/feedback, and what is said of one result."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.numbers import Number
from console.web.pages.feedback import judge, read_opinions, read_result
from ledger.feedback import COMMENT_MAX, Agreement

router = APIRouter(prefix="/api/v1", tags=["feedback"])


class Saying(BaseModel, frozen=True, extra="forbid"):
    """What somebody says of a result."""

    judgement: Literal["accepted", "rejected", ""] = ""  #: empty: only a comment
    comment: str = Field(default="", max_length=COMMENT_MAX)


@router.get("/feedback", summary="How often each version of a model is agreed with")
def feedback(request: Request, model: Annotated[str, Query(max_length=64)] = "") -> dict[str, Any]:
    """Of the last year: by version, by version and week, and the latest that was said."""
    found = read_opinions(deck_of(request), model)
    return {
        "models": [
            {
                "name": chart.name,
                **_values(chart.whole),
                "versions": [
                    {
                        "version": line.version,
                        **_values(line.whole),
                        "weeks": [
                            {"begins": point.week.begins.isoformat(), **_values(point.week.agreement)}
                            for point in line.points
                        ],
                    }
                    for line in chart.lines
                ],
            }
            for chart in found.charts
        ],
        "latest": [asdict(one) for one in found.latest],
    }


@router.get("/jobs/{job_id}/feedback", summary="What was said of one result")
def said(request: Request, job_id: Number) -> dict[str, Any]:
    """All of it, the judgement that counts, and the signed link to its page."""
    found = read_result(deck_of(request), visitor_of(request), job_id, str(request.base_url))
    return {
        "judgement": found.counts,
        "said": [asdict(one) for one in found.said],
        "link": found.link,
        "link_until": found.link_until,
    }


@router.post("/jobs/{job_id}/feedback", summary="Accept, reject or comment on a result")
def say(request: Request, job_id: Number, saying: Saying) -> dict[str, Any]:
    """What was kept. Nothing that was said before is changed."""
    return asdict(judge(request, job_id, saying.judgement, saying.comment))


def _values(agreement: Agreement) -> dict[str, Any]:
    low, high = agreement.interval
    return {
        "accepted": agreement.accepted,
        "judged": agreement.judged,
        "share": agreement.share,
        "low": low,
        "high": high,
    }

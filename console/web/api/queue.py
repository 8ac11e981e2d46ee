"""GET /api/v1/queue, and what programs may change of it."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.numbers import MOST
from console.web.steering import BECAUSE_MAX, decide
from console.web.waiting import Held, read_queue
from ledger.identifiers import JobId
from ledger.pause import PauseKind

router = APIRouter(prefix="/api/v1", tags=["queue"])

_Number = Annotated[int, Field(ge=1, le=MOST)]


class Still(BaseModel, frozen=True, extra="forbid"):
    """What shall be held still, or go on."""

    kind: PauseKind
    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*\S[^\x00-\x1f]*$")
    because: str = Field(default="", max_length=BECAUSE_MAX)


class Placed(BaseModel, frozen=True, extra="forbid"):
    """Where a job shall stand: behind another one of its lane, or first of all."""

    job: _Number
    after: _Number | None = None
    because: str = Field(default="", max_length=BECAUSE_MAX)


@router.get("/queue", summary="What runs, what waits and until when, and what is paused")
def queue(request: Request) -> dict[str, Any]:
    """Both lanes in the order in which workers take them. `done_at` is null where nothing was measured."""
    found = read_queue(deck_of(request), patients=visitor_of(request).patients)
    return {
        "at": found.at,
        "running": [asdict(each) for each in found.running],
        "stat": [asdict(each) for each in found.stat],
        "routine": [asdict(each) for each in found.routine],
        "more": found.more,
        "pauses": [asdict(each) for each in found.pauses],
        "quarantine": [_held(each) for each in found.quarantine],
    }


@router.post("/queue/pause", summary="Hold a model, a worker or a destination still")
def pause(request: Request, asked: Still) -> dict[str, bool]:
    """`changed` is false where it was paused already."""
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    return {"changed": decide(lambda: ledger.pause(asked.kind, asked.name, by=by, because=asked.because))}


@router.post("/queue/resume", summary="Let it go on")
def resume(request: Request, asked: Still) -> dict[str, bool]:
    """`changed` is false where it was not paused."""
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    return {"changed": decide(lambda: ledger.resume(asked.kind, asked.name, by=by, because=asked.because))}


@router.post("/queue/move", summary="Change the order of a lane")
def move(request: Request, asked: Placed) -> dict[str, list[int]]:
    """The lane as it stands then."""
    ledger, by = deck_of(request).ledger, visitor_of(request).actor
    if asked.after == asked.job:
        raise HTTPException(409, f"job {asked.job} cannot go behind itself")
    behind = None if asked.after is None else JobId(asked.after)
    decide(lambda: ledger.place_job(JobId(asked.job), after=behind, by=by, because=asked.because))
    moved = ledger.job(JobId(asked.job))
    return {"lane": [one.job.id for one in ledger.queue() if one.job.priority is moved.priority]}


def _held(one: Held) -> dict[str, Any]:
    """Without its name: whoever sent it may have made it of anything."""
    return {
        "number": one.file.id,
        "at": one.file.at,
        "calling": one.file.calling,
        "because": one.file.because,
        "asked": str(one.wish.kind) if one.wish is not None else None,
        "answer": one.wish.answer if one.wish is not None else "",
        "actions": list(one.actions),
    }

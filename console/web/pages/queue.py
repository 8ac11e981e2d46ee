"""Queue: what runs, what waits and until when; its order, and what is held still."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from console.outlook import read_outlook
from console.web.access.visitor import visitor_of
from console.web.deck import deck_of
from console.web.numbers import MOST
from console.web.rendering import render
from console.web.steering import BECAUSE_MAX, because_of, decide, steered, words
from console.web.waiting import pausable, read_queue
from ledger.identifiers import JobId
from ledger.pause import PauseKind

router = APIRouter()

Because = Annotated[str, Form(max_length=BECAUSE_MAX)]
JobNumber = Annotated[int, Form(ge=1, le=MOST)]


@router.get("/queue")
def page(request: Request) -> HTMLResponse:
    """The page; only its part that changes where the page is there already."""
    deck, visitor = deck_of(request), visitor_of(request)
    queue = read_queue(deck, patients=visitor.patients)
    if request.headers.get("hx-target") == "queue":
        return render(request, "_queue.html", queue=queue)
    offers = pausable(deck.site, deck.ledger, read_outlook(deck.ledger, limit=500))
    return render(request, "queue.html", queue=queue, offers=offers)


@router.post("/queue/move")
def move(
    request: Request,
    job: JobNumber,
    after: Annotated[int, Form(ge=0, le=MOST)] = 0,
    because: Because = "",
) -> Response:
    """Right behind the job `after`, or, where that is 0, to the front of its lane."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    behind = JobId(after) if after else None
    why = because_of(request, because)
    decide(lambda: ledger.place_job(JobId(job), after=behind, by=by, because=why))
    if behind is None:
        return steered(request, _("Job {n} is the next that a worker takes.", n=job))
    return steered(request, _("Job {n} comes right after job {m}.", n=job, m=after))


@router.post("/queue/pause")
def pause(request: Request, what: Annotated[str, Form(max_length=300)], because: Because = "") -> Response:
    """Hold still what the form names, as kind:name."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    kind, name = _named(what)
    why = because_of(request, because)
    if not decide(lambda: ledger.pause(kind, name, by=by, because=why)):
        raise HTTPException(409, _("{name} is paused already.", name=name))
    return steered(request, _("{name} is paused.", name=name))


@router.post("/queue/resume")
def resume(request: Request, what: Annotated[str, Form(max_length=300)], because: Because = "") -> Response:
    """Let it go on."""
    ledger, by, _ = deck_of(request).ledger, visitor_of(request).actor, words(request)
    kind, name = _named(what)
    why = because_of(request, because)
    if not decide(lambda: ledger.resume(kind, name, by=by, because=why)):
        raise HTTPException(409, _("{name} is not paused.", name=name))
    return steered(request, _("{name} goes on.", name=name))


def _named(what: str) -> tuple[PauseKind, str]:
    """Raises 422."""
    kind, _, name = what.partition(":")
    if kind not in set(PauseKind) or not name.strip():
        raise HTTPException(422, "what shall be paused is a model, a worker or a peer, with its name")
    return PauseKind(kind), name.strip()

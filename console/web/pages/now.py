"""Now: what is being received, queued, computed and delivered, and what needs somebody."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from console.alarms import Disk, disk_under
from console.outlook import InHand, Outlook, read_outlook
from console.web.access.visitor import Visitor, visitor_of
from console.web.deck import Deck, deck_of
from console.web.rendering import render
from console.web.rows import StudyRow, rows
from console.web.sentences import Notice, notice
from ledger.present import Activity, Present, Search
from ledger.study import StudyState
from ledger.usage import Work, WorkerRecord

router = APIRouter()
_LATEST = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkPart:
    """A job in a worker's hands. `held` is None where the ledger says that it is not running."""

    work: Work
    held: InHand | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPart:
    """A worker with what it has in hand."""

    worker: WorkerRecord
    works: tuple[WorkPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """Everything on the page, read at one moment. Times are seconds since 1970 UTC."""

    at: float
    present: Present
    activity: Activity
    disk: Disk | None
    alarms: tuple[Notice, ...]
    receiving: tuple[StudyRow, ...]  #: open studies, the latest arrival first
    workers: tuple[WorkerPart, ...]
    latest: tuple[StudyRow, ...]  #: studies that are judged complete, the latest arrival first


def read_now(deck: Deck, visitor: Visitor) -> Now:
    """Read it. A handful of queries, however many studies there are."""
    ledger = deck.ledger
    outlook = read_outlook(ledger)
    receiving = ledger.found([study.id for study in ledger.receiving()])
    latest = ledger.search(Search(state=StudyState.CLOSED, limit=_LATEST))
    return Now(
        at=outlook.at,
        present=ledger.present(),
        activity=ledger.activity(),
        disk=disk_under(deck.site.spool),
        alarms=tuple(notice(alarm) for alarm in deck.watchman.alarms),
        receiving=rows(receiving, outlook, patients=visitor.patients),
        workers=tuple(_worker(one, outlook) for one in outlook.workers),
        latest=rows(latest, outlook, patients=visitor.patients),
    )


def _worker(one: WorkerRecord, outlook: Outlook) -> WorkerPart:
    in_hand = {each.job.id: each for each in outlook.running}
    works = [(work, in_hand.get(work.job_id)) for work in one.report.works]
    return WorkerPart(worker=one, works=tuple(WorkPart(work=work, held=held) for work, held in works))


@router.get("/")
def page(request: Request) -> HTMLResponse:
    """The whole page."""
    return render(request, "now.html", now=read_now(deck_of(request), visitor_of(request)))


@router.get("/now")
def part(request: Request) -> HTMLResponse:
    """What of it changes."""
    return render(request, "_now.html", now=read_now(deck_of(request), visitor_of(request)))

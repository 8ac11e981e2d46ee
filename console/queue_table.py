"""The queue for a terminal."""

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from console.outlook import Outlook, Place, read_outlook
from console.tables import clock_time, duration, plain_table
from ledger.estimate import Promise
from ledger.store.ledger import Ledger


def print_queue(ledger: Ledger, console: Console, limit: int) -> None:
    """Print what runs and what waits."""
    console.print(table(read_outlook(ledger, limit=limit)))


def table(found: Outlook) -> RenderableType:
    """Two tables, and what is paused."""
    parts: list[RenderableType] = []
    for one in found.pauses:
        since = clock_time(one.since, found.at)
        parts.append(Text(f"{one.kind} {one.name} is paused {one.said}, since {since}", "yellow"))
    running = plain_table("Running", "Model", "Stage", "Since", "Done by")
    for hand in found.running:
        part = f" {hand.work.part:.0%}" if hand.work is not None and hand.work.part is not None else ""
        running.add_row(
            str(hand.job.id),
            hand.job.model,
            (hand.work.stage if hand.work is not None else "") + part,
            duration(max(0.0, found.at - (hand.job.started_at or found.at))),
            _promised(hand.promise, found.at),
        )
    waiting = plain_table("Waiting", "Lane", "Model", "Accession", "Since", "Done by")
    for place in (*found.stat, *found.routine):
        waiting.add_row(*_row(place, found.at))
    parts += [running if found.running else Text("Nothing runs."), Text()]
    parts += [waiting if waiting.row_count else Text("Nothing waits.")]
    if found.more:
        parts.append(Text("… and more", "dim"))
    return Padding(Group(*parts), (1, 2))


def _row(place: Place, now: float) -> tuple[str, ...]:
    lane = f"{place.job.priority}{' ↑' if place.queued.arranged else ''}"
    waits = duration(max(0.0, now - place.job.created_at))
    number, model = str(place.job.id), place.job.model
    return number, lane, model, place.queued.study.accession_number, waits, _promised(place.promise, now)


def _promised(promise: Promise, now: float) -> str:
    if promise.done_at is None:
        return f"not known yet: {promise.because}"
    return clock_time(promise.done_at, now)

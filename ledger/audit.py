"""
The audit trail: who did what, from where, and how it ended; of every decision that somebody made.

Rule 1: a row is written in the transaction that makes the change of which it tells: neither is there without
the other. What was refused, and so changed nothing, has a transaction of its own.
Rule 2: rows are never changed or taken out. Each carries the SHA-256 of itself and of the row before it, so
whoever changes one has to change all that follow, and `wetread audit verify` names the first that does not
fit.
Rule 3: no patient data. Things go by our own numbers; reasons that people typed are in the history, not here.

A method of the store that carries out a decision takes `by: Actor` and ends its transaction with one line:

    with self.write() as tx:
        move(tx, JOB, lock(tx, JOB, job_id), JobEvent.WITHDRAWN, because=because)
        audit(tx, by, "job.cancelled", thing_id=job_id)

Last, for it takes the lock on the end of the chain, and locks are taken in one order everywhere. A page has
its actor from `visitor_of(request).actor`, the command line from `console.acting.at_the_terminal()`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from ledger.account import Role
from ledger.journal import withhold

#: The thing and what happened to it: "job.cancelled", "session.started", "model.promoted".
_WHAT = re.compile(r"[a-z][a-z_]*\.[a-z][a-z_]*")
GENESIS = "0" * 64  #: What the first row of all follows.


class AuditOutcome(StrEnum):
    """How it ended."""

    DONE = "done"
    REFUSED = "refused"  #: Not allowed, or a wrong password: nothing was changed.


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: the name of an account, the role in which it acts, and from where."""

    name: str
    role: Role
    address: str  #: of the browser or the program; "this machine" for the command line


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One link of the chain."""

    number: int  #: 1, 2, 3 … without a gap
    at: float
    who: str
    role: str
    address: str
    what: str
    thing_id: str  #: which of its kind: our number, or the name of what has a name
    outcome: str  #: of `AuditOutcome`
    detail: Mapping[str, object]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainCheck:
    """What walking the chain found."""

    rows: int  #: that fit, from the first one on
    digest: str  #: of the last of them: kept elsewhere, it shows later that nothing up to here was changed
    broken_at: int | None = None  #: number of the first row that does not fit
    because: str = ""


def checked_what(what: str) -> str:
    """`what`, if it is of the form thing.happened. Raises `ValueError`."""
    if not _WHAT.fullmatch(what):
        raise ValueError(f"{what!r} is not of the form thing.happened")
    return what


def plain(text: str, longest: int) -> str:
    """`text` as every database gives it back: no NUL, no half surrogate pairs, and not endless."""
    return text[:longest].replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def harmless(detail: Mapping[str, object] | None) -> dict[str, object]:
    """`detail` without what could name a patient (`ledger.journal`), as JSON gives it back."""
    kept: dict[str, object] = json.loads(json.dumps(withhold(None, "", {"told": dict(detail or {})})["told"]))
    return kept


def link(previous: str, row: AuditRow) -> str:
    """The digest that `row` must have after a row with the digest `previous`."""
    told = [
        previous,
        row.number,
        repr(row.at),
        row.who,
        row.role,
        row.address,
        row.what,
        row.thing_id,
        row.outcome,
        row.detail,
    ]
    return sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def walk(rows: Iterable[AuditRow], *, last: int, digest: str) -> ChainCheck:
    """Follow the chain from its first row on; `last` and `digest` are of the row where it must end."""
    previous, number = GENESIS, 0
    for row in rows:
        if row.number != number + 1:
            return ChainCheck(
                rows=number, digest=previous, broken_at=number + 1, because=f"row {number + 1} is missing"
            )
        if row.digest != link(previous, row):
            return ChainCheck(
                rows=number,
                digest=previous,
                broken_at=row.number,
                because=f"row {row.number} is not as it was written, or the row before it was replaced",
            )
        previous, number = row.digest, row.number
    if (number, previous) != (last, digest):
        because = (
            f"rows {number + 1} to {last} are missing" if number < last else "the end was written by others"
        )
        return ChainCheck(rows=number, digest=previous, broken_at=number + 1, because=because)
    return ChainCheck(rows=number, digest=previous)

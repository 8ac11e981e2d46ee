"""The audit trail in the database: adding a link, reading it, walking all of it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, insert, select, type_coerce, update

from ledger.audit import (
    Actor,
    AuditOutcome,
    AuditRow,
    ChainCheck,
    checked_what,
    harmless,
    link,
    plain,
    walk,
)
from ledger.schema import audit as table
from ledger.schema import audit_head as head
from ledger.store.database import Database, Transaction

_PAGE = 2000


def audit(
    tx: Transaction,
    by: Actor,
    what: str,
    *,
    thing_id: object = "",
    outcome: AuditOutcome = AuditOutcome.DONE,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write into the transaction that `by` did `what`, a word of the form thing.happened, to `thing_id`.

    The last line of a transaction: until it ends, nobody else can add a row. `detail` is for our own numbers
    and words; what could name a patient is taken out of it.
    """
    # On SQLite the transaction is the only writer anyway.
    end = tx.connection.execute(select(head).with_for_update()).one()
    row = AuditRow(
        number=end.number + 1,
        at=tx.now,
        who=plain(by.name, 200),
        role=str(by.role),
        address=plain(by.address, 64),
        what=checked_what(what),
        thing_id=plain(str(thing_id), 200),
        outcome=outcome,
        detail=harmless(detail),
        digest="",
    )
    row = replace(row, digest=link(end.digest, row))
    tx.connection.execute(
        insert(table).values(
            number=row.number,
            at=row.at,
            who=row.who,
            role=row.role,
            address=row.address,
            what=row.what,
            thing_id=row.thing_id,
            outcome=row.outcome,
            detail=row.detail,
            digest=row.digest,
        )
    )
    tx.connection.execute(
        update(head).where(head.c.id == end.id).values(number=row.number, digest=row.digest)
    )


class Auditing(Database):
    """Reading the audit trail, and writing what changes nothing else."""

    def record_audit(
        self,
        by: Actor,
        what: str,
        *,
        thing_id: object = "",
        outcome: AuditOutcome = AuditOutcome.DONE,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Write what changed no row of ours: a refusal, a look at patients' names, a file that was edited."""
        with self.write() as tx:
            audit(tx, by, what, thing_id=thing_id, outcome=outcome, detail=detail)

    def audit_rows(
        self,
        *,
        who: str = "",
        what: str = "",
        since: float | None = None,
        until: float | None = None,
        below: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """The latest `limit` rows, the latest first: of one account, of one word or of all that begin with
        "thing.", within a time in seconds since 1970, and before the number `below`.
        """
        query = select(table).order_by(table.c.number.desc()).limit(limit)
        if who:
            query = query.where(table.c.who == who)
        if what:
            of_a_thing = table.c.what.startswith(what, autoescape=True)
            query = query.where(of_a_thing if what.endswith(".") else table.c.what == what)
        if since is not None:
            query = query.where(table.c.at >= since)
        if until is not None:
            query = query.where(table.c.at < until)
        if below is not None:
            query = query.where(table.c.number < below)
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query)]

    def audit_words(self) -> list[str]:
        """Everything that was ever done, each once."""
        with self.read() as tx:
            return list(
                tx.connection.execute(select(table.c.what).distinct().order_by(table.c.what)).scalars()
            )

    def audit_at(self, number: int) -> AuditRow | None:
        """The row with this number."""
        with self.read() as tx:
            row = tx.connection.execute(select(table).where(table.c.number == number)).first()
        return None if row is None else _record(row)

    def verify_audit(self) -> ChainCheck:
        """Walk the chain from the first row to the last one there is now."""
        with self.read() as tx:
            end = tx.connection.execute(select(head)).first()
        if end is None:
            return ChainCheck(
                rows=0, digest="", broken_at=1, because="the record of where it ends is missing"
            )
        return walk(self._links(end.number), last=end.number, digest=end.digest)

    def _links(self, last: int) -> Iterator[AuditRow]:
        """All rows up to `last`, in pages: no transaction is open while they are compared."""
        number = None
        plainly: list[ColumnElement[Any]] = [column for column in table.c if column.name != "detail"]
        plainly.append(type_coerce(table.c.detail, Text).label("raw"))
        while True:
            query = select(*plainly).where(table.c.number <= last).order_by(table.c.number)
            if number is not None:
                query = query.where(table.c.number > number)
            with self.read() as tx:
                rows = [_as_found(row) for row in tx.connection.execute(query.limit(_PAGE))]
            yield from rows
            if len(rows) < _PAGE:
                return
            number = rows[-1].number


def _as_found(row: Row[Any]) -> AuditRow:
    """A row as it lies there, whatever somebody made of it."""
    try:
        detail = json.loads(row.raw)
    except ValueError:
        detail = {"unreadable": True}
    return _record(row, detail)


def _record(row: Row[Any], detail: Mapping[str, object] | None = None) -> AuditRow:
    return AuditRow(
        number=row.number,
        at=row.at,
        who=row.who,
        role=row.role,
        address=row.address,
        what=row.what,
        thing_id=row.thing_id,
        outcome=row.outcome,
        detail=row.detail if detail is None else detail,
        digest=row.digest,
    )

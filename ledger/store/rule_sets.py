"""Versions of the rules, and what a new one can be tried on: the studies of the last days."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, func, insert, select

from ledger.audit import Actor
from ledger.identifiers import StudyId
from ledger.rule_set import RuleSet, RulesMovedOn, RuleSource, RuleTable
from ledger.schema import rule_set, study
from ledger.store.audit import audit
from ledger.store.database import Collided, Database, NotInLedger, Transaction
from ledger.store.history import note
from ledger.store.rows import study_record
from ledger.study import StudyRecord, StudyState


class RuleSets(Database):
    """Every set of rules that was in force; the highest number is."""

    def rules_version(self) -> int:
        """The version in force; 0 where none was ever saved. Cheap: the node asks all the time."""
        with self.read() as tx:
            return _latest(tx)

    def rule_set(self, number: int) -> RuleSet:
        """One version. Raises `NotInLedger`."""
        with self.read() as tx:
            row = tx.connection.execute(select(rule_set).where(rule_set.c.number == number)).first()
        if row is None:
            raise NotInLedger(f"there is no version {number} of the rules")
        return _record(row)

    def latest_rule_set(self, source: RuleSource | None = None) -> RuleSet | None:
        """The version in force; with `source`, the latest one that came from there. None: there is none."""
        query = select(rule_set).order_by(rule_set.c.number.desc()).limit(1)
        if source is not None:
            query = query.where(rule_set.c.source == source)
        with self.read() as tx:
            row = tx.connection.execute(query).first()
        return None if row is None else _record(row)

    def rule_sets(self, limit: int = 100) -> list[RuleSet]:
        """The versions, the latest first."""
        query = select(rule_set).order_by(rule_set.c.number.desc()).limit(limit)
        with self.read() as tx:
            return [_record(row) for row in tx.connection.execute(query)]

    def save_rule_set(
        self,
        rules: Sequence[RuleTable],
        *,
        base: int,
        by: Actor,
        comment: str,
        source: RuleSource = RuleSource.CONSOLE,
        same_as: int | None = None,
    ) -> RuleSet:
        """Write the version after `base`, which is in force from now on.

        Raises `RulesMovedOn` where `base` is not the latest version any more; then nothing was written.
        """
        try:
            with self.write() as tx:
                new = {"by": by.name, "comment": comment, "source": source, "same_as": same_as}
                saved = _save(tx, [dict(rule) for rule in rules], base, new)
                detail = {"version": saved.number, "source": source, "rules": len(saved.rules)}
                audit(tx, by, "rules.saved", thing_id=saved.number, detail={**detail, "same_as": same_as})
                return saved
        except Collided:
            # Two began at the same moment; the other was first.
            raise self._moved_on(base) from None

    def _moved_on(self, base: int) -> RulesMovedOn:
        with self.read() as tx:
            return _moved_on(tx, base)

    def judged_studies(
        self, *, since: float, before: StudyId | None = None, limit: int = 50
    ) -> list[StudyRecord]:
        """Studies that were judged complete, and whose latest image came after the time `since`, the newest
        first; with `before`, those that were begun earlier than that one. Purged ones are among them.
        """
        query = select(study).where(_judged(since)).order_by(study.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(study.c.id < before)
        with self.read() as tx:
            return [study_record(row) for row in tx.connection.execute(query)]

    def count_judged_studies(self, *, since: float) -> int:
        """How many `judged_studies` there are in all."""
        query = select(func.count()).select_from(study).where(_judged(since))
        with self.read() as tx:
            return int(tx.connection.execute(query).scalar_one())


def _latest(tx: Transaction) -> int:
    return int(tx.connection.execute(select(func.max(rule_set.c.number))).scalar() or 0)


def _judged(since: float) -> ColumnElement[bool]:
    return study.c.state.in_((StudyState.CLOSED, StudyState.PURGED)) & (study.c.last_arrival_at >= since)


def _save(tx: Transaction, rules: list[dict[str, Any]], base: int, new: dict[str, Any]) -> RuleSet:
    if _latest(tx) != base:
        raise _moved_on(tx, base)
    values = {**new, "number": base + 1, "at": tx.now, "rules": rules}
    tx.connection.execute(insert(rule_set).values(values))
    note(
        tx,
        "rules",
        "saved",
        thing_id=base + 1,
        before=str(base or ""),
        after=str(base + 1),
        because=new["comment"],
        detail={"by": new["by"], "source": new["source"], "rules": len(rules)},
    )
    row = tx.connection.execute(select(rule_set).where(rule_set.c.number == base + 1)).one()
    return _record(row)


def _moved_on(tx: Transaction, base: int) -> RulesMovedOn:
    latest = tx.connection.execute(select(rule_set).order_by(rule_set.c.number.desc()).limit(1)).first()
    looked = f"version {base}" if base else "no version"
    if latest is None:
        return RulesMovedOn(f"there is no {looked} of the rules here: nothing was saved")
    return RulesMovedOn(
        f"nothing was saved: these rules were made from {looked}, and {latest.by} has saved version "
        f"{latest.number} since. Look at that one, and make the change again"
    )


def _record(row: Row[Any]) -> RuleSet:
    return RuleSet(
        number=row.number,
        at=row.at,
        by=row.by,
        comment=row.comment,
        source=RuleSource(row.source),
        rules=tuple(row.rules),
        same_as=row.same_as,
    )

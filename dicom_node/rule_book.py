"""The rules in force, taken from the ledger; and what the settings file has to say about them.

The latest version in the ledger is in force. The file stays a way to write rules: where it says others than
the latest version that came from a file, what it says becomes a new version. So what was saved in the console
stays until the file changes, and a file without a `[[rule]]` leaves the rules to the console.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import isinf
from typing import Any

import structlog
from pydantic import ValidationError

from dicom_node.routing import Rule
from ledger.account import Role
from ledger.audit import Actor
from ledger.errors import SiteError
from ledger.rule_set import RuleSet, RulesMovedOn, RuleSource
from ledger.store.ledger import Ledger

log = structlog.get_logger()

#: Who decided, where the settings file did.
THE_FILE = Actor("settings file", Role.SERVICE, "this machine")

_KEPT = 16  # versions that waiting jobs may still be about


class RulesUnreadable(SiteError):
    """A version of the rules in the ledger cannot be used by this release."""


class RulesRefused(SiteError):
    """The rules in force do not fit the settings of this site."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The rules that are asked now."""

    rules: tuple[Rule, ...]
    version: int = 0  #: 0: nobody saved any; these are the ones that came with the settings.


def as_tables(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Rules as data, as the ledger keeps them and `[[rule]]` says them: without what goes without saying."""
    return [_plain(rule.model_dump(exclude_defaults=True)) for rule in rules]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        # An end of a range that is none: JSON has no infinity.
        return [None if isinstance(one, float) and isinf(one) else _plain(one) for one in value]
    if isinstance(value, Enum):
        return value.value
    return value


def rules_of(version: RuleSet) -> tuple[Rule, ...]:
    """The rules of a version. Raises `RulesUnreadable`."""
    try:
        return tuple(Rule.model_validate(table) for table in version.rules)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        raise RulesUnreadable(
            f"version {version.number} of the rules, saved by {version.by}, cannot be used by this release: "
            f"{place + ': ' if place else ''}{wrong['msg']}. Save others: `wetread rules save`, or "
            "`wetread rules rollback`"
        ) from None


def said_anew(rules: Sequence[Rule], from_file: RuleSet | None, *, default: bool = False) -> bool:
    """Whether a file with `rules` says something that the latest version from a file did not say.

    `default`: they are those of a site without a file, which nobody decided for.
    """
    if not rules:
        return False
    if from_file is None:
        return not default
    try:
        return tuple(rules) != rules_of(from_file)
    except RulesUnreadable:
        return True


def in_force(ledger: Ledger, rules: Sequence[Rule], *, default: bool = False) -> InForce:
    """What is in force once the node has started with `rules`; nothing is written.

    `default`: see `said_anew`. Raises `RulesUnreadable`.
    """
    if said_anew(rules, ledger.latest_rule_set(RuleSource.FILE), default=default):
        return InForce(tuple(rules), ledger.rules_version() + 1)
    latest = ledger.latest_rule_set()
    return InForce(tuple(rules)) if latest is None else InForce(rules_of(latest), latest.number)


def adopt(ledger: Ledger, rules: Sequence[Rule], *, default: bool = False) -> RuleSet | None:
    """Make what the file says a new version, where it is something new; the version that was written."""
    while said_anew(rules, ledger.latest_rule_set(RuleSource.FILE), default=default):
        base = ledger.rules_version()
        comment = "the settings file says something new" if base else "what the settings file says"
        try:
            return ledger.save_rule_set(
                as_tables(rules), base=base, by=THE_FILE, comment=comment, source=RuleSource.FILE
            )
        except RulesMovedOn:  # Another node started, or somebody saved, at the same moment: judge again.
            continue
    return None


class RuleBook:
    """The rules as one process knows them. For one thread."""

    def __init__(self, ledger: Ledger, rules: Sequence[Rule]) -> None:
        """`rules` are those that count as long as the ledger has no version."""
        self._ledger = ledger
        self._without = InForce(tuple(rules))
        self._known: dict[int, InForce] = {}
        self._broken: int | None = None
        self._latest = self._without

    def look(self) -> InForce:
        """The rules in force now. A version that cannot be used is told once, and the one before stays."""
        number = self._ledger.rules_version()
        if number in (self._latest.version, self._broken):
            return self._latest
        try:
            self._latest = self._read(number)
        except RulesUnreadable as error:
            self._broken = number
            log.warning("rules.unreadable", version=number, because=str(error))
            self._ledger.record_event("rules", "unreadable", because=str(error))
        return self._latest

    def version(self, number: int | None) -> InForce:
        """A version that something was routed by; None: before there were any. What cannot be used any more
        is answered by the rules of today.
        """
        if number is None:
            return self._without
        try:
            return self._read(number)
        except RulesUnreadable:
            return self._latest

    def _read(self, number: int) -> InForce:
        if number not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[number] = InForce(rules_of(self._ledger.rule_set(number)), number)
        return self._known[number]

"""
Versions of the rules: each set of rules that was ever in force, numbered, with who saved it and why.

Rule 1: a version is never changed and never deleted. Going back is a new version, equal to the old one.
Rule 2: the highest number is in force, everywhere, from the moment it is in the ledger.
Rule 3: whoever saves says which version was looked at; where another one was saved since, nothing is written.

The ledger does not read the rules themselves: they are data, in the shape of `[[rule]]` in `wetread.toml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ledger.errors import WetreadError

#: One `[[rule]]` as data: what JSON can say, with null for an end of a range that is none.
RuleTable = Mapping[str, Any]


class RuleSource(StrEnum):
    """Where a version came from."""

    FILE = "file"  #: The settings file said so when the node started.
    CONSOLE = "console"  #: Somebody saved it, in the console or on the command line.


class RulesMovedOn(WetreadError):
    """Somebody else saved rules since these were looked at: nothing was saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """One version of the rules. `at` is in seconds since 1970-01-01 UTC by the database's clock."""

    number: int
    at: float
    by: str
    comment: str
    source: RuleSource
    rules: tuple[RuleTable, ...]
    same_as: int | None = None  #: The version that was gone back to.

"""
What every state machine here has in common: it is a table.

Rule 1: a change of state that is not a row of its table cannot happen.
Rule 2: `docs/states.md` is drawn from the tables, and a test compares the two.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from ledger.errors import WetreadError

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class IllegalTransition(WetreadError):
    """The state table has no such row: the thing moved on in the meantime, or never could."""


def advance(table: Mapping[tuple[State, Event], State], thing: str, state: State, event: Event) -> State:
    """The state after `event`. Raises `IllegalTransition` where the table has no such row."""
    try:
        return table[state, event]
    except KeyError:
        raise IllegalTransition(f"a {state} {thing} cannot be {event.replace('_', ' ')}") from None


def states_before(table: Mapping[tuple[State, Event], State], event: Event) -> frozenset[State]:
    """The states in which `event` may happen: what an UPDATE … WHERE state IN (…) asks for."""
    return frozenset(state for state, known in table if known == event)


def mermaid(table: Mapping[tuple[State, Event], State], initial: State) -> str:
    """The table as a Mermaid state diagram."""
    rows = [f"    {state} --> {after}: {event}" for (state, event), after in table.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {initial}", *rows])

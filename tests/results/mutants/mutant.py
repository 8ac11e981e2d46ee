"""One thing that is wrong with one written object."""

from collections.abc import Callable
from dataclasses import dataclass

from pydicom import Dataset

from ledger.result import Role


@dataclass(frozen=True)
class Mutant:
    """`change` spoils an object of `role`; the check has to say so in words that match `says`."""

    role: Role
    change: Callable[[Dataset], None]
    says: str  #: a regular expression
    of: str = "everything"  #: which run is spoilt, see `tests.results.test_mutants`

    @property
    def name(self) -> str:
        return f"{self.role}: {self.change.__name__.replace('_', ' ')}"


def table(role: Role, of: str, *rows: tuple[Callable[[Dataset], None], str]) -> tuple[Mutant, ...]:
    """Rows of one object: how it is spoilt, and what the check says."""
    return tuple(Mutant(role, change, says, of) for change, says in rows)

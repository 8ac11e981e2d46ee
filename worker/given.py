"""
From the files of a job to what its model is given.

A series that cannot be given to any model is an answer too: its source alone, so that a report can say why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import StudyError
from models.contract import Given
from results.source import Source
from worker.load import load_series, load_source


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """What the model is given, and what its results will refer to."""

    given: Given
    source: Source
    headers: Mapping[str, str]  #: of the first slice: keyword → text, several values joined by a backslash


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """Files that no model can be given, and why; their headers are good enough for a report."""

    source: Source
    because: str


def read_given(paths: Sequence[Path]) -> Usable | Unusable:
    """What the files hold. Raises `StudyError` where they give not even a report."""
    try:
        loaded = load_series(paths)
    except StudyError as unusable:
        return Unusable(source=load_source(paths), because=str(unusable))
    return Usable(given=loaded.volume, source=loaded.source, headers=loaded.headers)

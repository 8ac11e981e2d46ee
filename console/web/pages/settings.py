"""Settings: what is in force, and where each value comes from. Nothing can be changed here, and no secret is
shown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from console.complaints import SettingsRefused
from console.effective import Effective, effective
from console.settings import load_site, read_tables
from console.web.deck import Deck, deck_of
from console.web.rendering import render

router = APIRouter()


class Source(StrEnum):
    """Where a value comes from."""

    FILE = "file"
    DEFAULT = "default"
    #: The command line or the environment; or the file said something else when this process started.
    START = "start"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key with its value, as JSON has it."""

    key: str
    value: Any
    source: Source
    file_says: Any = None  #: of a value from the start: what the file would make it now


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of the settings."""

    name: str
    settings: tuple[Setting, ...]
    changed: int  #: how many are not the defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that is in force."""

    file: str  #: its name; empty: there is none
    wrong: str  #: why the file cannot be read as it lies there now; empty: it can
    tables: tuple[Table, ...]

    @property
    def restart(self) -> int:
        """How many values would be others after a restart without options."""
        return sum(one.source is Source.START for table in self.tables for one in table.settings)


def read_settings(deck: Deck) -> Settings:
    """What this process was told when it was started, against the file as it lies there now."""
    wrong, given = "", {}
    now: dict[tuple[str, str], Effective] = {}
    try:
        given = read_tables(deck.file)
        fresh = load_site(deck.file, time_zone=deck.site.site.time_zone)
        now = {(one.table, one.key): one for one in effective(fresh, given)}
    except SettingsRefused as error:
        wrong = str(error)
    return Settings(
        file=deck.file.name if deck.file else "",
        wrong=wrong,
        tables=tuple(in_tables(effective(deck.site, given), now if deck.file and not wrong else None)),
    )


def in_tables(rows: Iterable[Effective], now: Mapping[tuple[str, str], Effective] | None) -> Iterable[Table]:
    """The rows by table; `now` is what the file gives today, None where there is nothing to compare with."""
    found: dict[str, list[Setting]] = {}
    for row in rows:
        fresh = now.get((row.table, row.key)) if now is not None else row
        if now is not None and (fresh is None or fresh.value != row.value):
            one = Setting(row.key, row.value, Source.START, fresh.value if fresh else None)
        else:
            one = Setting(row.key, row.value, Source.FILE if row.given else Source.DEFAULT)
        found.setdefault(row.table, []).append(one)
    for name, settings in found.items():
        changed = sum(one.source is not Source.DEFAULT for one in settings)
        yield Table(name=name, settings=tuple(settings), changed=changed)


@router.get("/settings")
def settings(request: Request) -> HTMLResponse:
    """The page."""
    return render(request, "settings.html", found=read_settings(deck_of(request)))

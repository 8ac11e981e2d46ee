"""A board of stages that fills while one watches; where there is no terminal, one line for each change."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


class Mark(StrEnum):
    """How a stage stands."""

    AHEAD = "ahead"
    NOW = "now"
    GOOD = "good"
    BAD = "bad"


_SIGNS = {Mark.AHEAD: Text("·", "dim"), Mark.GOOD: Text("✔", "bold green"), Mark.BAD: Text("✘", "bold red")}


@dataclass(slots=True)
class Stage:
    """One line of the board."""

    name: str
    mark: Mark = Mark.AHEAD
    words: str = ""
    began_at: float | None = None
    took_s: float | None = None
    part: float | None = None  #: done so far, 0 … 1, where that is known


class Board:
    """The stages in their order. One thread writes; rich reads."""

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self._console = console
        self._stages = {name: Stage(name) for name in names}
        self._spinner = Spinner("dots", style="cyan")
        self._width = max(map(len, names))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the board while the block runs, and leave its last state standing."""
        if not self._console.is_terminal:
            yield
            return
        # Redirected output would be torn apart by the moving lines; the demo's processes write to files.
        with Live(self, console=self._console, refresh_per_second=12, transient=False):
            yield

    def begin(self, name: str, words: str = "", part: float | None = None) -> None:
        """The stage is going on; `words` may change while it does."""
        stage = self._stages[name]
        if stage.began_at is None:
            stage.began_at = time.monotonic()
        stage.mark, stage.words, stage.part = Mark.NOW, words, part

    def good(self, name: str, words: str, took_s: float | None = None) -> None:
        """The stage is done."""
        self._end(name, Mark.GOOD, words, took_s)

    def bad(self, name: str, words: str) -> None:
        """The stage went wrong."""
        self._end(name, Mark.BAD, words, None)

    def standing(self, name: str) -> Mark:
        """How the stage stands."""
        return self._stages[name].mark

    def current(self) -> str:
        """The first stage that is not done."""
        return next((stage.name for stage in self._stages.values() if stage.mark is not Mark.GOOD), "")

    def _end(self, name: str, mark: Mark, words: str, took_s: float | None) -> None:
        stage = self._stages[name]
        if stage.mark in (Mark.GOOD, Mark.BAD):
            return
        began = stage.began_at if stage.began_at is not None else time.monotonic()
        stage.mark, stage.words, stage.part = mark, words, None
        stage.took_s = took_s if took_s is not None else time.monotonic() - began
        if not self._console.is_terminal:
            sign = "ok  " if mark is Mark.GOOD else "FAIL"
            self._console.print(
                f"{sign} {name:<{self._width}}  {words}  ({stage.took_s:.1f} s)", soft_wrap=True
            )

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, overflow="fold")
        table.add_column(justify="right", style="dim", no_wrap=True)
        for stage in self._stages.values():
            sign = self._spinner if stage.mark is Mark.NOW else _SIGNS[stage.mark]
            table.add_row(sign, Text(stage.name, _name_style(stage.mark)), _words(stage), _seconds(stage))
        return Padding(table, (0, 2))


def _name_style(mark: Mark) -> str:
    return {Mark.AHEAD: "dim", Mark.NOW: "bold cyan", Mark.GOOD: "bold", Mark.BAD: "bold red"}[mark]


def _words(stage: Stage) -> RenderableType:
    if stage.mark is Mark.NOW and stage.part is not None:
        row = Table.grid(padding=(0, 2))
        row.add_row(ProgressBar(total=1.0, completed=stage.part, width=24), Text(stage.words))
        return row
    return Text(stage.words, "red" if stage.mark is Mark.BAD else "")


def _seconds(stage: Stage) -> str:
    if stage.took_s is not None:
        return f"{stage.took_s:.1f} s"
    if stage.mark is Mark.NOW and stage.began_at is not None:
        return f"{time.monotonic() - stage.began_at:.0f} s"
    return ""

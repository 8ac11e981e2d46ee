"""
What was measured of a built-in model, as tables that stand in its card and can be measured again.

Each built-in may bring `benchmarks/cards/<model>.py` with

    TABLES = (Measured(name="volume", title=…, columns=…, rows=volumes), …)

`rows` is called when somebody asks for the table; nothing is measured by importing the module. A table on
real images says in `needs` which folders of `../shared/data` it looks at: where one of them is absent, what
stands in the card stays as it is. In CARD.md a table stands between two comments of its own lines:

    <!-- measured: volume -->
    <!-- /measured -->

`python -m benchmarks.evidence MODEL` prints a model's tables, and with `--write` puts them there.
"""

import importlib
import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"  #: real images; not part of the repository
BUILTIN = ROOT / "models" / "builtin"

Cell = str | int | float
Row = tuple[Cell, ...]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_BLOCK = re.compile(r"^<!-- measured: (?P<name>[^\n]*?) -->\n(?P<text>.*?)^<!-- /measured -->$", re.M | re.S)
_MARK = re.compile(r"^<!-- (?:measured: [^\n]*|/measured) -->$", re.M)


class NoPlace(Exception):
    """A card and the tables that are measured for it do not fit together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far a measurement lies from the truth: Bland and Altman, Lancet 1986; 327: 307-310.

    The limits are bias ± 1.96 standard deviations of the differences (n - 1 in the denominator): between them
    lie 95 % of the differences if those are spread normally.
    """

    n: int
    bias: float  #: mean of measured - truth
    low: float
    high: float

    #: The headings of `cells`.
    COLUMNS = ("n", "bias", "limits of agreement")

    def cells(self, unit: str = "", digits: int = 1) -> tuple[str, str, str]:
        """For a table: how many, the bias, the limits."""
        unit = unit and f" {unit}"
        low, high = (f"{value:+.{digits}f}" for value in (self.low, self.high))
        return str(self.n), f"{self.bias:+.{digits}f}{unit}", f"{low} to {high}{unit}"


def agreement(measured: Sequence[float], truth: Sequence[float]) -> Agreement:
    """The agreement of values with what is true of each. Raises `ValueError` for fewer than two pairs, and
    for what is no number.
    """
    differences = [float(m) - float(t) for m, t in zip(measured, truth, strict=True)]
    if len(differences) < 2 or not all(map(math.isfinite, differences)):
        raise ValueError(f"no agreement of {len(differences)} pairs: two numbers are the least")
    bias, spread = statistics.fmean(differences), 1.96 * statistics.stdev(differences)
    return Agreement(n=len(differences), bias=bias, low=bias - spread, high=bias + spread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What was measured; cells are what a reader sees, a float in four significant digits."""

    name: str
    title: str  #: a sentence: of what, on which images
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    command: str  #: which prints it again
    note: str = ""  #: sentences below it: what it does not say

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the name of a table is small letters, digits and -: {self.name!r}")
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"table {self.name}: a row has {len(wrong[0])} cells, not {len(self.columns)}")

    def markdown(self) -> str:
        """As it stands in a card, with the command."""
        lines = [f"**{self.title}**", "", _line(self.columns), "|" + "---|" * len(self.columns)]
        lines += [_line(row) for row in self.rows]
        lines += ["", *([self.note] if self.note else []), f"Measured by `{self.command}`."]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A table that can be measured; see the top of this module."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Callable[[], Iterable[Row]]  #: measures
    needs: tuple[str, ...] = ()  #: folders of the real images; none: it is made of phantoms or of records
    note: str = ""
    command: str = ""  #: where another one than `python -m benchmarks.evidence MODEL` prints it

    def absent(self, data: Path = DATA) -> list[str]:
        """What it needs and is not here."""
        return [name for name in self.needs if not (data / name).exists()]

    def table(self, model: str) -> Table:
        """Measure."""
        return Table(
            name=self.name,
            title=self.title,
            columns=self.columns,
            rows=tuple(self.rows()),
            command=self.command or f"python -m benchmarks.evidence {model}",
            note=self.note,
        )


def built_ins() -> list[str]:
    """The names of the models that come with Wetread."""
    return sorted(path.parent.name for path in BUILTIN.glob("*/manifest.toml"))


def tables_of(model: str) -> tuple[Measured, ...]:
    """What is measured of a built-in model; nothing where it brings no module."""
    if not (ROOT / "benchmarks" / "cards" / f"{model}.py").is_file():
        return ()
    module: ModuleType = importlib.import_module(f"benchmarks.cards.{model}")
    tables: tuple[Measured, ...] = module.TABLES
    return tables


def blocks(card: str) -> Iterator[tuple[str, str]]:
    """(name, what stands in it) of every marked block of a card. Raises `NoPlace` for marks that are not in
    pairs, and for a name that stands there twice.
    """
    found = list(_BLOCK.finditer(card))
    marks = len(_MARK.findall(card))
    if marks != 2 * len(found) or any(_MARK.search(one["text"]) for one in found):
        raise NoPlace(f"{marks} marks in the card make {len(found)} blocks: each has a beginning and an end")
    names = [one["name"] for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise NoPlace(f"the card has two places for the table {twice[0]}")
    for one in found:
        yield one["name"], one["text"]


def put(card: str, tables: Mapping[str, Table]) -> str:
    """The card with `tables` in their places; other blocks stay as they are. Raises `NoPlace`."""
    places = {name for name, _ in blocks(card)}
    if missing := sorted(set(tables) - places):
        raise NoPlace(f"the card has no place for the table {missing[0]}: <!-- measured: {missing[0]} -->")

    def renewed(found: re.Match[str]) -> str:
        if found["name"] not in tables:
            return found[0]
        table = tables[found["name"]].markdown()
        return f"<!-- measured: {found['name']} -->\n{table}<!-- /measured -->"

    return _BLOCK.sub(renewed, card)


def _line(cells: Row) -> str:
    return "| " + " | ".join(_said(cell) for cell in cells) + " |"


def _said(cell: Cell) -> str:
    said = f"{cell:.4g}" if isinstance(cell, float) else str(cell)
    return said.replace("|", "/").replace("\n", " ")

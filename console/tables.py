"""How values, times and sizes look in a terminal: one look for every command."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

# UCUM is for machines; these are for readers.
_UNITS = {"[hnsf'U]": "HU", "ml": "mL", "mL": "mL", "cm3": "mL", "1": ""}

#: In the order in which a job goes through them. "wait" is for the model, and for the encoder, to be free.
STAGES = ("queue", "load", "wait", "open", "model", "encode", "check")

#: State → colour, for studies, jobs and deliveries alike.
STATE_STYLES = {
    "open": "cyan",
    "queued": "cyan",
    "waiting": "cyan",
    "running": "bold cyan",
    "sending": "bold cyan",
    "sent": "green",
    "closed": "default",
    "done": "green",
    "committed": "green",
    "parked": "bold red",
    "declined": "yellow",
    "cancelled": "dim",
    "purged": "dim",
}


_COLUMNS_MAX = 4  # More do not stand side by side on a terminal.
_NAME_WIDTH = 22  # Narrower, the names of quantities break in every word.


@dataclass(frozen=True, slots=True)
class Value:
    """One measured value: of what, which quantity, how much, in which UCUM unit."""

    about: str
    name: str
    value: float
    unit: str
    code: str = ""  #: code value of the quantity, where the name is for people only


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, style=STATE_STYLES.get(name, "default"))


def plain_table(*columns: str) -> Table:
    """A table with a rule under its heading and nothing else."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def findings_table(values: Sequence[Value], truths: Mapping[Value, float] | None = None) -> Table:
    """One row for each quantity, one column for each thing that was measured.

    `truths` are right answers, where they are known: they stand beside the values.
    """
    abouts = list(dict.fromkeys(value.about for value in values))
    if len(abouts) > _COLUMNS_MAX:
        return _long_table(values)
    # Tracking identifiers begin with the model's name: once is enough, and that is not here.
    first = {about.partition(" ")[0] for about in abouts}
    common = first.pop() + " " if len(first) == 1 and len(abouts) > 1 else ""
    table = Table(box=box.ROUNDED, header_style="bold cyan", border_style="dim")
    table.add_column("", style="bold", min_width=_NAME_WIDTH)
    for about in abouts:
        table.add_column(about.removeprefix(common), justify="right")
    for name, unit in dict.fromkeys((value.name, value.unit) for value in values):
        cells = {value.about: value for value in values if (value.name, value.unit) == (name, unit)}
        table.add_row(name, *(_cell(cells.get(about), truths or {}) for about in abouts))
    return table


def _long_table(values: Sequence[Value]) -> Table:
    """One row for each value: where a model says something of many things, side by side nobody reads it."""
    table = Table(box=box.ROUNDED, header_style="bold cyan", border_style="dim", show_header=False)
    before = None
    for value in values:
        table.add_row(
            "" if value.about == before else value.about, value.name, quantity(value.value, value.unit)
        )
        before = value.about
    return table


def _cell(value: Value | None, truths: Mapping[Value, float]) -> Text:
    if value is None:
        return Text()
    shown = Text(quantity(value.value, value.unit), "bold" if value in truths else "")
    if value in truths:
        shown.append(f"\ntrue: {quantity(truths[value], value.unit)}", "dim not bold")
    return shown


def quantity(value: float, unit: str) -> str:
    """A value as a radiologist writes it."""
    shown = _UNITS.get(unit, unit)
    decimals = 0 if abs(value) >= 100 else 1
    return f"{value:,.{decimals}f} {shown}".rstrip().replace(",", " ")


def timings(seconds: Mapping[str, float]) -> str:
    """Seconds by stage, in the order in which the stages follow each other."""
    order = {stage: number for number, stage in enumerate(STAGES)}
    stages = sorted(seconds.items(), key=lambda item: order.get(item[0], len(order)))
    return ", ".join(f"{stage} {took:.1f} s" for stage, took in stages)


def local_time(at: float | None) -> str:
    """Date, time and zone of the place where the command runs."""
    if at is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))


def clock_time(at: float | None, now: float) -> str:
    """Only as much of the date as is needed beside `now`."""
    if at is None:
        return ""
    today = time.strftime("%Y-%m-%d", time.localtime(now)) == time.strftime("%Y-%m-%d", time.localtime(at))
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", time.localtime(at))


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min`, `5 h`, `3 d`."""
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.1f} {unit}" if seconds < 10 else f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def size(count: float) -> str:
    """Bytes, with binary prefixes."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def listed(words: Iterable[str], nothing: str = "none") -> str:
    """`a, b`, or a word for nothing."""
    return ", ".join(words) or nothing

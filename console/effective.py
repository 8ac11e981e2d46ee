"""The settings in force, and where each of them comes from."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from console.settings import Site, read_tables
from console.tables import plain_table

_SECRETS = {("dicomweb", "token_sha256")}
_PASSWORDS = {("ledger", "url"), ("queue", "url")}


def print_settings(site: Site, path: Path | None, console: Console, *, as_json: bool) -> None:
    """Every key of every table with its value; those that the file at `path` sets are marked."""
    rows = list(_rows(site, read_tables(path)))
    if as_json:
        console.print_json(
            json.dumps([{"table": t, "key": k, "value": v, "given": g} for t, k, v, g in rows])
        )
        return
    console.print(f"Settings file: [bold]{path or 'none; these are the defaults'}[/]\n")
    table = plain_table("Table", "Key", "Value", "From")
    for number, (name, key, value, given) in enumerate(rows):
        first = number == 0 or rows[number - 1][0] != name
        shown = json.dumps(value, ensure_ascii=False)
        source = Text(path.name, "cyan") if given and path else Text("default", "dim")
        table.add_row(Text(f"[{name}]" if first else "", "bold"), key, shown, source)
    console.print(table)


def _rows(site: Site, given: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, bool]]:
    for name, content in site.model_dump(mode="json", by_alias=True).items():
        entries = content if isinstance(content, list) else [content]
        for number, entry in enumerate(entries):
            title = f"[{name}] {number + 1}" if isinstance(content, list) else name
            written = given.get(name, {})
            here = written[number] if isinstance(written, list) and number < len(written) else written
            for key, value in (entry or {}).items():
                if value is None:
                    continue
                if (name, key) in _SECRETS:
                    value = "***"  # noqa: PLW2901
                if (name, key) == ("models", "licence_keys"):
                    value = dict.fromkeys(value, "***")  # noqa: PLW2901
                shown = _without_password(str(value)) if (name, key) in _PASSWORDS else value
                yield title, key, shown, isinstance(here, dict) and key in here


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.rpartition(':')[0]}:***@{tail}" if at and ":" in head.partition("://")[2] else url

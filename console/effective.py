"""The settings in force, and where each of them comes from."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from console.settings import Site, read_tables
from console.tables import plain_table

#: Keys whose values nobody may see. Those that end with _file name a file, which is no secret.
_SECRET = re.compile(r"(password|passcode|secret|token|licence_key|private_key)(?!.*_file$)")
_LOGIN = re.compile(r"(?<=://)([^/@\s:]*):\S*@")
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting: its table, its key, its value as JSON has it, and whether the file sets it."""

    table: str
    key: str
    value: Any
    given: bool


def effective(site: Site, given: Mapping[str, Any]) -> Iterator[Effective]:
    """Every key of every table of `site` that has a value; `given` is what the file says, table by table. No
    value is a secret.
    """
    for name, content in site.model_dump(mode="json", by_alias=True).items():
        entries = content if isinstance(content, list) else [content]
        for number, entry in enumerate(entries):
            title = f"[{name}] {number + 1}" if isinstance(content, list) else name
            written = given.get(name, {})
            here = written[number] if isinstance(written, list) and number < len(written) else written
            for key, value in (entry or {}).items():
                if value is not None:
                    shown = _without_secrets(key, value)
                    yield Effective(title, key, shown, isinstance(here, dict) and key in here)


def print_settings(site: Site, path: Path | None, console: Console, *, as_json: bool) -> None:
    """Every key of every table with its value; those that the file at `path` sets are marked."""
    rows = list(effective(site, read_tables(path)))
    if as_json:
        console.print_json(
            json.dumps([{"table": r.table, "key": r.key, "value": r.value, "given": r.given} for r in rows])
        )
        return
    console.print(f"Settings file: [bold]{path or 'none; these are the defaults'}[/]\n")
    table = plain_table("Table", "Key", "Value", "From")
    for number, row in enumerate(rows):
        first = number == 0 or rows[number - 1].table != row.table
        shown = json.dumps(row.value, ensure_ascii=False)
        source = Text(path.name, "cyan") if row.given and path else Text("default", "dim")
        table.add_row(Text(f"[{row.table}]" if first else "", "bold"), row.key, shown, source)
    console.print(table)


def _without_secrets(key: str, value: Any) -> Any:
    """The value with everything hidden that gives access to something, however deep it lies."""
    if _SECRET.search(key):
        if isinstance(value, dict):  # The names of models that have a licence key, say.
            return dict.fromkeys(value, HIDDEN)
        return HIDDEN if value not in (None, "", False, True) else value
    if isinstance(value, dict):
        return {inner: _without_secrets(str(inner), one) for inner, one in value.items()}
    if isinstance(value, list):
        return [_without_secrets("", one) for one in value]
    if not isinstance(value, str):
        return value
    if key == "url" and value.startswith(("http://", "https://")) and "?" in value:
        value = f"{value.partition('?')[0]}?{HIDDEN}"  # Addresses of webhooks often carry their key so.
    return _LOGIN.sub(r"\1:***@", value)

"""What is wrong with a settings file, in sentences that name the file, the line, the key and the nearest
known key.
"""

import difflib
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ledger.errors import SiteError


class SettingsRefused(SiteError):
    """The settings cannot be used as they are written."""


def sentences(error: ValidationError, whole: type[BaseModel], path: Path | None) -> Iterator[str]:
    """One sentence for each complaint of pydantic about `whole`, read from the file at `path`."""
    text = path.read_text(encoding="utf-8") if path else ""
    told = (
        f"{path or 'the given options'}{_line(detail, text)}: {_sentence(detail, whole)}"
        for detail in map(_joined, error.errors(include_url=False))
    )
    yield from dict.fromkeys(told)


def located(error: ValidationError, whole: type[BaseModel]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """The same about what came from no file, each with its place: ("rule", 2, "at_least")."""
    for detail in map(_joined, error.errors(include_url=False)):
        yield tuple(detail["loc"]), _sentence(detail, whole)


def _joined(detail: ErrorDetails) -> ErrorDetails:
    """Where a value may be of several types, pydantic complains once for each; one sentence is enough."""
    if detail["loc"] and detail["loc"][-1] in ("str", "int", "float", "bool"):
        detail["loc"], detail["msg"] = detail["loc"][:-1], "has to be a text, a number, true or false"
    return detail


def _sentence(detail: ErrorDetails, whole: type[BaseModel]) -> str:  # noqa: PLR0911  One for each kind.
    *place, key = detail["loc"] or ("",)
    if detail["type"] == "extra_forbidden":
        if not place:
            return f"unknown table {str(key)!r}{_at_home(str(key), whole)}"
        return f"unknown key {str(key)!r} in {_table(place)}{_nearest(str(key), _known_keys(whole, place))}"
    if detail["type"] == "missing":
        return f"{str(key)!r} is missing in {_table(place)}"
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    if detail["type"] in ("model_type", "dict_type") or (not place and "tuple" in message):
        return _no_table(place, key, repeated="tuple" in message)
    if isinstance(detail["input"], dict):  # A check of the table as a whole.
        return f"{_table(detail['loc'])}: {message}"
    # A URL may carry a password, and a licence key is one.
    secret = "url" in str(key) or "licence_keys" in detail["loc"]
    given = "" if secret or repr(detail["input"]) in message else f" (it says {detail['input']!r})"
    name = f"{key!r} in {_table(place)}" if isinstance(key, str) else f"entry {key + 1} of {_table(place)}"
    return f"{name}: {message[:1].lower()}{message[1:]}{given}"


def _no_table(place: Sequence[int | str], key: int | str, *, repeated: bool) -> str:
    if isinstance(key, int):
        return f"[[{place[0]}]] number {key + 1} has to be a table"
    return f"{key!r} has to be a table: write {f'[[{key}]]' if repeated else f'[{key}]'}"


def _table(place: Sequence[int | str]) -> str:
    """`[node]`, or `[[rule]] number 2`."""
    table, rest = place[0], place[1:]
    if rest and isinstance(rest[0], int):
        inner = "".join(f", {part}" for part in rest[1:])
        return f"[[{table}]] number {rest[0] + 1}{inner}"
    return f"[{'.'.join(str(part) for part in place)}]"


def _at_home(key: str, whole: type[BaseModel]) -> str:
    """A hint for a key that stands outside of every table: where it would be at home."""
    for name, field in whole.model_fields.items():
        if any(key in model.model_fields for model in _models_in(field.annotation)):
            return f": did you mean {key!r} in [{field.alias or name}]?"
    return _nearest(key, _known_keys(whole, ()))


def _nearest(key: str, known: Sequence[str]) -> str:
    if close := difflib.get_close_matches(key, known, n=1, cutoff=0.5):
        return f": did you mean {close[0]!r}?"
    return f" (known: {', '.join(sorted(known))})"


def _known_keys(whole: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    model = whole
    for part in place:
        if isinstance(part, str):
            found = [field for name, field in model.model_fields.items() if part in (name, field.alias)]
            inner = [one for field in found for one in _models_in(field.annotation)]
            model = inner[0] if inner else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _line(detail: ErrorDetails, text: str) -> str:
    """`, line 12`, where exactly one line of the file can be meant."""
    keys = [part for part in detail["loc"] if isinstance(part, str)]
    if not keys:
        return ""
    key = re.escape(keys[-1])
    lines = [
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if re.match(rf"\s*({key}\s*=|\[\[?\s*{key}\s*\]\]?)", line)
    ]
    return f", line {lines[0]}" if len(lines) == 1 else ""

"""A set of rules that somebody is editing: it travels with the page, as text, and nothing of it is kept here.

Pure: a draft and what was asked for in, the next draft out.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console.rule_checks import Complaint
from console.rule_texts import TEXT_MAXIMUM, read_tables, toml_of
from console.settings import Site
from console.web.rule_form import FIELDS, shown, typed
from dicom_node.routing import Rule

_DOING = frozenset({"edit", "copy", "up", "down", "remove"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Editing:
    """The form of one rule."""

    place: int  #: in the set; one behind its end for a new rule
    new: bool
    values: Mapping[str, str]  #: key of the field → what stands in it
    wrong: Mapping[str, str]  #: key of the field → what is wrong; "" for the rule as a whole

    @property
    def rare(self) -> bool:
        """Whether a field that is shown on demand says something."""
        return any(
            field.key in self.wrong or self.values[field.key] not in ("", field.usual)
            for field in FIELDS
            if not field.common
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One rule of the draft. `rule` is None where it cannot be read."""

    name: str
    model: str
    rule: Rule | None
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The draft as the page shows it."""

    text: str
    base: int  #: the version that it was made from
    lines: tuple[Line, ...]
    wrong: tuple[Complaint, ...]  #: all that is wrong with the set
    rules: tuple[Rule, ...]
    editing: Editing | None = None

    @property
    def whole(self) -> tuple[str, ...]:
        """What is wrong with the set as a whole, and with no single rule."""
        return tuple(one.words for one in self.wrong if one.rule is None)


def draft(
    site: Site, text: str, base: int, *, do: str = "", fields: Mapping[str, Sequence[str]] | None = None
) -> Draft:
    """The draft in `text` after `do`: "edit:2", "copy:2", "up:2", "down:2", "remove:2", "keep:2" with what
    its form says in `fields`, "add", or anything else for no change.
    """
    try:
        tables = _tables(text)
    except (tomllib.TOMLDecodeError, ValueError) as error:
        complaint = Complaint(f"this is not valid TOML: {error}")
        return Draft(text=text, base=base, lines=(), wrong=(complaint,), rules=())
    what, _, which = do.partition(":")
    place = int(which) if which.isdecimal() and len(which) < 6 else -1
    editing = None
    if what == "add":
        editing = Editing(place=len(tables), new=True, values=shown({}), wrong={})
    elif what == "keep" and 0 <= place <= len(tables):
        editing = _kept(site, tables, place, fields or {})
    elif what in _DOING and 0 <= place < len(tables):
        editing = _rearranged(site, tables, what, place)
    return _drafted(site, tables, base, editing)


def _rearranged(site: Site, tables: list[dict[str, Any]], what: str, place: int) -> Editing | None:
    if what == "edit":
        return _form(site, tables, place)
    if what == "copy":
        name = f"{tables[place].get('name', '')} 2".strip()
        tables.insert(place + 1, {**tables[place], "name": name})
        return _form(site, tables, place + 1)
    moved = tables.pop(place)
    if what != "remove":
        tables.insert(max(0, place - 1) if what == "up" else place + 1, moved)
    return None


def _tables(text: str) -> list[dict[str, Any]]:
    if len(text) > TEXT_MAXIMUM:
        raise ValueError(f"more than {TEXT_MAXIMUM} characters")
    tables = tomllib.loads(text).get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise ValueError("write [[rule]] above each rule")
    return tables


def _kept(
    site: Site, tables: list[dict[str, Any]], place: int, fields: Mapping[str, Sequence[str]]
) -> Editing | None:
    """What the form says takes its place; where something is wrong with it, the form stays and says so."""
    said = typed(fields)
    new = place == len(tables)
    tables[place : place + 1] = [dict(said.table)]
    wrong = {**_wrong(site, tables, place), **said.unread}
    if not wrong:
        return None
    as_typed = {key: "\n".join(texts) for key, texts in fields.items() if key in said.unread}
    return Editing(place=place, new=new, values={**shown(said.table), **as_typed}, wrong=wrong)


def _form(site: Site, tables: Sequence[Mapping[str, Any]], place: int) -> Editing:
    return Editing(place=place, new=False, values=shown(tables[place]), wrong=_wrong(site, tables, place))


def _wrong(site: Site, tables: Sequence[Mapping[str, Any]], place: int) -> dict[str, str]:
    """What is wrong with one rule, by the field where it is to be told."""
    found: dict[str, str] = {}
    for one in read_tables(site, list(tables)).wrong:
        if one.rule == place:
            key = _field(one.field)
            found[key] = f"{found[key]} {one.words}" if key in found else one.words
    return found


def _field(key: str) -> str:
    """The field that shows a key: what is within a list or an inner table is shown by the table's."""
    outer, _, inner = key.partition(".")
    return key if outer == "priors" and inner else outer


def _drafted(
    site: Site, tables: Sequence[Mapping[str, Any]], base: int, editing: Editing | None = None
) -> Draft:
    edited = read_tables(site, list(tables))
    lines = tuple(
        Line(
            name=str(table.get("name", "")),
            model=str(table.get("model", "")),
            rule=edited.rules[place] if edited.rules else None,
            wrong=tuple(one.words for one in edited.wrong if one.rule == place),
        )
        for place, table in enumerate(tables)
    )
    text = toml_of(tables)
    return Draft(text=text, base=base, lines=lines, wrong=edited.wrong, rules=edited.rules, editing=editing)

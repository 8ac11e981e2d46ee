"""Rules as text, as people write them in `wetread.toml`: written, read with every complaint, and compared."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from math import inf
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from console.complaints import located
from console.rule_checks import Complaint, complaints
from console.settings import Site
from dicom_node.routing import Rule
from dicom_node.rule_book import as_tables
from ledger.rule_set import RuleTable

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_MADE_FROM = re.compile(r"^# version ([0-9]{1,9})\b", re.MULTILINE)
_ORDER = {key: place for place, key in enumerate(dict.fromkeys(["name", "model", *Rule.model_fields]))}
TEXT_MAXIMUM = 1 << 20  # characters: more rules than anybody could read


class RuleTables(BaseModel):
    """The `[[rule]]` tables of a file; its other tables are nobody's business here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rules: tuple[Rule, ...] = Field(default=(), alias="rule")


@dataclass(frozen=True, slots=True)
class Edited:
    """A set of rules that somebody wrote, and all that is wrong with it."""

    rules: tuple[Rule, ...]  #: none where they could not be read
    wrong: tuple[Complaint, ...]

    @property
    def tables(self) -> list[dict[str, Any]]:
        """As the ledger keeps them."""
        return as_tables(self.rules)


def read_text(site: Site, text: str) -> Edited:
    """The rules in a text of TOML, judged as if they were to be saved at this site."""
    if len(text) > TEXT_MAXIMUM:
        return Edited((), (Complaint(f"more than {TEXT_MAXIMUM} characters are no rules to be read"),))
    try:
        tables = tomllib.loads(text).get("rule")
    except tomllib.TOMLDecodeError as error:
        return Edited((), (Complaint(f"this is not valid TOML: {error}"),))
    if tables is None and text.strip() and not _MADE_FROM.search(text):
        return Edited((), (Complaint("there is no [[rule]] in it; no rules at all are written rule = []"),))
    return read_tables(site, tables or [])


def read_tables(site: Site, tables: object) -> Edited:
    """The same for rules as data."""
    try:
        rules = RuleTables.model_validate({"rule": tables}).rules
    except ValidationError as error:
        return Edited((), tuple(_complaint(place, words) for place, words in located(error, RuleTables)))
    return Edited(rules, tuple(complaints(site, rules)))


def _complaint(place: tuple[int | str, ...], words: str) -> Complaint:
    if len(place) < 2 or not isinstance(place[1], int):
        return Complaint(words)
    return Complaint(words, place[1], ".".join(str(part) for part in place[2:]))


def made_from(text: str) -> int | None:
    """The version that a text says it was made from, as `toml_of` writes it."""
    said = _MADE_FROM.search(text)
    return int(said[1]) if said else None


def toml_of(tables: Sequence[RuleTable], *, version: int | None = None) -> str:
    """The rules as text, each value on its own line; `version` is named on top."""
    head = [] if version is None else [f"# version {version} of the rules\n"]
    if not tables:
        return "".join([*head, "rule = []\n"])
    return "\n".join([*head, *(table_text(table) for table in tables)])


def table_text(table: RuleTable) -> str:
    """One `[[rule]]`."""
    lines = ["[[rule]]", pairs_text({key: value for key, value in table.items() if key != "inputs"})]
    for one in table.get("inputs", ()):
        lines += ["[[rule.inputs]]", pairs_text(one)]
    return "\n".join([*lines, ""])


def pairs_text(table: Mapping[str, Any]) -> str:
    """The keys of one table, one on each line; those of a rule as people write them."""
    ordered = sorted(table, key=lambda key: _ORDER.get(key, len(_ORDER)))
    return "\n".join(f"{_key(key)} = {_pair(table[key])}" for key in ordered)


def inputs_text(tables: Sequence[RuleTable]) -> str:
    """The inputs of one rule."""
    return "\n".join("[[inputs]]\n" + pairs_text(table) + "\n" for table in tables)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    # A basic string of TOML is one of JSON, but for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_pair(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return repr(value) if isinstance(value, int | float) else _text(str(value))


def _pair(value: Any) -> str:
    """A value of a table within; of a range, null is no end."""
    if isinstance(value, list | tuple) and len(value) == 2 and None in value:
        ends = [end if one is None else one for one, end in zip(value, (-inf, inf), strict=True)]
        return _value(ends)
    return _value(value)


@dataclass(frozen=True, slots=True)
class Beside:
    """One line of two texts side by side. `kind`: "same", "changed", "gone" or "new"."""

    kind: str
    left: str
    right: str


def side_by_side(left: str, right: str) -> list[Beside]:
    """Two texts line by line, what is alike on one height."""
    ours, theirs = left.splitlines(), right.splitlines()
    rows = []
    for tag, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag == "equal":
            rows += [Beside("same", line, line) for line in ours[a:b]]
            continue
        for k in range(max(b - a, d - c)):
            mine = ours[a + k] if a + k < b else None
            other = theirs[c + k] if c + k < d else None
            kind = "new" if mine is None else "gone" if other is None else "changed"
            rows.append(Beside(kind, mine or "", other or ""))
    return rows

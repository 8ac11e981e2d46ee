"""The fields of one rule: what each asks, in which unit, and how a form's text becomes a table and back.

Every key of `Rule` and of its priors has a field here; a test compares them. What is typed is not judged:
whatever the text is, it becomes a value, and the rule itself says what is wrong with that.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from console.rule_texts import inputs_text, pairs_text

Kind = Literal["text", "words", "number", "choice", "either", "pairs", "inputs", "model", "peers", "peer"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_SEPARATORS = re.compile(r"[,;\n]")


def _(text: str) -> str:
    """Marks what the catalogues translate; the page looks it up."""
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. `label` and `note` are English texts of the catalogues."""

    key: str  #: of the rule; "priors.peer" within a table
    kind: Kind
    label: str
    note: str = ""
    unit: str = ""
    choices: tuple[tuple[str, str], ...] = ()  #: (value, label)
    common: bool = False  #: shown at once; the others on demand

    @property
    def usual(self) -> str:
        """What a choice says where nothing was chosen."""
        return self.choices[0][0] if self.choices else ""


FIELDS: tuple[Field, ...] = (
    Field(
        key="name",
        kind="text",
        label=_("Name"),
        note=_("What the console and the history call it."),
        common=True,
    ),
    Field(
        key="model",
        kind="model",
        label=_("Model"),
        note=_("A name means the version that was promoted; name@version is always that one."),
        common=True,
    ),
    Field(
        key="modality",
        kind="words",
        label=_("Modality"),
        note=_("Modality (0008,0060), such as CT; several with commas between them."),
        common=True,
    ),
    Field(
        key="body_part",
        kind="words",
        label=_("Body part"),
        note=_("Body Part Examined (0018,0015); none means any. If it is missing, a pattern has to match."),
        common=True,
    ),
    Field(
        key="description",
        kind="text",
        label=_("Series description matches"),
        note=_("A regular expression; upper and lower case are the same. Example: lung|thorax"),
        common=True,
    ),
    Field(
        key="at_least",
        kind="number",
        label=_("At least"),
        unit=_("images"),
        note=_("Frames are counted singly; fewer is a scout or a key image."),
        common=True,
    ),
    Field(
        key="spacing_max_mm",
        kind="number",
        label=_("Slice spacing at most"),
        unit="mm",
        note=_("Median distance of slices along their normal."),
        common=True,
    ),
    Field(
        key="choose",
        kind="choice",
        label=_("Of several series take"),
        choices=(
            ("all", _("all of them")),
            ("thinnest", _("the thinnest slices")),
            ("most", _("the most images")),
        ),
        common=True,
    ),
    Field(
        key="deliver_to",
        kind="peers",
        label=_("Deliver results to"),
        note=_("None: a shadow run, whose results stay here."),
        common=True,
    ),
    Field(
        key="priority",
        kind="choice",
        label=_("Priority"),
        choices=(("routine", _("routine")), ("stat", _("stat"))),
        common=True,
    ),
    Field(
        key="study_description",
        kind="text",
        label=_("Study description matches"),
        note=_("A regular expression."),
    ),
    Field(key="protocol", kind="text", label=_("Protocol name matches"), note=_("A regular expression.")),
    Field(
        key="attributes",
        kind="pairs",
        label=_("Other attributes match"),
        note=_("One on each line, by keyword: ConvolutionKernel = 'B[34]0'"),
    ),
    Field(
        key="ranges",
        kind="pairs",
        label=_("Numbers within"),
        note=_("One on each line, both ends included, inf for no end: EchoTime = [0, 30]"),
    ),
    Field(
        key="contrast",
        kind="either",
        label=_("Contrast medium"),
        choices=(("", _("either")), ("true", _("named")), ("false", _("not named"))),
    ),
    Field(key="calling", kind="words", label=_("Sent by"), note=_("AE titles; none means any.")),
    Field(key="at_most", kind="number", label=_("At most"), unit=_("images")),
    Field(key="spacing_min_mm", kind="number", label=_("Slice spacing at least"), unit="mm"),
    Field(
        key="each",
        kind="choice",
        label=_("One job for"),
        choices=(("series", _("each series")), ("image", _("each image"))),
        note=_("Models of radiographs and photographs want images."),
    ),
    Field(
        key="when",
        kind="choice",
        label=_("Asked"),
        choices=(
            ("study", _("once the study is complete")),
            ("series", _("as soon as the series is complete")),
        ),
    ),
    Field(
        key="frame_of_reference",
        kind="choice",
        label=_("Frame of reference of several inputs"),
        choices=(("same", _("the same")), ("any", _("any"))),
    ),
    Field(
        key="settings",
        kind="pairs",
        label=_("Settings of the model"),
        note=_("One on each line: least_mm = 4"),
    ),
    Field(
        key="inputs",
        kind="inputs",
        label=_("Several series at once"),
        note=_("For each input a line [[inputs]], then name = 't1c' and its conditions, one on each line."),
    ),
    Field(
        key="priors.peer",
        kind="peer",
        label=_("Fetch earlier studies from"),
        note=_("They are not analysed by themselves."),
    ),
    Field(key="priors.number", kind="number", label=_("The newest"), unit=_("studies")),
    Field(key="priors.within_days", kind="number", label=_("No older than"), unit=_("days")),
    Field(key="priors.modality", kind="words", label=_("Of modality"), note=_("None means any.")),
    Field(
        key="priors.wait_s",
        kind="number",
        label=_("A job waits for them at most"),
        unit="s",
        note=_("0: they are for readers only. Models of timelines need more."),
    ),
)


#: Key of a condition → what it is about; how much is asked of it is told beside.
LABELS: Mapping[str, str] = {
    "modality": _("Modality"),
    "body_part": _("Body part"),
    "description": _("Series description"),
    "study_description": _("Study description"),
    "protocol": _("Protocol name"),
    "contrast": _("Contrast medium"),
    "calling": _("Sent by"),
    "at_least": _("Images"),
    "at_most": _("Images"),
    "spacing_max_mm": _("Slice spacing"),
    "spacing_min_mm": _("Slice spacing"),
}


def shown(table: Mapping[str, Any]) -> dict[str, str]:
    """What each field says of a rule as data; several words with commas between them."""
    return {field.key: _text(field, _found(table, field.key)) for field in FIELDS}


def _found(table: Mapping[str, Any], key: str) -> Any:
    outer, _dot, inner = key.partition(".")
    found = table.get(outer)
    if not inner:
        return found
    return found.get(inner) if isinstance(found, Mapping) else None


def _text(field: Field, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if field.kind == "inputs":
        return (
            inputs_text([one for one in value if isinstance(one, Mapping)]) if isinstance(value, list) else ""
        )
    if isinstance(value, Mapping):
        return pairs_text(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)


@dataclass(frozen=True, slots=True)
class Typed:
    """A rule as data, as somebody typed it, and what could not even be read: key of the field → sentence."""

    table: Mapping[str, Any]
    unread: Mapping[str, str]


def typed(fields: Mapping[str, Sequence[str]]) -> Typed:
    """The rule that the fields of a form say; empty fields say nothing."""
    table: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for field in FIELDS:
        given = [text.strip() for text in fields.get(field.key, ()) if text.strip()]
        if not given:
            continue
        try:
            value = _value(field, given)
        except tomllib.TOMLDecodeError as error:
            unread[field.key] = str(error)
            continue
        default = bool(field.choices) and value == field.usual
        outer, _dot, inner = field.key.partition(".")
        if inner:
            table.setdefault(outer, {})[inner] = value
        elif not default and value not in ([], {}):
            table[outer] = value
    return Typed(table, unread)


def _value(field: Field, given: Sequence[str]) -> Any:
    text = given[0]
    match field.kind:
        case "words" | "peers":
            return [word.strip() for one in given for word in _SEPARATORS.split(one) if word.strip()]
        case "number":
            return _number(text)
        case "either":
            return {"true": True, "false": False}.get(text, text)
        case "pairs":
            return tomllib.loads(text)
        case "inputs":
            return tomllib.loads(text).get("inputs", text)
        case _:
            return text


def _number(text: str) -> int | float | str:
    plain = text.replace(",", ".")
    if _INTEGER.fullmatch(plain):
        return int(plain)
    try:
        return float(plain)
    except ValueError:
        return text  # The rule will say that it is none.

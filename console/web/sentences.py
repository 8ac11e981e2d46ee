"""Sentences written for a command line, as a page says them: a link in the place of a command."""

import re
from dataclasses import dataclass

from console.alarms import Alarm

_COMMAND = re.compile(r"(?<=\.) `wetread [^`]*`\.")
_ARROW = "  →  "


@dataclass(frozen=True, slots=True)
class Notice:
    """An alarm on a page. `address` is where it can be looked at; empty where that is no page."""

    kind: str
    words: str
    urgent: bool
    address: str


def plain(sentence: str) -> str:
    """The sentence without the commands that an operator would type."""
    return _COMMAND.sub("", sentence)


def notice(alarm: Alarm) -> Notice:
    """The alarm with a link."""
    words, _, command = alarm.words.partition(_ARROW)
    verb, _, what = command.removeprefix("wetread ").partition(" ")
    return Notice(alarm.kind, words, alarm.urgent, _address(verb, what))


def _address(verb: str, what: str) -> str:
    name = what.split(maxsplit=1)[0] if what.split() else ""
    match verb:
        case "show" if name == "quarantine":
            return "/queue"
        case "resume":
            return "/queue"
        case "show" | "retry" if name:
            return f"/why?what={name}"
        case _:
            return ""

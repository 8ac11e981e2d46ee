"""
YAML from anybody, read as data and in bounded work.

A few hundred bytes of YAML can ask for billions of values, by names for parts (`&a`, `*a`) within named parts
and by `<<`, which copies what it names. Neither a manifest nor a bundle needs that: a part may be named and
repeated a few times, and that is all.
"""

from typing import Any

import yaml

_MOST_NODES = 100_000  #: whole-body bundles have a thousand
_MOST_ALIASES = 64
_LONGEST_NUMBER = 64  #: characters; making an integer of a million digits takes minutes
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MERGE = "tag:yaml.org,2002:merge"


class NotPlainYaml(ValueError):
    """The text is no YAML, or asks for more than a description of a model needs; the message says what."""


def read_yaml(text: str | bytes) -> Any:
    """What `text` holds: mappings, lists, texts, numbers, dates. Raises `NotPlainYaml`."""
    try:
        return yaml.load(text, _Plain)  # noqa: S506  a SafeLoader with less
    except NotPlainYaml:
        raise
    except RecursionError:
        raise NotPlainYaml("it is nested too deep") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        # PyYAML lets through what int, date and bool say of values that are none.
        raise NotPlainYaml(str(error) or "a value in it is garbled") from error


class _Plain(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._nodes = self._aliases = self._named = 0  #: the last: named parts that we are within

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if self._named:
                raise NotPlainYaml(f"{_line(event)} repeats *{event.anchor} within a part that has a name")
            if self._aliases > _MOST_ALIASES:
                raise NotPlainYaml(f"{_line(event)} is the {_MOST_ALIASES + 1}th to repeat a named part")
            return super().compose_node(parent, index)
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise NotPlainYaml(f"it has more than {_MOST_NODES} parts")
        named = event.anchor is not None
        self._named += named
        node = super().compose_node(parent, index)
        self._named -= named
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            raise NotPlainYaml(f"{_line(event)} has a number of {len(node.value)} characters")
        return node

    def flatten_mapping(self, node: Any) -> None:
        if any(key.tag == _MERGE for key, _ in node.value):
            raise NotPlainYaml(f"{_line(node)} merges mappings (<<): write them out")
        super().flatten_mapping(node)


def _line(at: Any) -> str:
    return f"line {at.start_mark.line + 1}"

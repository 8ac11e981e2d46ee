"""
From a configuration to objects, lazily, and the judgement whether that takes code.

Only what the wanted objects refer to is ever looked at. Most bundles list files with `glob` and start an
engine of their own; as nothing that we want refers to that, it is neither judged nor run. The rules of
references, disabled components and required ones are those of `monai.bundle.ConfigParser`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.contract import BrokenModel
from models.runtimes.bundles.evaluation import evaluate
from models.runtimes.bundles.expressions import REFERENCE, Expression, NotPlain
from models.runtimes.bundles.targets import Target, locate

#: Instead of `$torch.load(…)`: a checkpoint of the bundle, read without running what is pickled in it.
CHECKPOINT = "_checkpoint_"
_PLAIN_KEYS = frozenset({"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"})
_WHOLE = re.compile(REFERENCE.pattern)


class Trust(Protocol):
    """How the code of a bundle that is trusted is run."""

    def evaluate(self, text: str, references: Mapping[str, Any]) -> Any:
        """The value of a Python expression; `references` by the names that stand in it."""

    def locate(self, target: str) -> Callable[..., Any]:
        """What `_target_` names, of whatever module."""


@dataclass(slots=True)
class Builder:
    """Builds what a configuration describes; each id once, so that two that refer to it share it."""

    tree: Mapping[str, Any]
    given: Mapping[str, Any]  #: id → what is used instead of the configuration's own: device, bundle_root
    open_checkpoint: Callable[[str], Any]  #: path → content
    trust: Trust | None = None
    notes: list[str] = field(default_factory=list)
    _built: dict[str, Any] = field(default_factory=dict)
    _pending: list[str] = field(default_factory=list)

    def has(self, id: str) -> bool:
        """Whether there is something of that id."""
        return id in self.given or _at(self.tree, id) is not _NOTHING

    def get(self, id: str) -> Any:
        """What stands at `id`, built.

        Raises `BrokenModel`, and `NotPlain` where it takes code that is not trusted.
        """
        if id in self.given:
            return self.given[id]
        if id in self._built:
            return self._built[id]
        if id in self._pending:
            raise BrokenModel(
                f"the bundle's configuration refers in a circle: {' → '.join([*self._pending, id])}"
            )
        node = _at(self.tree, id)
        if node is _NOTHING:
            raise BrokenModel(f"the bundle's configuration refers to {id!r}, which it does not have")
        self._pending.append(id)
        try:
            self._built[id] = self._build(node, id)
        except NotPlain as code:
            raise NotPlain(f"{id} {code}" if "::" not in str(code).split(" ", 1)[0] else str(code)) from code
        finally:
            self._pending.pop()
        return self._built[id]

    def _build(self, node: Any, id: str) -> Any:
        match node:
            case {"_target_": _}:
                return self._component(node, id)
            case dict() if CHECKPOINT in node:
                return self.open_checkpoint(str(self.get(f"{id}::{CHECKPOINT}")))
            case dict():
                children = {key: self.get(f"{id}::{key}") for key in node}
                return {
                    key: value
                    for key, value in children.items()
                    if value is not None or not _is_component(node[key])
                }
            case list():
                items = [self.get(f"{id}::{index}") for index in range(len(node))]
                return [
                    one
                    for one, was in zip(items, node, strict=True)
                    if one is not None or not _is_component(was)
                ]
            case str():
                return self._text(node)
        return node

    def _text(self, text: str) -> Any:
        whole = _WHOLE.fullmatch(text)
        if whole is not None:
            return self.get(whole[1].replace("#", "::"))
        if text.startswith("%"):
            raise NotPlain(f"takes a part of another file: {text}")
        if not text.startswith("$"):
            return text
        try:
            return evaluate(Expression.parse(text[1:]), self.get)
        except NotPlain:
            if self.trust is None:
                raise
        references: dict[str, Any] = {}

        def name_of(match: re.Match[str]) -> str:
            references[f"reference_{len(references)}_"] = self.get(match[1].replace("#", "::"))
            return f"reference_{len(references) - 1}_"

        return self.trust.evaluate(REFERENCE.sub(name_of, text[1:]).strip(), references)

    def _component(self, node: Mapping[str, Any], id: str) -> Any:
        if _switched_off(node):
            return None
        disabled = self.get(f"{id}::_disabled_") if "_disabled_" in node else False
        if disabled.strip().lower() == "true" if isinstance(disabled, str) else disabled:
            return None
        if "_requires_" in node:
            self.get(f"{id}::_requires_")
        if node.get("_mode_", "default") != "default":
            raise NotPlain(f"has the _mode_ {node['_mode_']!r}, which is code")
        keywords = {key: self.get(f"{id}::{key}") for key in node if key not in _PLAIN_KEYS}
        target = locate(node["_target_"]) if isinstance(node["_target_"], str) else None
        try:
            if target is not None:
                made, unknown = target.build([], keywords)
                if unknown:
                    self.notes.append(
                        f"{id}: {target.name} of this MONAI has no {', '.join(unknown)}; left out"
                    )
            elif self.trust is not None:
                made = self.trust.locate(str(self.get(f"{id}::_target_")))(**keywords)
            else:
                raise NotPlain(f"builds {node['_target_']}, which is code")
        except (TypeError, ValueError, AttributeError, ImportError, RuntimeError) as error:
            raise BrokenModel(_why_not(id, node["_target_"], error)) from error
        if hasattr(made, "allow_missing_keys"):
            made.allow_missing_keys = True  # Labels are only there when a bundle is evaluated.
        return made


def judge(tree: Mapping[str, Any], roots: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """Why building `roots` takes code, as sentences; none where it is data only. Runs nothing."""
    reasons: dict[str, None] = {}
    for id, node in reachable(tree, roots, given):
        try:
            _judge(node)
        except NotPlain as code:
            reasons.setdefault(f"{id} {code}")
    return tuple(reasons)


def reachable(
    tree: Mapping[str, Any], roots: Sequence[str], given: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """(id, node) of all that building `roots` may need, each once."""
    seen, waiting = set(given), list(reversed(roots))
    while waiting:
        id = waiting.pop()
        node = _at(tree, id)
        if id in seen or node is _NOTHING:
            continue
        seen.add(id)
        if _switched_off(node):
            continue
        yield id, node
        if isinstance(node, dict):
            waiting += [f"{id}::{key}" for key in node if key != "_desc_"]
        elif isinstance(node, list):
            waiting += [f"{id}::{index}" for index in range(len(node))]
        elif isinstance(node, str) and node.startswith(("@", "$")):
            waiting += [match[1].replace("#", "::") for match in REFERENCE.finditer(node)]


def targets(tree: Mapping[str, Any], roots: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """Every `_target_` that building `roots` may need, and every dotted call of an expression."""
    found: dict[str, None] = {}
    for _, node in reachable(tree, roots, given):
        if _is_component(node) and isinstance(node["_target_"], str):
            found.setdefault(node["_target_"])
        elif isinstance(node, str) and node.startswith("$"):
            for name in re.findall(r"(?<![\w.@:])([A-Za-z_]\w*(?:\.\w+)+)", node):
                found.setdefault(name)
    return tuple(found)


def _judge(node: Any) -> None:
    if _is_component(node):
        if node.get("_mode_", "default") != "default":
            raise NotPlain(f"has the _mode_ {node['_mode_']!r}, which is code")
        if not isinstance(node["_target_"], str) or locate(node["_target_"]) is None:
            raise NotPlain(f"builds {node['_target_']}, which is code")
    elif isinstance(node, str):
        if node.startswith("%"):
            raise NotPlain(f"takes a part of another file: {node}")
        if node.startswith("$"):
            Expression.parse(node[1:])


_NOTHING = object()


def _at(tree: Mapping[str, Any], id: str) -> Any:
    """The node at `id`, or `_NOTHING`."""
    node: Any = tree
    for key in id.split("::"):
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and len(key) < 10 and int(key) < len(node):
            node = node[int(key)]
        else:
            return _NOTHING
    return node


def _is_component(node: Any) -> bool:
    return isinstance(node, dict) and "_target_" in node


def _switched_off(node: Any) -> bool:
    """Whether it is a component that plainly says that it is not wanted."""
    return _is_component(node) and str(node.get("_disabled_", "")).strip().lower() == "true"


def _why_not(id: str, target: object, error: Exception) -> str:
    return f"the bundle's {id} ({target}) cannot be built: {error}"


__all__ = ["CHECKPOINT", "Builder", "Target", "Trust", "judge", "reachable", "targets"]

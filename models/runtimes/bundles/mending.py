"""
What has to be changed in a bundle's configuration to run it from memory, in a server, with today's MONAI.

A file reader or writer, its own savers too, anywhere in the tree: switched off.
The engine (evaluator, handlers, loaders, `initialize`, `run` …): removed; what only `evaluator._requires_`
asks for is kept and built.
A device by name, `cuda:0` or whichever there is: the device of the run.
An inversion of a copy of the preprocessing: of itself, as MONAI tells transforms apart by identity.
An inversion that interpolates labels: by the nearest voxel; there is no label 2 between labels 1 and 3.
A searched architecture that is loaded by `torch.load`: read without running what is pickled in it.
A class that is decided by `argmax`: the probabilities, for the manifest's thresholds to decide.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.runtimes.bundles.building import CHECKPOINT

#: Ids under which mending keeps what it took out of the engine.
WEIGHTS, REQUIRED, HALF_PRECISION = "_weights_path_", "_required_", "_half_precision_"

_ENGINE = (
    "evaluator", "dataset", "dataloader", "handlers", "val_handlers", "checkpointloader", "initialize", "run",
    "evaluating", "inference", "finalize", "trainer", "train", "validate", "datalist", "test_datalist",
    "data_list", "data_dicts",
)  # fmt: skip
_LOADER = re.compile(r"LoadImage(d|D|Dict)?$")
_SAVER = re.compile(r"(^|\.)(Save\w*|\w*Savers?(d|D|Dict)?)$")
_DEVICE = re.compile(r"\$\s*torch\.device\((?!\s*@).*\)\s*|cuda(:\d+)?|\$\s*['\"]cuda(:\d+)?['\"]\s*")
_COPY = re.compile(r"\$\s*(?:copy\.deepcopy\(\s*)?(@[\w:#]+)\s*\)?\s*")
_LOAD = re.compile(r"\$\s*torch\.load\(\s*(@[\w:#]+|'[^']*'|\"[^\"]*\")\s*(?:,.*)?\)\s*", re.DOTALL)
_DISCRETE = re.compile(r"(^|\.)AsDiscrete(d|D|Dict)$")
_INVERT = re.compile(r"(^|\.)Invert(d|D|Dict)$")


@dataclass(frozen=True, slots=True)
class Mended:
    """A configuration that can be built from, and what was done to it."""

    tree: Mapping[str, Any]
    loaded_keys: tuple[str, ...]  #: what its loaders would have read, in order: "image", or "artery", "vein"
    array_style: bool  #: its loader handles one image instead of a dictionary of them
    notes: tuple[str, ...]


def mend(tree: Mapping[str, Any], *, classifies: bool) -> Mended:
    """A mended copy of `tree`; `classifies` where its output is one vector of classes."""
    mended: dict[str, Any] = copy.deepcopy(dict(tree))
    engine = mended.get("evaluator")
    engine = engine if isinstance(engine, dict) else {}
    path = _weights_path(mended)
    removed = [name for name in _ENGINE if name in mended]
    for name in removed:
        del mended[name]
    mended[REQUIRED] = engine.get("_requires_", [])
    mended[HALF_PRECISION] = engine.get("amp", False)
    if path is not None:
        mended[WEIGHTS] = path
    notes = [f"removed: {', '.join(removed)}"] if removed else []

    keys: list[str] = []
    array_style = False
    for node in _components(mended):
        target = str(node["_target_"])
        if _LOADER.search(target) or _SAVER.search(target):
            if _LOADER.search(target):
                wanted = node.get("keys")
                array_style |= wanted is None
                keys += [
                    one for one in (wanted if isinstance(wanted, list) else [wanted]) if isinstance(one, str)
                ]
            # A disabled component still has its references resolved, so it keeps none.
            node.clear()
            node |= {"_target_": target, "_disabled_": True}
            notes.append(f"switched off: {target}")
        elif classifies and _DISCRETE.search(target):
            node.clear()
            node |= {"_target_": target, "_disabled_": True}
            notes.append(f"switched off, as the manifest's thresholds decide: {target}")
        elif _INVERT.search(target) and isinstance(node.get("transform"), str):
            match = _COPY.fullmatch(node["transform"])
            if match is not None:
                node["transform"] = match[1]
    for chain in _lists(mended):
        notes += _labels_are_not_interpolated(chain)
    _rewrite(mended)
    return Mended(
        mended, tuple(dict.fromkeys(_resolved(mended, key) for key in keys)), array_style, tuple(notes)
    )


def _weights_path(tree: Mapping[str, Any]) -> Any:
    """What the bundle's CheckpointLoader loads."""
    for node in _components(dict(tree)):
        if str(node["_target_"]).endswith("CheckpointLoader") and "load_path" in node:
            return node["load_path"]
    return None


def _labels_are_not_interpolated(chain: list[Any]) -> Iterator[str]:
    """In a list of transforms: an inversion that follows a decision takes the nearest voxel."""
    decided = False
    for node in chain:
        target = str(node.get("_target_", "")) if isinstance(node, dict) else ""
        decided |= bool(_DISCRETE.search(target)) and not node.get("_disabled_", False)
        if decided and _INVERT.search(target) and node.get("nearest_interp") is not True:
            node["nearest_interp"] = True
            yield "labels are brought back by the nearest voxel, not interpolated"


def _rewrite(tree: dict[str, Any]) -> None:
    """Texts that name a device or load a checkpoint, everywhere."""
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        items = list(node.items() if isinstance(node, dict) else enumerate(node))
        for key, value in items:
            if isinstance(value, dict | list):
                waiting.append(value)
            elif isinstance(value, str) and not (node is tree and key == "device"):
                if _DEVICE.fullmatch(value):
                    node[key] = "@device"
                elif (match := _LOAD.fullmatch(value)) is not None:
                    node[key] = {CHECKPOINT: match[1].strip("'\"")}


def _components(node: Any) -> Iterator[dict[str, Any]]:
    """Every node with a `_target_`, in the order of the text."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for one in list(node.values()):
            yield from _components(one)
    elif isinstance(node, list):
        for one in node:
            yield from _components(one)


def _lists(node: Any) -> Iterator[list[Any]]:
    if isinstance(node, dict):
        for one in node.values():
            yield from _lists(one)
    elif isinstance(node, list):
        yield node
        for one in node:
            yield from _lists(one)


def _resolved(tree: Mapping[str, Any], key: str) -> str:
    """The name that `@image_key` stands for, where that is a plain text of the tree."""
    seen: set[str] = set()
    while key.startswith("@") and key not in seen:
        seen.add(key)
        found = tree.get(key[1:])
        if not isinstance(found, str):
            break
        key = found
    return {
        "$monai.utils.CommonKeys.IMAGE": "image",
        "$monai.utils.CommonKeys.LABEL": "label",
        "$monai.utils.CommonKeys.PRED": "pred",
    }.get(key, key)

"""
What somebody has, who has no manifest: which runtime it is for, and what of a manifest it tells by itself.

The runtimes know their own files and propose; this only finds out whom to ask. What nobody but a person can
say (what it is for, what it must not be used for) is left to be filled in, and named.
"""

import importlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.errors import WetreadError
from models.manifest import Input, Manifest

#: What a file is by its name. `.pt` is looked into: it may be weights, TorchScript or an exported program.
_ENDINGS = {
    ".onnx": "onnx",
    ".pt2": "torch_export",
    ".ts": "torchscript",
    ".safetensors": "state_dict",
    ".pt": "state_dict",
    ".pth": "state_dict",
}
#: Whom to ask for a proposal, where it is not the module of the runtime itself.
_PROPOSERS = {"monai_bundle": "models.runtimes.bundles.proposal"}
#: Keys that only a person can fill in, with what belongs there.
_ASKED = {
    "licence": '"Apache-2.0"  # of the weights, as their owner says',
    "intended_use": '"…"  # for whom and for what it was made',
    "limits": '["…"]  # what it was not made for, what it cannot see',
}


@dataclass(frozen=True, slots=True)
class Recognised:
    """A model without a manifest: what can be told of it, and what cannot."""

    runtime: str
    manifest: Mapping[str, Any]
    missing: tuple[str, ...]


def recognise(folder: Path) -> Recognised | None:
    """What lies in `folder`; None where nobody knows it. Runs nothing of it."""
    runtime = _runtime(folder)
    if runtime is None:
        return None
    told = _told(runtime, folder)
    manifest = dict(told.get("manifest", {}))
    manifest.setdefault("runtime", runtime)
    return Recognised(runtime, manifest, tuple(str(one) for one in told.get("missing", ())))


def draft(recognised: Recognised, name: str) -> str:
    """A manifest to be completed, as TOML: what is missing stands in it as a comment, and keeps it from being
    taken for complete.
    """
    known = {"name": name, "version": "1", "title": name, **recognised.manifest}
    # A bundle's own name may be no name here.
    known["name"] = name
    guessed = {"time_limit_s": 300.0, "memory_mib": 4096, "inputs": [{"modality": ["CT"]}]}
    lines = ["# Complete the lines that begin with #!, then: wetread models add THIS FOLDER"]
    lines += [f"#! {one}" for one in recognised.missing]
    for key in Manifest.model_fields:
        if key in known and known[key] not in ("", None, {}, [], ()) and not _is_tables(known[key]):
            lines.append(f"{key} = {toml(known[key])}")
        elif key in _ASKED:
            lines.append(f"#! {key} = {_ASKED[key]}")
        elif key in guessed and key not in known and not _is_tables(guessed[key]):
            lines.append(f"{key} = {toml(guessed[key])}  # a guess: `wetread models test` measures it")
    if not _is_tables(known.get("inputs")):
        lines += ["", "[[inputs]]", *_input_lines(known)]
    for key in Manifest.model_fields:
        if key != "files" and _is_tables(known.get(key)):
            lines += _tables(key, known[key])
    if not any(known.get(key) for key in ("segments", "classes", "points", "quantities", "maps")):
        lines += ["", "#! What it gives: segments, classes, points, quantities or maps, for example"]
        lines += ["#! [[segments]]", "#! number = 1", '#! structure = "liver"  # models/structures.toml']
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """`value` as TOML writes it, on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_bare(key)} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    if hasattr(value, "scheme"):  # A Concept.
        return toml({"value": value.value, "scheme": value.scheme, "meaning": value.meaning})
    return json.dumps(value, ensure_ascii=False)


def _runtime(folder: Path) -> str | None:
    if (folder / "configs" / "metadata.json").is_file():
        return "monai_bundle"
    if any(folder.rglob("plans.json")) and any(folder.rglob("dataset.json")):
        return "nnunet"
    kinds = {
        _kind(path)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.suffix in _ENDINGS
    }
    return next(iter(kinds)) if len(kinds) == 1 else None


def _kind(path: Path) -> str:
    if path.suffix not in (".pt", ".pth") or not zipfile.is_zipfile(path):
        return _ENDINGS[path.suffix]
    with zipfile.ZipFile(path) as archive:
        names = {re.sub(r"^[^/]+/", "", name) for name in archive.namelist()}
    if "constants.pkl" in names:
        return "torchscript"
    if any(name.startswith(("models/", "archive_format")) for name in names):
        return "torch_export"
    return "state_dict"


def _told(runtime: str, folder: Path) -> Mapping[str, Any]:
    """What the runtime proposes; why it does not, where it does not."""
    try:
        module = importlib.import_module(_PROPOSERS.get(runtime, f"models.runtimes.{runtime}"))
        told: Mapping[str, Any] = module.propose(folder)
    except (ImportError, AttributeError):
        return {"missing": ["say what its outputs are: segments, classes, points, quantities or maps"]}
    except WetreadError as error:
        return {"missing": [str(error)]}
    return told


def _input_lines(known: Mapping[str, Any]) -> list[str]:
    if "inputs" in known:
        return [f"{key} = {toml(value)}" for key, value in known["inputs"][0].items()]
    example = Input(modality=("CT",))
    return [
        f"modality = {toml(example.modality)}  # a guess: Modality (0008,0060)",
        "#! spacing_max_mm = 3.0  # thicker slices are refused",
        "#! minimum_slices = 20",
    ]


def _is_tables(value: Any) -> bool:
    some = isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], Mapping)
    return some or (isinstance(value, Mapping) and len(value) > 0)


def _tables(key: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return ["", f"[{key}]", *(f"{_bare(one)} = {toml(value[one])}" for one in value)]
    lines = []
    for table in value:
        rows = [f"{_bare(one)} = {toml(table[one])}" for one in table if table[one] is not None]
        lines += ["", f"[[{key}]]", *rows]
    return lines


def _bare(key: object) -> str:
    text = str(key)
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else json.dumps(text)

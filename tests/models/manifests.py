"""Manifests and installed models, small, for tests."""

import hashlib
import json
from pathlib import Path
from typing import Any

from models.manifest import Manifest

CATEGORY = {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}
KIND = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
FINDING = {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"}


def facts(**more: Any) -> dict[str, Any]:
    """The keys of a manifest that is complete; `more` replaces or adds some."""
    return {
        "name": "ours",
        "version": "1",
        "title": "Ours",
        "licence": "Apache-2.0",
        "intended_use": "tests",
        "limits": [],
        "inputs": [{"modality": ["CT"]}],
        "time_limit_s": 20,
        "memory_mib": 10,
        **more,
    }


def manifest(**more: Any) -> Manifest:
    return Manifest.model_validate(facts(**more))


def segment(number: int, **more: Any) -> dict[str, Any]:
    return {"number": number, "label": f"Part {number}", "category": CATEGORY, "kind": KIND, **more}


def klass(index: int, label: str = "Nodule", **more: Any) -> dict[str, Any]:
    return {"index": index, "label": label, "finding": FINDING, **more}


def as_toml(value: dict[str, Any]) -> str:
    """JSON strings, numbers and lists are TOML; tables are written inline."""
    return "".join(f"{key} = {_inline(one)}\n" for key, one in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    return json.dumps(value)


def write_model(folder: Path, files: dict[str, bytes | str], **more: Any) -> Path:
    """A model in `folder`: its files, and a manifest that vouches for them."""
    named = []
    for path, content in files.items():
        raw = content.encode() if isinstance(content, str) else content
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)
        named.append({"path": path, "sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.toml").write_text(as_toml(facts(files=named, **more)))
    return folder


def shelve(shelf: Path, files: dict[str, bytes | str], **more: Any) -> Path:
    """The same where an installed model stands, below the models folder `shelf`."""
    asked = facts(**more)
    return write_model(shelf / asked["name"] / asked["version"], files, **more)

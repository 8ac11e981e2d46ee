"""
The digest of the code that decides a model's answers: its own, its runtime's, and what prepares voxels.

A runtime's code is its module with every module of `models` that it imports, directly or not, as their source
says; so another line in another runtime changes nothing.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ledger.identifiers import Digest

_MODELS = Path(__file__).parent
_PREPARE = _MODELS / "prepare"  # Its code decides voxels, so it is part of what a model is.


def code_digest(folder: Path, runtime: str = "built-in") -> Digest:
    """SHA-256 over the Python files and the manifest in `folder`, the code of `runtime`, and the code that
    prepares voxels.
    """
    digest = hashlib.sha256()
    # An installed model lies in a folder called by its version, at the desk in any; that changes no answer.
    for root, name in ((folder, folder.name if runtime == "built-in" else "model"), (_PREPARE, "prepare")):
        for path in sorted([*root.rglob("*.py"), *root.glob("manifest.*")]):
            if path.suffix in (".py", ".toml", ".yaml", ".yml"):
                _add(digest, f"{name}/{path.relative_to(root).as_posix()}", path)
    for path in runtime_files(runtime):
        _add(digest, f"models/{path.relative_to(_MODELS).as_posix()}", path)
    return Digest(digest.hexdigest())


@cache
def runtime_files(runtime: str) -> tuple[Path, ...]:
    """The files of `models` that a runtime's answers depend on; none for what is no runtime of ours."""
    found: dict[str, Path] = {}
    waiting = [f"models.runtimes.{runtime}"]
    while waiting:
        module = waiting.pop()
        path = _path(module)
        if module in found or path is None:
            continue
        found[module] = path
        waiting += _imported(path)
    return tuple(sorted(found.values()))


def _path(module: str) -> Path | None:
    below = _MODELS.parent / Path(*module.split("."))
    return next((path for path in (below.with_suffix(".py"), below / "__init__.py") if path.is_file()), None)


def _imported(path: Path) -> Iterator[str]:
    """The modules of `models` that the file imports, at its top or within its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("models."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("models"):
            yield str(node.module)
            # `from models.prepare import windows` names a module, too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _add(digest: "hashlib._Hash", name: str, path: Path) -> None:
    # A checkout may turn line ends; that changes no answer.
    content = path.read_bytes().replace(b"\r\n", b"\n")
    digest.update(f"{name}\0{len(content)}\0".encode())
    digest.update(content)

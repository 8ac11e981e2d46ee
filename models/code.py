"""
The digest of the code that decides a model's answers: its own, its runtime's, and what prepares voxels.

A runtime's code is its module with every module of `models` that it imports or names in full, directly or
not, as their source says, the tables that lie beside them, and the version of the library that makes its
networks; so another line in another runtime changes nothing. A built-in model has no runtime: its code are
the modules of `models` that its own files import, directly or not, such as `models.chest`; so another line
in another built-in model changes nothing. PyTorch's version is not counted.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ledger.identifiers import Digest

_MODELS = Path(__file__).parent
_PREPARE = _MODELS / "prepare"  # Its code decides voxels, so it is part of what a model is.
#: what every model is found, opened and checked with: it decides no answer of a built-in model
_HOUSE = frozenset({"models", "models.contract", "models.manifest", "models.registry"})
_NAME = re.compile(r"models(?:\.[a-z_][a-z0-9_]*)+")
#: runtime → its library, by the names that it is installed under
_LIBRARIES = {
    "monai_bundle": ("monai",),
    "state_dict": ("monai",),
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
}


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
    for path in builtin_files(folder) if runtime == "built-in" else runtime_files(runtime):
        _add(digest, f"models/{path.relative_to(_MODELS).as_posix()}", path)
    for library in _LIBRARIES.get(runtime, ()):
        digest.update(f"{library}\0{_version(library)}\0".encode())
    return Digest(digest.hexdigest())


@cache
def runtime_files(runtime: str) -> tuple[Path, ...]:
    """The files of `models` that a runtime's answers depend on; none for what is no runtime of ours."""
    return _reached([f"models.runtimes.{runtime}"])


def builtin_files(folder: Path) -> tuple[Path, ...]:
    """The files of `models`, outside `folder`, that the code in it imports, directly or not.

    What finds, opens and checks models of whatever kind is left out (`_HOUSE`).
    """
    own = [module for path in sorted(folder.rglob("*.py")) for module in _imported(path)]
    return tuple(path for path in _reached(own, _HOUSE) if not path.is_relative_to(folder))


def _reached(waiting: list[str], without: frozenset[str] = frozenset()) -> tuple[Path, ...]:
    """The files of the modules in `waiting`, of those that they import, and the tables beside them."""
    found: dict[str, Path] = {}
    while waiting:
        module = waiting.pop()
        path = _path(module)
        if module in found or module in without or path is None:
            continue
        found[module] = path
        waiting += _imported(path)
    tables = [path.with_suffix(".toml") for path in found.values()]
    return tuple(sorted([*found.values(), *(table for table in tables if table.is_file())]))


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


def _path(module: str) -> Path | None:
    below = _MODELS.parent / Path(*module.split("."))
    return next((path for path in (below.with_suffix(".py"), below / "__init__.py") if path.is_file()), None)


def _imported(path: Path) -> Iterator[str]:
    """The modules of `models` that the file imports, at its top or within its functions, or names in a string
    from which it imports later.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("models."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("models"):
            yield str(node.module)
            # `from models.prepare import windows` names a module, too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME.fullmatch(node.value):
            yield node.value


def _add(digest: "hashlib._Hash", name: str, path: Path) -> None:
    # A checkout may turn line ends; that changes no answer.
    content = path.read_bytes().replace(b"\r\n", b"\n")
    digest.update(f"{name}\0{len(content)}\0".encode())
    digest.update(content)

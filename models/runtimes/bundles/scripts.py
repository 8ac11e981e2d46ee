"""
The Python of a bundle that is trusted: read from verified bytes, kept apart from every other bundle's.

Bundles call their code `scripts`, all of them. So a bundle's modules are in `sys.modules` only while it is
loaded or run (`importable`), and they come from the files that the manifest vouches for, never by a search
along `sys.path`. What the code needs and this installation lacks is found by reading it (`unmet_needs`),
without running it.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from models.contract import BrokenModel
from models.runtimes.bundles.configuration import Files

_NOT_THEIRS = frozenset(
    {"models", "ledger", "results", "worker", "console", "dicom_node", "monai", "torch", "numpy"}
)


@dataclass
class _Source(MetaPathFinder, InspectLoader):
    """Finds and loads the modules of one bundle."""

    files: Files
    paths: frozenset[str]
    tops: frozenset[str]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.split(".", maxsplit=1)[0] not in self.tops or self._file(fullname) is None:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        return f"{fullname.replace('.', '/')}.py" not in self.paths

    def get_source(self, fullname: str) -> str:
        path = self._file(fullname)
        return self.files.read(path).decode("utf-8") if path else ""

    def get_code(self, fullname: str) -> CodeType:
        # compile() lets no `from __future__` of ours into theirs.
        return compile(
            self.get_source(fullname), f"<bundle>/{self._file(fullname)}", "exec", dont_inherit=True
        )

    def _file(self, fullname: str) -> str | None:
        """The file of the module; "" for a folder without an `__init__.py`; None where there is no such."""
        base = fullname.replace(".", "/")
        for path in (f"{base}/__init__.py", f"{base}.py"):
            if path in self.paths:
                return path
        return "" if any(path.startswith(f"{base}/") for path in self.paths) else None


@dataclass
class Code:
    """Runs the code of one bundle: a `models.runtimes.bundles.building.Trust`."""

    files: Files
    imports: Sequence[str] = ()  #: `import glob`, `import numpy as np`: what its expressions take for granted
    _modules: dict[str, ModuleType] = field(default_factory=dict)
    _names: dict[str, Any] = field(default_factory=dict)

    def evaluate(self, text: str, references: Mapping[str, Any]) -> Any:
        """The value of a Python expression. Raises `BrokenModel`."""
        if not self._names:
            self._names = _imported(
                ["import monai", "import torch", "import numpy", "import numpy as np", *self.imports]
            )
        try:
            return eval(text, {**self._names, **references})  # noqa: S307  only of a bundle that is trusted
        except Exception as error:  # it may be anything: it is their code
            raise BrokenModel(f"the bundle's expression ${text} cannot be computed: {error}") from error

    def locate(self, target: str) -> Callable[..., Any]:
        """What `_target_` names. Raises `BrokenModel`."""
        module, _, name = target.rpartition(".")
        if not module:
            from monai.bundle import ComponentLocator  # noqa: PLC0415  slow: it imports all of MONAI

            found = ComponentLocator().get_component_module_name(name)
            module = str((found if isinstance(found, str) else (found or [""])[0]) or "")
        try:
            return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
        except (ImportError, AttributeError, ValueError) as error:
            raise BrokenModel(f"the bundle asks for {target}, which cannot be had: {error}") from error

    @contextmanager
    def importable(self) -> Iterator[None]:
        """While inside, `import scripts` means this bundle's."""
        paths = frozenset(path for path in self.files.paths() if path.endswith(".py"))
        tops = frozenset(path.split("/")[0].removesuffix(".py") for path in paths)
        tops -= _NOT_THEIRS | sys.stdlib_module_names
        source = _Source(self.files, paths, tops)
        others = _taken_out(tops)
        sys.modules |= self._modules
        sys.meta_path.insert(0, source)
        try:
            yield
        finally:
            sys.meta_path.remove(source)
            self._modules = _taken_out(tops)
            sys.modules |= others


def unmet_needs(files: Files, targets: Sequence[str]) -> tuple[str, ...]:
    """What the scripts that `targets` name need and do not find here, as the ends of sentences."""
    have = {path for path in files.paths() if path.endswith(".py")}
    needs: dict[str, None] = {}
    waiting, seen = [path for target in targets for path in _files_of(target, have)], set[str]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            tree = ast.parse(files.read(path))
        except (SyntaxError, ValueError, RecursionError) as error:
            raise BrokenModel(f"{path} of the bundle is no Python: {error}") from error
        for name in _imports(tree, path):
            mine = list(_files_of(name, have))
            if mine:
                waiting += mine
            elif importlib.util.find_spec(name.split(".")[0]) is None:
                needs.setdefault(f"needs the Python package {name.split('.')[0]} ({path} imports it)")
        for name in _lost_of_numpy(tree):
            needs.setdefault(f"needs numpy<2 ({path} uses np.{name})")
    return tuple(needs)


def _files_of(target: str, have: set[str]) -> Iterator[str]:
    """The files that importing `scripts.a.B` reads: every `__init__.py` on the way, and the module."""
    parts = target.split(".")
    for depth in range(1, len(parts) + 1):
        base = "/".join(parts[:depth])
        yield from (path for path in (f"{base}/__init__.py", f"{base}.py") if path in have)


def _imports(tree: ast.Module, path: str) -> Iterator[str]:
    """The dotted names that a module imports when it is imported; not those it can do without."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.split("/")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{one.name}" for one in node.names)
        elif isinstance(node, ast.If):
            waiting += node.orelse if "TYPE_CHECKING" in ast.dump(node.test) else [*node.body, *node.orelse]
        elif isinstance(node, ast.ClassDef | ast.With):
            waiting += node.body


def _lost_of_numpy(tree: ast.Module) -> Iterator[str]:
    """The names of NumPy that a module uses and NumPy 2 no longer has."""
    aliases = {
        one.asname or one.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for one in node.names
        if one.name == "numpy"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            if node.attr not in np.__expired_attributes__ and hasattr(np, node.attr):
                continue
            yield node.attr


def _taken_out(tops: frozenset[str]) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in tops}


def _imported(statements: Sequence[str]) -> dict[str, Any]:
    """What import statements bind; one whose package is missing binds nothing, as only its use needs it."""
    names: dict[str, Any] = {}
    for statement in statements:
        try:
            exec(statement, names)  # noqa: S102  only of a bundle that is trusted
        except ImportError:
            continue
    return names

"""Every alarm that can be raised has a kind that settings can name."""

import ast
from pathlib import Path

from ledger.alarm import ALARM_KINDS

CONSOLE = Path(__file__).resolve().parents[2] / "console"


def raised() -> set[str]:
    """The first argument of every `Alarm(…)` below `console/`."""
    found = set()
    for path in CONSOLE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Alarm":
                kind = node.args[0]
                assert isinstance(kind, ast.Constant), f"{path.name}:{node.lineno}"
                found.add(str(kind.value))
    return found


def test_settings_can_name_every_alarm_and_no_other() -> None:
    assert raised() == set(ALARM_KINDS)

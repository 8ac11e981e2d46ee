"""
Write the pages of docs/ that are drawn from the code: states, settings, commands, errors.

    python -m docs.generate            write them
    python -m docs.generate --check    fail where a page is not what the code says
"""

import argparse
import ast
import importlib
import inspect
import io
import pkgutil
import sys
import textwrap
import tokenize
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

import ledger.commitment
import ledger.delivery
import ledger.fetch
import ledger.job
import ledger.notification
import ledger.promise
import ledger.study
import ledger.workitem
from console.cli import app
from console.settings import Site
from ledger.errors import ModelError, PeerError, SiteError, StudyError, WetreadError
from ledger.transition import mermaid
from models.manifest import Manifest
from tests.results.checklist.points import POINTS, proofs

DOCS = Path(__file__).parent
PACKAGES = ("ledger", "dicom_node", "models", "results", "worker", "console")
GENERATED = "<!-- Written by `make docs` from the code: change the code, not this page. -->\n\n"

MACHINES = (
    ("Study", ledger.study, "StudyState", "StudyEvent", ledger.study.StudyState.OPEN),
    ("Job", ledger.job, "JobState", "JobEvent", ledger.job.JobState.QUEUED),
    ("Delivery", ledger.delivery, "DeliveryState", "DeliveryEvent", ledger.delivery.DeliveryState.WAITING),
    (
        "Commitment",
        ledger.commitment,
        "CommitmentState",
        "CommitmentEvent",
        ledger.commitment.CommitmentState.OPENED,
    ),
    (
        "Notification",
        ledger.notification,
        "NotificationState",
        "NotificationEvent",
        ledger.notification.NotificationState.WAITING,
    ),
    ("Fetch", ledger.fetch, "FetchState", "FetchEvent", ledger.fetch.FetchState.ASKED),
    ("Promise", ledger.promise, "PromiseState", "PromiseEvent", ledger.promise.PromiseState.ASKED),
    ("Workitem", ledger.workitem, "WorkitemState", "WorkitemEvent", ledger.workitem.WorkitemState.LISTED),
)

WHAT_TO_DO = {
    PeerError: "The other system refused or went away. Wetread tries again by itself.",
    StudyError: "These images cannot be used. Nobody retries; the report in the archive says why.",
    ModelError: "This model version misbehaved. The job is parked: tell its owner, then `wetread retry`.",
    SiteError: "Something on this machine has to change first; the message says what.",
}


#: Keys without a default of their own: the site fills them in.
FILLED_IN = {
    "LedgerSettings.url": "default: `ledger.sqlite` in the data folder",
    "SpoolSettings.path": "default: `spool` in the data folder",
    "ModelsTable.folder": "default: `models` in the data folder",
    "QueueSettings.url": "default: `wetread serve` starts a Redis of its own",
}


def states() -> str:
    """Every state machine: diagram, states, events."""
    page = ["# States", "", GENERATED.strip(), ""]
    page += ["A change that is not a row of these tables cannot happen.", ""]
    for thing, module, state_name, event_name, initial in MACHINES:
        page += [f"## {thing}", "", _opening(module), ""]
        page += ["```mermaid", mermaid(module.TRANSITIONS, initial), "```", ""]
        for title, enum_name in (("States", state_name), ("Events", event_name)):
            comments = _member_comments(module, enum_name)
            page += [f"### {title} of a {thing.lower()}", ""]
            for member in getattr(module, enum_name):
                page += [f"#### {member.value}", "", comments[member.name], ""]
    return "\n".join(page)


def settings() -> str:
    """Every key of wetread.toml with its default and its reason."""
    page = ["# Settings: `wetread.toml`", "", GENERATED.strip(), ""]
    page += [
        "Every key has a default; a file may hold only what differs. An unknown key or a wrong type",
        "stops the start with a sentence that names it. `wetread init` writes a commented file,",
        "`wetread settings` shows what is in force.",
        "",
    ]
    for name, field in Site.model_fields.items():
        model, repeated = _model_of(field.annotation)
        title = field.alias or name
        if model is None:
            page += [f"## {title}", "", *_setting(Site, name, field), ""]
            continue
        page += _table(title, model, repeated=repeated)
    return "\n".join(page)


def _table(title: str, model: type[BaseModel], *, repeated: bool = False) -> list[str]:
    """A table of wetread.toml, then the tables within it."""
    page = [f"## {'[[' if repeated else '['}{title}{']]' if repeated else ']'}", ""]
    page += [inspect.getdoc(model) or "", ""]
    for key, field in model.model_fields.items():
        page += [f"### {title}.{field.alias or key}", "", *_setting(model, key, field), ""]
    for key, field in model.model_fields.items():
        inner, many = _model_of(field.annotation)
        if inner is not None:
            page += _table(f"{title}.{key}", inner, repeated=many)
    return page


def commands() -> str:
    """Every command with its own help text."""
    root = get_command(app)
    page = ["# Commands", "", GENERATED.strip(), ""]
    for path, command in _leaves(root, "wetread"):
        page += [f"## {path}", "", inspect.cleandoc(command.help or "").replace("\\[", "["), ""]
        rows = []
        for parameter in command.params:
            names = (
                ", ".join(f"`{name}`" for name in parameter.opts)
                if parameter.param_type_name == "option"
                else f"`{parameter.metavar or parameter.name.upper()}`"
            )
            rows.append(
                f"- {names}: {getattr(parameter, 'help', None) or ''}".rstrip(": ").replace("\\[", "[")
            )
        page += [*rows, ""] if rows else []
    return "\n".join(page)


def errors() -> str:
    """Every error class: whose fault, what it means, what to do."""
    for package in PACKAGES:
        _import_all(package)
    page = ["# Errors", "", GENERATED.strip(), ""]
    page += ["Every error says whose fault it is, because that decides what happens next.", ""]
    for branch, advice in WHAT_TO_DO.items():
        page += [f"## {branch.__name__}", "", advice, ""]
        for error in sorted(_below(branch), key=lambda e: e.__name__):
            page += [f"### {error.__name__}", "", inspect.getdoc(error) or "", ""]
    others = sorted(
        (e for e in _below(WetreadError) if not issubclass(e, tuple(WHAT_TO_DO))), key=lambda e: e.__name__
    )
    page += ["## Others", "", "Nobody's fault: two things happened at once, and one of them gave way.", ""]
    for error in others:
        page += [f"### {error.__name__}", "", inspect.getdoc(error) or "", ""]
    return "\n".join(page)


def manifest() -> str:
    """Every key of a model's manifest."""
    page = ["# The manifest of a model", "", GENERATED.strip(), ""]
    page += [
        "`manifest.toml` or `manifest.yaml` in the model's folder. An unknown key or a wrong value is",
        "refused with a sentence that names it. `wetread models new` begins one; how to add a model:",
        "[index.md](index.md).",
        "",
        'A `Concept` is a code: `{ value = "10200004", scheme = "SCT", meaning = "Liver" }`.',
        "",
        "## Keys",
        "",
    ]
    for key, field in Manifest.model_fields.items():
        page += [f"### {key}", "", *_setting(Manifest, key, field), ""]
        if words := _words_of(field.annotation):
            page += [f"One of {', '.join(f'`{word}`' for word in words)}.", ""]
    for key, field in Manifest.model_fields.items():
        inner, repeated = _model_of(field.annotation)
        if inner is not None:
            page += _table(key, inner, repeated=repeated)
    return "\n".join(page)


def proof() -> str:
    """What is true of every result, who says so, and where that is tested."""
    page = ["# What is proven of every result", "", GENERATED.strip(), ""]
    page += [
        "Results of every kind of image and every outcome are made, sent to a real archive by our own",
        "sender, and fetched back before anybody judges them. A point is a test with its number in its name:",
        "`pytest -k point_31`. A point without a test is a failure, and so is a peer that is missing in CI.",
        "",
        "| | what is true | judged by | tested in |",
        "|---|---|---|---|",
    ]
    found, part = proofs(), ""
    for point in POINTS:
        if point.part != part:
            part = point.part
            page.append(f"| | **{part}** | | |")
        where = "<br>".join(f"`tests/{path}`" for path in found.get(point.number, []))
        page.append(f"| {point.number} | {point.says} | {point.judged_by} | {where} |")
    return "\n".join(page) + "\n"


PAGES = {
    "models/manifest.md": manifest,
    "states.md": states,
    "operating/settings.md": settings,
    "operating/commands.md": commands,
    "operating/errors.md": errors,
    "results/proof.md": proof,
}


def _opening(module: types.ModuleType) -> str:
    return (inspect.getdoc(module) or "").split("\n\n")[0]


def _comments(source: str) -> dict[int, str]:
    """Line → the comment on it, without its marker."""
    return {
        token.start[0]: token.string.lstrip("#: ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }


def _member_comments(module: types.ModuleType, name: str) -> dict[str, str]:
    """Member of an enum → its comment."""
    source = textwrap.dedent(inspect.getsource(getattr(module, name)))
    return {key: _reason(source, node) for key, node in _assignments(source)}


def _assignments(source: str) -> Iterator[tuple[str, ast.stmt]]:
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node


def _reason(source: str, node: ast.stmt) -> str:
    """The comments within an assignment, or else those right above it."""
    comments = _comments(source)
    end = node.end_lineno or node.lineno
    within = [comments[line] for line in range(node.lineno, end + 1) if line in comments]
    above: list[str] = []
    line = node.lineno - 1
    text = source.splitlines()
    while line > 0 and text[line - 1].lstrip().startswith("#"):
        above.insert(0, comments[line])
        line -= 1
    return " ".join([*above, *within])


def _setting(model: type[BaseModel], key: str, field: FieldInfo) -> list[str]:
    for owner in model.__mro__:
        if key in inspect.get_annotations(owner):
            source = textwrap.dedent(inspect.getsource(owner))
            break
    node = dict(_assignments(source))[key]
    reason = field.description or _reason(source, node)
    annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    if field.is_required():
        default = FILLED_IN.get(f"{model.__name__}.{key}", "required")
    else:
        value = field.get_default(call_default_factory=True)
        default = f"default `{value!s}`" if value not in ("", None, (), frozenset()) else "default: empty"
    return [f"`{annotation}`, {default}.", "", reason] if reason else [f"`{annotation}`, {default}."]


def _model_of(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    """The settings class of a section, and whether it may be repeated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for inner in typing.get_args(annotation):
        model, _ = _model_of(inner)
        if model:
            return model, typing.get_origin(annotation) is tuple
    return None, False


def _words_of(annotation: object) -> list[str]:
    """The words that may stand there, where only certain ones may."""
    found = []
    for inner in typing.get_args(annotation):
        found += [inner] if isinstance(inner, str) else _words_of(inner)
    return found


def _leaves(command: typing.Any, path: str) -> Iterator[tuple[str, typing.Any]]:
    children = getattr(command, "commands", None)
    if not children or command.invoke_without_command:
        yield path, command
    if not children:
        return
    for name, child in sorted(children.items()):
        if not child.hidden:
            yield from _leaves(child, f"{path} {name}")


def _import_all(package: str) -> None:
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        # Alembic runs its own scripts, and __main__ modules are doors, not rooms.
        if ".migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _below(error: type[WetreadError]) -> Iterator[type[WetreadError]]:
    for child in error.__subclasses__():
        if child not in WHAT_TO_DO:
            yield child
        yield from _below(child)


def main() -> int:
    """Write or check."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--check", action="store_true", help="write nothing; fail where a page is out of date"
    )
    check = arguments.parse_args().check
    stale = []
    for name, write in PAGES.items():
        path, text = DOCS / name, write().rstrip() + "\n"
        if check:
            if not path.exists() or path.read_text() != text:
                stale.append(f"docs/{name}")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        print(f"out of date: {', '.join(stale)}: run `make docs` and commit what it writes")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

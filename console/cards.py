"""The installed models, as a table and as cards. Reads manifests only: torch stays out."""

from difflib import get_close_matches
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

import models.builtin
from console.tables import listed, plain_table
from models.contract import UnknownModel
from models.registry import installed


def print_models(console: Console) -> None:
    """One line for each installed model."""
    table = plain_table("Model", "What it does", "Takes", "Licence")
    for manifest in installed():
        wants = manifest.input
        slices = f"{wants.minimum_slices} slices or more"
        if wants.spacing_max_mm is not None:
            slices += f", ≤ {wants.spacing_max_mm:g} mm apart"
        takes = f"{'/'.join(wants.modality)}, {slices}"
        table.add_row(f"{manifest.name}@{manifest.version}", manifest.title, takes, manifest.licence)
    console.print(table)
    console.print("\nThe card of one: [bold]wetread models show NAME[/]")


def print_card(name: str, console: Console) -> None:
    """The card of the model `name` (or `name@version`). Raises `UnknownModel`."""
    by_name = {manifest.name: manifest for manifest in installed()}
    manifest = by_name.get(name.partition("@")[0])
    if manifest is None or name not in (manifest.name, f"{manifest.name}@{manifest.version}"):
        close = get_close_matches(name, by_name, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"installed: {listed(by_name)}"
        raise UnknownModel(f"there is no model {name!r} here; {guess}")
    (root,) = models.builtin.__path__
    card = Path(root) / manifest.name / manifest.card
    console.print(Markdown(card.read_text(encoding="utf-8")))

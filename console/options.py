"""What several groups of commands are given alike, and how they get at the site."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from console.settings import Site
    from ledger.store.ledger import Ledger

OpenSite = Callable[[Path | None, Path | None], "Site"]
OpenLedger = Callable[["Site"], "Ledger"]

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="WETREAD_CONFIG", help="Settings file. Default: ./wetread.toml."),
]
Data = Annotated[Path | None, typer.Option("--data", help="Data folder, instead of \\[site] data.")]
Because = Annotated[str, typer.Option(help="Goes into the history.")]

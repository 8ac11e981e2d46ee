"""What the console is told when it starts."""

from pathlib import Path

from pydantic import BaseModel

from console.settings import Site


class ConsoleSite(BaseModel, frozen=True, extra="forbid"):
    """All that `python -m console.web` reads, as JSON, from its standard input."""

    site: Site
    file: Path | None = None  # The settings file, where there is one.

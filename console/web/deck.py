"""What every page of the console may use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fastapi import Request

from console.settings import Site
from console.web.overlays import Overlays
from console.web.watchman import Watchman
from console.web.words import Words
from dicom_node.spool import Spool
from ledger.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Deck:
    """One for the whole process, made before the first request and never changed."""

    site: Site
    file: Path | None  #: the settings file; None: the site runs on defaults
    ledger: Ledger
    spool: Spool
    words: Words
    watchman: Watchman
    overlays: Overlays

    @classmethod
    def of(cls, site: Site, file: Path | None, ledger: Ledger) -> Self:
        """The deck of a site. Its watchman does not look yet."""
        spool = Spool(site.spool)
        return cls(site, file, ledger, spool, Words(), Watchman(site, ledger), Overlays(spool))


def deck_of(request: Request) -> Deck:
    """The deck of the application that answers this request."""
    deck: Deck = request.app.state.deck
    return deck

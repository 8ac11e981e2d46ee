"""The ledger as the console opens it: it must be there already, for looking must not create an empty one."""

from pathlib import Path

from console.settings import Site
from ledger.errors import SiteError
from ledger.store.ledger import Ledger

_SQLITE = "sqlite:///"


class NothingHere(SiteError):
    """There is no ledger: nothing was ever served from this place."""


def open_ledger(site: Site) -> Ledger:
    """The site's ledger. Raises `NothingHere` where a file of SQLite does not exist yet."""
    url = site.ledger.url
    if url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists():
        raise NothingHere(
            f"there is no ledger at {url.removeprefix(_SQLITE)}: start `wetread serve` first, "
            "or say with --config or --data where the site is"
        )
    return Ledger.open(site.ledger)

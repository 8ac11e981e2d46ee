"""The ledger again, from the images in the spool: after the database was lost."""

from contextlib import closing

from rich.console import Console

from console.serve import only_one
from console.settings import Site
from dicom_node import reconcile
from dicom_node.spool import Spool
from ledger.store.ledger import Ledger


def rebuild(site: Site, console: Console) -> None:
    """Record every instance of the spool. Raises `SiteError`, also while the site is being served."""
    with only_one(site.data), closing(Ledger.open(site.ledger)) as ledger:
        spool = Spool(site.spool)
        with spool.occupied(), console.status(f"Reading every image in {spool.path}"):
            found = reconcile.rebuild(spool, ledger)
    if not found.recorded:
        console.print(
            "Nothing is lost: the ledger already had every instance of the spool. "
            f"Files that went into quarantine now: {found.quarantined}."
        )
        return
    console.print(
        f"{found.recorded} instances are in the ledger again; {found.quarantined} files lie in quarantine.\n"
        "What is lost: the history, and which results were delivered. At the next start every study closes\n"
        "anew; the same release makes the same results again, byte for byte: no archive gets a second copy."
    )

"""What task managers listed, as a table: whose, what for, where it stands, and why."""

from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from console.settings import Site
from ledger.store.ledger import Ledger


def print_worklist(site: Site, ledger: Ledger, console: Console, *, limit: int) -> None:
    """The latest `limit` workitems, the latest first."""
    workitems = ledger.workitems()[::-1][:limit]
    if not workitems:
        asked = [peer.name for peer in site.peers if peer.worklist is not None]
        where = (
            f"{', '.join(asked)} listed nothing for it yet" if asked else "no [[peer]] has a [peer.worklist]"
        )
        console.print(f"This site has performed no workitems: {where}.")
        return
    zone = ZoneInfo(site.site.time_zone)
    table = Table("workitem", "of", "work", "rule", "since", "state", "because")
    for one in workitems:
        since = datetime.fromtimestamp(one.listed_at, zone).strftime("%Y-%m-%d %H:%M")
        table.add_row(str(one.id), one.manager, one.code, one.rule, since, one.state, one.because)
    console.print(table)

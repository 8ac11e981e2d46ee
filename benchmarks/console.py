"""The console over a ledger of 100,000 studies: how long the server takes for its pages.

    python -m benchmarks.console                  SQLite, and PostgreSQL where its server is installed
    python -m benchmarks.console --studies 10000

The ledger is that of `benchmarks.filled_ledger`. Times are of whole requests over loopback, without the
door: median and the slowest of 20, and of a request that does nothing (/static) as the floor.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import requests

from benchmarks.filled_ledger import backlog, fill, name_apart
from console.settings import load_site
from console.web.app import create_app
from console.web.deck import Deck
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.console.web.conftest import Desk, Serving
from tests.peers.postgresql import postgresql

_TIMES = 20
_IMAGES = 10  # of each study
_PAGES = {
    "the first page": "/",
    "its live part": "/now",
    "studies, newest": "/studies",
    "search: accession": "/studies?text=ACC471",
    "search: a name": "/studies?text=Patient%5E471",
    "search: nobody": "/studies?text=nobody+is+called+this",
    "search: by state": "/studies?state=parked",
    "search: modality, date": "/studies?modality=MR&since=2026-11-01&until=2026-11-02",
    "one study": "/studies/471",
    "why?": "/why?what=ACC471",
    "the floor": "/static/mark.svg",
}


def measure(ledger: Ledger, folder: Path) -> dict[str, list[float]]:
    """Milliseconds of every page."""
    site = load_site(None, folder / "data")
    deck = Deck.of(site, None, ledger)
    deck.watchman.look(slow=False)
    with Serving(Desk(site, ledger, deck, create_app(deck))) as desk, requests.Session() as session:
        found: dict[str, list[float]] = {}
        for name, path in _PAGES.items():
            session.get(desk.url + path, timeout=120).raise_for_status()
            for _ in range(_TIMES):
                began = time.perf_counter()
                session.get(desk.url + path, timeout=120)
                found.setdefault(name, []).append(1000 * (time.perf_counter() - began))
    return found


def main() -> None:
    """Fill, measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=100_000)
    studies = parser.parse_args().studies
    tables = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wetread-bench-")))
        for kind in ("SQLite", "PostgreSQL"):
            url = f"sqlite:///{folder}/ledger.sqlite"
            if kind == "PostgreSQL":
                url = stack.enter_context(postgresql()).url
            began = time.perf_counter()
            with Ledger.open(LedgerSettings(url=url)) as ledger:
                fill(ledger, studies, _IMAGES)
                name_apart(ledger)
                backlog(ledger)
                print(f"{kind}: {studies} studies written in {time.perf_counter() - began:.0f} s", flush=True)
                tables[kind] = measure(ledger, folder)
    print()
    print(f"{'ms: median (slowest)':26}" + "".join(f"{kind:>22}" for kind in tables))
    for name in _PAGES:
        cells = [
            f"{statistics.median(table[name]):.1f} ({max(table[name]):.1f})" for table in tables.values()
        ]
        print(f"{name:26}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()

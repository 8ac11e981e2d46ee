"""
How long a monitoring system waits for its figures, with many studies in the ledger.

    python -m benchmarks.monitoring [--studies 100000] [--instances 3] [--looks 40]

A ledger on SQLite and one on PostgreSQL are filled with studies that were received, analysed, sent and
proved, with their history as the product writes it (copies of one study). First all of it is added up, as
after an upgrade; then figures are asked for again and again, with a new study between two looks. Promised:
95 of 100 looks below 200 ms.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from benchmarks.filled_ledger import fill, one_study
from console.settings import Site, load_site
from console.web.metrics import exposition, known_of
from ledger.settings import LedgerSettings
from ledger.store.ledger import Ledger
from tests.ledger.conftest import empty_database
from tests.peers.postgresql import postgresql

PROMISED_MS = 200.0


def measure(name: str, settings: LedgerSettings, site: Site, asked: argparse.Namespace) -> bool:
    """Fill, add up, look; whether the promise was kept."""
    with Ledger.open(settings) as ledger:
        began = time.perf_counter()
        fill(ledger, asked.studies, asked.instances)
        filled_s = time.perf_counter() - began
        with ledger.read() as tx:
            events = tx.connection.execute(text("SELECT count(*) FROM event")).scalar_one()
        began = time.perf_counter()
        while not ledger.add_up(known_of(site)):
            pass
        added_s = time.perf_counter() - began
        looks, own = [], []
        for number in range(asked.looks):
            one_study(ledger, f"1.2.826.0.2.{number}", asked.instances)
            began, used = time.perf_counter(), time.process_time()
            body, _ = exposition(site, ledger)
            looks.append((time.perf_counter() - began) * 1000)
            own.append((time.process_time() - used) * 1000)
            assert b"wetread_jobs_ended_total" in body
        many = float(asked.studies + asked.looks)
        wanted = f'wetread_studies_opened_total{{arrival="first",peer="other"}} {many!r}'
        assert wanted in body.decode(), "not every study was counted once"
    ordered = sorted(looks)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    print(
        f"{name:<11} {asked.studies} studies, {events} rows of history (filled in {filled_s:.0f} s): added "
        f"up in {added_s:.1f} s; one look {statistics.median(looks):.0f} ms ({statistics.median(own):.0f} ms "
        f"of our own CPU), 95 of 100 within {p95:.0f} ms, the first {looks[0]:.0f} ms; {len(body)} bytes"
    )
    return p95 < PROMISED_MS


def main() -> int:
    """Measure on both databases; 1 where the promise was not kept."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--studies", type=int, default=100_000)
    options.add_argument("--instances", type=int, default=3)
    options.add_argument("--looks", type=int, default=40)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = load_site(None, Path(folder))
        site.spool.path.mkdir(parents=True)
        kept = measure("SQLite", site.ledger, site, asked)
        with postgresql() as server:
            kept &= measure("PostgreSQL", empty_database(server), site, asked)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m dicom_node`: reads a `NodeSite` as JSON from standard input, and serves until SIGTERM.

Prints `ready <port>` on standard output once it listens. Leaves with 0 after SIGTERM or SIGINT, with 2 and
one sentence on standard error where the site has to change something first.
"""

import logging
import os
import signal
import sys
import threading

import pydicom.config
import pynetdicom._config
import structlog

from dicom_node.fetching import Fetching
from dicom_node.node import Node
from dicom_node.retention import HouseKeeper
from dicom_node.rule_book import RulesRefused, adopt, in_force
from dicom_node.settings import NodeSite, wrong_priors, wrong_worklists
from dicom_node.spool import Spool
from dicom_node.told import run_told
from dicom_node.watch import Watch
from dicom_node.wishes import WishesAboutFiles
from ledger import failpoint, journal
from ledger.identifiers import AETitle
from ledger.store.ledger import Ledger

_LOOK_S = 0.5  # How late a signal may be noticed.
log = structlog.get_logger()


def main() -> int:
    """Run the node; the exit status."""
    journal.configure(json=not sys.stderr.isatty(), level=os.environ.get("WETREAD_LOG_LEVEL", "info"))
    if armed := os.environ.get("WETREAD_FAILPOINT"):
        failpoint.arm(armed)
    hush_libraries()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return run_told(NodeSite, lambda site: serve(site, stopping))


def serve(site: NodeSite, stopping: threading.Event) -> None:
    """Serve until `stopping`. Raises the `SiteError` that keeps the node from starting."""
    spool = Spool(site.spool)
    ledger = Ledger.open(site.ledger)
    try:
        with spool.occupied():
            spool.reconcile(ledger)
            adopted(ledger, site)
            node = Node(site, ledger, spool)
            watch = Watch(
                ledger,
                rules=site.rules,
                patience=site.closing,
                peers=site.peers,
                calling=AETitle.parse(site.node.ae_title),
                associations=node.senders,
                settled=node.books.closing,
                house_keeper=HouseKeeper(ledger, spool, site.retention),
            )
            node.senders.changed, node.promises.listed = watch.wake, watch.heard_list
            wishes = WishesAboutFiles(ledger, spool, node.receiver, filed=watch.wake)
            fetching = Fetching(ledger, site, node.receiver, node.senders, port=node.port)
            with node:
                watch.start()
                fetching.start()
                wishes.start()
                try:
                    ledger.record_event("node", "started", because=f"listening on port {node.port}")
                    log.info("node.started", port=node.port, ae_title=site.node.ae_title)
                    print(f"ready {node.port}", flush=True)  # noqa: T201
                    # A signal that falls between the last look and going to sleep wakes nobody up.
                    while not stopping.wait(_LOOK_S):
                        pass
                finally:
                    fetching.stop()
                    wishes.stop()
                    watch.stop()
            ledger.record_event("node", "stopped", because="asked to stop")
    finally:
        ledger.close()


def adopted(ledger: Ledger, site: NodeSite) -> None:
    """Have in force what the file says, where it says something new. Raises a `SiteError` where what is in
    force does not fit this site.
    """
    asked = in_force(ledger, site.rules, default=site.rules_are_default)
    if complaint := wrong_priors(site.peers, asked.rules) or wrong_worklists(site.peers, asked.rules):
        raise RulesRefused(f"{complaint} (version {asked.version} of the rules)")
    if (new := adopt(ledger, site.rules, default=site.rules_are_default)) is not None:
        log.info("rules.adopted", version=new.number, rules=len(new.rules))


def hush_libraries() -> None:
    """Keep pydicom and pynetdicom from writing values of data sets into logs: they may be patient data."""
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # else it quotes odd values
    pynetdicom._config.LOG_REQUEST_IDENTIFIERS = False
    pynetdicom._config.LOG_RESPONSE_IDENTIFIERS = False
    pynetdicom._config.LOG_HANDLER_LEVEL = "none"  # What it would say of every PDU costs time, too.
    for name in ("pynetdicom", "pydicom"):
        # What we want to know of an association is in our own journal.
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False


if __name__ == "__main__":
    sys.exit(main())

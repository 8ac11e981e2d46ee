"""`python -m dicom_node.dicomweb`: reads a `WebSite` as JSON from standard input, and serves until SIGTERM.

A process of its own, so that no number of slow or greedy web clients takes time from the node that receives.
Prints `ready <port>` on standard output once it listens. Leaves with 0 after SIGTERM or SIGINT, with 2 and
one sentence on standard error where the site has to change something first.
"""

import os
import signal
import sys

import structlog

from dicom_node.dicomweb.app import DicomWeb
from dicom_node.dicomweb.readers import Readers
from dicom_node.dicomweb.server import Server, listen
from dicom_node.dicomweb.settings import WebSite
from dicom_node.refusals import Refusals
from dicom_node.spool import Spool
from dicom_node.told import run_told
from ledger import journal
from ledger.store.ledger import Ledger

log = structlog.get_logger()

_LAST_WORDS_S = 5.0  # for what was refused and is not in the ledger yet


def main() -> int:
    """Run the server; the exit status."""
    journal.configure(json=not sys.stderr.isatty(), level=os.environ.get("WETREAD_LOG_LEVEL", "info"))
    return run_told(WebSite, serve)


def serve(site: WebSite) -> None:
    """Serve until SIGTERM. Raises the `SiteError` that keeps it from starting."""
    settings = site.dicomweb
    with listen(settings, "dicomweb") as listening, Ledger.open(site.ledger) as ledger:
        port = listening.getsockname()[1]
        readers = Readers(
            processes=settings.decoders, limit_s=settings.decode_s, bytes_max=settings.decode_bytes_max
        )

        def ready() -> None:
            log.info("web.started", port=port)
            print(f"ready {port}", flush=True)  # noqa: T201

        refusals = Refusals(ledger)
        refusals.start()
        app = DicomWeb(site, ledger, Spool(site.spool), readers, refusals).app()
        server = Server(app, settings, ready)

        def stop(*_: object) -> None:
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        try:
            server.serve_at(listening)
        finally:
            readers.close()
            refusals.stop(within_s=_LAST_WORDS_S)
        log.info("web.stopped")


if __name__ == "__main__":
    sys.exit(main())

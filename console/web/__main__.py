"""`python -m console.web`: reads a `ConsoleSite` as JSON from standard input, and serves until SIGTERM.

Prints `ready <port>` on standard output once it listens. Leaves with 0 after SIGTERM or SIGINT, with 2 and
one sentence on standard error where the site has to change something first.
"""

import asyncio
import os
import signal
import sys

import structlog

from console.telemetry.export import Teller
from console.telemetry.installed import check_telemetry
from console.web.access.gate import Gate
from console.web.app import create_app
from console.web.clerk import Clerk
from console.web.deck import Deck
from console.web.site import ConsoleSite
from dicom_node.dicomweb.server import Server, listen
from dicom_node.told import run_told
from ledger import journal
from ledger.store.ledger import Ledger

log = structlog.get_logger()


def main() -> int:
    """Run the console; the exit status."""
    journal.configure(json=not sys.stderr.isatty(), level=os.environ.get("WETREAD_LOG_LEVEL", "info"))
    return run_told(ConsoleSite, serve)


def serve(told: ConsoleSite) -> None:
    """Serve until SIGTERM. Raises the `SiteError` that keeps it from starting."""
    site = told.site
    settings = site.console
    check_telemetry(site.telemetry)
    with listen(settings, "console") as listening, Ledger.open(site.ledger) as ledger:
        port = listening.getsockname()[1]
        deck = Deck.of(site, told.file, ledger)
        watchman = deck.watchman
        clerk = Clerk(site, ledger, lambda: watchman.alarms if watchman.wait(0.0) else None)
        teller = Teller(site, ledger)
        app = create_app(deck)

        def ready() -> None:
            log.info("console.started", port=port)
            print(f"ready {port}", flush=True)  # noqa: T201

        server = Server(Gate(app, deck), settings, ready)
        loop: list[asyncio.AbstractEventLoop] = []

        async def run() -> None:
            loop.append(asyncio.get_running_loop())
            await server.serve([listening])

        def stop(*_: object) -> None:
            server.should_exit = True
            # Pages that listen for news would else be waited for.
            if loop:
                loop[0].call_soon_threadsafe(app.state.live.close)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        deck.watchman.start()
        clerk.start()
        teller.start()
        try:
            asyncio.run(run())
        finally:
            teller.stop()
            clerk.stop()
            deck.watchman.stop()
            deck.overlays.close()
            app.state.images.close()
        log.info("console.stopped")


if __name__ == "__main__":
    sys.exit(main())

"""
The broom: takes back what dead workers held, and calls again where a call was lost.

Everything it does is one statement of the ledger about the ledger, so any number of brooms on any number of
hosts do no more than one.
"""

import structlog

from ledger.errors import SiteError
from ledger.store.ledger import Ledger
from worker.settings import WorkerSettings

log = structlog.get_logger()


def sweep(ledger: Ledger, settings: WorkerSettings) -> None:
    """One round. A ledger that is away is for the next round."""
    try:
        report = ledger.sweep(
            republish_after_s=settings.republish_after_s,
            attempts_max=settings.attempts_max,
            crash_backoff_s=settings.crash_backoff_s,
        )
    except SiteError as away:
        log.warning("sweep.failed", because=str(away))
        return
    if report.found_anything:
        log.info(
            "sweep.done",
            expired_jobs=list(report.expired_jobs),
            parked_jobs=list(report.parked_jobs),
            expired_deliveries=list(report.expired_deliveries),
            expired_notifications=list(report.expired_notifications),
            hinted=report.hinted,
        )

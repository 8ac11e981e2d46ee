"""
The doorways: each takes an id from a message and calls one function that knows no Celery.

A task never raises: Celery would log the exception with its message and arguments, and what a stranger's
library puts into a message may be patient data. The job or delivery itself is safe: its lease runs out, and
the sweeper takes it back.
"""

import traceback
from collections.abc import Callable
from pathlib import Path

import structlog
from celery import Celery

from ledger.errors import WetreadError
from ledger.identifiers import DeliveryId, JobId
from worker.app import DELIVERY_TASK, JOB_TASK, NOTIFICATION_TASK

log = structlog.get_logger()


def open_to_jobs(app: Celery, compute: Callable[[JobId], None]) -> None:
    """Have messages of `JOB_TASK` call `compute`."""

    def job(job_id: int) -> None:
        _enter("job", job_id, lambda: compute(JobId(job_id)))

    app.task(job, name=JOB_TASK)


def open_to_deliveries(app: Celery, deliver: Callable[[DeliveryId], None]) -> None:
    """Have messages of `DELIVERY_TASK` call `deliver`."""

    def delivery(delivery_id: int) -> None:
        _enter("delivery", delivery_id, lambda: deliver(DeliveryId(delivery_id)))

    app.task(delivery, name=DELIVERY_TASK)


def open_to_notifications(app: Celery, tell: Callable[[int], None]) -> None:
    """Have messages of `NOTIFICATION_TASK` call `tell`."""

    def notification(notification_id: int) -> None:
        _enter("notification", notification_id, lambda: tell(notification_id))

    app.task(notification, name=NOTIFICATION_TASK)


def _enter(thing: str, number: int, work: Callable[[], None]) -> None:
    try:
        work()
    except WetreadError as error:
        log.error(f"{thing}.failed", **{thing: number}, error=type(error).__name__, because=str(error))  # noqa: TRY400
    except Exception as error:  # the outermost loop of this process
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        log.error(f"{thing}.failed", **{thing: number}, error=type(error).__name__, where=where)  # noqa: TRY400

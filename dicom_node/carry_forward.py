"""What a node that is gone left in its daybook becomes files and rows, before another takes anything in.

Perhaps it was answered with Success, so it is treated as if it had just been received: it gets its file where
that is missing or torn, and its row where there is none. What has both already is left as it is.
"""

from contextlib import suppress
from pathlib import Path

import structlog

from dicom_node.bookkeeper import Bookkeeper
from dicom_node.daybook import Daybook, Entry
from dicom_node.headers import HELD, read_headers
from dicom_node.part import QUARANTINE, instance_path
from dicom_node.part10 import FileMeta, read_file_meta
from dicom_node.quarantine import CONFLICT, set_aside
from dicom_node.receive import study_and_series
from dicom_node.spool import Spool
from ledger.errors import StudyError
from ledger.identifiers import Digest
from ledger.store.ledger import Ledger
from ledger.study import Arrival, ArrivalKind

log = structlog.get_logger()


def open_books(spool: Spool, ledger: Ledger) -> Bookkeeper:
    """The books of a spool, with nothing of before left in them. Raises the `SiteError` that prevents it."""
    daybook = Daybook(spool.path)
    carry_forward(daybook, spool, ledger)
    return Bookkeeper(daybook, spool, ledger)


def carry_forward(daybook: Daybook, spool: Spool, ledger: Ledger) -> int:
    """Carry everything over; how many instances got a row. Raises the `SiteError` that prevents it.

    Doing it twice is doing it once.
    """
    arrivals: list[Arrival] = []
    for entry in daybook.entries():
        path, aside = instance_path(entry.digest), f"{QUARANTINE}/{entry.digest}.dcm"
        unknown = ledger.unknown_paths([path, aside])
        if aside not in unknown:
            spool.quarantine(entry.header, entry.data_set)
        if path in unknown and aside not in unknown:
            continue
        staged = spool.stage(entry.header, entry.data_set)
        spool.sync_folders([str(Path(staged.path).parent)])
        if path in unknown:
            # What an older release could read and this one cannot is set aside by the reconciliation.
            with suppress(StudyError):
                arrivals.append(_arrival(entry, path))
    for arrival, receipt in zip(arrivals, ledger.record_arrivals(arrivals), strict=True):
        if receipt.kind is ArrivalKind.CONFLICT:
            set_aside(spool, ledger, arrival, CONFLICT, receipt.study_id)
    daybook.mark()
    if arrivals:
        log.info("daybook.carried_forward", instances=len(arrivals))
    return len(arrivals)


def _arrival(entry: Entry, path: str) -> Arrival:
    meta, _ = read_file_meta(entry.header)
    return arrival_of(meta, entry.data_set, entry.digest, path, entry.address)


def arrival_of(
    meta: FileMeta, data_set: bytes | memoryview, digest: Digest, path: str, address: str
) -> Arrival:
    """The arrival that a file of the spool stands for. Raises `HeaderUnreadable` or `CannotFile`."""
    headers = read_headers(data_set, meta.transfer_syntax, shape=HELD)
    study, series = study_and_series(headers)
    return Arrival(
        sop_instance=meta.sop_instance,
        sop_class=meta.sop_class,
        transfer_syntax=meta.transfer_syntax,
        study=study,
        series=series,
        digest=digest,
        size=len(data_set),
        path=path,
        calling=meta.sending,
        called=meta.receiving,
        address=address,
        headers=headers,
    )

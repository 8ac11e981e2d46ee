"""Instances that contradict what is held, or that the ledger refuses: kept aside, and visible."""

import structlog

from dicom_node.spool import Spool, Staged
from ledger.identifiers import StudyId
from ledger.store.ledger import Ledger
from ledger.study import Arrival

log = structlog.get_logger()

CONFLICT = "this SOP Instance UID is already here with other bytes: the first is kept"


def set_aside(spool: Spool, ledger: Ledger, arrival: Arrival, because: str, study_id: StudyId | None) -> str:
    """Move the file of an instance that gets no row to quarantine, and say why; its path there."""
    kept = spool.move_to_quarantine(Staged(arrival.digest, arrival.size, arrival.path))
    ledger.record_quarantine(
        sop_instance=arrival.sop_instance.value,
        digest=kept.digest,
        path=kept.path,
        because=because,
        calling=arrival.calling.value,
        address=arrival.address,
        study_id=study_id,
    )
    log.warning("instance.quarantined", because=because, calling=arrival.calling.value)
    return kept.path

"""
Does the archive really have it? Peers with confirm = "find" are asked, some time after they said yes.

A result that is not found is not at once missing: an archive may index for minutes. Only after
`proof_patience_s` is it sent again, as the same bytes.
"""

from collections.abc import Callable

import structlog

from dicom_node.peers import PeerSettings
from ledger.delivery import DeliveryRecord
from ledger.errors import PeerError, SiteError
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from worker.deliver import proof_by_answer
from worker.settings import WorkerSite

log = structlog.get_logger()

_AT_ONCE = 200

#: Whether `peer` has the result of the delivery. Raises `PeerError` where it cannot be asked.
Ask = Callable[[PeerSettings, DeliveryRecord], bool]


def prove(ledger: Ledger, site: WorkerSite, ask: Ask) -> None:
    """Ask for everything that was sent and is not yet committed. A silent peer costs one question."""
    try:
        now = ledger.now()
        sent = ledger.sent_deliveries(_AT_ONCE)
    except SiteError as away:
        log.warning("proof.failed", because=str(away))
        return
    silent: set[str] = set()
    for delivery in sent:
        if delivery.peer in silent or now - (delivery.sent_at or now) < site.delivery.proof_after_s:
            continue
        try:
            _prove(ledger, site, ask, delivery, now)
        except PeerError as error:
            silent.add(delivery.peer)
            log.warning("proof.peer_silent", peer=delivery.peer, because=str(error))
        except IllegalTransition:
            continue  # Another process proved it, or an operator withdrew it, in the meantime.
        except SiteError as away:
            log.warning("proof.failed", because=str(away))
            return


def _prove(ledger: Ledger, site: WorkerSite, ask: Ask, delivery: DeliveryRecord, now: float) -> None:
    peer = site.peer(delivery.peer)
    if peer is None or peer.confirm == "answer":
        # A worker that died between the answer and its confirmation left this; the answer is on record.
        ledger.confirm_delivery(delivery.id, proof_by_answer(delivery.status))
    elif ask(peer, delivery):
        ledger.confirm_delivery(delivery.id, "found in the archive by C-FIND")
    elif now - (delivery.sent_at or now) >= site.delivery.proof_patience_s:
        because = (
            f"accepted, but not found there {site.delivery.proof_patience_s:g} s later: it is sent again"
        )
        ledger.delivery_missing(delivery.id, because, retry_in_s=site.delivery.first_s)
        log.error("delivery.missing", delivery=delivery.id, peer=delivery.peer)

"""
Does the archive really have it? Peers with confirm = "find" are asked, some time after they said yes; those
with confirm = "commitment" have to answer for it (`worker/commit.py`). With "best" it is the one, else the
other, and their answer is believed where they offer neither.

A rejection note is proved by the archive's answer: one that obeys may hide the note as well. Whether it
obeys is told by asking for what the note names.

A result that is not found is not at once missing: an archive may index for minutes. Only after
`proof_patience_s` is it sent again, as the same bytes.
"""

from collections.abc import Callable
from contextlib import suppress

import structlog

from dicom_node.peers import PeerSettings
from dicom_node.query import QueryRefused
from ledger.delivery import DeliveryRecord
from ledger.errors import PeerError, SiteError
from ledger.result import Role
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from worker.commit import commit, proof_unlisted, proof_without_query, sent_again
from worker.deliver import proof_by_answer
from worker.settings import WorkerSite

log = structlog.get_logger()

_AT_ONCE = 200  # to each peer: a silent one must not starve the others

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
    due = [one for one in sent if now - (one.sent_at or now) >= site.delivery.proof_after_s]
    for name in dict.fromkeys(one.peer for one in due):
        mine = [one for one in due if one.peer == name]
        peer = site.peer(name)
        notes = [one for one in mine if one.result.role is Role.REJECTION_NOTE]
        mine = [one for one in mine if one not in notes]
        try:
            for note in notes:
                with suppress(IllegalTransition):
                    _prove_note(ledger, peer, ask, note)
            if peer is not None and peer.vouches:
                commit(ledger, site, peer, mine, ask)
                continue
            for delivery in mine:
                # Another process may have proved it, or an operator withdrawn it, in the meantime.
                with suppress(IllegalTransition):
                    _prove(ledger, site, ask, delivery, now)
        except IllegalTransition:
            continue  # The same, between two steps of one request: the next round sees how it stands.
        except QueryRefused as refused:
            because = f'{refused}: set confirm = "answer" for this peer'
            log.warning("proof.refused", peer=name, because=because)
        except PeerError as error:
            log.warning("proof.peer_silent", peer=name, because=str(error))
        except SiteError as away:
            log.warning("proof.failed", because=str(away))
            return


def _prove_note(ledger: Ledger, peer: PeerSettings | None, ask: Ask, note: DeliveryRecord) -> None:
    because = proof_by_answer(note.status)
    rejection = ledger.rejection(note.id)
    if peer is not None and peer.confirm != "answer" and rejection is not None:
        names = len(rejection.names)
        try:
            shown = sum(ask(peer, one) for one in rejection.names)
        except QueryRefused as refused:
            because += f"; whether it obeys cannot be asked ({refused})"
        else:
            if shown:
                because += (
                    f", but still lists {shown} of the {names} objects: it does not obey rejection notes"
                )
                log.warning("rejection.ignored", delivery=note.id, peer=note.peer, because=because)
            else:
                because += f", and no longer lists any of the {names} objects"
    ledger.confirm_delivery(note.id, because)


def _prove(ledger: Ledger, site: WorkerSite, ask: Ask, delivery: DeliveryRecord, now: float) -> None:
    peer = site.peer(delivery.peer)
    if peer is None or peer.confirm == "answer":
        # A worker that died between the answer and its confirmation left this; the answer is on record.
        ledger.confirm_delivery(delivery.id, proof_by_answer(delivery.status))
        return
    try:
        found = ask(peer, delivery)
    except QueryRefused as refused:
        if peer.confirm != "best":
            raise
        ledger.confirm_delivery(delivery.id, proof_without_query(delivery, refused))
        return
    if found:
        ledger.confirm_delivery(delivery.id, f"found in the archive by {peer.asked_by}")
    elif now - (delivery.sent_at or now) >= site.delivery.proof_patience_s:
        if peer.confirm == "best" and sent_again(ledger, delivery):
            ledger.confirm_delivery(delivery.id, proof_unlisted(peer, delivery))
            return
        because = (
            f"accepted, but not found there {site.delivery.proof_patience_s:g} s later: it is sent again"
        )
        ledger.delivery_missing(delivery.id, because, retry_in_s=site.delivery.first_s)
        log.error("delivery.missing", delivery=delivery.id, peer=delivery.peer)

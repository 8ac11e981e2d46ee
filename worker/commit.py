"""
Peers with confirm = "commitment" or "best": the archive has to answer for every result (PS3.4 Annex J).

All results of a job that one peer got are one request. Its report comes on our association or to our node,
which records it; what is left to do here is to ask, to send again what the archive does not have, and to look
for it by C-FIND where no report comes.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import structlog

from dicom_node.commitment import CommitmentRefused, Told, ask_for_commitment, record_report
from dicom_node.commitment_messages import Report, Request
from dicom_node.peers import PeerSettings
from dicom_node.query import QueryRefused
from ledger.commitment import CommitmentId, CommitmentRecord, CommitmentState, reason_words
from ledger.delivery import DeliveryEvent, DeliveryRecord, DeliveryState
from ledger.identifiers import AETitle, DeliveryId, JobId
from ledger.promise import Reference
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition
from worker.deliver import backoff_s, proof_by_answer
from worker.settings import DeliverySettings, WorkerSite

log = structlog.get_logger()

#: Whether the peer finds the result of the delivery. Raises `PeerError` where it cannot be asked.
Find = Callable[[PeerSettings, DeliveryRecord], bool]

_SUCCESS, _PROCESSING_FAILURE = 0x0000, 0x0110
# SOP class not supported, duplicate transaction UID: of the instance itself they say nothing, and sending it
# again would change nothing.
_SAYS_NOTHING = frozenset({0x0122, 0x0131})


class Step(StrEnum):
    """What to do next about a delivery that was sent and is not committed."""

    ASK = "ask"  #: Open a new request.
    REPEAT = "repeat"  #: Say a request again that the archive has not yet taken.
    WAIT = "wait"  #: Its report may still come.
    LAPSE = "lapse"  #: Its time is over.
    FIND = "find"  #: The archive's word is not to be had: look for it by C-FIND.
    RESEND = "resend"  #: The archive says that it does not have it.


def step(
    delivery: DeliveryRecord, last: CommitmentRecord | None, *, now: float, patience: DeliverySettings
) -> Step:
    """What to do next. `last` is the latest request that names the delivery; all times by the ledger."""
    if last is None or last.opened_at < (delivery.sent_at or 0.0):
        return Step.ASK  # A report speaks only of what had been sent when it was asked for.
    match last.state:
        case CommitmentState.OPENED:
            over = now - last.opened_at >= patience.commitment_patience_s
            return Step.LAPSE if over else Step.REPEAT
        case CommitmentState.ASKED:
            over = now - (last.asked_at or last.opened_at) >= patience.commitment_patience_s
            return Step.LAPSE if over else Step.WAIT
        case CommitmentState.OVERDUE | CommitmentState.REFUSED:
            return Step.FIND
        case CommitmentState.REPORTED:
            item = last.item(delivery.id)
            if item is None or item.committed is not False or item.reason in _SAYS_NOTHING:
                return Step.FIND
            return Step.RESEND


def commit(
    ledger: Ledger, site: WorkerSite, peer: PeerSettings, sent: Sequence[DeliveryRecord], find: Find
) -> None:
    """Do the next step for everything that `peer` accepted. Raises `PeerError` where it is away or silent."""
    now = _Round(ledger, site, peer, find, ledger.now())
    requests: list[CommitmentRecord] = []
    for job_id in dict.fromkeys(one.job_id for one in sent):
        requests += now.requests(job_id, [one for one in sent if one.job_id == job_id])
    if requests:
        now.ask(requests)


def proof_without_query(delivery: DeliveryRecord, refused: QueryRefused) -> str:
    """Why a peer with confirm = "best" is believed that cannot be asked: nothing better is to be had."""
    return f"{proof_by_answer(delivery.status)}, and it cannot be asked whether it has it: {refused}"


def proof_unlisted(peer: PeerSettings, delivery: DeliveryRecord) -> str:
    """Why a peer with confirm = "best" is believed that took a result twice and does not list it: it may pass
    results on, or list no such objects.
    """
    return f"{proof_by_answer(delivery.status)} twice; it does not list it by {peer.asked_by}"


def sent_again(ledger: Ledger, delivery: DeliveryRecord) -> bool:
    """Whether it was already sent once more because it was not found."""
    return any(
        one.thing_id == delivery.id and one.thing == "delivery" and one.event == DeliveryEvent.MISSING
        for one in ledger.history(job_id=delivery.job_id)
    )


@dataclass(frozen=True, slots=True)
class _Round:
    """One look at one peer."""

    ledger: Ledger
    site: WorkerSite
    peer: PeerSettings
    find: Find
    now: float

    def requests(self, job_id: JobId, sent: Sequence[DeliveryRecord]) -> list[CommitmentRecord]:
        """Settle what can be settled for one job; the requests that have to be made for it."""
        made = [one for one in self.ledger.commitments_of(job_id) if one.peer == self.peer.name]
        repeat: dict[CommitmentId, CommitmentRecord] = {}
        to_ask: list[DeliveryId] = []
        for delivery in sent:
            last = next((one for one in reversed(made) if one.item(delivery.id)), None)
            next_step = step(delivery, last, now=self.now, patience=self.site.delivery)
            if last is None or next_step is Step.ASK:
                to_ask.append(delivery.id)
            elif next_step is Step.REPEAT:
                repeat[last.id] = last
            elif next_step is Step.LAPSE:
                self._lapse(last)
            elif next_step is Step.RESEND:
                self._send_again(delivery, last)
            elif next_step is Step.FIND and not self._look_for(delivery, last):
                to_ask.append(delivery.id)
        requests = list(repeat.values())
        if to_ask and not self._waits_for_others(job_id, sent):
            calling = AETitle.parse(self.site.node_ae_title)
            opened = self.ledger.open_commitment(job_id, self.peer.name, to_ask, calling=calling)
            requests += [opened] if opened else []
        return requests

    def _waits_for_others(self, job_id: JobId, sent: Sequence[DeliveryRecord]) -> bool:
        """Whether other results of the job are on their way to the peer, so that one request can name all."""
        since = min(one.sent_at or self.now for one in sent)
        if self.now - since >= self.site.delivery.commitment_patience_s:
            return False  # One that the archive will not take must not hold the others back for ever.
        on_their_way = (DeliveryState.WAITING, DeliveryState.SENDING)
        return any(
            one.peer == self.peer.name and one.state in on_their_way
            for one in self.ledger.deliveries_of(job_id)
        )

    def _lapse(self, last: CommitmentRecord) -> None:
        because = f"no report came within {self.site.delivery.commitment_patience_s:g} s"
        with suppress(IllegalTransition):  # It came just now, or another result of the request was first.
            self.ledger.commitment_lapsed(last.id, because)
            log.warning("commitment.overdue", peer=self.peer.name, job=last.job_id, because=because)

    def _send_again(self, delivery: DeliveryRecord, last: CommitmentRecord) -> None:
        item, patience = last.item(delivery.id), self.site.delivery
        said = reason_words(item.reason if item else None)
        because = f"storage commitment {last.transaction} failed for it ({said}): it is sent again"
        wait_s = backoff_s(max(1, delivery.attempts), first_s=patience.first_s, longest_s=patience.longest_s)
        with suppress(IllegalTransition):  # An operator withdrew it.
            self.ledger.delivery_missing(delivery.id, because, retry_in_s=wait_s)
            log.error("delivery.missing", delivery=delivery.id, peer=delivery.peer, because=because)

    def _look_for(self, delivery: DeliveryRecord, last: CommitmentRecord) -> bool:
        """The read-back, where storage commitment gave no answer. False: it is time to ask for that again."""
        item, patience = last.item(delivery.id), self.site.delivery
        said = last.because if item is None or item.reason is None else reason_words(item.reason)
        asked = f"storage commitment {last.transaction}: {said}"
        try:
            found = self.find(self.peer, delivery)
        except QueryRefused as refused:
            if self.peer.confirm == "best":
                because = f"{proof_without_query(delivery, refused)} ({asked})"
                with suppress(IllegalTransition):
                    self.ledger.confirm_delivery(delivery.id, because)
                return True
            # Neither its word nor its index is to be had: asking once in a while is all that is left.
            log.warning(
                "commitment.unproved", peer=self.peer.name, delivery=delivery.id, because=str(refused)
            )
            return self.now - last.opened_at < patience.commitment_patience_s
        by = self.peer.asked_by
        with suppress(IllegalTransition):  # An operator withdrew it, or a late report committed it.
            if found:
                self.ledger.confirm_delivery(delivery.id, f"found in the archive by {by} ({asked})")
            elif self.now - (delivery.sent_at or self.now) >= patience.proof_patience_s:
                if self.peer.confirm == "best" and sent_again(self.ledger, delivery):
                    self.ledger.confirm_delivery(
                        delivery.id, f"{proof_unlisted(self.peer, delivery)} ({asked})"
                    )
                    return True
                because = (
                    f"not found in the archive by {by} {patience.proof_patience_s:g} s after it was"
                    f" accepted ({asked}): it is sent again"
                )
                self.ledger.delivery_missing(delivery.id, because, retry_in_s=patience.first_s)
                log.error("delivery.missing", delivery=delivery.id, peer=delivery.peer, because=because)
        return True

    def ask(self, requests: Sequence[CommitmentRecord]) -> None:
        """Ask for all of them on one association, and hear what comes on it."""
        ids = {one.transaction: one.id for one in requests}

        def taken(request: Request, status: int) -> None:
            because = f"the request was taken with status 0x{status:04X}"
            with suppress(IllegalTransition):
                self.ledger.commitment_taken(ids[request.transaction], because)

        def declined(request: Request, because: str) -> None:
            with suppress(IllegalTransition):
                self.ledger.commitment_declined(ids[request.transaction], because)
                log.warning("commitment.refused", peer=self.peer.name, because=because)

        def reported(report: Report) -> int:
            try:
                record_report(self.ledger, self.peer, report)
            except NotInLedger:
                return _PROCESSING_FAILURE
            return _SUCCESS

        def settled() -> bool:
            states = {self.ledger.commitment(one.id).state for one in requests}
            return states <= {CommitmentState.REPORTED, CommitmentState.REFUSED}

        asked = [
            Request(
                one.transaction, tuple(Reference(item.sop_class, item.sop_instance) for item in one.items)
            )
            for one in requests
        ]
        try:
            ask_for_commitment(
                self.peer,
                asked,
                calling=AETitle.parse(self.site.node_ae_title),
                deadline_s=self.peer.deadline_s,
                linger_s=self.site.delivery.commitment_linger_s,
                told=Told(taken=taken, declined=declined, reported=reported, settled=settled),
            )
        except CommitmentRefused as refused:
            for request in asked:
                declined(request, str(refused))

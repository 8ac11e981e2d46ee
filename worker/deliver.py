"""
One result to one peer, and every answer turned into one event.

The file that goes out is the file that was kept: the same bytes at the first attempt and at the fiftieth, so
a peer that already has them can say yes again. Nothing here gives up on a peer that is away.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydicom.uid import UID

from dicom_node.peers import PeerSettings
from dicom_node.send import Answer, AnswerKind, Objection, send
from dicom_node.send_web import send_web
from dicom_node.spool import Spool
from ledger.delivery import DeliveryClaim, DeliveryEvent, DeliveryState
from ledger.errors import ModelError, SiteError
from ledger.failpoint import failpoint
from ledger.identifiers import AETitle, DeliveryId
from ledger.job import LeaseLost
from ledger.result import NewResult, ResultRecord
from ledger.store.ledger import Ledger
from worker.errand import Errands
from worker.instead import Substitution, objected, unanswered
from worker.settings import DeliverySettings, WorkerSite
from worker.verify import digest_of_file
from worker.workplace import Workplace

log = structlog.get_logger()


def backoff_s(attempt: int, *, first_s: float, longest_s: float) -> float:
    """Seconds to wait after the `attempt`-th failure, from 1: doubling up to `longest_s`, without end."""
    # The exponent is bounded as well: after a long weekend `attempt` is in the thousands.
    return min(longest_s, first_s * 2.0 ** min(attempt - 1, 60))


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger is told of one attempt."""

    event: DeliveryEvent
    status: int | None
    because: str
    retry_in_s: float = 0.0
    proof: str | None = None  #: why the delivery is committed already
    instead: NewResult | None = None  #: what goes in place of what was declined
    in_doubt: bool = False  #: The peer may have it all the same.


def entry(answer: Answer, *, attempt: int, peer: PeerSettings, patience: DeliverySettings) -> Entry:
    """What `answer` means. Only an answer that would repeat itself ends a delivery."""
    match answer.kind:
        case AnswerKind.ACCEPTED | AnswerKind.WARNING:
            proof = proof_by_answer(answer.status) if peer.confirm == "answer" else None
            return Entry(DeliveryEvent.ACCEPTED, answer.status, answer.because, proof=proof)
        case AnswerKind.REFUSED:
            return Entry(DeliveryEvent.REFUSED, answer.status, answer.because)
        case AnswerKind.RETRY | AnswerKind.UNKNOWN:
            # Unknown is not "no": the peer may have the object, and the same bytes again do no harm.
            wait_s = backoff_s(attempt, first_s=patience.first_s, longest_s=patience.longest_s)
            return Entry(
                DeliveryEvent.POSTPONED,
                answer.status,
                answer.because,
                retry_in_s=wait_s,
                in_doubt=answer.kind is AnswerKind.UNKNOWN,
            )


def _damage(path: Path, result: ResultRecord) -> str:
    """Why the file of `result` cannot go; empty where it is what was made."""
    try:
        found = digest_of_file(path)
    except OSError:
        return f"result {result.id} cannot be read from the spool"
    return "" if found == result.digest else f"the file of result {result.id} is not what was made"


def proof_by_answer(status: int | None) -> str:
    """Why a peer with confirm = "answer" is believed to have a result."""
    return f"the peer answered 0x{status:04X}" if status is not None else "the peer accepted it"


class Post(Errands[DeliveryClaim, Entry]):
    """Where deliveries are made, several at a time."""

    def __init__(
        self, ledger: Ledger, spool: Spool, site: WorkerSite, workplace: Workplace, *, owner: str
    ) -> None:
        super().__init__(site.delivery)
        self._ledger = ledger
        self._substitution = Substitution(ledger, spool, workplace)
        self._spool = spool
        self._site = site
        self._owner = owner
        self._calling = AETitle.parse(site.node_ae_title)

    def deliver(self, delivery_id: DeliveryId) -> None:
        """Make one attempt at a delivery, if it is due and nobody else makes it."""
        self._run(delivery_id, "delivery")

    def _take(self, number: int) -> DeliveryClaim | None:
        claim = self._ledger.claim_delivery(
            DeliveryId(number), owner=self._owner, lease_s=self._patience.lease_s
        )
        if claim is not None:
            failpoint("delivery_claimed")
        return claim

    def _renew(self, claim: DeliveryClaim) -> bool:
        return self._ledger.renew_delivery(claim, lease_s=self._patience.lease_s)

    def _return(self, claim: DeliveryClaim) -> None:
        stopped = Entry(DeliveryEvent.POSTPONED, None, "the worker was stopped", in_doubt=True)
        self._record(claim, stopped)

    def _attempt(self, claim: DeliveryClaim) -> Entry:
        made = self._tried(claim)
        failpoint("delivery_sent")
        return made

    def _tried(self, claim: DeliveryClaim) -> Entry:
        peer = self._site.peer(claim.peer)
        if peer is None or not peer.send:
            known = "no peer of that name any more" if peer is None else "send = false for it"
            return Entry(DeliveryEvent.REFUSED, None, f"{claim.peer}: this site's settings have {known}")
        path = self._spool.absolute(claim.result.path)
        if damaged := _damage(path, claim.result):
            return Entry(DeliveryEvent.REFUSED, None, damaged)
        if (other := self._pointing_elsewhere(claim)) is not None:
            return other
        try:
            answer = self._sent(claim, path, peer)
        except (SiteError, ModelError) as error:
            return Entry(DeliveryEvent.REFUSED, None, str(error))
        return self._meant(claim, answer, peer)

    def _sent(self, claim: DeliveryClaim, path: Path, peer: PeerSettings) -> Answer:
        """The peer's answer; where it does not take the object compressed, that to the object written out.

        Raises `SiteError` where the file is the trouble, `ModelError` where it cannot be written out.
        """
        answer = self._stored(path, peer)
        compressed = UID(str(claim.result.transfer_syntax)).is_compressed
        # Some say of a syntax that they do not take that they do not know the class: Orthanc 1.10 does.
        if answer.objects_to is None or not compressed:
            return answer
        try:
            with self._substitution.uncompressed(claim) as plain:
                again = self._stored(plain, peer)
        except OSError as error:  # Perhaps the disk is full: it can be written out again.
            because = f"{answer.because}; it cannot be uncompressed here: {error.strerror}"
            return Answer(None, AnswerKind.RETRY, because)
        if again.objects_to is Objection.SOP_CLASS:
            return again
        return replace(again, because=f"{answer.because}; sent uncompressed: {again.because}")

    def _stored(self, path: Path, peer: PeerSettings) -> Answer:
        if peer.stores_by_web:
            return send_web(path, peer, deadline_s=peer.deadline_s)
        return send(path, peer, calling=self._calling, deadline_s=peer.deadline_s)

    def _meant(self, claim: DeliveryClaim, answer: Answer, peer: PeerSettings) -> Entry:
        """What is told of `answer`."""
        if objected(answer):
            return self._declined(claim, answer, peer)
        made = entry(answer, attempt=claim.attempt, peer=peer, patience=self._patience)
        if made.event is DeliveryEvent.ACCEPTED and (missed := self._substitution.missed(claim)):
            return replace(made, because=f"{made.because}; {missed}")
        return made

    def _pointing_elsewhere(self, claim: DeliveryClaim) -> Entry | None:
        """What is told of a report that refers to what the peer got in another form; None: it may go."""
        try:
            declined = self._substitution.before(claim)
        except ModelError as error:
            return Entry(DeliveryEvent.REFUSED, None, f"it refers to what was refused there: {error}")
        except SiteError as error:
            wait_s = self._patience.longest_s
            return Entry(DeliveryEvent.POSTPONED, None, str(error), retry_in_s=wait_s)
        if declined is None:
            return None
        return Entry(DeliveryEvent.DECLINED, None, declined.because, instead=declined.instead)

    def _declined(self, claim: DeliveryClaim, answer: Answer, peer: PeerSettings) -> Entry:
        """The peer takes no such objects: what its settings say then, else an operator."""
        try:
            declined = self._substitution.of(claim, answer, peer)
        except ModelError as error:
            because = f"{unanswered(answer, claim.result.role)}; nothing was sent instead: {error}"
            return Entry(DeliveryEvent.REFUSED, answer.status, because)
        except SiteError as error:  # Perhaps the disk is full: what was made can be made again.
            wait_s = self._patience.longest_s
            return Entry(DeliveryEvent.POSTPONED, answer.status, str(error), retry_in_s=wait_s)
        failpoint("instead_kept")
        if declined is None:
            because = unanswered(answer, claim.result.role)
            return Entry(DeliveryEvent.REFUSED, answer.status, because)
        return Entry(DeliveryEvent.DECLINED, answer.status, declined.because, instead=declined.instead)

    def _told(self, claim: DeliveryClaim, made: Entry) -> DeliveryState:
        if made.event is DeliveryEvent.DECLINED:
            self._ledger.decline_delivery(
                claim, status=made.status, because=made.because, instead=made.instead
            )
            return DeliveryState.DECLINED
        return self._ledger.record_delivery(
            claim,
            made.event,
            status=made.status,
            because=made.because,
            retry_in_s=made.retry_in_s,
            in_doubt=made.in_doubt,
        )

    def _record(self, claim: DeliveryClaim, made: Entry) -> None:
        try:
            state = self._told(claim, made)
            if made.proof is not None:
                self._ledger.confirm_delivery(claim.delivery_id, made.proof)
        except LeaseLost:
            # The peer may have it, and so will have it twice: the same bytes under the same UID, which is
            # once.
            log.warning("delivery.lost", delivery=claim.delivery_id, epoch=claim.epoch)
            return
        level = log.info if made.event is DeliveryEvent.ACCEPTED else log.warning
        level(
            "delivery." + made.event,
            delivery=claim.delivery_id,
            job=claim.job_id,
            peer=claim.peer,
            attempt=claim.attempt,
            state=state,
            because=made.because,
            retry_in_s=made.retry_in_s,
        )
        failpoint("delivery_recorded")

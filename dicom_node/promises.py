"""Storage commitment at our own port: others ask us, and archives that we asked report to us (PS3.4 Annex J).

A request is recorded, then answered with Success, and its report goes out by itself: on the association that
asked, if that stays open, else on one to the peer that the site knows under that AE title, again and again.
The report says what is true at that moment: a row in the ledger, and a file of the right size in the spool.
"""

import queue
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NoAnswer
from contextlib import suppress
from io import BytesIO
from typing import NamedTuple

import structlog
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.events import Event

from dicom_node.acceptor import BoundedAssociation
from dicom_node.commitment import record_report, send_report
from dicom_node.commitment_messages import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_COMMITMENT,
    ListTooLarge,
    Report,
    decode_report,
    decode_request,
    encode_report,
)
from dicom_node.limits import DataSetSettings
from dicom_node.peers import PeerSettings, calling_as
from dicom_node.refusals import Kind, Refusals
from dicom_node.settings import NodeSettings
from dicom_node.spool import Spool
from dicom_node.upper_layer import PeerConfused
from ledger.errors import PeerError, SiteError, WetreadError
from ledger.identifiers import AETitle
from ledger.promise import HeldInstance, PromiseId, PromiseRecord, Reference
from ledger.store.database import NotInLedger
from ledger.store.ledger import Ledger

log = structlog.get_logger()

_SUCCESS = 0x0000
_PROCESSING_FAILURE, _NO_SUCH_INSTANCE, _INVALID_ARGUMENT = 0x0110, 0x0112, 0x0115
_CLASS_CONFLICT, _NO_SUCH_ACTION, _NOT_AUTHORIZED, _RESOURCES = 0x0119, 0x0123, 0x0124, 0x0213

_THREADS = 4  # Reports at the same time: a peer that stalls must not hold up the others.
_LOOK_S = 5.0  # How often to look for reports that are due again.
_HANDOVER_S = 60.0  # A request that nobody answered by then was left by a node that died.
_ANSWER_S = 10.0  # For the answer to a report on the association that asked.
_FIRST_S, _LONGEST_S = 5.0, 300.0  # Between attempts: doubling from the first to the longest …
_ATTEMPTS_MAX = 30  # … which is about two hours; whoever still wants it then asks again.


class _Owed(NamedTuple):
    promise_id: PromiseId
    association: BoundedAssociation | None
    context_id: int


class NotTaken(PeerError):
    """A message is answered with another status than Success, although it can be read."""

    def __init__(self, status: int, because: str) -> None:
        super().__init__(because)
        self.status = status


class Promises:
    """Hears requests and reports of storage commitment, and brings our reports."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        peers: Sequence[PeerSettings],
        settings: NodeSettings,
        *,
        shape: DataSetSettings,
        refusals: Refusals,
    ) -> None:
        self._ledger, self._spool = ledger, spool
        self._shape, self._refusals = shape, refusals
        self._peers, self._settings = peers, settings
        self._calling = AETitle.parse(settings.ae_title)
        #: called when a sender has listed what it sent: a witness of completeness
        self.listed: Callable[[], None] = lambda: None
        self._queue: queue.SimpleQueue[_Owed | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._busy: set[PromiseId] = set()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._answer, name=f"promises-{number}", daemon=True)
            for number in range(_THREADS)
        ]
        self._threads.append(threading.Thread(target=self._look, name="promises", daemon=True))

    def start(self) -> None:
        """Begin to answer, first of all what an earlier node left."""
        for thread in self._threads:
            thread.start()

    def stop(self, *, within_s: float) -> None:
        """Begin no other report. What is on its way will be sent again by the next node."""
        self._stopping.set()
        for _ in range(_THREADS):
            self._queue.put(None)
        for thread in self._threads:
            thread.join(within_s / len(self._threads))

    # ------------------------------------------------------------------ what is heard

    def on_action(self, event: Event) -> tuple[int, None]:
        """A handler for `evt.EVT_N_ACTION`: the status of the N-ACTION response (PS3.7 §10.1.4.1.10)."""
        return self._status(event, self._asked, "N-ACTION"), None

    def on_report(self, event: Event) -> tuple[int, None]:
        """A handler for `evt.EVT_N_EVENT_REPORT`: the status of its response (PS3.7 §10.1.1.1.8)."""
        return self._status(event, self._reported, "N-EVENT-REPORT"), None

    def _status(self, event: Event, take: Callable[[Event], None], name: str) -> int:
        """What `take` comes to: Success, or why not, which is put down."""
        try:
            take(event)
        except NotTaken as error:
            status, because = error.status, str(error)
        except ListTooLarge as error:
            status, because = _RESOURCES, str(error)
        except PeerConfused as error:
            status, because = _INVALID_ARGUMENT, str(error)
        except WetreadError as error:
            status, because = _PROCESSING_FAILURE, str(error)
        except Exception as error:  # The outermost frame that is ours.
            status, because = _PROCESSING_FAILURE, f"unforeseen: {type(error).__name__}"
            log.error("commitment.failed", because=because, exc_info=True)
        else:
            return _SUCCESS
        self._refusals.note(
            Kind.COMMITMENT,
            f"{name} was answered with 0x{status:04X}: {because}",
            reason=f"{name} 0x{status:04X}",
            address=str(event.assoc.requestor.address),
            calling=_caller(event),
        )
        return status

    def _asked(self, event: Event) -> None:
        if not self._settings.commitment:
            raise NotTaken(_NOT_AUTHORIZED, "this node answers for nothing ([node] commitment)")
        if event.action_type != REQUEST_COMMITMENT:
            raise NotTaken(_NO_SUCH_ACTION, "it asks for an action that Storage Commitment does not have")
        said = event.request
        assert isinstance(said, N_ACTION)
        if str(said.RequestedSOPInstanceUID) != str(PUSH_MODEL_INSTANCE):
            raise NotTaken(_NO_SUCH_INSTANCE, "it asks another instance than the one of Storage Commitment")
        information = (said.ActionInformation or BytesIO()).getbuffer()
        request = decode_request(information, str(event.context.transfer_syntax), self._shape)
        asked = event.assoc.requestor
        promise_id = self._ledger.record_promise(
            request.transaction,
            calling=AETitle.parse(_caller(event)),
            address=str(asked.address),
            references=request.references,
            answer_in_s=_HANDOVER_S,
        )
        log.info("promise.asked", calling=_caller(event), instances=len(request.references))
        self.listed()
        assert isinstance(event.assoc, BoundedAssociation)
        self._owe(_Owed(promise_id, event.assoc, event.context.context_id))

    def _reported(self, event: Event) -> None:
        calling, address = _caller(event), str(event.assoc.requestor.address)
        peers = [peer for peer in self._peers if peer.ae_title == calling and peer.calls_from(address)]
        if not peers:  # Nobody whom we can have asked: what it says is not even read.
            raise NotTaken(_INVALID_ARGUMENT, "no [[peer]] here has this AE title and address")
        said = event.request
        assert isinstance(said, N_EVENT_REPORT)
        information = (said.EventInformation or BytesIO()).getbuffer()
        report = decode_report(information, str(event.context.transfer_syntax), self._shape)
        for peer in peers:
            with suppress(NotInLedger):  # Two peers may share an AE title; one of them was asked.
                record_report(self._ledger, peer, report)
                return
        raise NotTaken(_INVALID_ARGUMENT, f"it was not asked for storage commitment {report.transaction}")

    # ------------------------------------------------------------------ what is answered

    def report(self, asked: PromiseRecord) -> Report:
        """What is true of the instances that were asked about, now. Raises `SiteError` if nobody can say."""
        held = self._ledger.held_instances([one.sop_instance for one in asked.references])
        failed: dict[Reference, int | None] = {}
        for one in asked.references:
            reason = self._reason(one, held.get(one.sop_instance))
            if reason is not None:
                failed[one] = reason
        kept = tuple(one for one in asked.references if one not in failed)
        return Report(asked.transaction, kept, failed)

    def _reason(self, asked: Reference, held: HeldInstance | None) -> int | None:
        """Why we do not answer for an instance; None where we do."""
        if held is None:
            return _NO_SUCH_INSTANCE
        if held.sop_class != asked.sop_class:
            return _CLASS_CONFLICT
        try:
            with self._spool.absolute(held.path).open("rb") as file:
                head = file.read(144)
                size = file.seek(0, 2)
        except FileNotFoundError:
            return _NO_SUCH_INSTANCE
        except OSError:
            return _PROCESSING_FAILURE
        # Preamble, DICM and the group length of the file meta information come before all else (PS3.10 §7.1).
        if len(head) < 144 or size != 144 + struct.unpack("<I", head[140:144])[0] + held.size:
            return _PROCESSING_FAILURE
        return None

    def _owe(self, owed: _Owed) -> None:
        with self._lock:
            if owed.association is None and owed.promise_id in self._busy:
                return
            self._busy.add(owed.promise_id)
        self._queue.put(owed)

    def _look(self) -> None:
        while not self._stopping.is_set():
            try:
                for promise_id in self._ledger.due_promises():
                    self._owe(_Owed(promise_id, None, 0))
            except SiteError as error:
                log.warning("promise.not_looked_for", because=str(error))
            self._stopping.wait(_LOOK_S)

    def _answer(self) -> None:
        while (owed := self._queue.get()) is not None:
            try:
                self._bring(owed)
            except WetreadError as error:
                # The ledger is away, or another one answered it in the meantime: its row says when to go on.
                log.warning("promise.waits", promise=owed.promise_id, because=str(error))
            except Exception as error:  # The outermost loop of this thread: the next report comes.
                log.error("promise.failed", promise=owed.promise_id, error=type(error).__name__)  # noqa: TRY400 no values of strangers in the log
            finally:
                with self._lock:
                    self._busy.discard(owed.promise_id)
            if self._stopping.is_set():
                return

    def _bring(self, owed: _Owed) -> None:
        asked = self._ledger.promise(owed.promise_id)
        report = self.report(asked)
        if owed.association is not None and self._on_the_same(owed.association, owed.context_id, report):
            self._ledger.promise_reported(asked.id, f"{report.words}, told on the same association")
            return
        if self._stopping.is_set():
            return
        peer = calling_as(self._peers, str(asked.calling), asked.address)
        if peer is None:
            because = f"{report.words}, but no [[peer]] here is {asked.calling}: nobody to tell"
            self._ledger.promise_abandoned(asked.id, because)
            log.warning("promise.abandoned", promise=asked.id, because=because)
            return
        try:
            send_report(peer, report, calling=self._calling, deadline_s=peer.deadline_s)
        except PeerError as error:
            self._not_brought(asked, peer, str(error))
        else:
            self._ledger.promise_reported(asked.id, f"{report.words}, told to {peer.name}")
            log.info("promise.reported", promise=asked.id, peer=peer.name, failed=len(report.failed))

    def _not_brought(self, asked: PromiseRecord, peer: PeerSettings, because: str) -> None:
        attempt = asked.attempts + 1
        said = f"{peer.name} could not be told: {because}"
        log.warning("promise.postponed", promise=asked.id, peer=peer.name, attempt=attempt, because=because)
        if attempt >= _ATTEMPTS_MAX:
            self._ledger.promise_abandoned(asked.id, said)
            return
        wait_s = min(_LONGEST_S, _FIRST_S * 2.0 ** min(attempt - 1, 60))
        self._ledger.promise_postponed(asked.id, said, retry_in_s=wait_s)

    def _on_the_same(self, association: BoundedAssociation, context_id: int, report: Report) -> bool:
        """Whether the report was taken on the association that asked."""
        # Most who want it on another association release this one at once; those who wait want it here.
        if association.over.wait(self._settings.report_wait_s) or not association.is_established:
            return False
        said = N_EVENT_REPORT()
        said.MessageID = 1
        said.AffectedSOPClassUID = str(PUSH_MODEL)
        said.AffectedSOPInstanceUID = str(PUSH_MODEL_INSTANCE)
        said.EventTypeID = report.event_type
        syntax = _transfer_syntax(association, context_id)
        said.EventInformation = BytesIO(encode_report(report, syntax))
        try:
            return association.report(context_id, said).result(_ANSWER_S) == _SUCCESS
        except (NoAnswer, CancelledError):
            return False


def _transfer_syntax(association: BoundedAssociation, context_id: int) -> str:
    accepted = {context.context_id: context for context in association.accepted_contexts}
    return str(accepted[context_id].transfer_syntax[0])


def _caller(event: Event) -> str:
    return str(event.assoc.requestor.ae_title or "").strip(" \0")

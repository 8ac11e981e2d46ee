"""Storage commitment as SCU: an archive is asked to answer for what it took (PS3.4 Annex J).

The request is an N-ACTION. The report is an N-EVENT-REPORT that comes on the same association while it is
open, or on one that the archive opens to our node, seconds or hours later (`dicom_node/promises.py` hears
it there). So the association is held open for a while, and no longer than until the report is there.

What is said of a report is decided by whoever asked: it is answered with Success only after it was recorded.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from dicom_node.commitment_messages import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_COMMITMENT,
    Report,
    Request,
    decode_report,
    encode_report,
    encode_request,
)
from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN, PeerSettings
from dicom_node.reach import Deadline
from dicom_node.requestor import RequestedAssociation, associate
from dicom_node.send import response_status
from dicom_node.upper_layer import ContextResult, PeerConfused, ProposedContext, command_set, number
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid
from ledger.store.ledger import Ledger
from ledger.transition import IllegalTransition

log = structlog.get_logger()

_SUCCESS = 0x0000
_DUPLICATE_TRANSACTION = 0x0131  # It has this request already: its answer to it was lost on the way.
_PROCESSING_FAILURE = 0x0110
_ACTION_RESPONSE, _REPORT_REQUEST, _REPORT_RESPONSE = 0x8130, 0x0100, 0x8100
_LOOK_S = 0.1  # How late it is noticed that the report came another way.


class CommitmentRefused(PeerError):
    """The peer takes no request for storage commitment at all."""


class ReportRefused(PeerError):
    """The peer does not take our report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Whom the requestor tells what it hears, as it hears it."""

    #: The peer took this request, with this status.
    taken: Callable[[Request, int], None]
    #: The peer refused this one, for this reason.
    declined: Callable[[Request, str], None]
    #: A report came; the status to answer it with (0x0000 once it is recorded).
    reported: Callable[[Report], int]
    #: Whether every report is there, on whatever association.
    settled: Callable[[], bool]


def ask_for_commitment(
    peer: PeerSettings,
    requests: Sequence[Request],
    *,
    calling: AETitle,
    deadline_s: float,
    linger_s: float,
    told: Told,
) -> None:
    """Ask `peer` on one association for all `requests`, then listen for reports for `linger_s` seconds.

    Raises `CommitmentRefused` where it does not take Storage Commitment, or another `PeerError` where it is
    away or stalls before it answered every request; what it answered before that was told.
    """
    context = ProposedContext(PUSH_MODEL, (Uid(IMPLICIT_LITTLE_ENDIAN),))
    deadline = Deadline(deadline_s)
    with associate(peer, calling=calling, contexts=[context], deadline=deadline) as association:
        context_id, answer = association.answered(context)
        if answer.result is not ContextResult.ACCEPTED:
            raise CommitmentRefused("it does not accept Storage Commitment")
        heard = _Hearing(association, context_id, told)
        for message_id, request in enumerate(requests, start=1):
            command: dict[int, Uid | int | str] = {
                0x0003: PUSH_MODEL,  # Requested SOP Class UID
                0x0100: 0x0130,  # N-ACTION-RQ
                0x0110: message_id,
                0x0800: 0x0001,
                0x1001: PUSH_MODEL_INSTANCE,  # Requested SOP Instance UID
                0x1008: REQUEST_COMMITMENT,
            }
            association.send(
                context_id, command_set(command), encode_request(request, IMPLICIT_LITTLE_ENDIAN)
            )
            status, comment = heard.response(message_id)
            if status in (_SUCCESS, _DUPLICATE_TRANSACTION):
                told.taken(request, status)
            else:
                words = f" ({comment})" if comment else ""
                told.declined(request, f"it answered the request with status 0x{status:04X}{words}")
        _linger(heard, linger_s, told)


def send_report(peer: PeerSettings, report: Report, *, calling: AETitle, deadline_s: float) -> None:
    """Bring our report to the system that asked, as SCP on an association that we ask for (PS3.4 §J.3.3).

    Raises `ReportRefused`, or another `PeerError` where the peer is away or silent.
    """
    context = ProposedContext(PUSH_MODEL, (Uid(IMPLICIT_LITTLE_ENDIAN),), as_scp=True)
    deadline = Deadline(deadline_s)
    with associate(peer, calling=calling, contexts=[context], deadline=deadline) as association:
        context_id, answer = association.answered(context)
        if answer.result is not ContextResult.ACCEPTED or not association.may_be_scp(context):
            raise ReportRefused("it does not accept reports of Storage Commitment")
        association.send(
            context_id,
            command_set(report_command(report, message_id=1)),
            encode_report(report, IMPLICIT_LITTLE_ENDIAN),
        )
        command, _ = association.receive("waiting for its answer to our report")
        status, comment = response_status(command, expected=_REPORT_RESPONSE, asked=1)
        if status != _SUCCESS:
            words = f" ({comment})" if comment else ""
            raise ReportRefused(f"it answered our report with status 0x{status:04X}{words}")


def record_report(ledger: Ledger, peer: PeerSettings, report: Report) -> None:
    """Write down what `peer` reports of what we asked. Raises `NotInLedger`, `SiteError`."""
    with suppress(IllegalTransition):  # It had refused the request: its report is about nothing.
        recorded = ledger.report_commitment(
            report.transaction,
            peer=peer.name,
            committed=[one.sop_instance for one in report.committed],
            failed={one.sop_instance: reason for one, reason in report.failed.items()},
        )
        log.info("commitment.reported", peer=peer.name, job=recorded.job_id, because=recorded.because)


def report_command(report: Report, *, message_id: int) -> dict[int, Uid | int | str]:
    """The command elements of an N-EVENT-REPORT-RQ (PS3.7 §10.3.1.1)."""
    return {
        0x0002: PUSH_MODEL,  # Affected SOP Class UID
        0x0100: _REPORT_REQUEST,
        0x0110: message_id,
        0x0800: 0x0001,
        0x1000: PUSH_MODEL_INSTANCE,  # Affected SOP Instance UID
        0x1002: report.event_type,
    }


class _Hearing:
    """Reads what comes in on an association of ours: responses, and reports at any time."""

    def __init__(self, association: RequestedAssociation, context_id: int, told: Told) -> None:
        self._association = association
        self._context_id = context_id
        self._told = told

    def response(self, message_id: int) -> tuple[int, str]:
        """Status and comment of the response to a request; reports that overtake it are told."""
        while True:
            command, data = self._association.receive("waiting for its answer to N-ACTION")
            if number(command.get((0, 0x0100))) != _REPORT_REQUEST:
                return response_status(command, expected=_ACTION_RESPONSE, asked=message_id)
            self._report(command, data)

    def report(self) -> None:
        """The next message, which has to be a report."""
        command, data = self._association.receive("reading its report")
        if number(command.get((0, 0x0100))) != _REPORT_REQUEST:
            raise PeerConfused("it sent something that is no report")
        self._report(command, data)

    def speaks(self, within_s: float) -> bool:
        return self._association.speaks(within_s)

    def _report(self, command: dict[tuple[int, int], bytes], data: bytes) -> None:
        try:
            status = self._told.reported(decode_report(data, IMPLICIT_LITTLE_ENDIAN))
        except PeerConfused:
            status = _PROCESSING_FAILURE
        answer: dict[int, Uid | int | str] = {
            0x0002: PUSH_MODEL,
            0x0100: _REPORT_RESPONSE,
            0x0120: number(command.get((0, 0x0110))) or 0,
            0x0800: 0x0101,
            0x0900: status,
            0x1000: PUSH_MODEL_INSTANCE,
            0x1002: number(command.get((0, 0x1002))) or 0,
        }
        self._association.send(self._context_id, command_set(answer))


def _linger(heard: _Hearing, linger_s: float, told: Told) -> None:
    """Listen until every report is there, but no longer than `linger_s` seconds."""
    ends = time.monotonic() + linger_s
    try:
        while (left := ends - time.monotonic()) > 0 and not told.settled():
            if heard.speaks(min(_LOOK_S, left)):
                heard.report()
    except PeerError:
        # It took the requests. That it ends the association, or talks nonsense now, takes nothing of that
        # back; its reports may come on another one.
        return

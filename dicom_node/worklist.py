"""
A task manager's list of work, as its performer (UPS Pull as SCU, PS3.4 Annex CC): what is scheduled, claiming
one workitem, saying how far it is, and its end.

One association, one deadline. Each question has its answer before the next.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self

import structlog

from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN, PeerSettings
from dicom_node.reach import Deadline
from dicom_node.requestor import RequestedAssociation, associate
from dicom_node.send import response_status
from dicom_node.upper_layer import ContextResult, PeerConfused, ProposedContext, Value, command_set
from dicom_node.workitem_messages import (
    CHANGE_STATE,
    UPS_PULL,
    UPS_PUSH,
    Listed,
    listed,
    question,
    state_change,
)
from ledger.errors import PeerError
from ledger.identifiers import AETitle, Uid

log = structlog.get_logger()

_PENDING = frozenset({0xFF00, 0xFF01})
_MATCHES_MAX = 1000  # of one look; what is left is there at the next one

#: Statuses of N-ACTION and N-SET about workitems (PS3.4 §CC.2.1.3, §CC.2.6.3)
_WORDS = {
    0xB304: "it is canceled already",
    0xB306: "it is completed already",
    0xC300: "it may no longer be changed",
    0xC301: "our Transaction UID is not the one that locks it",
    0xC302: "it is in progress already",
    0xC304: "the manager misses something that its final state asks for",
    0xC307: "the manager does not know it",
    0xC310: "it is not in progress",
}
_GONE = frozenset({0x0112, 0xB304, 0xB306, 0xC300, 0xC301, 0xC307})
_SUCCESS, _IN_PROGRESS = 0x0000, 0xC302
_WARNINGS = frozenset({0x0001, 0x0116, 0x0107})  # It took what it could use.


class NoWorklist(PeerError):
    """The peer keeps no list of work for performers."""


class Step(Enum):
    """What an answer about one workitem means."""

    DONE = auto()  #: It was taken.
    BUSY = auto()  #: It is in progress: ours, or another's.
    GONE = auto()  #: It is not ours, or over: nothing of ours will change it.
    REFUSED = auto()  #: It was not taken this time.


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer, and the same in words."""

    step: Step
    because: str


def meaning(status: int, comment: str, wanted: str) -> Answered:
    """What `status` means for who wanted the state `wanted`; "" where no state was asked for."""
    words = _WORDS.get(status, comment or "no reason was given")
    because = f"the task manager answered 0x{status:04X}: {words}"
    if status == _SUCCESS or status in _WARNINGS:
        return Answered(Step.DONE, "the task manager took it")
    if (status, wanted) in ((0xB304, "CANCELED"), (0xB306, "COMPLETED")):
        return Answered(Step.DONE, because)  # Our own word, whose answer was lost on the way.
    if status == _IN_PROGRESS:
        return Answered(Step.BUSY, because)
    return Answered(Step.GONE if status in _GONE else Step.REFUSED, because)


class Worklist:
    """An open association with a task manager."""

    def __init__(self, peer: PeerSettings, association: RequestedAssociation, context_id: int) -> None:
        """Use `Worklist.of`."""
        self._peer, self._association, self._context_id = peer, association, context_id
        self._asked = 0

    @classmethod
    @contextmanager
    def of(cls, peer: PeerSettings, *, calling: AETitle, deadline_s: float) -> Iterator[Self]:
        """Raises `NoWorklist` where the peer keeps none, or another `PeerError`."""
        context = ProposedContext(UPS_PULL, (Uid(IMPLICIT_LITTLE_ENDIAN),))
        with associate(
            peer, calling=calling, contexts=[context], deadline=Deadline(deadline_s)
        ) as association:
            context_id, answer = association.answered(context)
            if answer.result is not ContextResult.ACCEPTED:
                raise NoWorklist(f"{peer.name} does not accept UPS Pull: it lists no workitems for us")
            yield cls(peer, association, context_id)

    def scheduled(self, station: str) -> Iterator[Listed]:
        """What is scheduled and ready, for `station` or for anybody. What cannot be read is left out."""
        self._send({0x0002: UPS_PULL, 0x0100: 0x0020, 0x0700: 0x0000}, question(station))
        for _ in range(_MATCHES_MAX):
            command, data = self._association.receive("waiting for its list of work")
            status, comment = response_status(command, expected=0x8020, asked=self._asked)
            if status == _SUCCESS:
                return
            if status not in _PENDING:
                raise NoWorklist(
                    f"{self._peer.name} answered C-FIND with status 0x{status:04X} {comment}".strip()
                )
            try:
                yield listed(data)
            except PeerConfused as error:
                log.warning("workitem.unreadable", peer=self._peer.name, because=str(error))
        self._association.cancel(self._context_id, self._asked)
        raise PeerConfused(f"it lists more than {_MATCHES_MAX} workitems at once")

    def change_state(self, workitem: Uid, state: str, transaction: Uid) -> Answered:
        """Claim it ("IN PROGRESS") or end it ("COMPLETED", "CANCELED") (PS3.4 §CC.2.1)."""
        command: dict[int, Value] = {0x0100: 0x0130, 0x1008: CHANGE_STATE}
        status, comment = self._ask(workitem, command, state_change(state, transaction), expected=0x8130)
        return meaning(status, comment, state)

    def say(self, workitem: Uid, modifications: bytes) -> Answered:
        """N-SET of a workitem that is ours (PS3.4 §CC.2.6)."""
        status, comment = self._ask(workitem, {0x0100: 0x0120}, modifications, expected=0x8120)
        return meaning(status, comment, "")

    def _ask(
        self, workitem: Uid, command: dict[int, Value], data: bytes, *, expected: int
    ) -> tuple[int, str]:
        self._send({0x0003: UPS_PUSH, 0x1001: workitem, **command}, data)
        answer, _ = self._association.receive("waiting for its answer about a workitem")
        return response_status(answer, expected=expected, asked=self._asked)

    def _send(self, command: dict[int, Value], data: bytes) -> None:
        self._asked += 1
        whole = dict(sorted({**command, 0x0110: self._asked, 0x0800: 0x0001}.items()))
        self._association.send(self._context_id, command_set(whole), data)

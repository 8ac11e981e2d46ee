"""C-MOVE to ourselves: the PACS sends what we ask for to our own node, as any sender would (PS3.4 §C.4.2).

What comes arrives at the node's port, on associations that the PACS opens; here only its answers are heard.
Some archives answer nothing until the last instance is sent. So silence counts only while nothing arrives
either.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dicom_node.listing import Portion
from dicom_node.peers import IMPLICIT_LITTLE_ENDIAN, PeerSettings
from dicom_node.reach import Deadline, PeerSilent
from dicom_node.requestor import RequestedAssociation, associate
from dicom_node.retrieve import (
    SOME_FAILED,
    SUCCESS,
    UNKNOWN_DESTINATION,
    Progress,
    RetrievalRefused,
    RetrievalStopped,
    Retrieved,
    concluded,
    progress_in,
    request,
)
from dicom_node.upper_layer import ContextResult, ProposedContext
from ledger.identifiers import AETitle, Uid

STUDY_ROOT_MOVE = Uid("1.2.840.10008.5.1.4.1.2.2.2")

_C_MOVE_REQUEST, _C_MOVE_RESPONSE = 0x0021, 0x8021
_LOOK_S = 0.2  # How often to look whether something arrived, or whether to stop.


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """Asks one peer to send to our node, which listens as `own` on `port`."""

    peer: PeerSettings
    own: AETitle
    port: int
    deadline_s: float  #: for everything that is asked for at once
    silence_s: float  #: with no answer, and nothing that arrives
    stopping: threading.Event

    def move(self, portions: Sequence[Portion], arrived: Callable[[], int]) -> Retrieved:
        """Ask for `portions`, one after the other. `arrived` counts what has come so far, by any way.

        Raises `RetrievalRefused` or another `PeerError`; what came before stands.
        """
        context = ProposedContext(STUDY_ROOT_MOVE, (Uid(IMPLICIT_LITTLE_ENDIAN),))
        deadline = Deadline(self.deadline_s)
        total = Retrieved()
        with associate(self.peer, calling=self.own, contexts=[context], deadline=deadline) as association:
            context_id, answer = association.answered(context)
            if answer.result is not ContextResult.ACCEPTED:
                raise RetrievalRefused(f"{self.peer.name} does not answer C-MOVE at study root")
            for message_id, portion in enumerate(portions, start=1):
                sent = request(STUDY_ROOT_MOVE, _C_MOVE_REQUEST, message_id, portion, destination=self.own)
                association.send(context_id, *sent)
                try:
                    last = self._heard(association, message_id, arrived, deadline)
                except (PeerSilent, RetrievalStopped):
                    association.cancel(context_id, message_id)
                    raise
                total = total.plus(self._judged(last, association))
        return total

    def _heard(
        self,
        association: RequestedAssociation,
        message_id: int,
        arrived: Callable[[], int],
        deadline: Deadline,
    ) -> Progress:
        """The last response to one request."""
        doing = "waiting for its answers to C-MOVE"
        alive_at, count = time.monotonic(), arrived()
        while True:
            if self.stopping.is_set():
                raise RetrievalStopped("the node is stopping: the rest is asked for after the next start")
            if association.speaks(min(_LOOK_S, deadline.left(doing))):
                command, _ = association.receive(doing)
                answer = progress_in(command, expected=_C_MOVE_RESPONSE, asked=message_id)
                if not answer.pending:
                    return answer
                alive_at = time.monotonic()
            elif (now_here := arrived()) != count:
                alive_at, count = time.monotonic(), now_here
            elif time.monotonic() - alive_at > self.silence_s:
                raise PeerSilent(
                    f"it was silent for {self.silence_s:g} s after C-MOVE, and nothing arrived from it"
                )

    def _judged(self, last: Progress, association: RequestedAssociation) -> Retrieved:
        """What the last response comes to. Raises `RetrievalRefused` where the rest need not be asked for."""
        if last.status in (SUCCESS, SOME_FAILED):
            return concluded(last)
        if last.status == UNKNOWN_DESTINATION:
            here, _ = association.ends
            raise RetrievalRefused(
                f"{self.peer.name} does not know {self.own} as a destination of C-MOVE (0xA801): enter there "
                f"the AE title {self.own} with host {here} and port {self.port}"
            )
        raise RetrievalRefused(f"{self.peer.name} answered C-MOVE with {last.words}")
